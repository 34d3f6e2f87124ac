//! Free triggers, and a triggerer that comes: how soon it holds them all.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Report, floor, usage};
use crate::{error::Result, file::File, store::NewTask, tally::Tally, task::defer, triggerer};

pub(super) async fn run(bench: &Bench<'_>, triggers: usize) -> Result<Option<Report>> {
    let wait = |number: usize| {
        // Where even the folder is missing: to look for what the kernel has never heard of takes a thread and a disk.
        let path = bench.scratch.folder().join("never").join(number.to_string());
        defer(File::at(path.to_string_lossy().into_owned()).every(Duration::from_mins(1)))
    };
    tokio::select! {
        added = bench.lay_out(triggers, |number| NewTask::named("bench.pickup", Value::Null).when(wait(number))) => added?,
        () = bench.stop.soft().cancelled() => return Ok(None),
    }
    let tally = Tally::default();
    let settings = triggerer::Settings {
        capacity: triggers,
        label: "bench".to_owned(),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let clock = bench.store.clock();
    let (rss_before, cpu_before, began) = (usage::rss(), usage::cpu(), clock.monotonic());
    let measuring = async {
        bench.until_leased(&tally, triggers).await?;
        Ok((usage::rss(), usage::cpu(), clock.monotonic()))
    };
    let measured = bench.beside(|stop| bench.triggerer(settings, stop), measuring).await?;
    let Some((rss, cpu, ended)) = measured else { return Ok(None) };
    let seconds = (ended - began).as_secs_f64();
    let report = Report {
        scenario: "pickup",
        backend: bench.store.url().backend(),
        triggers,
        replicas: 1,
        seconds,
        pickup_per_s: Some(triggers as f64 / seconds),
        cpu_percent: 100.0 * (cpu - cpu_before).as_secs_f64() / seconds,
        rss_bytes: rss,
        rss_bytes_per_trigger: rss.zip(rss_before).map(|(now, before)| now.saturating_sub(before) / triggers as u64),
        ..Report::default()
    };
    Ok(Some(report.beside_floor(floor::lease(bench, triggers).await?)))
}
