//! The store: one schema on two databases, and every statement that touches it. The only place that names sqlx.
//!
//! Verbs are functions by noun (`task::claim`, `trigger::lease`, `event::fire`) on a [`Db`], in batches. Where one text
//! serves both databases it stands in the Rust file; where one database is better at something there is a pair of
//! `.sql` files. PostgreSQL's take whole batches as arrays; SQLite's take one row and run once each, as there is no
//! network to cross, and are several statements, as SQLite changes no data in a `with`.

pub mod arrival;
mod batch;
pub mod check;
pub mod event;
pub mod examine;
pub mod fleet;
pub mod floor;
pub mod history;
pub mod outcome;
pub mod queue;
pub mod replica;
pub mod report;
pub mod retention;
pub mod scratch;
pub mod signal;
pub mod size;
pub mod slot;
pub mod stuck;
pub mod task;
pub mod trigger;
pub mod undo;
pub mod unserved;
pub mod wake;

pub mod advance;
mod connect;
mod durability;
mod enqueue;
mod failure;
mod hosts;
mod migrate;
mod pooled;
mod rows;
mod sessions;
pub(crate) mod wait;
mod writer;

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

pub(crate) use self::batch::{MOST, Reach, halves, json_size, parts};
pub use self::{
    batch::BATCH,
    connect::{Options, Url},
    enqueue::NewTask,
    failure::Verdict,
    hosts::Place,
    migrate::{migrations, pending_migrations},
    wait::Wait,
};
use self::{
    hosts::Hosts,
    pooled::Pooled,
    sessions::{READING, Sessions, WRITING},
    wake::Wake,
    writer::Writer,
};
use crate::{
    clock::Clock,
    error::{Error, Result},
    id::TaskId,
    vault::{Purpose, Sealed, Vault},
};

/// How long one transaction may take, seen from here. The server ends a statement a second later (see its time-outs in `connect`), and
/// a lease is longer than both: what was given up on is over before anybody else may take its rows.
pub const TIME_OUT: Duration = Duration::from_secs(4);

/// What a replica may take.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Its queues; none means all.
    pub queues: Option<Vec<String>>,
    /// The sets of kinds that a triggerer has whole, or the names of the tasks that a worker knows.
    pub kinds: Vec<String>,
    /// Rows that it cannot read, and leaves to others for a while.
    pub aside: Vec<TaskId>,
}

impl Scope {
    fn aside_ids(&self) -> Vec<uuid::Uuid> {
        self.aside.iter().map(|task| task.0).collect()
    }

    fn aside_json(&self) -> String {
        let ids: Vec<String> = self.aside.iter().map(|task| format!("{:X}", task.0.simple())).collect();
        task::json(&ids)
    }
}

/// One connection in a transaction, whichever database it is.
///
/// Made from a [`Tx`] of ours, or from a connection of the caller's own: enqueuing in a transaction of the caller's
/// stores the task if and only if that commits.
#[derive(Debug)]
pub enum Db<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

impl<'c> From<&'c mut SqliteConnection> for Db<'c> {
    fn from(connection: &'c mut SqliteConnection) -> Self {
        Self::Sqlite(connection)
    }
}

impl<'c> From<&'c mut PgConnection> for Db<'c> {
    fn from(connection: &'c mut PgConnection) -> Self {
        Self::Postgres(connection)
    }
}

/// Runs one body on whichever database it is.
macro_rules! each {
    ($db:expr, $conn:ident => $body:expr) => {
        match $db {
            $crate::store::Db::Sqlite($conn) => $body,
            $crate::store::Db::Postgres($conn) => $body,
        }
    };
}
pub(crate) use each;

/// Text for both databases that locks what it reads: on SQLite the transaction itself is the lock.
macro_rules! locking {
    ($db:expr, $text:literal) => {
        match $db {
            $crate::store::Db::Sqlite(_) => $text,
            $crate::store::Db::Postgres(_) => concat!($text, " for update"),
        }
    };
}
pub(crate) use locking;

/// One database, with the vault that seals what is stored in it, the clock that it sets, and its wake-ups.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: Pool,
    vault: Vault,
    clock: Clock,
    wake: Wake,
    payload_limit: usize,
    url: Url,
    upkeep: tokio::sync::Mutex<()>,
    /// Held by whoever looks which of several hosts is the primary now.
    following: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Pool {
    Sqlite { writer: Writer, readers: SqlitePool },
    Postgres(PgPool, Hosts),
}

/// How long a connection to the primary may be in coming before it is looked whether another host is that now.
const FOLLOW: Duration = Duration::from_secs(1);

impl Store {
    /// The clock that this database sets.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The wake-ups of the loops that wait on this store.
    pub fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// Held by whichever role of this process does the upkeep for all.
    pub(crate) fn upkeep(&self) -> &tokio::sync::Mutex<()> {
        &self.0.upkeep
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.0.url
    }

    /// Begins a transaction that may write. Dropping it undoes it.
    ///
    /// # Errors
    /// If no connection can be had in time.
    pub async fn begin(&self) -> Result<Tx> {
        match &self.0.pool {
            Pool::Sqlite { writer, .. } => Ok(Tx::Sqlite(writer.begin().await?)),
            Pool::Postgres(pool, hosts) => self.begin_on(pool, hosts, WRITING).await,
        }
    }

    /// Begins a transaction that only reads, on a snapshot of its own.
    ///
    /// # Errors
    /// If no connection can be had in time.
    pub async fn read(&self) -> Result<Tx> {
        match &self.0.pool {
            Pool::Sqlite { readers, .. } => Ok(Tx::SqliteReader(Pooled::<Sqlite>::begin(readers).await?)),
            Pool::Postgres(pool, hosts) => self.begin_on(pool, hosts, READING).await,
        }
    }

