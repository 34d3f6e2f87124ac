//! Being a replica: showing life, watching the others, and knowing when to hold still.
//!
//! Renewing has a thread, a runtime and a connection of its own: neither a burst of events, nor a full pool, nor a check
//! that blocks can make it late. The rules, which need no common clock:
//!
//! - I renew by raising my beat while I am not gone. No row: I am the zombie, and this life is over.
//! - One lease after I *sent* my last good renewal I am parked: I start no check and give no verdict. A reply that comes
//!   late does not count from its coming. The next good renewal ends it.
//! - A peer whose beat I have seen unchanged for one lease of my own time is gone, by one compare-and-set on that beat.
//!   Only stretches between my own good reads count, and only short ones: an outage ages nobody.
//! - On PostgreSQL I also look, more often, whether the peers' sessions are still there: a process that is killed loses
//!   its own at once. Whoever loses it and shows no life for a second more is gone, by the same compare-and-set. One that
//!   lives finds out as soon, by its own looks, and renews at once by another.

mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::watch::{Gone, Watch, Why};
use crate::{
    clock::{Clock, millis},
    error::{Error, Result},
    id::Incarnation,
    metrics,
    outage::{Outage, jittered},
    store::{
        Store,
        replica::{self, Alone, Card},
        wake::Topic,
    },
};

/// The shortest lease: three renewals must fit in it, on a database that takes its time.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// How often to look at the peers at least, where that tells that a process has ended.
const LOOK: Duration = Duration::from_millis(500);

/// After how many renewals a replica compares what it is said to hold with what it runs, doubt or not: a triggerer counts both
/// first.
const AGREE_EVERY: i64 = 10;

/// Whether the database may know of leases or claims that we don't, or no longer of some that we have: after a verb whose
/// answer was lost, after a hint that something was called off, and every so many renewals.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    /// By how many, since it was last settled.
    raised: AtomicU64,
    /// How often something was let go of that may still be ours, since then.
    suspected: AtomicU64,
    agreed_at: AtomicI64,
    /// How often the presence had lost its connection by then.
    agreed_after: AtomicI64,
}

/// What is to be settled: as it was when the database was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    renewals: i64,
    reconnections: i64,
    raised: u64,
    suspected: u64,
}

impl Asked {
    /// Whether it is only that many renewals have passed: nothing was lost or suspected, and it is the same database still,
    /// which a server that takes the place of another may not be.
    pub(crate) fn is_routine(self, doubt: &Doubt) -> bool {
        let is_the_same = self.reconnections == doubt.agreed_after.load(Ordering::SeqCst);
        self.raised == 0 && self.suspected == 0 && is_the_same
    }
}

impl Doubt {
    /// Answers what takes it back.
    pub(crate) fn raise(&self) -> u64 {
        self.raised.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Takes one back, unless somebody else has raised it since: then it stays.
    pub(crate) fn lower(&self, raised: u64) {
        self.change(raised, raised - 1);
    }

    /// When it is asked the next time, what is held is compared.
    pub(crate) fn suspect(&self) {
        self.suspected.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it is time to ask what is held. Until [settled](Self::settle) there is doubt.
    pub(crate) fn is_due(&self, renewals: i64, reconnections: i64) -> Option<Asked> {
        let (raised, suspected) = (self.raised.load(Ordering::SeqCst), self.suspected.load(Ordering::SeqCst));
        let due = raised > 0
            || reconnections != self.agreed_after.load(Ordering::SeqCst)
            || renewals >= self.agreed_at.load(Ordering::SeqCst) + AGREE_EVERY;
        due.then_some(Asked { renewals, reconnections, raised, suspected })
    }

    /// We agree, as of when it was asked.
    pub(crate) fn settle(&self, asked: Asked) {
        self.agreed_at.store(asked.renewals, Ordering::SeqCst);
        self.agreed_after.store(asked.reconnections, Ordering::SeqCst);
        self.change(asked.raised, 0);
        // Where it is another by now, it is compared once more.
        self.suspected.compare_exchange(asked.suspected, 0, Ordering::SeqCst, Ordering::SeqCst).ok();
    }

    fn change(&self, from: u64, to: u64) {
        // Where it is another by now, there is doubt.
        self.raised.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).ok();
    }
}

/// One life of one role, as the database knows it.
#[derive(Debug)]
pub struct Presence {
    me: Incarnation,
    lease: Duration,
    clock: Clock,
    shared: Arc<Shared>,
    leave: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// When the last good renewal was sent, in milliseconds of the monotonic clock.
    renewed_at: AtomicI64,
    running: AtomicI32,
    renewals: AtomicI64,
    /// How many connections were used to renew.
    connections: AtomicI64,
    gone: CancellationToken,
}

impl Presence {
    /// Joins, and begins to renew.
    ///
    /// # Errors
    /// If the database does not answer, or the thread cannot be started.
    pub async fn join(store: &Store, card: Card, lease: Duration) -> Result<Self> {
        let clock = store.clock().clone();
        let sent = clock.monotonic();
        crate::store::within("joining", async {
            let mut tx = store.begin().await?;
            replica::join(&mut tx.db(), &card, clock.now_ms()).await?;
            tx.commit().await
        })
        .await?;
        let shared = Arc::new(Shared {
            renewed_at: AtomicI64::new(millis(sent)),
            running: AtomicI32::new(0),
            renewals: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            gone: CancellationToken::new(),
        });
        let leave = CancellationToken::new();
        let pulse = Pulse {
            store: store.clone(),
            me: card.incarnation,
            lease,
            shared: Arc::clone(&shared),
            leave: leave.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("{}-beat", card.role))
            .spawn(move || {
                // A life that does not renew any more is over, however that came.
                let _over = pulse.shared.gone.clone().drop_guard();
                pulse.run();
            })
            .map_err(|error| Error::Unusable(format!("cannot start the thread that renews: {error}")))?;
        Ok(Self { me: card.incarnation, lease, clock, shared, leave, thread: Some(thread) })
    }

