//! What happened to a task: append-only, one row a transition, never read on the hot path.

use serde::Serialize;
use uuid::Uuid;

use super::{Db, doing, each};
use crate::{error::Result, id::TaskId, task::words};

words! {
    /// Why a task moved.
    Why {
        /// It was added.
        Enqueued = "enqueued",
        /// A worker took it.
        Claimed = "claimed",
        /// Its step asked to wait.
        Deferred = "deferred",
        /// Its step failed, and is tried again.
        Retry = "retry",
        /// Its step asked to run again later.
        Snooze = "snooze",
        /// Its trigger fired.
        Event = "event",
        /// The time it waited for came.
        Due = "due",
        /// A signal that it waited for came.
        Signal = "signal",
        /// A task that it waited for ended.
        Task = "task",
        /// No slot of its concurrency key was free.
        Full = "full",
        /// It has a slot of its concurrency key, for which it waited.
        Slot = "slot",
        /// Its wait ended badly, and is armed again.
        Rearmed = "rearmed",
        /// Its wait ended badly.
        WaitFailed = "wait_failed",
        /// Nothing had fired by the deadline.
        Deadline = "deadline",
        /// Its step said so.
        Finished = "finished",
        /// Its step failed for good.
        Failed = "failed",
        /// It was called off.
        Cancelled = "cancelled",
        /// It had not begun by its expiry.
        Expired = "expired",
        /// The worker that held it was lost.
        Crashed = "crashed",
        /// The worker that held it left before it was done.
        Released = "released",
    }
}

/// One transition.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Transition {
    /// When, in milliseconds on the database's clock.
    pub at: i64,
    /// The generation after it.
    pub generation: i32,
    /// The turn after it.
    pub turn: i32,
    /// The attempt after it.
    pub attempt: i32,
    /// The state before; none if the task was new.
    pub was: Option<String>,
    /// The state after.
    pub became: String,
    /// Why.
    pub why: String,
    /// The event that caused it.
    pub event: Option<Uuid>,
    /// The replica that did it; none if it was done from outside.
    pub who: Option<Uuid>,
}

/// Everything that is known of one task, oldest first.
///
/// # Errors
/// If the database does not answer.
pub async fn of(db: &mut Db<'_>, task: TaskId) -> Result<Vec<Transition>> {
    let text = "select at, generation, turn, attempt, was, became, why, event, who
                  from reveille_history where task_id = $1 order by generation, turn, at";
    each!(db, c => sqlx::query_as(text).bind(task.0).fetch_all(&mut **c).await).map_err(doing("reading history"))
}

/// Whether this event is the one that ended a wait of this task: then a repeated fire was accepted the first time.
pub(crate) async fn has_event(db: &mut Db<'_>, task: TaskId, event: Uuid) -> Result<bool> {
    let text = "select count(*) from reveille_history where task_id = $1 and event = $2";
    let found: i64 = each!(db, c => sqlx::query_scalar(text).bind(task.0).bind(event).fetch_one(&mut **c).await)
        .map_err(doing("looking for an event"))?;
    Ok(found > 0)
}