    /// Begins on the primary, and if another host has become that, there.
    async fn begin_on(&self, pool: &PgPool, hosts: &Hosts, how: &'static str) -> Result<Tx> {
        let sessions = hosts.sessions();
        let begun = |pooled| Tx::Postgres(pooled, sessions.clone());
        if !hosts.are_several() {
            return Pooled::<Postgres>::begin(pool, sessions, how).await.map(begun);
        }
        if let Ok(Ok(pooled)) = tokio::time::timeout(FOLLOW, Pooled::begin_on_primary(pool, sessions, how)).await {
            return Ok(begun(pooled));
        }
        // One looks for all.
        if let Ok(_following) = self.0.following.try_lock() {
            let primary = hosts.primary().await.map_err(doing("looking for the primary"))?;
            pool.set_connect_options(primary);
        } else {
            drop(self.0.following.lock().await);
        }
        Pooled::begin_on_primary(pool, sessions, how).await.map(begun)
    }

    /// Runs a body in a transaction that only reads, bounded in time.
    ///
    /// # Errors
    /// What the body answers, or [`Error::Outage`] if the database does not answer in time.
    pub async fn reading<T>(&self, what: &'static str, body: impl AsyncFnOnce(&mut Db<'_>) -> Result<T>) -> Result<T> {
        within(what, async {
            let mut tx = self.read().await?;
            let answer = body(&mut tx.db()).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }

    /// Seals a value for storing.
    ///
    /// # Errors
    /// If it is not JSON, or over the payload limit.
    pub fn seal<T: Serialize + ?Sized>(&self, purpose: Purpose, what: &'static str, value: &T) -> Result<Vec<u8>> {
        let plain = serde_json::to_vec(value).map_err(|error| Error::json(what, &error))?;
        self.seal_bytes(purpose, what, &plain)
    }

    /// Seals what we made ourselves of values that were within the limit when they came.
    pub(crate) fn seal_own<T: Serialize>(&self, purpose: Purpose, what: &'static str, value: &T) -> Result<Vec<u8>> {
        let plain = serde_json::to_vec(value).map_err(|error| Error::json(what, &error))?;
        Ok(self.0.vault.seal(purpose, &plain).into_bytes())
    }

    pub(crate) fn seal_bytes(&self, purpose: Purpose, what: &'static str, plain: &[u8]) -> Result<Vec<u8>> {
        if plain.len() > self.0.payload_limit {
            return Err(Error::TooLarge { what, size: plain.len(), limit: self.0.payload_limit });
        }
        Ok(self.0.vault.seal(purpose, plain).into_bytes())
    }

    /// Opens a stored value.
    ///
    /// # Errors
    /// If no key of ours opens it, or it is not what was expected.
    pub fn open<T: DeserializeOwned>(&self, purpose: Purpose, sealed: Vec<u8>) -> Result<T> {
        let plain = self.0.vault.open(purpose, &Sealed::from_bytes(sealed))?;
        serde_json::from_slice(&plain).map_err(|error| Error::Invalid(format!("a stored value does not read: {error}")))
    }

    pub(crate) fn open_bytes(&self, purpose: Purpose, sealed: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.0.vault.open(purpose, &Sealed::from_bytes(sealed))?.to_vec())
    }

    /// Closes every connection, after those in use are given back.
    pub async fn close(&self) {
        match &self.0.pool {
            Pool::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pool::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// A transaction. Dropped before [`commit`](Self::commit), it is undone.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite, holding the one writer.
    Sqlite(writer::Turn),
    /// On SQLite, reading only.
    SqliteReader(Pooled<Sqlite>),
    /// On PostgreSQL, in a session that may be shared.
    Postgres(Pooled<Postgres>, Sessions),
}

impl Tx {
    /// What verbs take.
    pub fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(turn) => Db::Sqlite(turn.connection()),
            Self::SqliteReader(pooled) => Db::Sqlite(&mut pooled.connection),
            Self::Postgres(pooled, _) => Db::Postgres(&mut pooled.connection),
        }
    }

    /// Makes what was written durable and visible.
    ///
    /// # Errors
    /// If the database does not confirm it: then nothing is known.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(turn) => turn.commit().await,
            Self::SqliteReader(pooled) => pooled.commit().await,
            Self::Postgres(pooled, sessions) => pooled.commit(&sessions).await,
        }
    }
}

/// Bounds the time of a transaction. On a time-out the future is dropped, and its connection closed with it.
///
/// # Errors
/// What the body answers, or [`Error::Outage`] past [`TIME_OUT`].
pub async fn within<T>(what: &'static str, body: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(TIME_OUT, body)
        .await
        .unwrap_or_else(|late| Err(Error::Outage { doing: what, source: Box::new(late) }))
}

/// Turns the driver's error into ours, by whether it is about what was written or about the database.
pub(crate) fn doing(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| {
        let about_the_rows = match &error {
            sqlx::Error::Database(refusal) => refuses_rows(refusal.code().as_deref()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => true,
            _ => false,
        };
        let source = Box::new(error);
        if about_the_rows { Error::Database { doing: what, source } } else { Error::Outage { doing: what, source } }
    }
}

/// Whether a refusal is about the rows, so that trying again cannot help. PostgreSQL: data (22), constraints (23), limits
/// (54). SQLite: too big (18), constraint (19), mismatch (20), with their extended codes. Everything else may pass: even
/// a missing table or right is soon mended by an operator, and a task must not fail for it.
fn refuses_rows(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    // SQLSTATEs have five characters, SQLite's extended codes at most four.
    if code.len() == 5 {
        return ["22", "23", "54"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<i32>().is_ok_and(|code| matches!(code & 0xff, 18..=20))
}
