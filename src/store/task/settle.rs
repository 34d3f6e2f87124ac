//! What a worker's steps answered, stored in one transaction.
//!
//! Some end their task and some defer it, by a statement each. All of their rows are locked before, in the order of ids: each
//! statement keeps that order only for its own, and two who store the same tasks would wait for each other.

use std::collections::HashSet;

use super::{Deferring, Ending, Over, defer, end, lock};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    store::{Db, Store, history::Why},
    task::{End, TaskState},
};

/// What becomes of a running task.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It waits. If it was called off meanwhile, it ends as cancelled instead.
    Defer(Deferring),
    /// It is over.
    End(Ending),
}

impl Answer {
    /// The task, as its worker knew it.
    fn fence(&self) -> Fence {
        match self {
            Self::Defer(deferring) => deferring.fence,
            Self::End(ending) => ending.fence,
        }
    }
}

/// What was stored; what is in neither list is no longer the worker's.
#[derive(Debug, Default)]
pub struct Settled {
    /// The tasks that wait.
    pub deferred: HashSet<TaskId>,
    /// The tasks that are over.
    pub ended: Vec<Over>,
}

impl Store {
    /// Stores what steps of mine answered.
    ///
    /// # Errors
    /// If the database does not answer: storing it again is safe.
    pub async fn settle(&self, db: &mut Db<'_>, me: Incarnation, batch: Vec<Answer>) -> Result<Settled> {
        let now = self.clock().now_ms();
        let tasks: Vec<_> = batch.iter().map(|answer| answer.fence().task.0).collect();
        let (mut deferring, mut endings) = (Vec::new(), Vec::new());
        for answer in batch {
            match answer {
                Answer::Defer(one) => deferring.push(one),
                Answer::End(one) => endings.push(one),
            }
        }
        if !deferring.is_empty() && !endings.is_empty() {
            lock(db, &tasks).await?;
        }
        let mut settled = Settled::default();
        if !deferring.is_empty() {
            settled.deferred.extend(defer(db, me, now, &deferring).await?);
        }
        for refused in deferring.iter().filter(|one| !settled.deferred.contains(&one.fence.task)) {
            let end = End::cancelled("cancelled while it ran");
            let ending = self.ending(refused.fence, TaskState::Running, &end, Why::Cancelled)?;
            endings.push(Ending { holder: Some(me), who: Some(me), ..ending });
        }
        if !endings.is_empty() {
            settled.ended = end(db, now, &endings).await?;
        }
        Ok(settled)
    }
}
