//! Operations on tasks.

use std::time::Duration;

use reveille::{
    Priority, Retry,
    store::history::Why,
    task::{EndState, TaskState},
};

use super::{Generator, NOBODY, View};
use crate::op::{Adds, Arrives, At, Ending, Limit, On, Op, R, Reach, Starts, T, Then, Waits};

const QUEUES: [&str; 3] = ["default", "bulk", "side"];

impl Generator {
    pub(super) fn enqueue(&mut self, view: &View) -> Op {
        let count = self.one_of(&[1, 1, 1, 1, 2, 3, 4]);
        let mut batch: Vec<Adds> = Vec::new();
        for _ in 0..count {
            let mut adds = self.adds(view);
            if let Some(first) = batch.first().filter(|first| first.minted)
                && self.roll(15) == 0
            {
                (adds.task, adds.minted) = (first.task, true);
                adds.start = Starts::Now;
            }
            batch.push(adds);
        }
        Op::Enqueue { batch, alone: self.maybe(60) }
    }

    fn adds(&mut self, view: &View) -> Adds {
        let known: Vec<T> = view.ready.iter().chain(&view.deferred).chain(&view.finished).copied().collect();
        let again = !known.is_empty() && self.one_in(10);
        let task = if again { self.one_of(&known) } else { T(self.tasks) };
        self.tasks = self.tasks.max(task.0 + 1);
        let high = [Priority::Low, Priority::Normal, Priority::Normal, Priority::High, Priority::Urgent];
        Adds {
            task,
            minted: again || self.maybe(70),
            name: if self.one_in(70) { "" } else { self.one_of(&["work", "work", "toil"]) },
            queue: self.one_of(&QUEUES),
            priority: self.one_of(&high),
            // Whether one that changes nothing could be stored is not always looked at.
            start: match self.roll(20) {
                _ if again => Starts::Now,
                0..10 => Starts::Now,
                10 => Starts::At(self.between(-5_000, 60_000)),
                11..13 => Starts::After(self.between(0, 90_000)),
                _ => Starts::When(self.waits(view)),
            },
            expires: self.one_in(7).then(|| self.between(-1_000, 1_800_000)),
            retry: self.retry(),
            dedupe: self.one_in(4).then(|| (self.one_of(&["k", "l"]), self.window())),
            limit: self.one_in(4).then(|| (self.one_of(&["p", "q"]), self.limit_of_key())),
            batch: self.one_in(4).then(|| self.roll(3)),
        }
    }

    fn window(&mut self) -> Option<i64> {
        self.maybe(45).then(|| self.one_of(&[1, 60_000, 3_600_000, 86_400_000]))
    }

    fn limit_of_key(&mut self) -> u32 {
        if self.one_in(40) { 0 } else { self.one_of(&[1, 1, 2, 2, 3]) }
    }

    fn retry(&mut self) -> Retry {
        let times = |max_attempts, backoff: u64, cap: u64| Retry {
            max_attempts,
            backoff: Duration::from_secs(backoff),
            cap: Duration::from_secs(cap),
        };
        match self.roll(90) {
            0 => return times(0, 1, 1),
            1..3 => return times(2, 315_360_000, 315_360_000),
            _ => {}
        }
        self.one_of(&[Retry::NEVER, times(2, 0, 0), times(3, 10, 60), times(4, 3_600, 7_200)])
    }

    pub(super) fn waits(&mut self, view: &View) -> Waits {
        let on = match self.roll(100) {
            0..14 => On::After(self.between(0, 90_000)),
            14..20 => On::At(self.between(-2_000, 3_600_000)),
            20..40 => self.signal_key(),
            40..54 => On::End(self.any_task(view)),
            54..86 => On::Fake(self.roll(4)),
            _ => On::OtherFake,
        };
        let deadline = self.maybe(40).then(|| match self.roll(20) {
            0..14 => Limit::After(self.between(0, 3_600_000)),
            14..19 => Limit::At(self.between(-1_000, 600_000)),
            _ => Limit::Never,
        });
        Waits { on, deadline, or_resume: self.maybe(40) }
    }

    pub(super) fn signal_key(&mut self) -> On {
        On::Signal(if self.one_in(60) { "" } else { self.one_of(&["a", "b", "c"]) })
    }

