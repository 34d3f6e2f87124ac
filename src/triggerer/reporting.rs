//! Telling what checks have come to, now and then, for those who ask why a task does not move.
//!
//! Only what is news is told, and only so much at a time: the others know the rest from the spacing. Nothing depends on it,
//! so what cannot be told is forgotten.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Life;
use crate::{
    error::Result,
    outage::{Turn, jittered, turns},
};

/// How many are told of in one period: more than that, and telling would cost more than checking.
const MOST: usize = 500;

/// Tells until stopped, once a renewal.
pub(super) async fn run(life: &Life<'_>, stop: &CancellationToken) {
    turns("telling of checks", life.store.clock(), stop, std::future::pending::<()>, || turn(life)).await;
}

async fn turn(life: &Life<'_>) -> Result<(Turn, Duration)> {
    let period = jittered(life.settings.lease / 3);
    let reports = if life.presence.is_parked() { Vec::new() } else { life.holdings.next_reports(MOST) };
    if reports.is_empty() {
        return Ok((Turn::Unasked, period));
    }
    life.home.report(&reports).await?;
    Ok((Turn::Idle, period))
}