    /// This life.
    pub fn me(&self) -> Incarnation {
        self.me
    }

    /// Whether I have been silent for a lease: then I start no check and give no verdict.
    pub fn is_parked(&self) -> bool {
        millis(self.clock.monotonic()) - self.shared.renewed_at.load(Ordering::SeqCst) > millis(self.lease)
    }

    /// Cancelled when somebody declared me gone: this life is over.
    pub fn gone(&self) -> &CancellationToken {
        &self.shared.gone
    }

    /// How many renewals have succeeded.
    pub fn renewals(&self) -> i64 {
        self.shared.renewals.load(Ordering::SeqCst)
    }

    /// How often I renewed by another connection than before.
    pub fn reconnections(&self) -> i64 {
        (self.shared.connections.load(Ordering::SeqCst) - 1).max(0)
    }

    /// Says how much I hold, for the next renewal.
    pub fn set_running(&self, running: usize) {
        self.shared.running.store(running.try_into().unwrap_or(i32::MAX), Ordering::Relaxed);
    }

    /// Marks myself gone and stops renewing: the hand-over, one row whatever I held.
    pub async fn leave(mut self) {
        self.leave.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread bounds its own calls; it is waited for off the runtime.
            if let Ok(Err(_)) = tokio::task::spawn_blocking(move || thread.join()).await {
                tracing::error!("the thread that renews has panicked");
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

/// What the thread runs.
struct Pulse {
    store: Store,
    me: Incarnation,
    lease: Duration,
    shared: Arc<Shared>,
    leave: CancellationToken,
}

impl Pulse {
    fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.beat()),
            Err(error) => {
                tracing::error!("cannot renew: {error}");
                self.shared.gone.cancel();
            }
        }
    }

    async fn beat(self) {
        let clock = self.store.clock().clone();
        let period = self.period();
        let mut connection = None;
        let mut watch = Watch::new(period);
        let mut outage = Outage::of("renewing", &clock);
        loop {
            let begun = clock.monotonic();
            let turn = self.turn(&mut connection, &mut watch).await;
            let took = clock.monotonic().saturating_sub(begun);
            let pause = match outage.note(&turn) {
                // Within a period even with the time that the calls take, so that the reads count.
                None => period.mul_f64(0.7 + 0.15 * rand::random::<f64>()).saturating_sub(took).max(period / 10),
                Some(backoff) => backoff.min(period / 2),
            };
            self.look_out(&mut connection, &mut watch, pause).await;
            if self.shared.gone.is_cancelled() || self.leave.is_cancelled() {
                break;
            }
        }
        if !self.shared.gone.is_cancelled() {
            self.say_goodbye(connection).await;
        }
    }

    /// The longest stretch between two renewals, and the longest that a call may take.
    fn period(&self) -> Duration {
        self.lease / 3
    }

    /// Until it is time to renew again, or to leave: looks at the others, and ends early if the connection breaks, as
    /// whoever does not renew at once by another is taken for dead.
    async fn look_out(&self, connection: &mut Option<Alone>, watch: &mut Watch, pause: Duration) {
        let clock = self.store.clock();
        let until = clock.monotonic() + pause;
        loop {
            let left = until.saturating_sub(clock.monotonic());
            let looking = connection.as_ref().is_some_and(Alone::sees_sessions);
            let next = if looking { jittered(LOOK).min(watch.next_verdict().unwrap_or(LOOK)) } else { left };
            tokio::select! {
                () = self.leave.cancelled() => return,
                () = self.shared.gone.cancelled() => return,
                () = clock.sleep(next.min(left)) => {}
            }
            if next >= left {
                return;
            }
            let Some(mut alone) = connection.take() else { return };
            match self.look(&mut alone, watch).await {
                Ok(()) => *connection = Some(alone),
                Err(error) => return tracing::debug!("looking at the others: {}", error.chain()),
            }
        }
    }

