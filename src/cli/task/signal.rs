//! `reveille task signal`

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::super::{
    app::App,
    failure::{Exit, Failure},
    time,
};
use crate::{error::Error, store::signal};

/// The shortest that a signal is kept: it must outlive its own delivery.
const SHORTEST: Duration = Duration::from_secs(1);

/// Send a signal to every task that waits for its key
///
/// If none does, the signal is kept for the first that will.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Signal {
    /// The key that the tasks wait for
    key: String,

    /// What the tasks are given, in JSON; - reads it from stdin
    #[arg(long, value_name = "JSON", default_value = "null")]
    payload: String,

    /// The signal's id, minted by you: sending it again changes nothing
    #[arg(long, value_name = "UUID", value_parser = super::id::<Uuid>)]
    id: Option<Uuid>,

    /// How long it is kept for a task to wait for it
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = time::duration)]
    kept: Duration,
}

impl Signal {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        if self.kept < SHORTEST {
            return Err(Failure::usage(
                "--kept is under a second, and the signal would expire before a task could take it",
            )
            .help("leave it out for a day, or give a duration such as 10s or 7d"));
        }
        let payload = super::json("--payload", &self.payload)?;
        let id = self.id.unwrap_or_else(Uuid::now_v7);
        let store = app.open().await?;
        let kept_until = store.clock().now().checked_add(self.kept).unwrap_or(Timestamp::MAX);
        let signal = signal::Signal { id, key: self.key.clone(), payload, kept: self.kept };
        let resumed = store.signal(signal).await.map_err(|error| again_with(error, id))?;
        app.close(store).await;
        app.output.print(&Sent { id, key: self.key, resumed, kept_until, is_new: self.id.is_none() })?;
        Ok(Exit::Fine)
    }
}

/// Where the answer was lost, the signal may have been sent: only its id makes it safe to try again.
fn again_with(error: Error, id: Uuid) -> Failure {
    match error {
        Error::Outage { .. } => Failure::from(error)
            .help(format!("it may have been sent: try again with --id {id}, which cannot send it twice")),
        error => error.into(),
    }
}

#[derive(Serialize)]
struct Sent {
    id: Uuid,
    key: String,
    /// How many tasks it resumed at once.
    resumed: usize,
    kept_until: Timestamp,
    /// With an id of the caller's, nobody can tell.
    #[serde(skip)]
    is_new: bool,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, key, .. } = self;
        let until = time::stamp(self.kept_until.as_millisecond());
        match self.resumed {
            0 if self.is_new => {
                writeln!(f, "no task waits for {key} yet: kept until {until} for the first that will ({id})")
            }
            0 => writeln!(
                f,
                "resumed no task: unless this signal was sent before, it is kept until {until} for the first that waits for {key} ({id})"
            ),
            1 => writeln!(f, "resumed 1 task that waited for {key} ({id})"),
            count => writeln!(f, "resumed {count} tasks that waited for {key} ({id})"),
        }
    }
}
