//! What a trigger fires.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Error;

/// What a check found out.
#[derive(Debug)]
pub enum Answer {
    /// It has not happened yet; look again later.
    NotYet,
    /// It has happened.
    Fire(Event),
}

/// What a wait ends with. It has an id of its own, minted where it was seen, so that firing it twice is firing it once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// A `UUIDv7`, minted where the event was seen.
    pub id: Uuid,
    /// What becomes of the task.
    pub outcome: Outcome,
}

/// What becomes of the task whose wait is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its next step runs, and sees this payload.
    Resume(Value),
    /// It ends as succeeded with this result, without a worker.
    Succeed(Value),
    /// It ends as failed for this reason, without a worker; its retry policy applies.
    Fail(String),
    /// It ends as skipped for this reason, without a worker.
    Skip(String),
}

/// What became of an event, once that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It decided. A trigger that consumed something to see it acknowledges that now; also for one that is fired again.
    Accepted,
    /// Something else had decided. A trigger that consumed something gives it back.
    Refused,
}

impl Event {
    /// Resumes the task with a payload.
    ///
    /// # Errors
    /// Fatal if the payload is not JSON: a map with keys other than strings, say.
    pub fn resume(payload: impl Serialize) -> Result<Self, Error> {
        Ok(Self::new(Outcome::Resume(json(payload)?)))
    }

    /// Ends the task as succeeded with a result.
    ///
    /// # Errors
    /// Fatal if the result is not JSON.
    pub fn succeed(result: impl Serialize) -> Result<Self, Error> {
        Ok(Self::new(Outcome::Succeed(json(result)?)))
    }

    /// Ends the task as failed; its retry policy applies.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Fail(reason.into()))
    }

    /// Ends the task as skipped.
    pub fn skip(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Skip(reason.into()))
    }

    fn new(outcome: Outcome) -> Self {
        Self { id: Uuid::now_v7(), outcome }
    }
}

fn json(value: impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(Error::fatal)
}
