//! Waits that are all over at one instant: how soon their events are committed.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, LIMIT, Report, floor, usage};
use crate::{
    clock::{millis, timestamp},
    error::{Error, Result},
    file::File,
    lag::Lags,
    store::NewTask,
    tally::Tally,
    task::{Deferral, defer},
    triggerer,
    wait::{Any, Timer},
};

/// How often it is counted what is committed: the grain of the figures.
const GRAIN: Duration = Duration::from_millis(1);

/// How long setting out takes at most, and for each trigger.
const SET_OUT: Duration = Duration::from_secs(3);
const SET_OUT_EACH: Duration = Duration::from_micros(250);

/// What is to fire.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// Who finds that it is over.
    pub waiting: Waiting,
    /// How many waits there are.
    pub triggers: usize,
}

/// Who finds that a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A check: of `any` of a time, and of a file that is not there.
    Active,
    /// Whoever looks for what is due: a timer.
    Passive,
}

impl Waiting {
    fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

pub(super) async fn run(bench: &Bench<'_>, burst: Burst) -> Result<Option<Report>> {
    let tally = Tally::default();
    let settings = triggerer::Settings {
        capacity: burst.triggers,
        label: "bench".to_owned(),
        // All are held until they fire.
        horizon: Duration::from_hours(24),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let measuring = measure(bench, burst, &tally);
    let Some(report) = bench.beside(|stop| bench.triggerer(settings, stop), measuring).await? else {
        return Ok(None);
    };
    Ok(Some(report.beside_floor(floor::fire(bench, burst.triggers).await?)))
}

async fn measure(bench: &Bench<'_>, burst: Burst, tally: &Tally) -> Result<Report> {
    let clock = bench.store.clock();
    let due = clock.now_ms() + millis(SET_OUT + SET_OUT_EACH * u32::try_from(burst.triggers).unwrap_or(u32::MAX));
    bench
        .lay_out(burst.triggers, |number| {
            NewTask::named("bench.burst", Value::Null).when(wait(bench, burst, due, number))
        })
        .await?;
    if burst.waiting == Waiting::Active {
        bench.until_leased(tally, burst.triggers).await?;
    }
    let left = due - clock.now_ms();
    if left < 0 {
        return Err(Error::Unusable(format!(
            "it took {} ms too long until all {} waits were there: try fewer",
            -left, burst.triggers
        )));
    }
    tally.begin_anew();
    let statements_before = bench.store.statements().await?;
    clock.sleep(Duration::from_millis((due - clock.now_ms()).max(0).cast_unsigned())).await;

    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    let lags = Lags::new();
    let mut fired = 0;
    while fired < burst.triggers as u64 {
        clock.sleep(GRAIN).await;
        let (now_fired, late) = (tally.fired_so_far(), clock.now_ms() - due);
        for _ in fired..now_fired {
            lags.note(late);
        }
        fired = now_fired;
        if clock.monotonic() - began > LIMIT {
            return Err(Error::Unusable(format!("only {fired} events were committed after {} s", LIMIT.as_secs())));
        }
    }
    let (seconds, cpu) = ((clock.monotonic() - began).as_secs_f64(), usage::cpu() - cpu_before);
    let statements = bench.store.statements().await?.zip(statements_before).map(|(now, before)| now - before);
    let lag = lags.told();
    Ok(Report {
        scenario: "burst",
        kind: Some(burst.waiting.word()),
        backend: bench.store.url().backend(),
        triggers: burst.triggers,
        replicas: 1,
        seconds,
        events_per_s: Some(burst.triggers as f64 * 1_000.0 / lag.max.max(1) as f64),
        statements_per_event: statements.map(|count| count as f64 / burst.triggers as f64),
        cpu_percent: 100.0 * cpu.as_secs_f64() / seconds,
        rss_bytes: usage::rss(),
        lag_ms: Some(lag),
        ..Report::default()
    })
}

fn wait(bench: &Bench<'_>, burst: Burst, due: i64, number: usize) -> Deferral {
    let due = Timer::at(timestamp(due));
    match burst.waiting {
        Waiting::Passive => defer(due),
        Waiting::Active => {
            let path = bench.scratch.folder().join(format!("never-{number}"));
            let file = File::at(path.to_string_lossy().into_owned()).every(Duration::from_hours(1));
            defer(Any::default().or("due", due).or("there", file))
        }
    }
}
