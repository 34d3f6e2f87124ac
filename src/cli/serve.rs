//! What the commands that serve have in common: signals, hints, draining, and how it ended.

use std::{net::SocketAddr, pin::pin, time::Duration};

use super::{
    app::App,
    failure::{Exit, Failure},
};
use crate::{
    error::Result,
    life::{self, Ended, Signals, Stop},
    metrics,
    store::Store,
};

/// How long a triggerer has to settle what has fired.
pub(super) const SETTLE: Duration = Duration::from_secs(30);

/// Runs roles until they end or are stopped, passing on hints between the processes meanwhile.
pub(super) async fn serve<R>(
    app: &App,
    store: Store,
    drain: Duration,
    roles: impl FnOnce(Stop) -> R,
) -> Result<Exit, Failure>
where
    R: Future<Output = Result<()>>,
{
    let signals = Signals::listen()?;
    let stop = Stop::new();
    let address = app.config.metrics;
    address.map_or(Ok(()), serve_metrics)?;
    let beside = tokio::spawn({
        let (store, soft) = (store.clone(), stop.soft().clone());
        async move {
            let watch = async {
                if address.is_some() {
                    metrics::watch_unserved(&store, &soft).await;
                }
            };
            tokio::join!(store.relay(soft.clone()), watch)
        }
    });
    let ended = life::serve(signals, &stop, store.clock(), drain, roles(stop.clone())).await;
    stop.soft().cancel();
    beside.await.map_err(|error| Failure::new(Exit::Wrong, error))?;
    app.close(store).await;
    Ok(match ended? {
        Ended::Finished => Exit::Fine,
        Ended::DrainPassed => Exit::Wrong,
        Ended::Interrupted => Exit::Interrupted,
    })
}

/// Serves metrics until the process ends.
fn serve_metrics(address: SocketAddr) -> Result<(), Failure> {
    metrics::serve(address).map_err(|error| {
        Failure::usage(format!("metrics cannot be served at {address}: {error}"))
            .help("name an address of this host and a free port with --metrics, such as 127.0.0.1:9464")
    })?;
    tracing::info!("metrics are at http://{address}/metrics");
    Ok(())
}

/// Runs what ends by itself. A signal asks it to stop, and it is waited for, as it has things to put away.
pub(super) async fn until_signalled<T>(body: impl AsyncFnOnce(Stop) -> T) -> Result<T, Failure> {
    let mut signals = Signals::listen()?;
    let stop = Stop::new();
    let mut body = pin!(body(stop.clone()));
    let signal = tokio::select! {
        done = &mut body => return Ok(done),
        signal = signals.any() => signal,
    };
    tracing::info!("{signal}: stopping");
    stop.soft().cancel();
    Ok(body.await)
}

/// The name of this host, to tell replicas apart by.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
