//! A task to try things out with: it greets, waits to be answered, and says what it heard.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Awaited, Next, Task, TaskContext, TaskError, defer, done_with, wait::Signal};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_hours(1);

/// Greets somebody, and waits for the signal `hello/SOMEBODY`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Hello {
    Greet { whom: String },
    Hear { whom: String, answer: Awaited<Value> },
}

impl Task for Hello {
    const NAME: &'static str = "hello";

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Greet { whom } => {
                let key = format!("hello/{whom}");
                tracing::info!(task.id = %cx.task(), "hello, {whom}! task {} waits for the signal {key}", cx.task());
                let wait = defer(Signal::new(key)).deadline(PATIENCE).or_resume();
                Ok(wait.then_with(|answer| Self::Hear { whom, answer }))
            }
            Self::Hear { whom, answer } => {
                let heard = answer.get().unwrap_or_else(|failed| Value::String(format!("nothing: {failed}")));
                tracing::info!(task.id = %cx.task(), "{whom} has answered; task {} is done", cx.task());
                Ok(done_with(heard))
            }
        }
    }
}
