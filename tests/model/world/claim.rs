//! Claiming, and what comes back from workers.

use std::cmp::Reverse;

use reveille::{
    Priority, Retry,
    id::{Fence, Incarnation, TaskId},
    store::{
        Scope,
        history::Why,
        task::{Held, MOST_CRASHES},
    },
    task::End,
};

use serde_json::Value;

use super::{Cause, Illegal, State, Task, TurnedAway, World, choose};

/// What a worker is told of a task that it claimed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) fence: Fence,
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) priority: Priority,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) crashes: i32,
    pub(crate) retry: Retry,
}

impl World {
    /// Gives tasks of these names to a live worker: by priority, then by the time of first being ready. Among equals,
    /// any may be `chosen`. Those that find no slot of their concurrency key wait for one instead.
    pub(crate) fn claim(
        &mut self,
        me: Incarnation,
        scope: &Scope,
        limit: usize,
        chosen: &[TaskId],
    ) -> Result<(Vec<Claimed>, TurnedAway), Illegal> {
        let may = self.tasks.iter().filter(|(id, task)| {
            self.is_live(me)
                && task.state == State::Ready
                && task.expires_at.is_none_or(|at| at > self.now)
                && self.is_within(scope, **id, task)
        });
        let order = may.map(|(id, task)| ((Reverse(task.card.priority), task.ready_at), *id)).collect::<Vec<_>>();
        choose(&order, limit, chosen)?;
        let mut first: Vec<_> = order.into_iter().filter(|(_, id)| chosen.contains(id)).collect();
        first.sort_unstable();
        for (_, id) in &first {
            let task = self.task(*id);
            if task.card.limit.is_none() {
                task.expires_at = None;
            }
            task.progress = None;
            self.change(*id, State::Running(me), Cause::of(Why::Claimed, Some(me)));
        }
        let first: Vec<TaskId> = first.into_iter().map(|(_, id)| id).collect();
        let turned_away = self.admit(me, scope, &first);
        let mine = first.into_iter().filter(|id| !turned_away.tasks.contains(id)).map(|id| self.claimed(id));
        Ok((mine.collect(), turned_away))
    }

    /// Whether a worker may claim a task, if it is ready.
    pub(super) fn is_within(&self, scope: &Scope, id: TaskId, task: &Task) -> bool {
        scope.kinds.contains(&task.card.name)
            && scope.queues.as_ref().is_none_or(|queues| queues.contains(&task.card.queue))
            && self.queues[&task.card.queue].is_none()
            && !scope.aside.contains(&id)
    }

    fn claimed(&self, id: TaskId) -> Claimed {
        let task = &self.tasks[&id];
        Claimed {
            fence: Fence { task: id, generation: task.generation },
            name: task.card.name.clone(),
            queue: task.card.queue.clone(),
            priority: task.card.priority,
            turn: task.turn,
            attempt: task.attempt,
            crashes: task.crashes,
            retry: task.card.retry,
        }
    }

    /// What a worker holds.
    pub(crate) fn claims_of(&self, me: Incarnation) -> Vec<Held> {
        let held = self.tasks.iter().filter(|(_, task)| task.state == State::Running(me));
        let held = held.map(|(id, task)| Held {
            fence: Fence { task: *id, generation: task.generation },
            cancelled: task.cancel_requested_at.is_some(),
        });
        held.collect()
    }

    /// A running step of a worker's says how far it has come.
    pub(crate) fn set_progress(&mut self, me: Incarnation, fence: Fence, progress: &Value) {
        if self.at(fence).is_some_and(|task| task.state == State::Running(me)) && self.is_live(me) {
            self.task(fence.task).progress = Some(progress.clone());
        }
    }

    /// Puts back what a worker holds and cannot run, at no cost.
    pub(crate) fn put_back(&mut self, me: Incarnation, fences: &[Fence]) {
        for fence in fences {
            if self.at(*fence).is_some_and(|task| task.state == State::Running(me)) {
                self.change(fence.task, State::Ready, Cause::of(Why::Released, Some(me)));
            }
        }
    }

    /// What workers that are gone left behind.
    fn left_behind(&self) -> Vec<((), TaskId)> {
        let gone = self.tasks.iter().filter(|(_, task)| match task.state {
            State::Running(holder) => self.is_gone(holder),
            State::Ready | State::Deferred(_) => false,
        });
        gone.map(|(id, _)| ((), *id)).collect()
    }

    /// Takes tasks from workers that are gone. A worker that was lost counts as a crash, one that left does not; what
    /// was cancelled meanwhile, or has crashed too often, ends. Answers how many, and which ended.
    pub(crate) fn rescue(
        &mut self,
        who: Incarnation,
        limit: usize,
        chosen: &[TaskId],
    ) -> Result<(usize, Vec<TaskId>), Illegal> {
        choose(&self.left_behind(), limit, chosen)?;
        let mut ended = Vec::new();
        for id in chosen {
            let task = &self.tasks[id];
            let State::Running(holder) = task.state else { unreachable!("it is among what was left behind") };
            let lost = self.replicas[&holder].gone.is_some_and(|gone| gone.lost);
            let crashes = task.crashes + i32::from(lost);
            if task.cancel_requested_at.is_some() {
                let end = End::cancelled("cancelled while its worker was lost");
                self.finish(*id, end, Cause::of(Why::Cancelled, Some(who)));
                ended.push(*id);
            } else if crashes >= MOST_CRASHES {
                let end = End::failed(format!("{crashes} workers were lost while running it"));
                self.finish(*id, end, Cause::of(Why::Crashed, Some(who)));
                ended.push(*id);
            } else {
                let why = if lost { Why::Crashed } else { Why::Released };
                self.task(*id).crashes = crashes;
                self.change(*id, State::Ready, Cause::of(why, Some(who)));
            }
        }
        Ok((chosen.len(), ended))
    }
}
