//! What Acme does.

use std::{path::PathBuf, time::Duration};

use acme_triggers::{Said, StatusFile};
use reveille::{Awaited, Next, Task, TaskContext, TaskError, defer, done_with, trigger::Spacing};
use serde::{Deserialize, Serialize};

/// Waits for an export that some other program makes, and publishes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Export {
    /// Waits for its status file.
    Await {
        /// Where that is.
        status: PathBuf,
    },
    /// Publishes it.
    Publish {
        /// What the status file said.
        said: Awaited<Said>,
    },
}

impl Task for Export {
    const NAME: &'static str = "export";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Await { status } => {
                let export = StatusFile::at(status, "done").spaced(Spacing::every(Duration::from_millis(100)));
                Ok(defer(export).deadline(Duration::from_hours(6)).then_with(|said| Self::Publish { said }))
            }
            Self::Publish { said } => Ok(done_with(said.get()?.word)),
        }
    }
}

reveille::tasks!(Export);
