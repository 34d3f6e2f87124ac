//! Many tasks that wait for the same: checked once for all of them, and resumed together.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, LIMIT, Report, usage};
use crate::{
    clock::millis,
    error::{Error, Result},
    http::Http,
    lag::Lags,
    outside::{Server, Speaking},
    store::NewTask,
    tally::Tally,
    task::defer,
    triggerer,
};

/// How often it is counted what is committed: the grain of the figures.
const GRAIN: Duration = Duration::from_millis(1);

/// How many tasks wait for how much.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// How many tasks wait.
    pub triggers: usize,
    /// For how many different things.
    pub specs: usize,
    /// How far apart the checks of one are.
    pub every: Duration,
}

pub(super) async fn run(bench: &Bench<'_>, share: Share) -> Result<Option<Report>> {
    let tally = Tally::default();
    let settings = triggerer::Settings {
        capacity: share.triggers,
        label: "bench".to_owned(),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let polls = share.specs as f64 * bench.settings.lasting.as_secs_f64() / share.every.as_secs_f64();
    // Busy for about as long as it is measured, and then done.
    let speaking = Speaking { busy: 0, pending: polls.ceil() as u64, state: "done".to_owned() };
    let mut server = Server::start(&bench.settings.program, &speaking).await?;
    let rss_before = usage::rss();
    let measuring = measure(bench, share, &tally, &mut server);
    let report = bench.beside(|stop| bench.triggerer(settings, stop), measuring).await?;
    Ok(report.map(|report| {
        let grown = report.rss_bytes.zip(rss_before).map(|(now, before)| now.saturating_sub(before));
        Report { rss_bytes_per_trigger: grown.map(|grown| grown / share.triggers as u64), ..report }
    }))
}

async fn measure(bench: &Bench<'_>, share: Share, tally: &Tally, server: &mut Server) -> Result<Report> {
    let clock = bench.store.clock();
    let wait = |number: usize| {
        let url = server.url(format_args!("shared/{}", number % share.specs));
        defer(Http::get(url).until_json("$.state", "done").every(share.every))
    };
    let task = |number| NewTask::named("bench.share", Value::Null).when(wait(number));
    bench.lay_out(share.triggers, task).await?;
    bench.until_leased(tally, share.triggers).await?;
    let served_before = server.answered().await?;
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    let (lags, mut first, mut fired) = (Lags::new(), None, 0);
    let limit = 2 * bench.settings.lasting + LIMIT;
    while fired < share.triggers as u64 {
        clock.sleep(GRAIN).await;
        let (now_fired, now) = (tally.fired_so_far(), clock.monotonic());
        if now_fired > fired {
            let first = *first.get_or_insert(now);
            (fired..now_fired).for_each(|_| lags.note(millis(now - first)));
        }
        fired = now_fired;
        if now - began > limit {
            return Err(Error::Unusable(format!("only {fired} tasks were resumed after {} s", limit.as_secs())));
        }
    }
    let ended = clock.monotonic();
    let waited = first.unwrap_or(ended) - began;
    let (seconds, lag) = ((ended - began).as_secs_f64(), lags.told());
    let served = server.answered().await? - served_before;
    Ok(Report {
        scenario: "share",
        backend: bench.store.url().backend(),
        triggers: share.triggers,
        replicas: 1,
        seconds,
        polls_per_s: Some(tally.counted().answered as f64 / seconds),
        polls_failed: Some(tally.counted().failed),
        served_per_s: Some(served as f64 / waited.as_secs_f64()),
        events_per_s: Some(share.triggers as f64 * 1_000.0 / lag.max.max(1) as f64),
        cpu_percent: 100.0 * (usage::cpu() - cpu_before).as_secs_f64() / seconds,
        rss_bytes: usage::rss(),
        lag_ms: Some(lag),
        ..Report::default()
    })
}
