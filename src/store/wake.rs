//! Hints that there is something to do. Polling is the truth: everything works without a hint, one period later.
//!
//! Within a process a hint wakes the loops at once. On PostgreSQL it also goes to the other processes, debounced, over a
//! connection of its own: `notify` takes a database-wide lock at commit, so it is never part of a transaction that
//! does work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, PgConnection, PgExecutor, PgPool, postgres::PgListener};
use tokio::sync::{Notify, futures::OwnedNotified};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Pool, Store, doing};
use crate::error::Result;

/// Hints gathered over this long go out as one.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// How long nothing is heard before the connection is asked whether it is still there.
const QUIET: Duration = Duration::from_mins(1);

/// How long to wait before connecting again.
const RECONNECT: Duration = Duration::from_secs(1);

const CHANNEL: &str = "reveille";

/// What there may be to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A task became ready.
    Ready,
    /// An active trigger or an undo became free.
    Waiting,
    /// A passive wait was stored or became due.
    Passive,
    /// A task was cancelled or called for while somebody holds it.
    Cancelled,
    /// A replica is gone, and what it held can be had.
    Gone,
}

const TOPICS: [Topic; 5] = [Topic::Ready, Topic::Waiting, Topic::Passive, Topic::Cancelled, Topic::Gone];

impl Topic {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// As it goes over the wire.
    const fn letter(self) -> char {
        match self {
            Self::Ready => 'r',
            Self::Waiting => 'w',
            Self::Passive => 'p',
            Self::Cancelled => 'c',
            Self::Gone => 'g',
        }
    }
}

/// The wake-ups of one process.
#[derive(Clone, Debug, Default)]
pub struct Wake(Arc<Bells>);

#[derive(Debug)]
struct Bells {
    process: Uuid,
    topics: [Arc<Notify>; TOPICS.len()],
    /// Bits of the topics that the other processes have not been told of yet.
    untold: AtomicU8,
    tell: Notify,
}

impl Default for Bells {
    fn default() -> Self {
        Self { process: Uuid::new_v4(), topics: Default::default(), untold: AtomicU8::new(0), tell: Notify::new() }
    }
}

impl Wake {
    /// Completes at the next hint on a topic, counted from this call: make it before looking, or a hint in between is
    /// lost.
    pub fn on(&self, topic: Topic) -> OwnedNotified {
        Arc::clone(&self.0.topics[topic as usize]).notified_owned()
    }

    /// There may be something to do.
    pub fn hint(&self, topic: Topic) {
        self.here(topic);
        self.0.untold.fetch_or(topic.bit(), Ordering::SeqCst);
        self.0.tell.notify_one();
    }

    fn here(&self, topic: Topic) {
        self.0.topics[topic as usize].notify_waiters();
    }

    /// Tells the other processes at once, by this connection.
    pub(super) async fn tell(&self, connection: &mut PgConnection) -> Result<()> {
        match self.untold() {
            Some(payload) => notify(connection, &payload).await,
            None => Ok(()),
        }
    }

    /// What to tell the other processes, if anything.
    fn untold(&self) -> Option<String> {
        let bits = self.0.untold.swap(0, Ordering::SeqCst);
        let letters: String =
            TOPICS.iter().filter(|topic| bits & topic.bit() != 0).map(|topic| topic.letter()).collect();
        (!letters.is_empty()).then(|| format!("{letters}:{}", self.0.process))
    }

    /// Takes what another process told.
    fn heard(&self, payload: &str) {
        let Some((letters, process)) = payload.split_once(':') else { return };
        if process != self.0.process.to_string() {
            TOPICS.iter().filter(|topic| letters.contains(topic.letter())).for_each(|topic| self.here(*topic));
        }
    }
}

impl Store {
    /// Tells the other processes what they have not been told of yet, once: for a process that does not stay to
    /// [relay](Self::relay).
    ///
    /// # Errors
    /// If the database does not answer; nothing but time is lost then.
    pub async fn tell(&self) -> Result<()> {
        let Pool::Postgres(pool, _) = &self.0.pool else { return Ok(()) };
        match self.wake().untold() {
            Some(payload) => notify(pool, &payload).await,
            None => Ok(()),
        }
    }

    /// Passes hints on between processes until stopped. On SQLite there is nothing to do: other processes poll. So do
    /// those behind a pooler, whose sessions would hear what others listen for; they tell what they know all the same.
    pub async fn relay(&self, stop: CancellationToken) {
        let Pool::Postgres(pool, hosts) = &self.0.pool else { return };
        if hosts.sessions().are_shared() {
            return self.relay_out(pool, &stop).await;
        }
        tokio::join!(self.relay_out(pool, &stop), self.relay_in(pool, &stop));
    }

    async fn relay_out(&self, pool: &PgPool, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.wake().0.tell.notified() => {}
            }
            self.clock().sleep(DEBOUNCE).await;
            if let Some(payload) = self.wake().untold()
                && let Err(error) = notify(pool, &payload).await
            {
                // The others poll; the outage itself is reported where work is done.
                tracing::debug!("a hint was lost: {}", error.chain());
            }
        }
    }

    async fn relay_in(&self, pool: &PgPool, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let heard = tokio::select! {
                () = stop.cancelled() => break,
                heard = self.listen(pool) => heard,
            };
            if let Err(error) = heard {
                tracing::debug!("{}", error.chain());
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock().sleep(RECONNECT) => {}
            }
        }
    }

    async fn listen(&self, pool: &PgPool) -> Result<()> {
        let not_listening = doing("listening for hints");
        let mut listener = super::within("listening for hints", async {
            let mut listener = PgListener::connect_with(pool).await.map_err(&not_listening)?;
            listener.listen(CHANNEL).await.map_err(&not_listening)?;
            Ok(listener)
        })
        .await?;
        // What was told while nobody listened is found by looking.
        for topic in TOPICS {
            self.wake().here(topic);
        }
        loop {
            match tokio::time::timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.wake().heard(notification.payload()),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(not_listening(error)),
                // A connection may die in silence.
                Err(_) => {
                    let listening = async { listener.listen(CHANNEL).await.map_err(&not_listening) };
                    super::within("listening for hints", listening).await?;
                }
            }
        }
    }
}

async fn notify(by: impl PgExecutor<'_>, payload: &str) -> Result<()> {
    super::within("telling the other replicas", async {
        // Of letters, digits and dashes; a simple query, which prepares nothing in a session that may be shared.
        let told = sqlx::raw_sql(AssertSqlSafe(format!("notify {CHANNEL}, '{payload}'"))).execute(by);
        told.await.map(drop).map_err(doing("telling the other replicas"))
    })
    .await
}
