//! Replicas: who is there, who shows life, and who is gone.
//!
//! Liveness needs no common clock: a beat is a counter, and "gone" is written by one compare-and-set on it. The row of
//! a gone replica is kept until nothing names it, and longer than any client waits for an answer.

mod alone;

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

pub use self::alone::{Alone, IsOwn, Session};
use super::{Db, TIME_OUT, doing, each};
use crate::{clock::millis, error::Result, id::Incarnation, task::words};

words! {
    /// What a replica does.
    Role {
        /// Runs active triggers.
        Triggerer = "triggerer",
        /// Runs tasks.
        Worker = "worker",
    }
}

/// A replica as it presents itself.
#[derive(Clone, Debug)]
pub struct Card {
    /// This life of it.
    pub incarnation: Incarnation,
    /// What it does.
    pub role: Role,
    /// Where it is, for people.
    pub label: String,
    /// How long it may be silent before others take its work.
    pub lease: Duration,
    /// How much it holds at most.
    pub capacity: i32,
    /// The kinds of triggers, or names of tasks, that it has.
    pub kinds: Vec<String>,
    /// Its queues; none means all.
    pub queues: Option<Vec<String>>,
}

/// A replica as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Replica {
    /// This life of it.
    pub incarnation: Uuid,
    /// `triggerer` or `worker`.
    pub role: String,
    /// Where it is.
    pub label: String,
    /// The version of its binary.
    pub version: String,
    /// How much it holds at most.
    pub capacity: i32,
    /// How much it held at its last renewal.
    pub running: i32,
    /// The kinds or names that it has, joined by commas.
    pub kinds: String,
    /// Its queues, joined by commas; `*` means all.
    pub queues: String,
    /// When it joined, in milliseconds.
    pub joined_at: i64,
    /// When it last renewed.
    pub seen_at: i64,
    /// How often it renewed.
    pub beat: i64,
    /// When it was gone.
    pub gone_at: Option<i64>,
    /// `left` by itself, or `lost`.
    pub gone_why: Option<String>,
}

impl Replica {
    /// Whether it takes what is on this queue.
    pub fn serves(&self, queue: &str) -> bool {
        self.queues == "*" || self.queues.split(',').any(|served| served == queue)
    }
}

/// Another replica's sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Whose.
    pub incarnation: Incarnation,
    /// How often it has renewed.
    pub beat: i64,
}

/// A replica that is not gone, as the others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its sign of life.
    pub beat: Beat,
    /// How long it may be silent: its own lease, whatever ours is.
    pub lease: Duration,
    /// The session that it renews by; none where that says nothing.
    pub session: Option<Session>,
}

/// The database's time, in milliseconds. On SQLite that is its host's.
///
/// # Errors
/// If the database does not answer.
pub async fn database_time(db: &mut Db<'_>) -> Result<i64> {
    let text = match db {
        Db::Sqlite(_) => "select cast(unixepoch('subsec') * 1000 as integer)",
        Db::Postgres(_) => "select (extract(epoch from clock_timestamp()) * 1000)::bigint",
    };
    each!(db, c => sqlx::query_scalar(text).fetch_one(&mut **c).await).map_err(doing("asking for the time"))
}

/// Adds a replica. It holds nothing yet.
///
/// # Errors
/// If the database does not answer: join again with a new incarnation.
pub async fn join(db: &mut Db<'_>, card: &Card, now: i64) -> Result<()> {
    let text = "insert into reveille_replica (incarnation, role, label, version, capacity, running, kinds, queues, joined_at, seen_at, lease_ms, beat)
                values ($1, $2, $3, $4, $5, 0, $6, $7, $8, $8, $9, 0)";
    let queues = card.queues.as_ref().map_or_else(|| "*".to_owned(), |queues| queues.join(","));
    each!(db, c => sqlx::query(text).bind(card.incarnation.0).bind(card.role.word()).bind(&card.label).bind(env!("CARGO_PKG_VERSION"))
        .bind(card.capacity).bind(card.kinds.join(",")).bind(queues).bind(now).bind(millis(card.lease)).execute(&mut **c).await.map(drop))
    .map_err(doing("joining"))
}

/// Shows life: one row, one statement. `None`: I am the zombie.
///
/// # Errors
/// If the database does not answer.
pub async fn renew(db: &mut Db<'_>, me: Incarnation, running: i32, now: i64) -> Result<Option<i64>> {
    let text = "update reveille_replica set beat = beat + 1, running = $2, seen_at = $3
                 where incarnation = $1 and gone_at is null
                returning beat";
    each!(db, c => sqlx::query_scalar(text).bind(me.0).bind(running).bind(now).fetch_optional(&mut **c).await)
        .map_err(doing("renewing"))
}

