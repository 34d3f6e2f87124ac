//! A triggerer in a process of its own, to which anything may happen.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::Bench;
use crate::{
    clock::millis,
    error::{Error, Result},
    store::replica::{self, Replica as Row},
};

/// How often it is looked for, and for how long at most.
const LOOK: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_mins(1);

/// A process that serves until something befalls it, or this is dropped.
#[derive(Debug)]
pub(super) struct Replica {
    label: String,
    process: Child,
}

/// How a triggerer is to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) capacity: usize,
    pub(super) lease: Duration,
}

impl Replica {
    /// Starts one of this name.
    pub(super) fn start(bench: &Bench<'_>, label: String, terms: Terms) -> Result<Self> {
        let program = &bench.settings.program;
        let process = Command::new(program)
            .args(["triggerer", "--label", &label, "--capacity", &terms.capacity.to_string()])
            .args(["--lease", &format!("{}ms", millis(terms.lease))])
            // Not as arguments, which others may read: there may be a password in it.
            .env("REVEILLE_DATABASE_URL", bench.scratch.written_url())
            .env("REVEILLE_KEY_FILE", bench.scratch.key_file())
            .env("REVEILLE_LOG", "error")
            // Where there is no configuration file of somebody else's.
            .current_dir(bench.scratch.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::Unusable(format!("cannot run {}: {error}", program.display())))?;
        Ok(Self { label, process })
    }

    /// What the database knows of it, once it has renewed twice: from then on it has seen the others, too.
    pub(super) async fn settled(&mut self, bench: &Bench<'_>) -> Result<Row> {
        let clock = bench.store.clock();
        let began = clock.monotonic();
        loop {
            let rows = bench.store.reading("looking for replicas", async |db| replica::list(db).await).await?;
            let is_it = |row: &Row| row.label == self.label && row.gone_at.is_none() && row.beat >= 2;
            if let Some(row) = rows.into_iter().find(is_it) {
                return Ok(row);
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(Error::Unusable(format!("the replica {} has ended: {status}", self.label)));
            }
            if clock.monotonic() - began > LIMIT {
                let limit = LIMIT.as_secs();
                return Err(Error::Unusable(format!("the replica {} did not join within {limit} s", self.label)));
            }
            clock.sleep(LOOK).await;
        }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let Some(pid) = pid else {
            return Err(Error::Unusable(format!("the replica {} has ended by itself", self.label)));
        };
        kill_process(pid, signal)
            .map_err(|error| Error::Unusable(format!("cannot signal the replica {}: {error}", self.label)))
    }
}