    /// Renews, if need be by another connection: one that did not answer is not used again.
    async fn turn(&self, connection: &mut Option<Alone>, watch: &mut Watch) -> Result<()> {
        if let Some(mut alone) = connection.take() {
            match self.renew(&mut alone, watch).await {
                Ok(()) => {
                    *connection = Some(alone);
                    return Ok(());
                }
                Err(error) => tracing::debug!("renewing by another connection: {}", error.chain()),
            }
        }
        let mut alone = bounded(self.period(), self.store.alone(self.me)).await?;
        watch.reconnected();
        self.shared.connections.fetch_add(1, Ordering::SeqCst);
        self.renew(&mut alone, watch).await?;
        *connection = Some(alone);
        Ok(())
    }

    /// Shows life, learns the time, and looks at the others.
    async fn renew(&self, alone: &mut Alone, watch: &mut Watch) -> Result<()> {
        let period = self.period();
        let clock = self.store.clock();
        let sent = clock.monotonic();
        let running = self.shared.running.load(Ordering::Relaxed);
        let renewing = alone.run(async |db| replica::renew(db, self.me, running, clock.now_ms()).await);
        let renewed = bounded(period, renewing).await?.is_some();
        if renewed {
            self.shared.renewed_at.store(millis(sent), Ordering::SeqCst);
            self.shared.renewals.fetch_add(1, Ordering::SeqCst);
        } else {
            tracing::warn!(replica.incarnation = %self.me, "declared gone by the others: {} goes on under a new incarnation", self.me);
            metrics::life_lost();
            self.shared.gone.cancel();
            return Ok(());
        }
        let asked = clock.monotonic();
        let time = bounded(period, alone.run(replica::database_time)).await?;
        clock.learn(time, asked, clock.monotonic());
        self.look(alone, watch).await
    }

    /// Looks at the others, and declares gone who is.
    async fn look(&self, alone: &mut Alone, watch: &mut Watch) -> Result<()> {
        let peers = bounded(self.period(), alone.peers(self.me)).await?;
        for gone in watch.saw(self.store.clock().monotonic(), &peers) {
            self.declare(alone, gone).await?;
        }
        Ok(())
    }

    async fn declare(&self, alone: &mut Alone, gone: Gone) -> Result<()> {
        let now = self.store.clock().now_ms();
        if bounded(self.period(), alone.run(async |db| replica::declare_gone(db, gone.beat, now).await)).await? {
            let peer = gone.beat.incarnation;
            let why = match gone.why {
                Why::Silent => "has been silent for a lease",
                Why::SessionEnded => "has lost its session and shows no life",
            };
            tracing::warn!(replica.incarnation = %peer, "replica {peer} {why}: declared gone");
            self.tell_of_heritage(alone).await;
        }
        Ok(())
    }

    /// What somebody held can be had: whoever hears of it does not wait for its next look.
    async fn tell_of_heritage(&self, alone: &mut Alone) {
        for topic in [Topic::Waiting, Topic::Ready, Topic::Gone] {
            self.store.wake().hint(topic);
        }
        if let Err(error) = alone.tell(&self.store).await {
            tracing::debug!("a hint was lost: {}", error.chain());
        }
    }

    async fn say_goodbye(&self, connection: Option<Alone>) {
        let goodbye = async {
            let mut alone = match connection {
                Some(alone) => alone,
                None => self.store.alone(self.me).await?,
            };
            alone.run(async |db| replica::leave(db, self.me, self.store.clock().now_ms()).await).await?;
            self.tell_of_heritage(&mut alone).await;
            Ok(())
        };
        if let Err(error) = bounded(self.period(), goodbye).await {
            tracing::warn!("left without saying so, the others will notice: {}", error.chain());
        }
    }
}

async fn bounded<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|late| Err(Error::Outage { doing: "renewing", source: Box::new(late) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_at_every_tenth_renewal_and_compared_after_whatever_may_have_gone_wrong() {
        let doubt = Doubt::default();
        let at = |renewals, reconnections| {
            let asked = doubt.is_due(renewals, reconnections)?;
            let is_routine = asked.is_routine(&doubt);
            doubt.settle(asked);
            Some(is_routine)
        };
        assert_eq!([at(9, 0), at(10, 0), at(11, 0)], [None, Some(true), None]);
        doubt.raise();
        assert_eq!([at(12, 0), at(13, 0)], [Some(false), None], "after a lost answer, at once");
        assert_eq!([at(14, 1), at(15, 1)], [Some(false), None], "after a renewal by another connection, at once");
        doubt.suspect();
        assert_eq!([at(16, 1), at(24, 1), at(34, 1)], [None, Some(false), Some(true)], "in time");
        let asked = doubt.is_due(44, 1).unwrap();
        doubt.suspect();
        doubt.settle(asked);
        assert_eq!(at(54, 1), Some(false), "what is suspected meanwhile is still");
    }
}
