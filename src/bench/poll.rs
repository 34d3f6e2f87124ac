//! Active triggers that are checked again and again, and never fire: what holding them costs.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Report, usage};
use crate::{
    error::{Error, Result},
    file::File,
    http::Http,
    outside::{Server, Speaking},
    store::NewTask,
    task::{Deferral, defer},
    triggerer::{self, Tally},
};

/// How many tasks are added at once.
const BATCH: usize = 500;

/// How often it is looked whether all triggers are held, and for how long at most.
const LOOK: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_mins(2);

/// What to poll.
#[derive(Clone, Debug)]
pub struct Poll {
    /// What is checked.
    pub kind: Kind,
    /// How many triggers there are; 100,000 at most, as no more are counted.
    pub triggers: usize,
    /// How far apart the checks of one are.
    pub every: Duration,
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files that are not there.
    File,
    /// URLs of one server, each of which says that it is not done.
    Http,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Http => "http",
        }
    }
}

pub(super) async fn run(bench: &Bench<'_>, poll: &Poll) -> Result<Option<Report>> {
    let tally = Tally::default();
    let settings = triggerer::Settings {
        capacity: poll.triggers,
        label: "bench".to_owned(),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let mut server = match poll.kind {
        Kind::File => None,
        Kind::Http => {
            let speaking = Speaking { busy: 0, state: "running".to_owned() };
            Some(Server::start(&bench.settings.program, &speaking).await?)
        }
    };
    let rss_before = usage::rss();
    let measuring = async {
        add(bench, poll, server.as_ref()).await?;
        until_held(bench, poll).await?;
        // The first checks come as fast as they can: from the second on they are as far apart as they should be.
        bench.store.clock().sleep(poll.every).await;
        measure(bench, poll, &tally, server.as_mut()).await
    };
    let report = bench.beside(|stop| triggerer::run(bench.store.clone(), settings, stop), measuring).await?;
    Ok(report.map(|report| {
        let grown = report.rss_bytes.zip(rss_before).map(|(now, before)| now.saturating_sub(before));
        Report { rss_bytes_per_trigger: grown.map(|grown| grown / poll.triggers as u64), ..report }
    }))
}

/// Tasks that begin deferred; no worker ever runs them.
async fn add(bench: &Bench<'_>, poll: &Poll, server: Option<&Server>) -> Result<()> {
    for from in (0..poll.triggers).step_by(BATCH) {
        let numbers = from..poll.triggers.min(from + BATCH);
        let tasks =
            numbers.map(|number| NewTask::named("bench.poll", Value::Null).when(wait(bench, poll, server, number)));
        bench.store.enqueue_all(tasks.collect()).await?;
    }
    Ok(())
}

/// A wait on something of its own: equal ones may share their checks.
fn wait(bench: &Bench<'_>, poll: &Poll, server: Option<&Server>, number: usize) -> Deferral {
    match server {
        None => {
            let path = bench.scratch.folder().join(format!("never-{number}"));
            defer(File::at(path.to_string_lossy().into_owned()).every(poll.every))
        }
        Some(server) => {
            let http = Http::get(server.url(format_args!("never/{number}")));
            defer(http.until_json("$.state", "done").every(poll.every))
        }
    }
}

async fn until_held(bench: &Bench<'_>, poll: &Poll) -> Result<()> {
    let clock = bench.store.clock();
    let began = clock.monotonic();
    while bench.store.census(None).await?.held < poll.triggers as i64 {
        if clock.monotonic() - began > LIMIT {
            return Err(Error::Unusable(format!("the triggers were not all held after {} s", LIMIT.as_secs())));
        }
        clock.sleep(LOOK).await;
    }
    Ok(())
}

async fn measure(bench: &Bench<'_>, poll: &Poll, tally: &Tally, mut server: Option<&mut Server>) -> Result<Report> {
    let clock = bench.store.clock();
    let served_before = served(server.as_deref_mut()).await?;
    tally.begin_anew();
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    clock.sleep(bench.settings.lasting).await;
    let (counted, cpu, seconds) =
        (tally.counted(), usage::cpu() - cpu_before, (clock.monotonic() - began).as_secs_f64());
    let served = served(server).await?.zip(served_before).map(|(now, before)| (now - before) as f64 / seconds);
    Ok(Report {
        scenario: "poll",
        kind: Some(poll.kind.word()),
        backend: bench.store.url().backend(),
        triggers: poll.triggers,
        replicas: 1,
        seconds,
        polls_per_s: Some(counted.answered as f64 / seconds),
        polls_failed: Some(counted.failed),
        served_per_s: served,
        cpu_percent: 100.0 * cpu.as_secs_f64() / seconds,
        rss_bytes: usage::rss(),
        rss_bytes_per_trigger: None,
        lag_ms: Some(counted.late),
        takeover_ms: None,
        lost: None,
        doubled: None,
    })
}

async fn served(server: Option<&mut Server>) -> Result<Option<u64>> {
    match server {
        Some(server) => server.answered().await.map(Some),
        None => Ok(None),
    }
}
