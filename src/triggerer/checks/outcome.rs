//! What follows a check: an event or a bad end is handed on, and otherwise there is another check to come.

use std::{sync::Arc, time::Duration};

use reveille_trigger::{
    Answer, Context, Trigger,
    pace::{back_off, jittered},
};

use super::{
    Checked, Checks, Finding, Subject, What,
    group::{GroupId, Members},
};
use crate::{
    clock::{millis, timestamp},
    id::Fence,
    store::check::Check,
    task::{WaitFailed, WaitFailure},
    upkeep::past_deadline,
};

/// How much is kept of an error while its trigger is held, in bytes: there may be as many as triggers.
const LONGEST_ERROR: usize = 500;

/// How far off the next look is, in milliseconds, if what looks is let go of until then: its spec takes less, and reading it
/// takes microseconds.
const FAR_OFF: i64 = 10_000;

fn short(mut error: String) -> String {
    error.truncate(error.floor_char_boundary(LONGEST_ERROR));
    error
}

/// A check that is over, without its answer.
struct Look {
    subject: Subject,
    members: Members,
    trigger: Arc<dyn Trigger>,
    cx: Context,
    known: i32,
    begun_at: i64,
    took: Duration,
}

/// How it goes on after a check that did not end the wait.
struct GoesOn {
    /// How many of the last checks could not tell.
    failures: u32,
    /// Until the next check, in milliseconds.
    wait: i64,
    /// What the check saw, or why it could not tell.
    said: Option<Arc<str>>,
}

impl Checks {
    pub(super) async fn settle(&mut self, checked: Checked) {
        self.settings.tally.answered();
        let Checked { subject, members, trigger, cx, answer, interval, known, begun_at, took } = checked;
        let look = Look { subject, members, trigger, cx, known, begun_at, took };
        // What the check itself has asked for.
        let asked = look.cx.next_look().map(|at| at.duration_since(look.cx.now()).try_into().unwrap_or_default());
        match answer {
            Ok(Answer::Fire(event)) => self.end(look, What::Fire(Arc::new(event)), interval).await,
            Ok(Answer::NotYet) => {
                let wait = asked.unwrap_or_else(|| jittered(interval));
                let said = look.cx.said().map(|said| self.holdings.shared(&said));
                self.go_on(look, GoesOn { failures: 0, wait: millis(wait), said }).await;
            }
            Err(error) if error.is_fatal() => {
                let failed = WaitFailed { reason: WaitFailure::Fatal, message: error.to_string() };
                self.end(look, What::Fail(failed), interval).await;
            }
            Err(error) => {
                self.settings.tally.failed();
                let failures = self.failures(subject).saturating_add(1);
                self.warn(&look, failures, &error);
                let wait = back_off(interval, failures, error.retry_after());
                let wait = asked.map_or(wait, |asked| wait.min(asked));
                let said = Some(self.holdings.shared(&short(error.to_string())));
                self.go_on(look, GoesOn { failures, wait: millis(wait), said }).await;
            }
        }
    }

    /// How many of the last checks could not tell.
    fn failures(&self, subject: Subject) -> u32 {
        let known = match subject {
            Subject::One(fence) => self.holdings.with(fence, |holding| holding.record.failures()),
            Subject::Group(id) => self.groups.get(id).map(|group| group.failures),
        };
        known.unwrap_or_default()
    }

    /// A check could not tell: that is told, ever more rarely.
    fn warn(&self, look: &Look, failures: u32, error: &reveille_trigger::Error) {
        if !failures.is_power_of_two() {
            return;
        }
        let kind = look.trigger.typetag_name();
        let (task, others) = match (look.subject, look.members.as_slice()) {
            (Subject::One(fence), _) => (fence.task, String::new()),
            (Subject::Group(_), [first]) => (first.fence.task, String::new()),
            (Subject::Group(_), [first, others @ ..]) => (first.fence.task, format!(" and {} more", others.len())),
            (Subject::Group(_), []) => return,
        };
        tracing::warn!(task.id = %task, trigger.kind = kind, trigger.failures = failures,
            "check {failures} in a row of the {kind} trigger of task {task}{others} could not tell: {error}");
    }

    /// The wait is over, for all for whom the check counts. Those who joined a group meanwhile go on.
    async fn end(&mut self, look: Look, what: What, interval: Duration) {
        match look.subject {
            Subject::One(fence) => {
                self.hand_on(fence, what, Some((look.trigger, look.cx))).await;
            }
            Subject::Group(id) => {
                for member in &look.members {
                    self.hand_on(member.fence, what.clone(), None).await;
                }
                let goes_on = GoesOn { failures: 0, wait: millis(interval.saturating_sub(look.took)), said: None };
                self.keep_group(id, Members::new(), look, &goes_on);
            }
        }
    }

    /// There is another check to come, unless it is too late for that, or has failed too often.
    async fn go_on(&mut self, look: Look, goes_on: GoesOn) {
        match look.subject {
            Subject::One(fence) => self.go_on_alone(fence, look, goes_on).await,
            Subject::Group(id) => self.go_on_together(id, look, goes_on).await,
        }
    }

