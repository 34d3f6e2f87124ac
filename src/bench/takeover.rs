//! A replica that dies, hangs or leaves: how soon what it held runs elsewhere, and that nothing is lost or done twice.
//!
//! The worst case: one replica holds all triggers but the few that it has given back to those who have just joined. After the
//! fault it is counted, every few milliseconds, how many the lost one still holds. Then all triggers fire at once, also in the hands of one that comes back,
//! and each deferral must have one outcome.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Bench, Report,
    replica::{Replica, Terms},
    usage,
};
use crate::{
    error::{Error, Result},
    file::File,
    lag::Lags,
    store::{NewTask, outcome::Outcomes},
    task::defer,
};

/// How often it is counted what the lost one still holds: the grain of the figures.
const GRAIN: Duration = Duration::from_millis(2);

/// How long anything may take beyond the leases that it has to wait for.
const LIMIT: Duration = Duration::from_mins(2);

/// How far apart the checks of a trigger are.
const EVERY: Duration = Duration::from_secs(1);

/// What to do to whom.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// How many replicas there are.
    pub replicas: usize,
    /// How many triggers there are, all held by one of them before the others join.
    pub triggers: usize,
    /// What befalls that one.
    pub fault: Fault,
    /// The lease of each replica.
    pub lease: Duration,
}

/// What befalls a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is killed, and can do nothing any more.
    Kill,
    /// It hangs, and goes on after the others have taken over.
    Stop,
    /// It is asked to end.
    Term,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Term => "term",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Stop => Signal::STOP,
            Self::Term => Signal::TERM,
        }
    }
}

pub(super) async fn run(bench: &Bench<'_>, takeover: &Takeover) -> Result<Option<Report>> {
    tokio::select! {
        report = measure(bench, takeover) => report.map(Some),
        () = bench.stop.soft().cancelled() => Ok(None),
    }
}

async fn measure(bench: &Bench<'_>, takeover: &Takeover) -> Result<Report> {
    let clock = bench.store.clock();
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    let terms = Terms { capacity: takeover.triggers, lease: takeover.lease };
    let mut lost = Replica::start(bench, "bench-1".to_owned(), terms)?;
    let victim = lost.settled(bench).await?.incarnation;
    let path = bench.scratch.folder().join("there").to_string_lossy().into_owned();
    // All wait for one file; no worker runs them.
    let wait = || defer(File::at(path.clone()).every(EVERY).settle(Duration::ZERO));
    bench.add(takeover.triggers, |_| NewTask::named("bench.takeover", Value::Null).when(wait())).await?;
    let all = takeover.triggers as i64;
    bench
        .until("all triggers are held", super::LOOK, LIMIT, async || Ok(bench.store.held_by(victim).await? == all))
        .await?;
    let mut heirs = Vec::new();
    for n in 2..=takeover.replicas {
        heirs.push(Replica::start(bench, format!("bench-{n}"), terms)?);
    }
    for heir in &mut heirs {
        heir.settled(bench).await?;
    }

    let lags = Lags::new();
    let held = bench.store.held_by(victim).await?;
    let fault_at = clock.monotonic();
    lost.signal(takeover.fault.signal())?;
    watch(bench, victim, held, fault_at, takeover.lease, &lags).await?;
    if takeover.fault == Fault::Stop {
        // It believes that it holds them all still, and has them fire with the others.
        lost.signal(Signal::CONT)?;
    }
    let outcomes = fire(bench, takeover).await?;
    let seconds = (clock.monotonic() - began).as_secs_f64();
    Ok(Report {
        scenario: "takeover",
        kind: Some(takeover.fault.word()),
        backend: bench.store.url().backend(),
        triggers: takeover.triggers,
        replicas: takeover.replicas,
        seconds,
        cpu_percent: 100.0 * (usage::cpu() - cpu_before).as_secs_f64() / seconds,
        takeover_ms: Some(lags.told()),
        lost: Some(all - outcomes.decided),
        doubled: Some(outcomes.twice),
        ..Report::default()
    })
}

/// Notes of each trigger how long after the fault the lost one has no longer held it.
async fn watch(
    bench: &Bench<'_>,
    victim: Uuid,
    held: i64,
    fault_at: Duration,
    lease: Duration,
    lags: &Lags,
) -> Result<()> {
    let clock = bench.store.clock();
    let mut left = held;
    while left > 0 {
        let now_held = bench.store.held_by(victim).await?;
        let after = clock.monotonic() - fault_at;
        for _ in now_held..left {
            lags.note(crate::clock::millis(after));
        }
        left = left.min(now_held);
        if after > 3 * lease + LIMIT {
            return Err(Error::Unusable(format!("{left} triggers were not taken over after {} s", after.as_secs())));
        }
        clock.sleep(GRAIN).await;
    }
    Ok(())
}

/// Lets all triggers fire, and counts what came of it once no task waits any more, or none will.
async fn fire(bench: &Bench<'_>, takeover: &Takeover) -> Result<Outcomes> {
    std::fs::write(bench.scratch.folder().join("there"), "")
        .map_err(|error| Error::Unusable(format!("cannot write a file of our own: {error}")))?;
    let limit = 3 * takeover.lease + LIMIT;
    let over = bench.until("every trigger has fired", super::LOOK, limit, async || {
        Ok(bench.store.outcomes().await?.decided >= takeover.triggers as i64)
    });
    if let Err(error) = over.await {
        // Those that are lost are counted, and no reason to tell of nothing.
        tracing::error!("{error}");
    }
    // As long as it takes one that came back to find out that it is gone, and to say all that it has to say.
    bench.store.clock().sleep(takeover.lease).await;
    bench.store.outcomes().await
}
