//! Operations on waits, and on what ends them.

use reveille::{task::WaitFailure, trigger::Outcome};
use serde_json::json;

use super::{Generator, View};
use crate::op::{Charge, E, On, Op, Settled, Shot, T};

impl Generator {
    pub(super) fn lease(&mut self, view: &View) -> Op {
        let by = self.one_who(&view.triggerers, view);
        Op::Lease { by, reach: self.reach(["fake", "other_fake"], &view.deferred, view), limit: self.limit() }
    }

    pub(super) fn release(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.held, &view.triggerers);
        let batch = self.some_at(&tasks, view);
        let batch = batch.into_iter().map(|at| (at, self.one_of(&[0, 1_000, 60_000, 3_600_000]))).collect();
        Op::Release { by, batch }
    }

    pub(super) fn event(&mut self) -> E {
        self.events += 1;
        E(self.events - 1)
    }

    pub(super) fn fire(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.held, &view.triggerers);
        let tasks = if self.maybe(60) { tasks } else { view.deferred.clone() };
        let mut batch = Vec::new();
        for at in self.some_at(&tasks, view) {
            // Now and then the answer was lost: the same event again, by whoever has not heard of anything since.
            let again = if self.fired.is_empty() || self.maybe(80) { None } else { Some(self.roll(4)) };
            let shot = match again.and_then(|back| self.fired.iter().rev().nth(back as usize)).cloned() {
                Some(shot) => Shot { at: self.at(shot.at.0), ..shot },
                None => Shot { at, event: self.event(), outcome: self.outcome() },
            };
            batch.push(shot);
        }
        if self.one_in(6) {
            let first = batch[0].clone();
            let other = Shot { at: first.at, event: self.event(), outcome: self.outcome() };
            batch.push(if self.maybe(50) { first } else { other });
        }
        self.fired.extend(batch.iter().cloned());
        Op::Fire { by, batch }
    }

    fn outcome(&mut self) -> Outcome {
        let number = self.roll(100);
        match self.roll(10) {
            0..4 => Outcome::Resume(json!(number)),
            4 => Outcome::Succeed(json!(number)),
            5 => Outcome::Succeed(json!(null)),
            6..8 => Outcome::Skip("there is nothing".to_owned()),
            _ => Outcome::Fail("it cannot be".to_owned()),
        }
    }

    pub(super) fn fail_waits(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.held, &view.triggerers);
        let (tasks, holder) = if self.maybe(60) { (tasks, Some(by)) } else { (view.deferred.clone(), None) };
        let mut batch = Vec::new();
        for at in self.some_at(&tasks, view) {
            let reason = self.one_of(&[WaitFailure::Deadline, WaitFailure::Fatal, WaitFailure::Misfit]);
            let event = self.one_in(3).then(|| self.event());
            batch.push(Charge { at, reason, holder, event });
        }
        Op::FailWaits { who: self.maybe(80).then_some(by), batch }
    }

    pub(super) fn fire_due(&mut self, view: &View) -> Op {
        Op::FireDue { by: self.replica_of(&view.triggerers), limit: self.limit() }
    }

    pub(super) fn strike(&mut self, view: &View) -> Op {
        let grace = self.one_of(&[0, 30_000, 3_600_000]);
        Op::Strike { by: self.replica_of(&view.triggerers), grace, limit: self.limit() }
    }

    pub(super) fn send(&mut self, _: &View) -> Op {
        let signal = if self.events > 0 && self.one_in(8) { E(self.roll(self.events)) } else { self.event() };
        let key = if self.one_in(40) { "" } else { self.one_of(&["a", "b", "c"]) };
        let kept = self.one_of(&[0, 60_000, 86_400_000, 86_400_000, 400_000_000]);
        Op::Send { signal, key, payload: self.roll(100), kept, alone: self.maybe(60) }
    }

    pub(super) fn match_keys(&mut self, view: &View) -> Op {
        let mut keys = vec![On::Signal(self.one_of(&["a", "b", "c"]))];
        if self.maybe(50) {
            keys.push(On::End(self.any_task(view)));
        }
        if self.maybe(40) {
            keys.push(On::Slot(self.one_of(&["p", "q"])));
        }
        Op::Match { keys, who: self.maybe(60).then(|| self.any_replica()) }
    }

    pub(super) fn match_again(&mut self, _: &View) -> Op {
        Op::MatchAgain { who: self.any_replica() }
    }

    pub(super) fn ended(&mut self, view: &View) -> Op {
        let latest: Vec<T> = view.finished.iter().rev().take(4).copied().collect();
        Op::Ended { tasks: self.some_at(&latest, view).into_iter().map(|at| at.0).collect() }
    }

    pub(super) fn lease_undo(&mut self, view: &View) -> Op {
        let by = self.one_who(&view.triggerers, view);
        Op::LeaseUndo { by, reach: self.reach(["fake", "other_fake"], &[], view), limit: self.limit() }
    }

    pub(super) fn settle_undo(&mut self, view: &View) -> Op {
        let held: Vec<_> = view.undo.iter().filter_map(|(task, holder)| Some((*task, (*holder)?))).collect();
        let (by, tasks) = self.holder(&held, &view.triggerers);
        let undone = match self.roll(5) {
            0..2 => Settled::Done,
            2 => Settled::Unread(self.between(0, 60_000)),
            3 => Settled::Again(self.between(0, 60_000)),
            _ => Settled::Dead,
        };
        Op::SettleUndo { by, task: self.task_of(&tasks, view), stale: self.one_in(12), undone }
    }
}
