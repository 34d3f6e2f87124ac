//! `reveille triggerer`

use std::{net::SocketAddr, time::Duration};

use super::{
    app::App,
    failure::{Exit, Failure},
    serve, time,
};
use crate::{life, triggerer};

/// Run active triggers: check the files and services that tasks wait for
///
/// Any number of triggerers share the work. SIGTERM or Ctrl-C hands over what this one holds, and ends it with exit
/// code 0.
#[derive(Debug, clap::Args)]
pub(super) struct Triggerer {
    /// How many triggers to hold at most [default: 1000]
    #[arg(long, value_name = "COUNT")]
    capacity: Option<usize>,

    /// The queues to take from, between commas [default: all]
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queues: Option<Vec<String>>,

    /// What to be called in `reveille replica list` [default: the host's name]
    #[arg(long)]
    label: Option<String>,

    /// How long to be silent before others take over [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    lease: Option<Duration>,

    /// Where to serve metrics to Prometheus, under /metrics [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<SocketAddr>,
}

impl Triggerer {
    pub(super) async fn run(self, app: &mut App) -> Result<Exit, Failure> {
        app.config.metrics = self.metrics.or(app.config.metrics);
        let section = &mut app.config.triggerer;
        section.capacity = self.capacity.unwrap_or(section.capacity);
        section.queues = self.queues.or(section.queues.take());
        section.lease = self.lease.unwrap_or(section.lease);
        let settings = app.config.triggerer_settings(self.label.unwrap_or_else(serve::host))?;
        let store = app.open_to_serve().await?;
        serve::serve(app, store.clone(), serve::SETTLE, async |stop| {
            life::alone(&stop, triggerer::run(store, settings, stop.clone())).await
        })
        .await
    }
}