    async fn go_on_alone(&mut self, fence: Fence, look: Look, mut goes_on: GoesOn) {
        let now = self.clock.now_ms();
        match self.judge(fence, now, &goes_on) {
            None => return,
            Some(Err(failed)) => return self.end(look, What::Fail(failed), Duration::ZERO).await,
            Some(Ok(wait)) => goes_on.wait = wait,
        }
        // Something has come while the check was about to end.
        let Some(has_news) = self.holdings.with_alone(fence, |alone| alone.has_news) else { return };
        if has_news {
            goes_on.wait = 0;
        }
        let until = now.saturating_add(goes_on.wait);
        let is_dormant = self.is_dormant(&look, &goes_on);
        self.holdings.record(fence, &look.as_told(&goes_on, until));
        if is_dormant {
            let what = What::Sleep { until, known: look.known };
            return self.hand_on(fence, what, Some((look.trigger, look.cx))).await;
        }
        // Until then it counts as being checked, and is not given to others.
        self.holdings.with_alone(fence, |alone| (alone.check, alone.memory) = (None, look.cx.into_memory()));
        self.schedule(look.subject, Duration::from_millis(goes_on.wait.cast_unsigned()));
    }

    async fn go_on_together(&mut self, id: GroupId, look: Look, mut goes_on: GoesOn) {
        let now = self.clock.now_ms();
        let mut left = Members::with_capacity(look.members.len());
        for member in &look.members {
            match self.judge(member.fence, now, &goes_on) {
                None => {}
                Some(Err(failed)) => self.hand_on(member.fence, What::Fail(failed), None).await,
                Some(Ok(wait)) => {
                    goes_on.wait = wait;
                    left.push(*member);
                }
            }
        }
        let until = now.saturating_add(goes_on.wait);
        let (is_dormant, told) = (self.is_dormant(&look, &goes_on), look.as_told(&goes_on, until));
        for member in &left {
            self.holdings.record(member.fence, &told);
        }
        if is_dormant {
            for member in left.drain(..) {
                self.hand_on(member.fence, What::Sleep { until, known: look.known }, None).await;
            }
            // Those who have joined meanwhile have not been looked at.
            goes_on.wait = 0;
        }
        self.keep_group(id, left, look, &goes_on);
    }

    /// How long one trigger is left alone, or why its wait ends badly; nothing if it is not held any more.
    fn judge(&self, fence: Fence, now: i64, goes_on: &GoesOn) -> Option<Result<i64, WaitFailed>> {
        let (deadline_at, budget) = self.holdings.with(fence, |holding| (holding.deadline_at, holding.error_budget))?;
        let left = deadline_at.map_or(i64::MAX, |deadline_at| deadline_at - now);
        if left <= 0 {
            return Some(Err(past_deadline()));
        }
        if budget.is_some_and(|budget| goes_on.failures >= budget) {
            let last = goes_on.said.as_deref().unwrap_or_default();
            return Some(Err(WaitFailed::errors(goes_on.failures, last)));
        }
        // The last check is at the deadline.
        Some(Ok(goes_on.wait.min(left).max(1)))
    }

    /// One that has left something for its next check would lose it by going dormant, and might never come to an answer.
    fn is_dormant(&self, look: &Look, goes_on: &GoesOn) -> bool {
        goes_on.wait > millis(self.settings.horizon) && !look.cx.has_memory()
    }

    /// A group goes on with those who are left, and with those who joined while the check ran.
    fn keep_group(&mut self, id: GroupId, mut left: Members, look: Look, goes_on: &GoesOn) {
        let Some(group) = self.groups.get_mut(id) else { return };
        left.extend(group.members.drain(..).skip(look.members.len()));
        group.members = left;
        group.failures = goes_on.failures;
        group.trigger = Some(look.trigger).filter(|_| goes_on.wait < FAR_OFF);
        group.memory = look.cx.into_memory();
        if group.members.is_empty() {
            self.disband(id);
        } else {
            self.schedule(look.subject, Duration::from_millis(goes_on.wait.max(0).cast_unsigned()));
            self.bring_forward(id);
        }
    }

    /// Whoever has joined since the last look began is looked at by its deadline.
    pub(super) fn bring_forward(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(id) else { return };
        let Some((next, deadline_at)) = group.next.zip(group.first_deadline) else { return };
        let left = (deadline_at - self.clock.now_ms()).max(0);
        if millis(self.clock.monotonic()) + left < next {
            self.schedule(Subject::Group(id), Duration::from_millis(left.cast_unsigned()));
        }
    }

    /// Nobody is left: what the group held on this replica is let go of.
    pub(super) fn disband(&mut self, id: GroupId) {
        let trigger = self.groups.trigger(id);
        let Some(group) = self.groups.remove(id) else { return };
        if let Ok(Some(trigger)) = trigger {
            self.holdings.clean_up(trigger, timestamp(group.since), group.memory);
        }
    }

    async fn hand_on(&self, fence: Fence, what: What, after: Option<(Arc<dyn Trigger>, Context)>) {
        let finding = Finding { fence, hold: self.holdings.found(fence), what, after };
        // Firing outlives the checks, and holds no more than the capacity.
        if self.found.send(finding).await.is_err() {
            tracing::error!("something was found after firing had ended: whoever holds it next will see it again");
        }
    }
}

impl Look {
    fn as_told(&self, goes_on: &GoesOn, next_at: i64) -> Check {
        let GoesOn { failures, said, .. } = goes_on;
        Check { failures: *failures, at: self.begun_at, took_ms: millis(self.took), next_at, said: said.clone() }
    }
}
