//! The floor: how fast the same rows are written by plain SQL that knows them all beforehand and does nothing else.
//!
//! Durable commits, in batches by prepared statements, at the best of several numbers of connections and rows at once.
//! Measured in the same run as what is compared with it, so that the ratio holds on any machine. On PostgreSQL only: SQLite
//! has one writer.

use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use uuid::Uuid;

use super::Bench;
use crate::{
    clock::timestamp,
    error::Result,
    file::File,
    store::{NewTask, Url, floor::Floor},
    task::defer,
    wait::{Any, Timer},
};

/// Connections, and rows in a transaction.
const WAYS: [(usize, usize); 6] = [(1, 1_000), (2, 500), (2, 2_000), (4, 500), (4, 2_000), (8, 500)];

/// How many rows are written for each way at most.
const MOST: usize = 20_000;

/// Events a second.
pub(super) async fn fire(bench: &Bench<'_>, count: usize) -> Result<Option<f64>> {
    best(bench, count, &Floor::fire(), true).await
}

/// Leases a second.
pub(super) async fn lease(bench: &Bench<'_>, count: usize) -> Result<Option<f64>> {
    best(bench, count, &Floor::lease(), true).await
}

/// Whole cycles a second.
pub(super) async fn cycle(bench: &Bench<'_>, count: usize) -> Result<Option<f64>> {
    best(bench, count, &Floor::cycle(), false).await
}

async fn best(bench: &Bench<'_>, count: usize, floor: &Floor, are_there: bool) -> Result<Option<f64>> {
    if matches!(bench.store.url(), Url::Sqlite(_)) {
        return Ok(None);
    }
    let count = count.min(MOST);
    let mut best: f64 = 0.0;
    for (connections, rows) in WAYS {
        bench.store.take_all_away(bench.settings.asleep > 0).await?;
        let ids = if are_there { lay_out(bench, count).await? } else { (0..count).map(|_| Uuid::now_v7()).collect() };
        let clock = bench.store.clock();
        let began = clock.monotonic();
        let batches = ids.chunks(rows).map(|ids| bench.store.write_floor(floor, ids));
        futures::stream::iter(batches).buffer_unordered(connections).try_collect::<()>().await?;
        best = best.max(count as f64 / (clock.monotonic() - began).as_secs_f64());
    }
    Ok(Some(best))
}

/// Adds tasks that wait.
async fn lay_out(bench: &Bench<'_>, count: usize) -> Result<Vec<Uuid>> {
    let wait = || defer(Any::default().or("due", Timer::at(timestamp(i64::MAX))).or("there", File::at("/")));
    bench.lay_out(count, |_| NewTask::named("bench.floor", Value::Null).when(wait())).await?;
    bench.store.waiting().await
}
