//! Rows that cannot run beside those that can: what a claim and a lease go through, without and with them.

use serde::Serialize;

use super::{Bench, Report, usage};
use crate::{
    error::Result,
    store::{
        Url,
        stuck::{Cost, Effort, Stuck},
    },
};

/// How much more it may be beside them: trees that are a level or two deeper, for each row that is taken.
const MORE: f64 = 1.5;

/// A figure of a claim and one of a lease, without the rows that cannot run and beside them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Beside<T> {
    /// Of a claim, without.
    pub claim_before: T,
    /// Of a claim, beside them.
    pub claim_after: T,
    /// Of a lease, without.
    pub lease_before: T,
    /// Of a lease, beside them.
    pub lease_after: T,
}

impl<T> Beside<T> {
    fn of((before, after): (Effort, Effort), figure: impl Fn(Cost) -> T) -> Self {
        Self {
            claim_before: figure(before.claim),
            claim_after: figure(after.claim),
            lease_before: figure(before.lease),
            lease_after: figure(after.lease),
        }
    }
}

impl Beside<Option<u64>> {
    /// If there are all four.
    fn all(self) -> Option<Beside<u64>> {
        let Self { claim_before, claim_after, lease_before, lease_after } = self;
        Some(Beside {
            claim_before: claim_before?,
            claim_after: claim_after?,
            lease_before: lease_before?,
            lease_after: lease_after?,
        })
    }
}

impl Beside<u64> {
    /// By how much it is more beside them, at worst of a claim and a lease, in hundredths.
    pub fn grown_percent(&self) -> f64 {
        let grown = |before: u64, after: u64| 100.0 * (after as f64 / before.max(1) as f64 - 1.0);
        grown(self.claim_before, self.claim_after).max(grown(self.lease_before, self.lease_after))
    }

    /// Whether what is read is that of what is taken, however much lies beside it.
    pub fn is_flat(&self) -> bool {
        self.grown_percent() <= 100.0 * (MORE - 1.0)
    }
}

pub(super) async fn run(bench: &Bench<'_>, triggers: usize) -> Result<Option<Report>> {
    tokio::select! {
        report = measure(bench, triggers) => report.map(Some),
        () = bench.stop.soft().cancelled() => Ok(None),
    }
}

async fn measure(bench: &Bench<'_>, triggers: usize) -> Result<Report> {
    let (store, clock) = (&bench.store, bench.store.clock());
    let (began, cpu_before) = (clock.monotonic(), usage::cpu());
    let takers = store.lay_out_movable().await?;
    store.vacuum().await?;
    let before = store.effort(takers).await?;
    let stuck = Stuck { dormant: triggers, keyed: triggers / 10, unknown: triggers / 10 };
    store.lay_out_stuck(stuck, takers).await?;
    store.vacuum().await?;
    let both = (before, store.effort(takers).await?);
    let seconds = (clock.monotonic() - began).as_secs_f64();
    let work = Beside::of(both, |cost| cost.work);
    let search = Beside::of(both, |cost| cost.search);
    let search = search.all();
    let is_pages = matches!(store.url(), Url::Postgres(_));
    Ok(Report {
        scenario: "stuck",
        backend: store.url().backend(),
        triggers,
        seconds,
        cpu_percent: 100.0 * (usage::cpu() - cpu_before).as_secs_f64() / seconds,
        buffers: is_pages.then_some(work),
        steps: (!is_pages).then_some(work),
        search_buffers: search,
        took_ms: Some(Beside::of(both, |cost| cost.took.as_secs_f64() * 1_000.0)),
        ..Report::default()
    })
}
