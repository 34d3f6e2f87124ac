//! A fleet that shares triggers: who holds how many once all are held, after one more joins, and after one leaves.
//!
//! All replicas have the same capacity, and know of one another before there is anything to share. While they settle it is
//! counted, several times a renewal, who holds how many and by which renewal that was; and, less often, which trigger is
//! held by whom: that tells how often each has moved.

use std::{collections::HashMap, time::Duration};

use rustix::process::Signal;
use serde::Serialize;
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
    store::{NewTask, outcome::Holds},
    task::defer,
};

/// How often it is counted who holds how many, and every how many times who holds what.
const LOOK: Duration = Duration::from_millis(100);
const EACH: usize = 10;

/// How long it may take until all triggers are held, or a replica has joined.
const LIMIT: Duration = Duration::from_mins(5);

/// How many renewals are watched after a change: more than a surplus takes to move.
const WATCHED: i64 = 13;

/// How far from fair a share may be, in hundredths of that.
const NEAR: f64 = 5.0;

/// How far apart the checks of a trigger are: as far as they can be without going dormant.
const EVERY: Duration = Duration::from_mins(1);

/// What to share.
#[derive(Clone, Debug)]
pub struct Shares {
    /// How many replicas there are at first.
    pub replicas: usize,
    /// How many triggers there are.
    pub triggers: usize,
    /// The lease of each replica.
    pub lease: Duration,
}

/// How the triggers are shared after something has happened.
#[derive(Clone, Debug, Serialize)]
pub struct Settled {
    /// What has happened: all were `added`, a replica has `joined`, or one has `left`.
    pub after: &'static str,
    /// How many each live replica holds, by its label.
    pub held: Vec<(String, i64)>,
    /// How far the share is off that is furthest from fair, in hundredths of what is fair.
    pub off_percent: f64,
    /// How many renewals it took until none was more than 5 % off.
    pub renewals: i64,
    /// How long that took.
    pub seconds: f64,
    /// How often the trigger that moved most did.
    pub most_moves: usize,
}

impl Settled {
    /// Whether it is as was promised.
    pub fn is_right(&self) -> bool {
        self.off_percent <= NEAR && self.most_moves <= 1
    }
}

pub(super) async fn run(bench: &Bench<'_>, shares: &Shares) -> Result<Option<Report>> {
    tokio::select! {
        report = measure(bench, shares) => report.map(Some),
        () = bench.stop.soft().cancelled() => Ok(None),
    }
}

async fn measure(bench: &Bench<'_>, shares: &Shares) -> Result<Report> {
    let clock = bench.store.clock();
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    let terms = Terms { capacity: shares.triggers, lease: shares.lease };
    let mut replicas = Vec::new();
    for n in 1..=shares.replicas {
        replicas.push(Replica::start(bench, format!("bench-{n}"), terms)?);
    }
    for replica in &mut replicas {
        replica.settled(bench).await?;
    }
    let knowing = bench.store.holds().await?;
    let know = async || Ok(renewals(&knowing, &bench.store.holds().await?) >= 3);
    bench.until("the replicas know of one another", super::LOOK, LIMIT + shares.lease, know).await?;

    let mut settled = Vec::new();
    let mut watch = Watch::begin(bench, "added", shares).await?;
    // Each waits for a file of its own that is not there.
    let folder = bench.scratch.folder().to_string_lossy().into_owned();
    let wait = |n: usize| defer(File::at(format!("{folder}/{n}")).every(EVERY));
    bench.add(shares.triggers, |n| NewTask::named("bench.shares", Value::Null).when(wait(n))).await?;
    settled.push(watch.until_settled(shares.replicas, 3).await?);

    let mut watch = Watch::begin(bench, "joined", shares).await?;
    replicas.push(Replica::start(bench, format!("bench-{}", shares.replicas + 1), terms)?);
    settled.push(watch.until_settled(shares.replicas + 1, WATCHED).await?);

    let mut watch = Watch::begin(bench, "left", shares).await?;
    replicas[0].signal(Signal::TERM)?;
    settled.push(watch.until_settled(shares.replicas, WATCHED).await?);

    let seconds = (clock.monotonic() - began).as_secs_f64();
    Ok(Report {
        scenario: "shares",
        backend: bench.store.url().backend(),
        triggers: shares.triggers,
        replicas: shares.replicas,
        seconds,
        cpu_percent: 100.0 * (usage::cpu() - cpu_before).as_secs_f64() / seconds,
        settled: Some(settled),
        ..Report::default()
    })
}

