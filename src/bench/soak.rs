//! Whole cycles at a steady pace, for long: whether anything grows.
//!
//! Each task waits for a second, one on a timer, the next on an active trigger of `any`. What has ended is forgotten after
//! a minute, so that tables come to hold as much as they lose.

use std::{
    fs,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    BATCH, Bench, Report,
    series::{Sample, series},
    usage,
};
use crate::{
    clock::timestamp,
    error::Result,
    file::File,
    lag::Lags,
    store::NewTask,
    task::{Next, Task, TaskContext, TaskError, defer, done},
    triggerer,
    wait::{Any, Timer},
    worker::{self, Tasks},
};

/// How long each task waits.
const WAIT: i64 = 1_000;

/// How often tasks are added.
const TURN: Duration = Duration::from_millis(100);

/// How many samples there are about, and how far apart they are.
const SAMPLES: u32 = 240;
const CLOSEST: Duration = Duration::from_millis(250);
const FURTHEST: Duration = Duration::from_secs(5);

/// How long what has ended is kept.
const KEPT: Duration = Duration::from_mins(1);

/// How many seconds' worth of tasks may be unfinished: while there are more, none are added.
const BACKLOG: u64 = 10;

/// How late steps were since the last sample, and how many there were. There is one benchmark in a process.
static LATE: LazyLock<Lags> = LazyLock::new(Lags::new);
static RESUMED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Serialize, Deserialize)]
enum Soak {
    Wait { never: Option<String> },
    At(i64),
}

impl Task for Soak {
    const NAME: &'static str = "bench.soak";

    async fn run(self, cx: &TaskContext) -> std::result::Result<Next<Self>, TaskError> {
        match self {
            Self::Wait { never } => {
                let due = cx.now().as_millisecond() + WAIT;
                let timer = Timer::at(timestamp(due));
                let next = Self::At(due);
                Ok(match never {
                    None => defer(timer).then(next),
                    Some(never) => {
                        let file = File::at(never).every(Duration::from_mins(1));
                        defer(Any::default().or("due", timer).or("there", file)).then(next)
                    }
                })
            }
            Self::At(due) => {
                LATE.note(cx.now().as_millisecond() - due);
                RESUMED.fetch_add(1, Ordering::Relaxed);
                Ok(done())
            }
        }
    }
}

pub(super) async fn run(bench: &Bench<'_>, rate: usize) -> Result<Option<Report>> {
    let triggerer =
        triggerer::Settings { capacity: 100_000, label: "bench".to_owned(), ..triggerer::Settings::default() };
    let worker = worker::Settings { concurrency: 256, label: "bench".to_owned(), ..worker::Settings::default() };
    let tasks = Tasks::new().with::<Soak>();
    let measuring = async {
        // Whichever has an error to tell of ends the others.
        let (samples, (), ()) = tokio::try_join!(watch(bench), add(bench, rate), forget(bench))?;
        Ok(samples)
    };
    let cpu_before = usage::cpu();
    let Some(samples) = bench.beside(|stop| bench.both(triggerer, worker, tasks, stop), measuring).await? else {
        return Ok(None);
    };
    let seconds = samples.last().map_or(0.0, |sample| sample.at_s);
    let resumed = samples.last().map_or(0, |sample| sample.resumed);
    Ok(Some(Report {
        scenario: "soak",
        backend: bench.store.url().backend(),
        triggers: resumed as usize,
        replicas: 1,
        seconds,
        events_per_s: Some(resumed as f64 / seconds),
        cpu_percent: 100.0 * (usage::cpu() - cpu_before).as_secs_f64() / seconds,
        rss_bytes: usage::rss(),
        flat: Some(series(&samples).iter().map(super::Series::flat).collect()),
        samples: Some(samples),
        ..Report::default()
    }))
}

/// Adds tasks, so many a second.
async fn add(bench: &Bench<'_>, rate: usize) -> Result<()> {
    let clock = bench.store.clock();
    let never = bench.scratch.folder().join("never").to_string_lossy().into_owned();
    let began = clock.monotonic();
    let mut added = 0;
    loop {
        let passed = clock.monotonic() - began;
        if passed >= bench.settings.lasting {
            return Ok(());
        }
        let wanted = (rate as f64 * passed.as_secs_f64()) as usize;
        let backlog = (added as u64).saturating_sub(RESUMED.load(Ordering::Relaxed));
        let count = (wanted - added).min(BATCH);
        if count > 0 && backlog < BACKLOG * rate as u64 {
            let task = |number: usize| Soak::Wait { never: (number % 2 == 1).then(|| never.clone()) };
            let tasks: Result<Vec<_>> = (added..added + count).map(|number| NewTask::of(&task(number))).collect();
            bench.store.enqueue_all(tasks?).await?;
            added += count;
        }
        clock.sleep(TURN).await;
    }
}

/// Forgets what has ended.
async fn forget(bench: &Bench<'_>) -> Result<()> {
    let clock = bench.store.clock();
    let kept = KEPT.min(bench.settings.lasting / 10);
    let until = clock.monotonic() + bench.settings.lasting;
    while clock.monotonic() + kept < until {
        clock.sleep(kept).await;
        bench.store.forget_ended(kept).await?;
    }
    Ok(())
}

/// How far samples are apart: a minute, after which what has ended is forgotten, is a number of them that `flat` counts by.
fn apart(lasting: Duration) -> Duration {
    let mut apart = FURTHEST;
    while apart > lasting / SAMPLES && apart / 2 >= CLOSEST {
        apart /= 2;
    }
    apart
}

/// Looks at everything again and again.
async fn watch(bench: &Bench<'_>) -> Result<Vec<Sample>> {
    let clock = bench.store.clock();
    let apart = apart(bench.settings.lasting);
    let began = clock.monotonic();
    LATE.forget();
    RESUMED.store(0, Ordering::Relaxed);
    let mut samples = Vec::new();
    while clock.monotonic() - began < bench.settings.lasting {
        clock.sleep(apart).await;
        let late = LATE.told();
        LATE.forget();
        samples.push(Sample {
            at_s: (clock.monotonic() - began).as_secs_f64(),
            resumed: RESUMED.load(Ordering::Relaxed),
            descriptors: descriptors(),
            rss_bytes: usage::rss(),
            tokio_tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks() as u64,
            lag_p99_ms: late.p99,
            tables: bench.store.sizes().await?,
        });
    }
    Ok(samples)
}

/// How much is open, where the system tells, but for the folder that is read for it.
fn descriptors() -> Option<u64> {
    fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_samples_are_a_minute() {
        let minute = |minutes| Duration::from_mins(1).as_micros() / apart(Duration::from_mins(minutes)).as_micros();
        assert_eq!([5, 7, 10, 15, 20, 600].map(minute), [48, 48, 24, 24, 12, 12]);
        assert_eq!(minute(0), 192);
    }
}
