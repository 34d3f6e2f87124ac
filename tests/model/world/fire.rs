//! How waits end: by an event, by their time, by a key, or badly. Whoever names the right generation first decides.

use std::collections::HashMap;

use reveille::{
    WaitFailed,
    clock::millis,
    id::{Fence, Incarnation, TaskId},
    store::{Verdict, event::Firing, history::Why},
    task::{End, WaitFailure, Woken},
    trigger::{Outcome, Receipt},
};
use uuid::Uuid;

use super::{Cause, Illegal, State, World, choose};

/// Stands for the id of an event that the store mints, until it is read.
pub(crate) const MINTED: Uuid = Uuid::max();

/// What became of verdicts: those that decided, and among them those whose task ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Struck {
    pub(crate) accepted: Vec<TaskId>,
    pub(crate) ended: Vec<TaskId>,
}

impl World {
    /// Events, one after the other; of several for one wait only the first is looked at. Evidence that the thing happened
    /// is taken from anybody, a verdict only from a live holder. An event that finds its own id was accepted before.
    pub(crate) fn fire(&mut self, batch: &[Firing]) -> (Vec<Receipt>, Vec<TaskId>) {
        let (mut decisive, mut ended) = (Vec::new(), Vec::new());
        let mut first = HashMap::new();
        for Firing { fence, event, holder } in batch {
            let is_first = *first.entry(*fence).or_insert(event.id) == event.id;
            let cause = Cause { why: Why::Event, event: Some(event.id), who: Some(*holder) };
            let decided = match (self.wait_at(*fence).filter(|_| is_first), &event.outcome) {
                (None, _) => false,
                (Some(_), Outcome::Resume(payload)) => {
                    self.resume(fence.task, Some(Woken::Payload(payload.clone())), cause);
                    true
                }
                (Some(_), Outcome::Succeed(result)) => {
                    self.finish(fence.task, End::succeeded(result.clone()), cause);
                    true
                }
                (Some(wait), Outcome::Skip(reason)) => {
                    let may = self.may_judge(*holder, wait);
                    if may {
                        self.finish(fence.task, End::skipped(reason.clone()), cause);
                    }
                    may
                }
                (Some(_), Outcome::Fail(reason)) => {
                    let failed = WaitFailed { reason: WaitFailure::Fatal, message: reason.clone() };
                    let verdict = Verdict { fence: *fence, failed, holder: Some(*holder), event: Some(event.id) };
                    self.fail_wait(Some(*holder), &verdict)
                }
            };
            if decided && !self.tasks.contains_key(&fence.task) {
                ended.push(fence.task);
            }
            decisive.push(decided);
        }
        // One that its task has seen by then was accepted, whichever of a batch it came with.
        let receipt = |(Firing { fence, event, .. }, decided): (&Firing, bool)| {
            if decided || self.has_seen(fence.task, event.id) { Receipt::Accepted } else { Receipt::Refused }
        };
        (batch.iter().zip(decisive).map(receipt).collect(), ended)
    }

    fn has_seen(&self, task: TaskId, event: Uuid) -> bool {
        self.history.get(&task).is_some_and(|history| history.iter().any(|told| told.event == Some(event)))
    }

    /// Moves a deferred task on to its next step. It keeps its place in the queue, if it ever had one.
    pub(super) fn resume(&mut self, id: TaskId, woken: Option<Woken>, cause: Cause) {
        let now = self.now;
        let task = self.task(id);
        task.ready_at.get_or_insert(now);
        if woken.is_some() {
            task.event = woken;
        }
        self.change(id, State::Ready, cause);
    }

    /// Verdicts, by the order of their tasks.
    pub(crate) fn fail_waits(&mut self, who: Option<Incarnation>, batch: &[Verdict]) -> Struck {
        let mut struck = Struck::default();
        let mut batch: Vec<&Verdict> = batch.iter().collect();
        batch.sort_by_key(|verdict| verdict.fence);
        for verdict in batch {
            if self.fail_wait(who, verdict) {
                struck.accepted.push(verdict.fence.task);
                if !self.tasks.contains_key(&verdict.fence.task) {
                    struck.ended.push(verdict.fence.task);
                }
            }
        }
        struck
    }

