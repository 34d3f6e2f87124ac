//! Ending.

use reveille::{
    id::{Fence, Incarnation, TaskId},
    store::{history::Why, task::Cancelled},
    task::{End, EndState, TaskState},
};
use uuid::Uuid;

use super::{Cause, Finished, Illegal, State, Undo, World, choose};

/// A task's end, by whomever.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) fence: Fence,
    /// The state that it must be in.
    pub(crate) was: TaskState,
    /// Who must hold the task, or its trigger, and be live; nobody, if it is not a holder who ends it.
    pub(crate) holder: Option<Incarnation>,
    pub(crate) end: End,
    pub(crate) why: Why,
    pub(crate) event: Option<Uuid>,
    pub(crate) who: Option<Incarnation>,
}

impl World {
    /// Ends tasks; answers which.
    pub(crate) fn end(&mut self, batch: &[Ends]) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for e in batch {
            let Some(task) = self.at(e.fence).filter(|task| task.state.word() == e.was.word()) else { continue };
            let held_by = match &task.state {
                State::Ready => None,
                State::Running(holder) => Some(*holder),
                State::Deferred(wait) => wait.holder,
            };
            if e.holder.is_none_or(|holder| held_by == Some(holder) && self.is_live(holder)) {
                self.finish(e.fence.task, e.end.clone(), Cause { why: e.why, event: e.event, who: e.who });
                ended.push(e.fence.task);
            }
        }
        ended
    }

    /// Moves a task to the finished. Its slot is free, and its dedupe key is, unless that was taken for a time; a cancelled active wait
    /// leaves something to undo; what failed is kept with its step and event.
    pub(super) fn finish(&mut self, id: TaskId, end: End, cause: Cause) {
        let task = self.tasks.remove(&id).expect("the caller has looked it up");
        let was = task.state.word();
        self.slots.retain(|_, taken| *taken != id);
        if let Some(key) = &task.card.dedupe {
            let key = (task.card.name.clone(), key.clone());
            if self.dedupe.get(&key).is_some_and(|taken| taken.task == id && taken.until.is_none()) {
                self.dedupe.remove(&key);
            }
        }
        if let (State::Deferred(wait), Why::Cancelled) = (task.state, cause.why)
            && let Some(spec) = wait.spec
        {
            let undo = Undo {
                kind: wait.kind,
                queue: task.card.queue.clone(),
                spec,
                since: wait.since,
                wake_at: self.now,
                attempt: 1,
                holder: None,
                dead_at: None,
            };
            self.undo.insert(Fence { task: id, generation: task.generation }, undo);
        }
        let (failed, became) = (end.state == EndState::Failed, end.state.word());
        let generation = task.generation + 1;
        let finished = Finished {
            card: task.card,
            generation,
            turn: task.turn,
            attempt: task.attempt,
            crashes: task.crashes,
            step: Some(task.step).filter(|_| failed),
            event: task.event.filter(|_| failed),
            end,
            at: self.now,
        };
        self.finished.insert(id, finished);
        self.tell(id, (generation, task.turn, task.attempt), Some(was), became, cause);
    }

    /// Calls a task off. A running one is only asked to stop; those who wait for the others are resumed.
    pub(crate) fn cancel(&mut self, id: TaskId, reason: &str) -> Cancelled {
        let now = self.now;
        let Some(task) = self.tasks.get_mut(&id) else {
            return if self.finished.contains_key(&id) { Cancelled::Ended } else { Cancelled::Unknown };
        };
        if let State::Running(_) = task.state {
            task.cancel_requested_at.get_or_insert(now);
            return Cancelled::Asked;
        }
        self.finish(id, End::cancelled(reason), Cause::of(Why::Cancelled, None));
        self.ended(&[id]);
        Cancelled::Done
    }

    /// Skips tasks that have not begun by their expiry, the earliest first. Answers how many, and which.
    pub(crate) fn expire(
        &mut self,
        who: Incarnation,
        limit: usize,
        chosen: &[TaskId],
    ) -> Result<(usize, Vec<TaskId>), Illegal> {
        let expired = self.tasks.iter().filter_map(|(id, task)| Some((task.expires_at?, *id)));
        let expired: Vec<_> = expired.filter(|(at, _)| *at <= self.now).collect();
        choose(&expired, limit, chosen)?;
        for id in chosen {
            self.finish(*id, End::skipped("it had not begun by its expiry"), Cause::of(Why::Expired, Some(who)));
        }
        Ok((chosen.len(), chosen.to_vec()))
    }
}
