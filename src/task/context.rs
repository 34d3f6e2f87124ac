//! What a running step may ask of the runtime.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::{TaskError, WaitFailed, Woken};
use crate::{clock::Clock, id::TaskId};

/// The latest word on how far a step has come, until it is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Mutex<Option<serde_json::Value>>>);

impl Progress {
    fn set(&self, progress: serde_json::Value) {
        *self.0.lock().expect("nothing panics while it is held") = Some(progress);
    }

    /// What is not stored yet.
    pub(crate) fn take(&self) -> Option<serde_json::Value> {
        self.0.lock().expect("nothing panics while it is held").take()
    }
}

/// What one attempt at a step is given.
#[derive(Clone, Debug)]
pub struct TaskContext {
    pub(crate) task: TaskId,
    pub(crate) queue: String,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) woken: Option<Woken>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) progress: Progress,
    pub(crate) clock: Clock,
}

impl TaskContext {
    /// The task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The queue that it was claimed from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// How many times the task has moved to a next step.
    pub fn turn(&self) -> i32 {
        self.turn
    }

    /// Which attempt at this turn this is, counted from 1.
    pub fn attempt(&self) -> i32 {
        self.attempt
    }

    /// Equal in every execution of one step, and different in every other: give it to the systems that you call, so
    /// that a step that runs twice acts once.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.task, self.turn)
    }

    /// What the wait before this step fired, or nothing (as JSON, `null`) if it was a timer or there was none.
    ///
    /// # Errors
    /// If the payload does not fit, or if the wait ended badly and the task asked to see why. An
    /// [`Awaited`](super::Awaited) field finds that out before the step runs.
    pub fn event<E: DeserializeOwned>(&self) -> Result<E, TaskError> {
        let payload = match &self.woken {
            Some(Woken::Failed(failed)) => return Err(failed.clone().into()),
            Some(Woken::Payload(payload)) => payload.clone(),
            None => serde_json::Value::Null,
        };
        serde_json::from_value(payload).map_err(|error| TaskError::fatal(super::awaited::misfit_message(&error)))
    }

    /// How the wait before this step ended badly, if it did and the task asked to see.
    pub fn wait_failed(&self) -> Option<&WaitFailed> {
        match &self.woken {
            Some(Woken::Failed(failed)) => Some(failed),
            Some(Woken::Payload(_)) | None => None,
        }
    }

    /// Completes when the task is cancelled, or its worker has lost it. The attempt is dropped soon after.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether the task is cancelled, or its worker has lost it.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Says how far the step has come, for people: `task show` tells it, about a second later. It is gone when the step
    /// is run again, and never decides anything.
    ///
    /// ```
    /// # async fn example(cx: &reveille::TaskContext) {
    /// cx.progress(serde_json::json!({ "rows": 12_000, "of": 40_000 }));
    /// # }
    /// ```
    pub fn progress(&self, progress: serde_json::Value) {
        self.progress.set(progress);
    }

    /// The database's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
