//! The triggerer: runs active triggers, up to a capacity.
//!
//! Three loops and a heap. The *leasing* loop takes what is free and what the dead left behind, never more than there is
//! room for, nor, among several, more than its share. The *checks* pop the heap as checks fall due and run them, bounded. *Firing* gathers what they found and
//! commits it in batches; only then is a slot free again, so that what is not yet committed is bounded by the capacity.
//! Losing the database ends nothing: checks go on until the replica parks, and what was seen is kept until it is stored.

pub mod home;

mod checks;
mod firing;
mod held;
mod holding;
mod leasing;
mod record;
mod reporting;
mod share;
mod sharing;
#[doc(hidden)]
pub mod speed;
mod undoing;
mod words;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use reveille_trigger::Config;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use self::{
    checks::Checks,
    firing::Firing,
    holding::Holdings,
    home::{DatabaseHome, Home},
};
use crate::{
    aside::Aside,
    error::{Error, Result},
    id::Incarnation,
    kind,
    life::Stop,
    outage::Outage,
    presence::{Doubt, Presence, SHORTEST_LEASE},
    store::{
        Reach, Store,
        replica::{Card, Role},
        retention,
    },
    tally::Tally,
    upkeep::Upkeep,
};

/// How a triggerer runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many active triggers it holds at most.
    pub capacity: usize,
    /// The queues whose triggers it takes; none means all.
    pub queues: Option<Vec<String>>,
    /// Where it runs, for people.
    pub label: String,
    /// How long it may be silent before others take its work.
    pub lease: Duration,
    /// How many checks run at once.
    pub checks: usize,
    /// How many of them go to one destination at once.
    pub checks_per_destination: usize,
    /// A trigger that sleeps longer than this between checks is given back meanwhile: dormant, it costs no memory.
    pub horizon: Duration,
    /// How long results and history are kept.
    pub kept: Duration,
    /// What triggers may read: connections with their secrets, and settings by kind.
    pub config: Config,
    /// Where what it does is counted, for whoever keeps a clone.
    pub tally: Tally,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: 1_000,
            queues: None,
            label: "triggerer".to_owned(),
            lease: Duration::from_secs(10),
            checks: 256,
            checks_per_destination: 16,
            horizon: Duration::from_mins(1),
            kept: Duration::from_hours(7 * 24),
            config: Config::default(),
            tally: Tally::default(),
        }
    }
}

impl Settings {
    fn validate(&self) -> Result<()> {
        if self.capacity == 0 {
            return Err(Error::Invalid(
                "a triggerer with a capacity of 0 would hold nothing: give it at least 1".to_owned(),
            ));
        }
        if self.checks == 0 || self.checks_per_destination == 0 {
            return Err(Error::Invalid(
                "a triggerer needs room for at least 1 check at once, overall and per destination".to_owned(),
            ));
        }
        if self.lease < SHORTEST_LEASE {
            return Err(Error::Invalid(format!("a lease is at least {} s", SHORTEST_LEASE.as_secs())));
        }
        retention::validate(self.kept)
    }
}

/// Runs active triggers until stopped, under as many incarnations as it takes.
///
/// # Errors
/// If the settings are wrong, or two linked triggers share a kind. No database error ends it.
pub async fn run(store: Store, settings: Settings, stop: Stop) -> Result<()> {
    settings.validate()?;
    let kinds = kind::kinds()?;
    let mut outage = Outage::of("joining as a triggerer", store.clock());
    while !stop.is_stopping() {
        let card = Card {
            incarnation: Incarnation::mint(),
            role: Role::Triggerer,
            label: settings.label.clone(),
            lease: settings.lease,
            capacity: settings.capacity.try_into().unwrap_or(i32::MAX),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            queues: settings.queues.clone(),
        };
        let joined = Presence::join(&store, card, settings.lease).await;
        if let Some(backoff) = outage.note(&joined) {
            tokio::select! {
                () = stop.soft().cancelled() => {}
                () = store.clock().sleep(backoff) => {}
            }
        }
        if let Ok(presence) = joined {
            Box::pin(Life::new(&store, &settings, presence).live(&stop)).await;
        }
    }
    Ok(())
}

