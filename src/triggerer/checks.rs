//! Running checks as they fall due.
//!
//! Between checks a trigger is an entry in a heap. A check runs in a task of its own, bounded in number and time, so that
//! one that panics, hangs or is slow touches no other. No check begins while this replica is parked.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use reveille_trigger::{Answer, Context, Event, Memory, Spacing, Timestamp, Trigger};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Settings, holding::Holdings};
use crate::{
    clock::{Clock, millis},
    id::Fence,
    outage::jittered,
    presence::Presence,
    task::{WaitFailed, WaitFailure},
    upkeep::past_deadline,
};

/// How soon a parked replica looks whether it still is.
const PARKED: Duration = Duration::from_millis(100);

/// The longest back-off after checks that could not tell.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// What a check found, with what its trigger is told of it.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) fence: Fence,
    pub(super) what: What,
    pub(super) trigger: Arc<dyn Trigger>,
    pub(super) cx: Context,
}

#[derive(Debug)]
pub(super) enum What {
    /// It has happened.
    Fire(Event),
    /// The wait has ended badly.
    Fail(WaitFailed),
    /// Nothing until then, in milliseconds of the database's time: the trigger goes dormant.
    Sleep(i64),
}

/// The heap, and what runs.
pub(super) struct Checks<'a> {
    clock: Clock,
    presence: Arc<Presence>,
    holdings: Arc<Holdings>,
    settings: &'a Settings,
    found: mpsc::Sender<Finding>,
    /// By when they are due, in milliseconds of the monotonic clock.
    due: BinaryHeap<Reverse<(i64, Fence)>>,
    running: JoinSet<Checked>,
    /// How many of these last, such as those that listen: they hold a slot of the capacity, and none of the checks.
    lasting: Arc<AtomicUsize>,
}