    /// A wait ends badly: the next step runs and sees why, if it asked to; else the same wait is armed again, as long as
    /// the task has attempts; else the task fails. Whether the verdict was taken.
    fn fail_wait(&mut self, who: Option<Incarnation>, verdict: &Verdict) -> bool {
        let Some(wait) = self.wait_at(verdict.fence) else { return false };
        if verdict.holder.is_some_and(|holder| !self.may_judge(holder, wait)) {
            return false;
        }
        let or_resume = wait.or_resume;
        // No further attempt could be in time.
        let is_over = wait.deadline_is_fixed && wait.deadline_at.is_some_and(|at| at <= self.now);
        let id = verdict.fence.task;
        let why = match verdict.failed.reason {
            WaitFailure::Deadline => Why::Deadline,
            _ => Why::WaitFailed,
        };
        let task = &self.tasks[&id];
        if or_resume {
            let cause = Cause { why, event: Some(verdict.event.unwrap_or(MINTED)), who };
            self.resume(id, Some(Woken::Failed(verdict.failed.clone())), cause);
        } else if task.attempt < task.card.retry.max_attempts && !is_over {
            self.rearm(id, Cause { why: Why::Rearmed, event: verdict.event, who });
        } else {
            let cause = Cause { why, event: verdict.event, who };
            self.finish(id, End::failed(verdict.failed.message.clone()), cause);
        }
        true
    }

    /// The same wait again after the back-off, as another attempt: what counted from the deferral counts from then.
    fn rearm(&mut self, id: TaskId, cause: Cause) {
        let now = self.now;
        let task = self.task(id);
        let retry = task.card.retry;
        let doublings = u32::try_from(task.attempt - 1).unwrap_or(0).min(40);
        let delay = millis(retry.backoff).saturating_mul(1 << doublings).min(millis(retry.cap));
        let Some(mut wait) = task.wait().cloned() else { unreachable!("only a deferred task is armed again") };
        let since = now.saturating_add(delay);
        let from_then_on = |at: i64| (at - wait.since).saturating_add(since);
        if !wait.deadline_is_fixed {
            wait.deadline_at = wait.deadline_at.map(from_then_on);
        }
        wait.wake_at = if wait.is_passive() { wait.wake_at.map(from_then_on) } else { Some(since) };
        wait.since = since;
        wait.holder = None;
        // The jitter takes up to half of the delay.
        wait.slack += delay / 2;
        task.attempt += 1;
        self.change(id, State::Deferred(wait), cause);
    }

    /// Fires passive waits whose time has come, the earliest first; answers how many.
    pub(crate) fn fire_due(&mut self, who: Incarnation, limit: usize, chosen: &[TaskId]) -> Result<usize, Illegal> {
        let due = self.tasks.iter().filter_map(|(id, task)| {
            let wait = task.wait().filter(|wait| wait.is_passive())?;
            Some((wait.wake_at.filter(|at| *at <= self.now)?, *id))
        });
        choose(&due.collect::<Vec<_>>(), limit, chosen)?;
        for id in chosen {
            self.resume(*id, None, Cause::of(Why::Due, Some(who)));
        }
        Ok(chosen.len())
    }

    /// Strikes waits that are past their deadline, the earliest first. Whoever may check an active one has `grace` to do it itself.
    pub(crate) fn strike(
        &mut self,
        who: Incarnation,
        grace: i64,
        limit: usize,
        failed: &WaitFailed,
        chosen: &[Fence],
    ) -> Result<Struck, Illegal> {
        let overdue = self.tasks.iter().filter_map(|(id, task)| {
            let wait = task.wait()?;
            let grace = if wait.is_passive() { 0 } else { grace };
            let at = wait.deadline_at.filter(|at| *at <= self.now - grace)?;
            Some((at, Fence { task: *id, generation: task.generation }))
        });
        choose(&overdue.collect::<Vec<_>>(), limit, chosen)?;
        let verdict = |fence: &Fence| Verdict { fence: *fence, failed: failed.clone(), holder: None, event: None };
        Ok(self.fail_waits(Some(who), &chosen.iter().map(verdict).collect::<Vec<_>>()))
    }
}
