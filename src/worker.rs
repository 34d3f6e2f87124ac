//! The worker: claims tasks that it knows, and runs their steps, up to a concurrency.
//!
//! Room is taken before tasks are, so that nothing claimed waits in a local queue. What steps answer with is gathered and
//! committed in batches; only then is the room free again. A step that is cancelled, or that another worker now holds, is
//! told so and dropped a little later.

mod attempt;
mod handler;
mod running;
mod settling;
mod slot;

pub use self::handler::{Registration, Tasks};

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use reveille_trigger::Config;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{attempt::Attempts, running::Running, settling::Settling};
use crate::{
    aside::Aside,
    clock::millis,
    commits::AT_A_TIME,
    error::{Error, Result},
    id::{Fence, Incarnation},
    life::Stop,
    outage::{Outage, Turn, jittered, turns},
    presence::{Doubt, Presence, SHORTEST_LEASE},
    store::{
        MOST, Reach, Scope, Store,
        replica::{Card, Role},
        retention, task,
        wake::Topic,
        within,
    },
    tally::Tally,
    upkeep::{POLL, Upkeep},
};

/// How soon a running step learns that its task was cancelled, where hints don't reach.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);

/// How a worker runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many steps it runs at once.
    pub concurrency: usize,
    /// The queues that it claims from; none means all.
    pub queues: Option<Vec<String>>,
    /// The names that it claims; none means all that it knows.
    pub names: Option<Vec<String>>,
    /// Where it runs, for people.
    pub label: String,
    /// How long it may be silent before others take its work.
    pub lease: Duration,
    /// How long running steps may go on once it is to stop.
    pub drain: Duration,
    /// Whether deferrals leave the worker. If not, it waits in its own slots, whatever a task says.
    pub deferrable: bool,
    /// How long results and history are kept.
    pub kept: Duration,
    /// What triggers may read that wait in a slot here.
    pub config: Config,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 64,
            queues: None,
            names: None,
            label: "worker".to_owned(),
            lease: Duration::from_secs(10),
            drain: Duration::from_secs(30),
            deferrable: true,
            kept: Duration::from_hours(7 * 24),
            config: Config::default(),
        }
    }
}

impl Settings {
    /// The names to claim: those asked for, all of which must be known.
    fn validate(&self, tasks: &Tasks) -> Result<Vec<String>> {
        if self.concurrency == 0 {
            return Err(Error::Invalid(
                "a worker with a concurrency of 0 would run nothing: give it at least 1".to_owned(),
            ));
        }
        if self.lease < SHORTEST_LEASE {
            return Err(Error::Invalid(format!("a lease is at least {} s", SHORTEST_LEASE.as_secs())));
        }
        retention::validate(self.kept)?;
        tasks.validate()?;
        let known: Vec<String> = tasks.names().map(str::to_owned).collect();
        let Some(names) = &self.names else { return Ok(known) };
        match names.iter().find(|name| !known.contains(name)) {
            Some(unknown) => {
                Err(Error::Invalid(format!("this binary has no task named {unknown:?}: it has {}", known.join(", "))))
            }
            None => Ok(names.clone()),
        }
    }
}

/// Runs tasks until stopped, under as many incarnations as it takes.
///
/// # Errors
/// If the settings are wrong. No database error ends it.
pub async fn run(store: Store, tasks: Tasks, settings: Settings, stop: Stop) -> Result<()> {
    let names = settings.validate(&tasks)?;
    if names.is_empty() {
        tracing::warn!("this binary has no tasks, so this worker only does the upkeep: link a crate that brings some");
    }
    let tasks = Arc::new(tasks);
    let mut outage = Outage::of("joining as a worker", store.clock());
    while !stop.is_stopping() {
        let card = Card {
            incarnation: Incarnation::mint(),
            role: Role::Worker,
            label: settings.label.clone(),
            lease: settings.lease,
            capacity: settings.concurrency.try_into().unwrap_or(i32::MAX),
            kinds: names.clone(),
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
            Box::pin(Life::new(&store, &settings, &names, Arc::clone(&tasks), presence).live(&stop)).await;
        }
    }
    Ok(())
}

/// One incarnation, from joining to leaving or to being found gone.
struct Life<'a> {
    store: &'a Store,
    settings: &'a Settings,
    names: &'a [String],
    tasks: Arc<Tasks>,
    presence: Arc<Presence>,
    running: Arc<Running>,
    /// What cannot be read here.
    aside: Aside,
    /// How many are claimed at once.
    reach: Reach,
    /// Not all that the database said to run here did, when it was last asked: it is asked soon again.
    was_more_held: AtomicBool,
    /// When the database was last asked what runs here, in milliseconds of the monotonic clock.
    agreed_at: AtomicI64,
}

