//! Tasks of the demo that wait for more than one thing at a time.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Awaited, Next, Task, TaskContext, TaskError, defer, done_with,
    file::{File, Found},
    wait::{All, Any, Signal, Timer},
};

/// Waits for an order to be paid, but not for ever.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    Place { key: String },
    Go { outcome: Awaited<Outcome> },
}

/// What came first, by its name.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Paid(u64),
    Late(()),
}

impl Order {
    pub(super) fn paid_under(key: &str) -> Self {
        Self::Place { key: key.to_owned() }
    }
}

impl Task for Order {
    const NAME: &'static str = "demo.order";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Place { key } => {
                let first =
                    Any::default().or("paid", Signal::new(key)).or("late", Timer::after(Duration::from_hours(1)));
                Ok(defer(first).then_with(|outcome| Self::Go { outcome }))
            }
            Self::Go { outcome } => Ok(match outcome.get()? {
                Outcome::Paid(cents) => done_with(json!({ "cents": cents })),
                Outcome::Late(()) => done_with("nobody paid"),
            }),
        }
    }
}

/// Publishes a report once it is there and somebody has approved of it.
#[derive(Serialize, Deserialize)]
pub(super) enum Publish {
    Start { path: String, key: String },
    Go { both: Awaited<Both> },
}

/// What came, each under its name.
#[derive(Serialize, Deserialize)]
pub(super) struct Both {
    report: Found,
    approved_by: String,
}

impl Publish {
    pub(super) fn of(path: &Path, key: &str) -> Self {
        Self::Start { path: path.to_string_lossy().into_owned(), key: key.to_owned() }
    }
}

impl Task for Publish {
    const NAME: &'static str = "demo.publish";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { path, key } => {
                let report = File::at(path).every(Duration::from_millis(100)).settle(Duration::from_millis(300));
                let both = All::default().and("report", report).and("approved_by", Signal::new(key));
                Ok(defer(both).then_with(|both| Self::Go { both }))
            }
            Self::Go { both } => {
                let Both { report, approved_by } = both.get()?;
                Ok(done_with(json!({ "files": report.files.len(), "approved_by": approved_by })))
            }
        }
    }
}
