//! Tasks that go all the way: added, claimed, deferred, leased, checked, fired, claimed again and finished.

use serde::{Deserialize, Serialize};

use super::{Bench, Report, floor, usage};
use crate::{
    clock::timestamp,
    error::Result,
    file::File,
    store::NewTask,
    tally::Tally,
    task::{Next, Task, TaskContext, TaskError, defer, done},
    triggerer,
    wait::{Any, Timer},
    worker::{self, Tasks},
};

/// Waits once, and does nothing else.
#[derive(Debug, Serialize, Deserialize)]
enum Cycle {
    Wait,
    Done,
}

impl Task for Cycle {
    const NAME: &'static str = "bench.cycle";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            // Active, and over at its first check.
            Self::Wait => {
                let wait = Any::default().or("due", Timer::at(timestamp(0))).or("there", File::at("/"));
                Ok(defer(wait).then(Self::Done))
            }
            Self::Done => Ok(done()),
        }
    }
}

pub(super) async fn run(bench: &Bench<'_>, tasks: usize) -> Result<Option<Report>> {
    let tally = Tally::default();
    let triggerer = triggerer::Settings {
        capacity: tasks,
        label: "bench".to_owned(),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let worker = worker::Settings { concurrency: 4_000, label: "bench".to_owned(), ..worker::Settings::default() };
    let tasks_known = Tasks::new().with::<Cycle>();
    let roles = |stop| bench.both(triggerer, worker, tasks_known, stop);
    let clock = bench.store.clock();
    let measuring = async {
        let statements_before = bench.store.statements().await?;
        let (began, cpu_before) = (clock.monotonic(), usage::cpu());
        let task = NewTask::of(&Cycle::Wait)?;
        bench.add(tasks, |_| task.clone()).await?;
        // Until then there is no need to ask the database, which takes of what is measured.
        let all_fired = async || Ok(tally.fired_so_far() >= tasks as u64);
        bench.until("all waits are over", super::LOOK, super::LIMIT, all_fired).await?;
        bench.until_over(super::LIMIT).await?;
        let (seconds, cpu) = ((clock.monotonic() - began).as_secs_f64(), usage::cpu() - cpu_before);
        let statements = bench.store.statements().await?.zip(statements_before).map(|(now, before)| now - before);
        Ok(Report {
            scenario: "cycle",
            backend: bench.store.url().backend(),
            triggers: tasks,
            replicas: 1,
            seconds,
            cycles_per_s: Some(tasks as f64 / seconds),
            statements_per_event: statements.map(|count| count as f64 / tasks as f64),
            cpu_percent: 100.0 * cpu.as_secs_f64() / seconds,
            rss_bytes: usage::rss(),
            ..Report::default()
        })
    };
    let Some(report) = bench.beside(roles, measuring).await? else { return Ok(None) };
    Ok(Some(report.beside_floor(floor::cycle(bench, tasks).await?)))
}
