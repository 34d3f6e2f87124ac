//! Timers that come due one after the other: how long after its time each step runs.

use std::{sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bench, LIMIT, Report, usage};
use crate::{
    clock::{Clock, millis, timestamp},
    error::Result,
    lag::Lags,
    store::NewTask,
    task::{Next, Task, TaskContext, TaskError, defer, done},
    triggerer,
    wait::Timer,
    worker::{self, Tasks},
};

/// How long setting out takes at most, and for each timer.
const SET_OUT: Duration = Duration::from_secs(2);
const SET_OUT_EACH: Duration = Duration::from_micros(200);

/// How late the steps were. There is one benchmark in a process.
static LATE: LazyLock<Lags> = LazyLock::new(Lags::new);

/// How many timers come due.
#[derive(Clone, Copy, Debug)]
pub struct Timers {
    /// In a second, for as long as is measured.
    pub rate: usize,
}

/// Notes how late it is.
#[derive(Debug, Serialize, Deserialize)]
enum Ring {
    At(i64),
}

impl Task for Ring {
    const NAME: &'static str = "bench.ring";

    async fn run(self, cx: &TaskContext) -> std::result::Result<Next<Self>, TaskError> {
        let Self::At(due) = self;
        LATE.note(cx.now().as_millisecond() - due);
        Ok(done())
    }
}

pub(super) async fn run(bench: &Bench<'_>, timers: Timers) -> Result<Option<Report>> {
    let triggerer = triggerer::Settings { label: "bench".to_owned(), ..triggerer::Settings::default() };
    let worker = worker::Settings { concurrency: 256, label: "bench".to_owned(), ..worker::Settings::default() };
    let tasks_known = Tasks::new().with::<Ring>();
    let roles = |stop| bench.both(triggerer, worker, tasks_known, stop);
    bench.beside(roles, measure(bench, timers)).await
}

async fn measure(bench: &Bench<'_>, timers: Timers) -> Result<Report> {
    let clock = bench.store.clock();
    let count = (timers.rate as f64 * bench.settings.lasting.as_secs_f64()).ceil() as usize;
    let first = clock.now_ms() + millis(SET_OUT + SET_OUT_EACH * u32::try_from(count).unwrap_or(u32::MAX));
    let due = |number: usize| first + (number * 1_000 / timers.rate) as i64;
    let tasks = (0..count).map(|number| {
        let due = due(number);
        Ok(NewTask::of(&Ring::At(due))?.when(defer(Timer::at(timestamp(due)))))
    });
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    bench.lay_out(count, |number| tasks[number].clone()).await?;
    drop(tasks);
    LATE.forget();
    sleep_until(clock, first).await;
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    sleep_until(clock, due(count)).await;
    bench.until_over(LIMIT).await?;
    let (seconds, cpu) = ((clock.monotonic() - began).as_secs_f64(), usage::cpu() - cpu_before);
    Ok(Report {
        scenario: "timers",
        backend: bench.store.url().backend(),
        triggers: count,
        replicas: 1,
        seconds,
        events_per_s: Some(count as f64 / seconds),
        cpu_percent: 100.0 * cpu.as_secs_f64() / seconds,
        rss_bytes: usage::rss(),
        lag_ms: Some(LATE.told()),
        ..Report::default()
    })
}

async fn sleep_until(clock: &Clock, at: i64) {
    clock.sleep(Duration::from_millis((at - clock.now_ms()).max(0).cast_unsigned())).await;
}