/// Waits for the parts of a life.
///
/// # Panics
/// If one of them does.
async fn over(parts: &mut JoinSet<()>) {
    while let Some(ended) = parts.join_next().await {
        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
            std::panic::resume_unwind(panic);
        }
    }
}

/// One incarnation, from joining to leaving or to being found gone.
struct Life<'a> {
    store: &'a Store,
    settings: &'a Settings,
    presence: Arc<Presence>,
    home: Arc<dyn Home>,
    holdings: Arc<Holdings>,
    /// Whether what the database says we hold is what we run.
    doubt: Arc<Doubt>,
    /// How many are leased at once.
    reach: Reach,
    /// What cannot be read here.
    aside: Aside,
}

impl<'a> Life<'a> {
    fn new(store: &'a Store, settings: &'a Settings, presence: Presence) -> Self {
        let me = presence.me();
        tracing::info!(replica.incarnation = %me, "triggerer {me} joined, with room for {} triggers", settings.capacity);
        Self {
            store,
            settings,
            presence: Arc::new(presence),
            home: Arc::new(DatabaseHome::new(store.clone(), me, settings.queues.clone())),
            holdings: Arc::new(Holdings::new(settings.capacity, settings.config.clone())),
            doubt: Arc::default(),
            reach: Reach::on(store.url()),
            aside: Aside::new(store.clock().clone()),
        }
    }

    /// The order of stopping is the promise: stop leasing, settle what has fired, mark myself gone, drop the checks.
    async fn live(self, stop: &Stop) {
        let leasing = CancellationToken::new();
        let checking = CancellationToken::new();
        let (arrived, arrivals) = mpsc::channel(self.settings.capacity.min(100_000));
        let (found, findings) = mpsc::channel(self.settings.capacity.min(100_000));
        let checks = Checks::new(
            self.store.clock().clone(),
            Arc::clone(&self.presence),
            Arc::clone(&self.holdings),
            self.settings.clone(),
            found,
        );
        let firing = Firing::new(
            self.store.clock().clone(),
            Arc::clone(&self.presence),
            Arc::clone(&self.home),
            Arc::clone(&self.holdings),
            Arc::clone(&self.doubt),
            self.settings.tally.clone(),
            Reach::on(self.store.url()),
        );
        let upkeep = Upkeep {
            store: self.store,
            me: self.presence.me(),
            kept: self.settings.kept,
            tally: self.settings.tally.clone(),
        };

        let ending = async {
            tokio::select! {
                () = stop.soft().cancelled() => {}
                () = self.presence.gone().cancelled() => {}
            }
            leasing.cancel();
            // Checks that have found something hand it on; the others are dropped with their channel.
            checking.cancel();
        };
        // Each on the heap: together they would take much of a thread's stack while they are put in place.
        let working = async {
            tokio::join!(
                self.lease(&leasing, &arrived).boxed(),
                upkeep.run(&leasing).boxed(),
                undoing::run(&self, &leasing).boxed(),
                reporting::run(&self, &leasing).boxed(),
            );
        };
        // Tasks of their own, so that what wakes one does not poll the others.
        let mut parts = JoinSet::new();
        parts.spawn(checks.run(arrivals, checking.clone()).in_current_span());
        let commits = TaskTracker::new();
        parts.spawn(firing.run(findings, commits.clone()).in_current_span());
        tokio::select! {
            ((), (), ()) = async { tokio::join!(ending, working, over(&mut parts)) } => {}
            () = stop.hard().cancelled() => parts.shutdown().await,
        }
        commits.close();
        commits.wait().await;
        self.leave().await;
    }

    /// The hand-over is one row. What the checks held locally is let go of after it, bounded.
    async fn leave(self) {
        let me = self.presence.me();
        match Arc::into_inner(self.presence) {
            Some(presence) => presence.leave().await,
            None => {
                tracing::error!(replica.incarnation = %me, "{me} is still in use: the others will find out by its silence");
            }
        }
        self.holdings.clean_up_all().await;
        tracing::info!(replica.incarnation = %me, "triggerer {me} left");
    }
}