/// Waits until no lease or claim of mine is under way: one that a client has given up on may still commit.
///
/// # Errors
/// If the database does not answer, or one is under way for longer than a statement may wait.
pub async fn await_leases(db: &mut Db<'_>, me: Incarnation) -> Result<()> {
    match db {
        // Its one writer takes transactions in turn.
        Db::Sqlite(_) => Ok(()),
        Db::Postgres(c) => {
            let text = "select pg_advisory_xact_lock(uuid_hash_extended($1, 0))";
            let waited = sqlx::query(text).bind(me.0).execute(&mut **c).await;
            waited.map(drop).map_err(doing("waiting for my leases"))
        }
    }
}

#[derive(sqlx::FromRow)]
struct PeerRow {
    incarnation: Uuid,
    beat: i64,
    lease_ms: i64,
    session_pid: Option<i32>,
    session_began_at: Option<i64>,
    is_there: bool,
}

impl From<PeerRow> for Peer {
    fn from(row: PeerRow) -> Self {
        let session = row.session_pid.zip(row.session_began_at);
        Self {
            beat: Beat { incarnation: Incarnation(row.incarnation), beat: row.beat },
            lease: Duration::from_millis(row.lease_ms.max(0).cast_unsigned()),
            session: session.map(|(pid, began_at)| Session { pid, began_at, is_there: row.is_there }),
        }
    }
}

/// The signs of life of everybody else who is not gone, without their sessions.
///
/// # Errors
/// If the database does not answer.
pub async fn peers(db: &mut Db<'_>, me: Incarnation) -> Result<Vec<Peer>> {
    let text = "select incarnation, beat, lease_ms from reveille_replica where gone_at is null and incarnation <> $1";
    let rows: Vec<(Uuid, i64, i64)> = each!(db, c => sqlx::query_as(text).bind(me.0).fetch_all(&mut **c).await)
        .map_err(doing("looking at the other replicas"))?;
    let peer = |(incarnation, beat, lease_ms)| {
        Peer::from(PeerRow { incarnation, beat, lease_ms, session_pid: None, session_began_at: None, is_there: false })
    };
    Ok(rows.into_iter().map(peer).collect())
}

/// The longest lease of any replica that is not gone, in milliseconds.
///
/// # Errors
/// If the database does not answer.
pub async fn longest_lease(db: &mut Db<'_>) -> Result<i64> {
    let text = "select coalesce(max(lease_ms), 0) from reveille_replica where gone_at is null";
    each!(db, c => sqlx::query_scalar(text).fetch_one(&mut **c).await).map_err(doing("looking at the leases"))
}

/// Declares a silent peer gone, unless it has shown life meanwhile; whether it was declared.
///
/// # Errors
/// If the database does not answer.
pub async fn declare_gone(db: &mut Db<'_>, peer: Beat, now: i64) -> Result<bool> {
    let text = "update reveille_replica set gone_at = $3, gone_why = 'lost' where incarnation = $1 and beat = $2 and gone_at is null";
    let rows = each!(db, c => sqlx::query(text).bind(peer.incarnation.0).bind(peer.beat).bind(now).execute(&mut **c).await.map(|done| done.rows_affected()))
        .map_err(doing("declaring a replica gone"))?;
    Ok(rows > 0)
}

/// Marks myself gone: that is the hand-over, whatever I held.
///
/// # Errors
/// If the database does not answer: then the others find out by my silence.
pub async fn leave(db: &mut Db<'_>, me: Incarnation, now: i64) -> Result<()> {
    let text = "update reveille_replica set gone_at = $2, gone_why = 'left' where incarnation = $1 and gone_at is null";
    each!(db, c => sqlx::query(text).bind(me.0).bind(now).execute(&mut **c).await.map(drop)).map_err(doing("leaving"))
}

/// How long the row of a gone replica is kept at least: longer than any statement of its that is still under way.
pub const GONE_KEPT: Duration = Duration::from_mins(10);
const _: () = assert!(GONE_KEPT.as_secs() > 10 * TIME_OUT.as_secs());

/// Forgets replicas that are long gone and that nothing names.
///
/// # Errors
/// If the database does not answer.
pub async fn forget(db: &mut Db<'_>, now: i64) -> Result<()> {
    let text = "delete from reveille_replica
                 where gone_at < $1
                   and not exists (select 1 from reveille_task k where k.holder = incarnation)
                   and not exists (select 1 from reveille_trigger t where t.holder = incarnation)
                   and not exists (select 1 from reveille_undo u where u.holder = incarnation)";
    let before = now - millis(GONE_KEPT);
    each!(db, c => sqlx::query(text).bind(before).execute(&mut **c).await.map(drop))
        .map_err(doing("forgetting replicas"))
}

/// All replicas that are not forgotten, the latest first.
///
/// # Errors
/// If the database does not answer.
pub async fn list(db: &mut Db<'_>) -> Result<Vec<Replica>> {
    let text = "select incarnation, role, label, version, capacity, running, kinds, queues, joined_at, seen_at, beat, gone_at, gone_why
                  from reveille_replica order by (gone_at is not null), joined_at desc limit 200";
    each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("listing replicas"))
}