    pub(super) fn reach(&mut self, kinds: [&'static str; 2], rather: &[T], view: &View) -> Reach {
        let queues = match self.roll(30) {
            0..20 => None,
            20 => Some(vec!["nowhere"]),
            21..24 => Some(vec!["default", "bulk", "side"]),
            _ => Some(vec![self.one_of(&QUEUES)]),
        };
        let kinds = match self.roll(30) {
            0..23 => kinds.to_vec(),
            23..26 => vec![kinds[0]],
            26..29 => vec![kinds[1], "unheard_of"],
            _ => vec!["unheard_of"],
        };
        let aside = if self.one_in(9) { vec![self.task_of(rather, view)] } else { Vec::new() };
        Reach { queues, kinds, aside }
    }

    pub(super) fn limit(&mut self) -> usize {
        self.one_of(&[0, 1, 1, 1, 2, 2, 2, 3, 3, 100, 100])
    }

    pub(super) fn claim(&mut self, view: &View) -> Op {
        let by = self.one_who(&view.workers, view);
        Op::Claim { by, reach: self.reach(["work", "toil"], &view.ready, view), limit: self.limit() }
    }

    /// A replica that holds something, what it holds, and now and then another in its place.
    pub(super) fn holder(&mut self, held: &[(T, R)], live: &[R]) -> (R, Vec<T>) {
        if held.is_empty() {
            return (self.replica_of(live), Vec::new());
        }
        let (_, holder) = self.one_of(held);
        let its = held.iter().filter(|(_, by)| *by == holder).map(|(task, _)| *task).collect();
        (if self.one_in(12) { self.replica_of(live) } else { holder }, its)
    }

    pub(super) fn defer(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.running, &view.workers);
        let batch = self.some_at(&tasks, view);
        let then = |at: At| {
            let then = match self.roll(10) {
                0..6 => Then::Wait(self.roll(100), self.waits(view)),
                6..8 => Then::Retry(self.between(0, 30_000)),
                _ => Then::Snooze(self.between(0, 30_000)),
            };
            (at, then)
        };
        Op::Defer { by, batch: batch.into_iter().map(then).collect() }
    }

    pub(super) fn end(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.running, &view.workers);
        let ends = if self.maybe(70) {
            let batch = self.some_at(&tasks, view);
            batch.into_iter().map(|at| self.ending(at, TaskState::Running, Some(by))).collect()
        } else if self.maybe(60) {
            let (by, tasks) = self.holder(&view.held, &view.triggerers);
            let by = self.maybe(60).then_some(by);
            let tasks = if by.is_some() { tasks } else { view.deferred.clone() };
            let batch = self.some_at(&tasks, view);
            batch.into_iter().map(|at| self.ending(at, TaskState::Deferred, by)).collect()
        } else {
            let batch = self.some_at(&view.ready, view);
            let by = self.one_in(5).then_some(by);
            batch.into_iter().map(|at| self.ending(at, TaskState::Ready, by)).collect()
        };
        Op::End { batch: ends }
    }

    fn ending(&mut self, at: At, was: TaskState, by: Option<R>) -> Ending {
        let states =
            [EndState::Succeeded, EndState::Succeeded, EndState::Failed, EndState::Skipped, EndState::Cancelled];
        let state = self.one_of(&states);
        let was = if self.one_in(15) { TaskState::Deferred } else { was };
        let why = match state {
            EndState::Succeeded | EndState::Skipped => Why::Finished,
            EndState::Failed => Why::Failed,
            EndState::Cancelled => Why::Cancelled,
        };
        Ending { at, was, by, state, why }
    }

    pub(super) fn progress(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.running, &view.workers);
        let task = self.task_of(&tasks, view);
        Op::Progress { by, at: self.at(task), done: self.roll(100) }
    }

    pub(super) fn advance(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.running, &view.workers);
        let task = self.task_of(&tasks, view);
        let arrival = match self.roll(6) {
            0 => Arrives::Time(self.event()),
            1 => Arrives::Payload(self.event(), self.roll(100)),
            2 => Arrives::Failed(self.event()),
            3..5 => Arrives::Under(On::Signal(self.one_of(&["a", "b", "c"]))),
            _ => Arrives::Under(On::End(self.any_task(view))),
        };
        let turns_ago = if self.one_in(4) { self.one_of(&[1, 1, 2, -1]) } else { 0 };
        Op::Advance { by, at: self.at(task), turns_ago, step: self.roll(100), arrival }
    }

    pub(super) fn put_back(&mut self, view: &View) -> Op {
        let (by, tasks) = self.holder(&view.running, &view.workers);
        Op::PutBack { by, batch: self.some_at(&tasks, view) }
    }

    pub(super) fn cancel(&mut self, view: &View) -> Op {
        let running: Vec<T> = view.running.iter().map(|(task, _)| *task).collect();
        let rather = match self.roll(3) {
            0 => &view.deferred,
            1 => &running,
            _ => &view.ready,
        };
        let task = if self.one_in(10) { T(NOBODY) } else { self.task_of(rather, view) };
        Op::Cancel { task }
    }

    pub(super) fn rescue(&mut self, view: &View) -> Op {
        Op::Rescue { by: self.replica_of(&view.workers), limit: self.limit() }
    }

    pub(super) fn expire(&mut self, view: &View) -> Op {
        Op::Expire { by: self.replica_of(&view.workers), limit: self.limit() }
    }
}