/// A check that is over.
struct Checked {
    fence: Fence,
    trigger: Arc<dyn Trigger>,
    cx: Context,
    answer: Result<Answer, reveille_trigger::Error>,
    interval: Duration,
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        clock: Clock,
        presence: Arc<Presence>,
        holdings: Arc<Holdings>,
        settings: &'a Settings,
        found: mpsc::Sender<Finding>,
    ) -> Self {
        Self {
            clock,
            presence,
            holdings,
            settings,
            found,
            due: BinaryHeap::new(),
            running: JoinSet::new(),
            lasting: Arc::default(),
        }
    }

    /// Runs until stopped. What is running then is dropped, and what was found is handed on.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Fence>, stop: &CancellationToken) {
        loop {
            let pause = self.start_due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(fence) = arrivals.recv() => self.due.push(Reverse((millis(self.clock.monotonic()), fence))),
                Some(joined) = self.running.join_next() => match joined {
                    Ok(checked) => self.settle(checked).await,
                    // What is no longer held is not checked to its end.
                    Err(dropped) if dropped.is_cancelled() => {}
                    Err(error) => tracing::error!("a check was lost: {error}"),
                },
                () = self.clock.sleep(pause) => {}
            }
        }
        while let Some(joined) = self.running.try_join_next() {
            if let Ok(checked) = joined {
                self.settle(checked).await;
            }
        }
    }

    /// Starts what is due, as far as there is room; answers how long nothing else will be.
    fn start_due(&mut self) -> Duration {
        if self.presence.is_parked() {
            return PARKED;
        }
        let now = millis(self.clock.monotonic());
        while let Some(Reverse((at, fence))) = self.due.peek().copied() {
            if at > now {
                return Duration::from_millis((at - now).cast_unsigned());
            }
            if self.running.len().saturating_sub(self.lasting.load(Ordering::Relaxed)) >= self.settings.checks {
                break;
            }
            self.due.pop();
            self.start(fence);
        }
        // The end of a check, or an arrival, comes first.
        Duration::from_hours(1)
    }

    fn start(&mut self, fence: Fence) {
        // One that is no longer held is simply not checked again.
        let Some((trigger, since, memory)) = self
            .holdings
            .with(fence, |holding| (Arc::clone(&holding.trigger), holding.since, std::mem::take(&mut holding.memory)))
        else {
            return;
        };
        let cx = context(&self.clock, since, memory);
        let lasting = Arc::clone(&self.lasting);
        let check = self.running.spawn(async move {
            // An author's hooks may panic too: all of them are called here.
            let answer = AssertUnwindSafe(check(&*trigger, &cx, &lasting)).catch_unwind().await;
            let interval = std::panic::catch_unwind(AssertUnwindSafe(|| trigger.spacing().interval(waited)));
            let answer = answer.unwrap_or_else(|panic| Err(panicked(&*panic)));
            let (interval, answer) = match interval {
                Ok(interval) => (interval, answer),
                Err(panic) => (Spacing::default().interval(waited), Err(panicked(&*panic))),
            };
            Checked { fence, trigger, cx, answer, interval }
        });
        self.holdings.with(fence, |holding| holding.check = Some(check));
    }

    async fn settle(&mut self, checked: Checked) {
        let Checked { fence, trigger, cx, answer, interval } = checked;
        let (what, wait) = match answer {
            Ok(Answer::Fire(event)) => (Some(What::Fire(event)), interval),
            Ok(Answer::NotYet) => {
                self.holdings.with(fence, |holding| holding.failures = 0);
                (None, jittered(interval))
            }
            Err(error) if error.is_fatal() => {
                (Some(What::Fail(WaitFailed { reason: WaitFailure::Fatal, message: error.to_string() })), interval)
            }
            Err(error) => (None, self.back_off(fence, interval, &error)),
        };
        if let Some(what) = what {
            return self.hand_on(Finding { fence, what, trigger, cx }).await;
        }
        let now = self.clock.now_ms();
        let deadline_at = self.holdings.with(fence, |holding| holding.deadline_at).flatten();
        if deadline_at.is_some_and(|deadline_at| now >= deadline_at) {
            return self.hand_on(Finding { fence, what: What::Fail(past_deadline()), trigger, cx }).await;
        }
        // The last check is at the deadline.
        let wait = deadline_at.map_or(millis(wait), |deadline_at| millis(wait).min(deadline_at - now)).max(1);
        // One that has left something for its next check would lose it by going dormant, and might never come to an answer.
        if wait > millis(self.settings.horizon) && !cx.has_memory() {
            return self.hand_on(Finding { fence, what: What::Sleep(now + wait), trigger, cx }).await;
        }
        if self.holdings.with(fence, |holding| holding.memory = cx.into_memory()).is_some() {
            self.due.push(Reverse((millis(self.clock.monotonic()) + wait, fence)));
        }
    }

    async fn hand_on(&self, finding: Finding) {
        // Firing outlives the checks, and holds no more than the capacity.
        if self.found.send(finding).await.is_err() {
            tracing::error!("something was found after firing had ended: whoever holds it next will see it again");
        }
    }

    /// A check could not tell: the next is later each time, up to a minute.
    fn back_off(&self, fence: Fence, interval: Duration, error: &reveille_trigger::Error) -> Duration {
        let said = self.holdings.with(fence, |holding| {
            holding.failures = holding.failures.saturating_add(1);
            (holding.failures, holding.kinds.clone())
        });
        let Some((failures, kinds)) = said else { return interval };
        if failures.is_power_of_two() {
            let task = fence.task;
            tracing::warn!(task.id = %task, trigger.kind = kinds, trigger.failures = failures,
                "check {failures} in a row of the {kinds} trigger of task {task} could not tell: {error}");
        }
        let doubled = interval.max(Duration::from_millis(100)).saturating_mul(1 << failures.min(16));
        jittered(doubled.min(LONGEST_BACKOFF).max(interval))
    }
}

/// A context that reads the shared clock.
pub(super) fn context(clock: &Clock, since: Timestamp, memory: Memory) -> Context {
    let clock = clock.clone();
    Context::new(move || clock.now(), since, memory)
}

/// One check, bounded in time, its panic caught. The context outlives it, and with it what earlier checks left.
async fn check(trigger: &dyn Trigger, cx: &Context, lasting: &AtomicUsize) -> Result<Answer, reveille_trigger::Error> {
    let limit = trigger.time_out();
    let _counted = limit.is_none().then(|| Lasting::count(lasting));
    let limit = limit.unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, AssertUnwindSafe(trigger.check(cx)).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => {
            Err(reveille_trigger::Error::again(format!("the check had not answered after {} s", limit.as_secs_f64())))
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> reveille_trigger::Error {
    reveille_trigger::Error::again(format!("the check panicked: {}", crate::error::said(panic)))
}

/// Counts a lasting check while it lasts, also when it is aborted.
struct Lasting<'a>(&'a AtomicUsize);

impl<'a> Lasting<'a> {
    fn count(lasting: &'a AtomicUsize) -> Self {
        lasting.fetch_add(1, Ordering::Relaxed);
        Self(lasting)
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
