//! Active triggers that are checked again and again, and never fire: what holding them costs.

use std::time::Duration;

use serde_json::Value;

use super::{Bench, Report, usage};
use crate::{
    error::Result,
    file::File,
    http::Http,
    outside::{Server, Speaking},
    store::NewTask,
    tally::Tally,
    task::{Deferral, defer},
    triggerer,
};

/// How long the first checks of all triggers may take.
const FIRST: Duration = Duration::from_mins(20);

/// What to poll.
#[derive(Clone, Debug)]
pub struct Poll {
    /// What is checked.
    pub kind: Kind,
    /// How many triggers there are; each of its own.
    pub triggers: usize,
    /// How far apart the checks of one are.
    pub every: Duration,
    /// Those that sleep longer than this are given back in between.
    pub horizon: Duration,
}

/// How far apart checks are that are not made while it is measured.
const SELDOM: Duration = Duration::from_hours(24);

impl Poll {
    /// URLs that are held, and not asked while it is measured.
    pub(super) fn hold(triggers: usize) -> Self {
        Self { kind: Kind::Http, triggers, every: SELDOM, horizon: 2 * SELDOM }
    }

    /// URLs that are given back once each was asked.
    pub(super) fn dormant(triggers: usize) -> Self {
        Self { horizon: triggerer::Settings::default().horizon, ..Self::hold(triggers) }
    }
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

pub(super) async fn run(bench: &Bench<'_>, poll: &Poll, scenario: &'static str) -> Result<Option<Report>> {
    let tally = Tally::default();
    let settings = triggerer::Settings {
        capacity: poll.triggers,
        horizon: poll.horizon,
        label: "bench".to_owned(),
        tally: tally.clone(),
        ..triggerer::Settings::default()
    };
    let mut server = match poll.kind {
        Kind::File => None,
        Kind::Http => {
            let speaking = Speaking { busy: 0, pending: 0, state: "running".to_owned() };
            Some(Server::start(&bench.settings.program, &speaking).await?)
        }
    };
    let rss_before = usage::rss();
    let measuring = async {
        // No worker ever runs them.
        let task = |number| NewTask::named("bench.poll", Value::Null).when(wait(bench, poll, server.as_ref(), number));
        bench.lay_out(poll.triggers, task).await?;
        // The first checks come as fast as they can: from the second on they are as far apart as they should be.
        let all = poll.triggers as u64;
        bench
            .until("each trigger was checked", super::LOOK, FIRST, async || Ok(tally.answered_so_far() >= all))
            .await?;
        measure(bench, poll, &tally, server.as_mut()).await
    };
    let report = bench.beside(|stop| bench.triggerer(settings, stop), measuring).await?;
    Ok(report.map(|report| {
        let report = Report { scenario, ..report };
        let grown = report.rss_bytes.zip(rss_before).map(|(now, before)| now.saturating_sub(before));
        Report { rss_bytes_per_trigger: grown.map(|grown| grown / poll.triggers as u64), ..report }
    }))
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
        lag_ms: Some(counted.late),
        ..Report::default()
    })
}

async fn served(server: Option<&mut Server>) -> Result<Option<u64>> {
    match server {
        Some(server) => server.answered().await.map(Some),
        None => Ok(None),
    }
}
