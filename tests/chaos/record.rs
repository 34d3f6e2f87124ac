//! What is known after a run, as plain records: what was asked for, and what the database says became of it.
//!
//! Nothing here knows where a record came from, so that the checker can be given histories that never were.

use std::fmt;

use serde_json::Value;
use uuid::Uuid;

/// Everything that the checker is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The tasks whose adding was acknowledged.
    pub(crate) asked: Vec<Asked>,
    /// Every transition of every task, by task, and within one by generation.
    pub(crate) history: Vec<Moved>,
    pub(crate) finished: Vec<Finished>,
    /// Rows that should have gone with their tasks.
    pub(crate) left: Vec<Left>,
    /// What live replicas were said to hold, snapshot by snapshot.
    pub(crate) holdings: Vec<Holding>,
    /// Who held the triggers whose waits ended.
    pub(crate) held: Vec<Held>,
    /// When replicas showed life, and were declared lost, in the order of their times.
    pub(crate) signs: Vec<Sign>,
    /// Which replicas looked at the run's own server, and when.
    pub(crate) looks: Vec<Look>,
    /// When they were frozen.
    pub(crate) pauses: Vec<Pause>,
}

/// A task that was added, and what is known of it from outside.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) task: Uuid,
    /// What it was to do, for people.
    pub(crate) shape: String,
    /// The states that it may end in.
    pub(crate) ends: Vec<&'static str>,
    /// What it must say if it succeeds.
    pub(crate) result: Option<Value>,
    pub(crate) max_attempts: i32,
    /// The acknowledged signals, each of which must have resumed it.
    pub(crate) signals: Vec<Uuid>,
    /// What was answered to whoever called it off.
    pub(crate) cancelled: Option<Cancelled>,
}

/// What a call to cancel a task was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It is cancelled.
    Done,
    /// Its worker is told.
    Asked,
    /// It had ended.
    Ended,
}

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Moved {
    pub(crate) task_id: Uuid,
    pub(crate) at: i64,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) was: Option<String>,
    pub(crate) became: String,
    pub(crate) why: String,
    pub(crate) event: Option<Uuid>,
    pub(crate) who: Option<Uuid>,
}

/// A task that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) task: Uuid,
    pub(crate) state: String,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) crashes: i32,
    pub(crate) result: Option<Value>,
}

/// A row about a task that has not ended, or that outlived it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Left {
    pub(crate) task_id: Uuid,
    /// The table that it is in, and what it says.
    pub(crate) says: String,
}

/// What one live replica was said to hold in one snapshot.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Holding {
    pub(crate) incarnation: Uuid,
    pub(crate) role: String,
    pub(crate) capacity: i32,
    pub(crate) held: i64,
}

/// Who held a trigger as its wait, begun by this generation, ended or was armed again.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Held {
    pub(crate) task_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) holder: Uuid,
}

/// A replica joined or renewed, or was declared lost: when, in milliseconds of a clock that does not jump.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Sign {
    pub(crate) incarnation: Uuid,
    pub(crate) label: String,
    pub(crate) at: i64,
    pub(crate) lost: bool,
}

/// A check was seen from outside, by the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) label: String,
    pub(crate) at: i64,
}

/// A replica was stopped from one time to another, by the same clock.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    pub(crate) label: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, generation, turn, attempt, became, why, .. } = self;
        let was = self.was.as_deref().unwrap_or("(new)");
        write!(f, "{at}  generation {generation:<3} turn {turn} attempt {attempt}  {was} > {became}, {why}")?;
        if let Some(event) = self.event {
            write!(f, ", event {event}")?;
        }
        if let Some(who) = self.who {
            write!(f, ", by {who}")?;
        }
        Ok(())
    }
}
