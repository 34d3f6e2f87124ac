//! `reveille task cancel`

use std::fmt;

use serde::Serialize;

use super::super::{
    app::App,
    failure::{Exit, Failure},
};
use crate::{id::TaskId, store::task::Cancelled};

/// Call a task off
///
/// One that waits or is ready ends at once, and a triggerer undoes what its wait was for. One that runs is told, and ends
/// as cancelled unless it finishes first.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Cancel {
    /// The task
    #[arg(value_parser = super::id::<TaskId>)]
    id: TaskId,

    /// Why, for its history
    #[arg(long, default_value = "cancelled by hand")]
    reason: String,
}

impl Cancel {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let store = app.open().await?;
        let outcome = store.cancel(self.id, &self.reason).await?;
        let ended_as = match outcome {
            Cancelled::Ended => store.show(self.id).await?.map(|whole| whole.brief.state),
            Cancelled::Done | Cancelled::Asked | Cancelled::Unknown => None,
        };
        app.close(store).await;
        let outcome = match outcome {
            Cancelled::Done => Outcome::Cancelled,
            Cancelled::Asked => Outcome::Asked,
            Cancelled::Ended if ended_as.as_deref() == Some("cancelled") => Outcome::Before,
            Cancelled::Ended => {
                let state = ended_as.unwrap_or_else(|| "ended".to_owned());
                return Err(Failure::wrong(format!("task {} had {state} before, and stays so", self.id))
                    .help(format!("`{} task show {}` tells what happened to it", app.again, self.id)));
            }
            Cancelled::Unknown => return Err(super::unknown(self.id)),
        };
        app.output.print(&Answer { id: self.id, outcome })?;
        Ok(Exit::Fine)
    }
}

#[derive(Serialize)]
struct Answer {
    id: TaskId,
    outcome: Outcome,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Cancelled,
    Asked,
    Before,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Cancelled => writeln!(f, "cancelled {}", self.id),
            Outcome::Asked => writeln!(f, "{} is running: its worker was asked to let go of it", self.id),
            Outcome::Before => writeln!(f, "{} was cancelled before", self.id),
        }
    }
}
