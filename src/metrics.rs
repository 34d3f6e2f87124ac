//! Metrics, in the text format of Prometheus. Nothing is counted unless a process was told where to serve them.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    outage::{Turn, jittered, turns},
    store::{
        Db, Store, replica,
        unserved::{self, Unserved},
    },
};

const EVENTS: &str = "reveille_events_total";
const LIVES_LOST: &str = "reveille_lives_lost_total";
const UNSERVED: &str = "reveille_unserved_triggers";

/// How often the database is asked for what it alone knows.
const LOOK: Duration = Duration::from_secs(5);

/// Up to how many triggers of one kind and queue are counted.
const MOST: i64 = 10_000;

/// Serves `/metrics` on this address until the process ends.
///
/// # Errors
/// If the address cannot be listened on.
pub(crate) fn serve(address: SocketAddr) -> Result<(), BuildError> {
    PrometheusBuilder::new().with_http_listener(address).install()?;
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Events of triggers, by what became of them: accepted, or refused as the wait was over or another's"
    );
    describe_counter!(LIVES_LOST, Unit::Count, "How often a role of this process found itself declared gone");
    describe_gauge!(
        UNSERVED,
        Unit::Count,
        "Free triggers that no live triggerer can take, by kinds and queue, counted up to 10000"
    );
    Ok(())
}

/// Counts events of triggers that were committed, and those that changed nothing.
pub(crate) fn events(accepted: usize, refused: usize) {
    counter!(EVENTS, "outcome" => "accepted").increment(accepted as u64);
    counter!(EVENTS, "outcome" => "refused").increment(refused as u64);
}

/// Counts a life that ended because others declared it gone.
pub(crate) fn life_lost() {
    counter!(LIVES_LOST).increment(1);
}

/// Looks every now and then for what no triggerer of the fleet can take.
pub(crate) async fn watch_unserved(store: &Store, stop: &CancellationToken) {
    let told = Mutex::new(Vec::new());
    let look = async || {
        let found = store.reading("looking for what nobody serves", unserved_now).await?;
        let mut told = told.lock().expect("nothing panics while it is held");
        // What is served by now, or over, stays at 0: a gauge that is not told again keeps what it last said.
        for (unserved, many) in told.drain(..).map(|unserved| (unserved, 0)).chain(found.clone()) {
            let Unserved { kinds, queue } = unserved;
            gauge!(UNSERVED, "kinds" => kinds, "queue" => queue).set(many as f64);
        }
        told.extend(found.into_iter().map(|(unserved, _)| unserved));
        Ok((Turn::Idle, jittered(LOOK)))
    };
    turns("looking for what nobody serves", store.clock(), stop, std::future::pending::<()>, look).await;
}

async fn unserved_now(db: &mut Db<'_>) -> Result<Vec<(Unserved, i64)>> {
    let triggerers = unserved::live(db, replica::Role::Triggerer).await?;
    let mut found = Vec::new();
    for unserved in unserved::beside(db, &triggerers).await? {
        let many = unserved::count(db, &unserved, MOST).await?;
        found.push((unserved, many));
    }
    Ok(found)
}