impl<'a> Life<'a> {
    fn new(
        store: &'a Store,
        settings: &'a Settings,
        names: &'a [String],
        tasks: Arc<Tasks>,
        presence: Presence,
    ) -> Self {
        let me = presence.me();
        tracing::info!(replica.incarnation = %me, "worker {me} joined, with room for {} steps at once", settings.concurrency);
        let running = Arc::new(Running::new(settings.concurrency));
        Self {
            store,
            settings,
            names,
            tasks,
            presence: Arc::new(presence),
            running,
            aside: Aside::new(store.clock().clone()),
            reach: Reach::on(store.url()),
            was_more_held: AtomicBool::default(),
            agreed_at: AtomicI64::new(0),
        }
    }

    /// Stop claiming, let what runs finish within the drain limit under this incarnation, and only then leave.
    async fn live(self, stop: &Stop) {
        let claiming = CancellationToken::new();
        let (ended, ends) = mpsc::channel((AT_A_TIME + 1) * MOST);
        let attempts = Attempts {
            store: self.store.clone(),
            me: self.presence.me(),
            tasks: Arc::clone(&self.tasks),
            running: Arc::clone(&self.running),
            ended,
            deferrable: self.settings.deferrable,
            config: self.settings.config.clone(),
        };
        let settling = Settling::new(self.store.clone(), Arc::clone(&self.presence), Arc::clone(&self.running));
        let commits = TaskTracker::new();
        let mut settled = tokio::spawn(settling.run(ends, commits.clone()));
        let upkeep =
            Upkeep { store: self.store, me: self.presence.me(), kept: self.settings.kept, tally: Tally::default() };
        let ending = async {
            tokio::select! {
                () = stop.soft().cancelled() => {}
                () = stop.hard().cancelled() => {}
                () = self.presence.gone().cancelled() => {}
            }
            claiming.cancel();
        };
        tokio::join!(ending, self.claim(&claiming, &attempts).boxed(), upkeep.run(&claiming).boxed());

        if self.presence.gone().is_cancelled() {
            // Another worker has, or will have, what I run: what I hold of it is nobody's.
            self.running.drop_all();
        } else {
            tokio::select! {
                () = self.running.idle() => {}
                () = self.agree_while_draining() => {}
                () = self.store.clock().sleep(self.settings.drain) => {
                    let left = self.running.len();
                    tracing::warn!(tasks = left, "{left} step(s) were still running after the drain limit: other workers run them again");
                }
                () = stop.hard().cancelled() => {}
            }
            self.running.drop_all();
        }
        // Dropped attempts let go of their senders, and with the last of them settling ends.
        drop(attempts);
        let outcome = tokio::select! {
            outcome = &mut settled => outcome,
            () = stop.hard().cancelled() => {
                settled.abort();
                settled.await
            }
        };
        commits.close();
        commits.wait().await;
        if outcome.is_err() {
            tracing::warn!("some answers were not stored: other workers run those steps again");
        }
        let me = self.presence.me();
        match Arc::into_inner(self.presence) {
            Some(presence) => presence.leave().await,
            None => {
                tracing::error!(replica.incarnation = %me, "{me} is still in use: the others will find out by its silence");
            }
        }
        tracing::info!(replica.incarnation = %me, "worker {me} left");
    }

    /// Claims what there is room for, and makes sure now and then that the database and we agree on what runs here.
    async fn claim(&self, stop: &CancellationToken, attempts: &Attempts) {
        let (clock, wake) = (self.store.clock(), self.store.wake());
        let doubt = Doubt::default();
        let woken = || {
            let (ready, freed) = (wake.on(Topic::Ready), self.running.freed());
            let cancelled = wake.on(Topic::Cancelled);
            let doubt = &doubt;
            async move {
                tokio::select! {
                    biased;
                    () = cancelled => drop(doubt.raise()),
                    () = ready => {}
                    () = freed => {}
                }
            }
        };
        turns("claiming tasks", clock, stop, woken, || self.claim_turn(&doubt, attempts)).await;
    }

    async fn claim_turn(&self, doubt: &Doubt, attempts: &Attempts) -> Result<(Turn, Duration)> {
        if self.presence.is_parked() {
            return Ok((Turn::Unasked, POLL));
        }
        // Who cancels may not be able to hint.
        let now = millis(self.store.clock().monotonic());
        let may_be_held = self.running.len() > 0 || self.was_more_held.load(Ordering::Relaxed);
        if may_be_held && now - self.agreed_at.load(Ordering::Relaxed) >= millis(CANCELLED_WITHIN) {
            doubt.raise();
        }
        if let Some(asked) = doubt.is_due(self.presence.renewals(), self.presence.reconnections()) {
            self.agree().await?;
            self.agreed_at.store(now, Ordering::Relaxed);
            doubt.settle(asked);
        }
        let room = self.running.room().min(self.reach.rows());
        if room == 0 || self.names.is_empty() {
            return Ok((Turn::Unasked, jittered(POLL)));
        }
        // Until the answer is here, or if it never comes.
        let raised = doubt.raise();
        let began = self.store.clock().monotonic();
        let mut claims = self.take(room).await.inspect_err(|_| self.reach.note(None))?;
        doubt.lower(raised);
        let count = claims.mine.len() + claims.turned_away.len();
        if count == room && room == self.reach.rows() {
            self.reach.note(Some(self.store.clock().monotonic().saturating_sub(began)));
        }
        self.start(std::mem::take(&mut claims.mine), attempts).await?;
        if let Err(error) = self.store.claimed(&claims, self.presence.me()).await {
            tracing::debug!("slots that are free are found at the next match: {}", error.chain());
        }
        Ok((if count == room { Turn::Full } else { Turn::Idle }, jittered(POLL)))
    }