/// How many renewals the one with most has made since.
fn renewals(before: &[Holds], now: &[Holds]) -> i64 {
    let since =
        |then: &Holds| now.iter().find(|now| now.incarnation == then.incarnation).map(|now| now.beat - then.beat);
    before.iter().filter_map(since).max().unwrap_or_default()
}

/// How far the share is off that is furthest from fair, in hundredths of what is fair.
fn off_percent(holds: &[Holds], triggers: usize) -> f64 {
    let fair = triggers as f64 / holds.len().max(1) as f64;
    holds.iter().map(|one| 100.0 * (one.held as f64 - fair).abs() / fair).fold(0.0, f64::max)
}

/// What is seen from something's happening until all is settled.
struct Watch<'a> {
    bench: &'a Bench<'a>,
    after: &'static str,
    triggers: usize,
    limit: Duration,
    before: Vec<Holds>,
    began: Duration,
    holders: HashMap<Uuid, Uuid>,
    moves: HashMap<Uuid, usize>,
}

impl<'a> Watch<'a> {
    async fn begin(bench: &'a Bench<'_>, after: &'static str, shares: &Shares) -> Result<Self> {
        let holders = bench.store.holders().await?.into_iter().collect();
        // Whatever becomes of the replicas, it is over some time.
        let limit = LIMIT + shares.lease * WATCHED.unsigned_abs() as u32;
        let (before, began) = (bench.store.holds().await?, bench.store.clock().monotonic());
        Ok(Self { bench, after, triggers: shares.triggers, limit, before, began, holders, moves: HashMap::new() })
    }

    /// Watches until there are so many replicas, and has watched for so many renewals since they held all triggers or one
    /// more had joined.
    async fn until_settled(&mut self, replicas: usize, watched: i64) -> Result<Settled> {
        let clock = self.bench.store.clock();
        // Off until then, and by which renewal.
        let (mut off_until, mut off_renewals) = (self.began, 0);
        let (mut since, mut turn) = (None, 0_usize);
        loop {
            let now = self.bench.store.holds().await?;
            let is_whole = now.len() == replicas && (self.after == "joined" || self.held_by(&now) == self.triggers);
            if is_whole && since.is_none() {
                since = Some(now.clone());
                if self.after == "joined" {
                    (self.before, self.began) = (now.clone(), clock.monotonic());
                }
            }
            if off_percent(&now, self.triggers) > NEAR || since.is_none() {
                (off_until, off_renewals) = (clock.monotonic(), renewals(&self.before, &now));
            }
            if turn.is_multiple_of(EACH) {
                self.count_moves().await?;
            }
            if since.as_ref().is_some_and(|since| renewals(since, &now) >= watched) {
                self.count_moves().await?;
                return Ok(self.settled(&now, off_until, off_renewals));
            }
            if clock.monotonic() - self.began > self.limit {
                let limit = self.limit.as_secs();
                return Err(Error::Unusable(format!(
                    "waited {limit} s in vain until {replicas} replicas had settled with all triggers"
                )));
            }
            turn += 1;
            clock.sleep(LOOK).await;
        }
    }

    fn held_by(&self, holds: &[Holds]) -> usize {
        holds.iter().map(|one| one.held).sum::<i64>().try_into().unwrap_or_default()
    }

    fn settled(&self, now: &[Holds], off_until: Duration, renewals: i64) -> Settled {
        Settled {
            after: self.after,
            held: now.iter().map(|one| (one.label.clone(), one.held)).collect(),
            off_percent: off_percent(now, self.triggers),
            renewals,
            seconds: off_until.saturating_sub(self.began).as_secs_f64(),
            most_moves: self.moves.values().copied().max().unwrap_or_default(),
        }
    }

    async fn count_moves(&mut self) -> Result<()> {
        for (task, holder) in self.bench.store.holders().await? {
            if self.holders.insert(task, holder).is_some_and(|before| before != holder) {
                *self.moves.entry(task).or_default() += 1;
            }
        }
        Ok(())
    }
}
