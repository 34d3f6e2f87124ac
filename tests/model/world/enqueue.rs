//! Adding tasks.

use std::collections::HashMap;

use reveille::{Origin, Priority, Retry, id::TaskId, store::history::Why};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Card, Cause, State, Taken, Task, WaitFor, World};

/// A task to be added.
#[derive(Clone, Debug)]
pub(crate) struct New {
    pub(crate) id: TaskId,
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) origin: Origin,
    pub(crate) batch: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) start: Start,
    pub(crate) expires_at: Option<i64>,
    pub(crate) retry: Retry,
    /// A key, and for how long it is taken; none is until the task has ended.
    pub(crate) dedupe: Option<(String, Option<i64>)>,
    /// A concurrency key, and how many under it may be at work at once.
    pub(crate) limit: Option<(String, i32)>,
    pub(crate) step: Value,
}

/// When it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Start {
    Now,
    At(i64),
    After(i64),
    When(WaitFor),
}

impl New {
    fn is_valid(&self) -> bool {
        let waits = match &self.start {
            Start::When(wait) => wait.is_valid(),
            Start::Now | Start::At(_) | Start::After(_) => true,
        };
        let limit = self.limit.as_ref().is_none_or(|(_, n)| *n >= 1);
        waits && limit && !self.name.is_empty() && self.retry.max_attempts >= 1
    }
}

impl World {
    /// Adds tasks; answers with the id of each, or of the one that has its key. If one is wrong, none is added.
    ///
    /// One whose id is known changes nothing, and takes no key either.
    pub(crate) fn enqueue(&mut self, batch: &[New]) -> Option<Vec<TaskId>> {
        if !batch.iter().all(New::is_valid) {
            return None;
        }
        let mut first: HashMap<TaskId, usize> = HashMap::new();
        let firsts: Vec<usize> = batch.iter().enumerate().map(|(at, new)| *first.entry(new.id).or_insert(at)).collect();
        // Of two in a batch that want one key, the one for as long as it is unfinished comes first, then the shorter.
        let mut order: Vec<usize> = (0..batch.len()).filter(|at| firsts[*at] == *at).collect();
        order.sort_by_key(|at| (&batch[*at].name, &batch[*at].dedupe));
        let mut answers: Vec<TaskId> = batch.iter().map(|new| new.id).collect();
        for at in order {
            answers[at] = self.enqueue_one(&batch[at]);
        }
        Some(firsts.into_iter().map(|first| answers[first]).collect())
    }

    fn enqueue_one(&mut self, new: &New) -> TaskId {
        if self.tasks.contains_key(&new.id) || self.finished.contains_key(&new.id) {
            return new.id;
        }
        if let Some((key, window)) = &new.dedupe {
            let key = (new.name.clone(), key.clone());
            if let Some(taken) = self.dedupe.get(&key).filter(|taken| taken.until.is_none_or(|until| until > self.now))
            {
                return taken.task;
            }
            let until = window.map(|window| self.now.saturating_add(window));
            self.dedupe.insert(key, Taken { task: new.id, until });
        }
        let state = match &new.start {
            Start::Now => State::Ready,
            Start::At(at) => State::Deferred(self.begin(&WaitFor::time(*at))),
            Start::After(delay) => State::Deferred(self.begin(&WaitFor::time(self.now.saturating_add(*delay)))),
            Start::When(wait) => State::Deferred(self.begin(wait)),
        };
        let mut step = json!({ "step": new.step });
        if matches!(&new.start, Start::When(wait) if wait.or_resume) {
            step["or_resume"] = json!(true);
        }
        self.queues.entry(new.queue.clone()).or_insert(None);
        let (ready_at, became) = (matches!(state, State::Ready).then_some(self.now), state.word());
        let task = Task {
            card: Card {
                name: new.name.clone(),
                queue: new.queue.clone(),
                origin: new.origin,
                batch: new.batch,
                priority: new.priority,
                retry: new.retry,
                dedupe: new.dedupe.as_ref().map(|(key, _)| key.clone()),
                limit: new.limit.clone(),
                trace: None,
                enqueued_at: self.now,
            },
            state,
            generation: 0,
            turn: 0,
            attempt: 1,
            crashes: 0,
            ready_at,
            expires_at: new.expires_at,
            cancel_requested_at: None,
            step,
            event: None,
            progress: None,
        };
        self.tasks.insert(new.id, task);
        self.tell(new.id, (0, 0, 1), None, became, Cause::of(Why::Enqueued, None));
        new.id
    }
}