    async fn take(&self, room: usize) -> Result<task::Claims> {
        let scope = Scope {
            queues: self.settings.queues.clone(),
            kinds: self.names.iter().filter(|name| !self.aside.leaves(name)).cloned().collect(),
            aside: self.aside.rows(),
        };
        within("claiming tasks", async {
            let mut tx = self.store.begin().await?;
            let claims =
                task::claim(&mut tx.db(), self.presence.me(), &scope, self.store.clock().now_ms(), room).await?;
            tx.commit().await?;
            Ok(claims)
        })
        .await
    }

    /// Starts what can be read, and puts back what cannot.
    async fn start(&self, claims: Vec<task::Claim>, attempts: &Attempts) -> Result<()> {
        let (mut readable, mut unreadable) = (Vec::with_capacity(claims.len()), Vec::new());
        for claim in claims {
            let (id, name) = (claim.fence.task, claim.name.clone());
            match self.tasks.read(self.store, claim) {
                Ok(read) => readable.push(read),
                Err((fence, error)) => {
                    tracing::error!(task.id = %id, "left task {id} alone: {}", error.chain());
                    self.aside.set(id, &name);
                    unreadable.push(fence);
                }
            }
        }
        attempts.start(readable);
        self.presence.set_running(self.running.len());
        self.put_back(&unreadable).await
    }

    async fn put_back(&self, fences: &[Fence]) -> Result<()> {
        if fences.is_empty() {
            return Ok(());
        }
        within("putting tasks back", async {
            let mut tx = self.store.begin().await?;
            task::put_back(&mut tx.db(), self.presence.me(), self.store.clock().now_ms(), fences).await?;
            tx.commit().await
        })
        .await?;
        self.store.wake().hint(Topic::Ready);
        Ok(())
    }

    /// Puts back what the database says is ours and we don't run, drops what we run and is not ours, and tells those steps
    /// whose task was cancelled.
    async fn agree(&self) -> Result<()> {
        let ran = self.running.fences();
        let held = within("asking what is held", async {
            let mut tx = self.store.begin().await?;
            let held = task::held(&mut tx.db(), self.presence.me()).await?;
            tx.commit().await?;
            Ok(held)
        })
        .await?;
        let dropped = self.running.drop_all_but(held.iter().map(|held| held.fence));
        if !dropped.is_empty() {
            let lost = dropped.len();
            tracing::info!(tasks = lost, "dropped {lost} step(s) that are no longer mine");
        }
        held.iter().filter(|held| held.cancelled).for_each(|held| self.running.cancel(held.fence));
        self.store_progress().await;
        let mut missing: Vec<Fence> = held.iter().map(|held| held.fence).collect();
        missing.retain(|fence| !self.running.has(*fence));
        self.was_more_held.store(!missing.is_empty(), Ordering::Relaxed);
        // What ran as we asked, and is over by now, was most likely stored meanwhile. If not, it is missing the next time.
        missing.retain(|fence| !ran.contains(fence) || dropped.contains(fence));
        self.put_back(&missing).await
    }

    /// Progress is for people: what of it cannot be stored is logged, and stops nothing.
    async fn store_progress(&self) {
        for (fence, progress) in self.running.progressed() {
            let stored = within("storing progress", async {
                let mut tx = self.store.begin().await?;
                self.store.set_progress(&mut tx.db(), self.presence.me(), fence, &progress).await?;
                tx.commit().await
            });
            if let Err(error) = stored.await {
                let task = fence.task;
                tracing::warn!(task.id = %task, "the progress of task {task} was not stored: {}", error.chain());
            }
        }
    }

    /// While draining, cancellations still reach what runs. Never completes.
    async fn agree_while_draining(&self) {
        let mut outage = Outage::of("agreeing on what runs", self.store.clock());
        loop {
            let cancelled = self.store.wake().on(Topic::Cancelled);
            let pause = outage.note(&self.agree().await).unwrap_or(Duration::from_secs(1));
            tokio::select! {
                () = cancelled => {}
                () = self.store.clock().sleep(pause) => {}
            }
        }
    }
}
