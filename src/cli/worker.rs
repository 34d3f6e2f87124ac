//! `reveille worker`

use std::{net::SocketAddr, time::Duration};

use super::{
    app::App,
    failure::{Exit, Failure},
    serve, time,
};
use crate::{
    life,
    worker::{self, Tasks},
};

/// Run the tasks that are linked into this binary
///
/// Any number of workers share the work. SIGTERM or Ctrl-C stops claiming and lets running steps finish. The exit code
/// is 0 if they did, 1 if the drain limit cut them off, and 130 if a second Ctrl-C did: other workers then run those
/// steps again.
#[derive(Debug, clap::Args)]
pub(super) struct Worker {
    /// How many steps to run at once [default: 64]
    #[arg(long, value_name = "COUNT")]
    concurrency: Option<usize>,

    /// The queues to claim from, between commas [default: all]
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Option<Vec<String>>,

    /// The task names to claim, between commas [default: all in this binary]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    names: Option<Vec<String>>,

    /// What to be called in `reveille replica list` [default: the host's name]
    #[arg(long)]
    label: Option<String>,

    /// How long to be silent before others take over [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    lease: Option<Duration>,

    /// How long running steps may go on once asked to stop [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    drain: Option<Duration>,

    /// Whether deferring leaves the worker; if not, tasks wait in its slots [default: true]
    #[arg(long, value_name = "BOOL")]
    deferrable: Option<bool>,

    /// Where to serve metrics to Prometheus, under /metrics [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

impl Worker {
    pub(super) async fn run(self, app: &mut App) -> Result<Exit, Failure> {
        app.config.metrics = self.metrics.or(app.config.metrics);
        let section = &mut app.config.worker;
        section.concurrency = self.concurrency.unwrap_or(section.concurrency);
        section.queues = self.queues.or(section.queues.take());
        section.names = self.names.or(section.names.take());
        section.lease = self.lease.unwrap_or(section.lease);
        section.drain = self.drain.unwrap_or(section.drain);
        section.deferrable = self.deferrable.unwrap_or(section.deferrable);
        let drain = section.drain;
        let settings = app.config.worker_settings(self.label.unwrap_or_else(serve::host))?;
        let store = app.open_to_serve().await?;
        serve::serve(app, store.clone(), drain, async |stop| {
            life::alone(&stop, worker::run(store, Tasks::linked(), settings, stop.clone())).await
        })
        .await
    }
}
