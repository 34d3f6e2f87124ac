//! Tasks: claim, defer, end and cancel.

mod claim;
mod rescue;
mod settle;

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

pub use self::{
    claim::{Claim, Claims, claim},
    rescue::{MOST_CRASHES, put_back},
    settle::{Answer, Settled},
};
use super::{Db, Store, doing, each, history::Why, locking, rows, wait::Wait};
use crate::{
    error::{Error, Result},
    id::{Fence, Incarnation, TaskId},
    task::{End, EndState, Retry, TaskState},
    vault::Purpose,
};

pub(super) fn retry(max_attempts: i32, backoff_ms: i64, cap_ms: i64) -> Retry {
    let duration = |ms: i64| Duration::from_millis(ms.max(0).cast_unsigned());
    Retry { max_attempts, backoff: duration(backoff_ms), cap: duration(cap_ms) }
}

pub(super) fn json(words: &[String]) -> String {
    serde_json::to_string(words).expect("strings are JSON")
}

/// A running task swapped for a wait.
#[derive(Clone, Debug)]
pub struct Deferring {
    /// The claim's fence.
    pub fence: Fence,
    /// The step after the wait, sealed; none if it is the same again, with the same event.
    pub step: Option<Vec<u8>>,
    /// Which attempt the step after the wait is.
    pub attempt: i32,
    /// Why.
    pub why: Why,
    /// What for.
    pub wait: Wait,
}

/// Swaps running tasks of mine for waits; answers which. The others I no longer hold, or they were cancelled.
///
/// # Errors
/// If the database does not answer.
pub async fn defer(db: &mut Db<'_>, me: Incarnation, now: i64, batch: &[Deferring]) -> Result<Vec<TaskId>> {
    let mut kinds: Vec<&str> = batch.iter().map(|d| d.wait.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        super::trigger::know_kinds(db, kind).await?;
    }
    match db {
        Db::Postgres(c) => defer_postgres(c, me, now, batch).await,
        Db::Sqlite(c) => defer_sqlite(c, me, now, batch).await,
    }
    .map(|ids| ids.into_iter().map(TaskId).collect())
    .map_err(doing("deferring"))
}

async fn defer_postgres(
    c: &mut sqlx::PgConnection,
    me: Incarnation,
    now: i64,
    batch: &[Deferring],
) -> Result<Vec<Uuid>, sqlx::Error> {
    macro_rules! column {
        ($d:ident => $value:expr) => {
            batch.iter().map(|$d| $value).collect::<Vec<_>>()
        };
    }
    let keys: Vec<(Uuid, &str)> =
        batch.iter().flat_map(|d| d.wait.keys.iter().map(|key| (d.fence.task.0, key.as_str()))).collect();
    sqlx::query_scalar(include_str!("sql/defer.postgres.sql"))
        .bind(now)
        .bind(me.0)
        .bind(column!(d => d.fence.task.0))
        .bind(column!(d => d.fence.generation))
        .bind(column!(d => d.step.as_deref()))
        .bind(column!(d => d.attempt))
        .bind(column!(d => d.why.word()))
        .bind(column!(d => d.wait.kind.as_str()))
        .bind(column!(d => d.wait.passive))
        .bind(column!(d => d.wait.spec.as_deref()))
        .bind(column!(d => d.wait.wake_at))
        .bind(column!(d => d.wait.deadline_at))
        .bind(column!(d => d.wait.deadline_is_fixed))
        .bind(column!(d => d.wait.or_resume))
        .bind(column!(d => d.wait.error_budget))
        .bind(keys.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        .fetch_all(c)
        .await
}

async fn defer_sqlite(
    c: &mut sqlx::SqliteConnection,
    me: Incarnation,
    now: i64,
    batch: &[Deferring],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut deferred = Vec::with_capacity(batch.len());
    for part in rows::parts(batch) {
        let key = |d: &Deferring, key: &String| json!([d.fence.task.0.simple(), d.fence.generation, key]);
        let keys = part.iter().flat_map(|d| d.wait.keys.iter().map(move |each| key(d, each)));
        let keys = keys.collect::<Value>().to_string();
        let all = [now.into(), me.0.into(), keys.as_str().into()];
        let (text, bound) = rows::statements(include_str!("sql/defer.sqlite.sql"), all, part, |d| {
            [
                d.fence.task.0.into(),
                d.fence.generation.into(),
                d.step.as_deref().into(),
                d.attempt.into(),
                d.why.word().into(),
                d.wait.kind.as_str().into(),
                d.wait.passive.into(),
                d.wait.spec.as_deref().into(),
                d.wait.wake_at.into(),
                d.wait.deadline_at.into(),
                d.wait.deadline_is_fixed.into(),
                d.wait.or_resume.into(),
                d.wait.error_budget.into(),
            ]
        });
        deferred.extend(sqlx::query_scalar_with::<_, Uuid, _>(text, bound).fetch_all(&mut *c).await?);
    }
    Ok(deferred)
}

/// A task's end, by whomever.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The task as whoever ends it knew it.
    pub fence: Fence,
    /// The state that it must be in.
    pub was: TaskState,
    /// Who must hold it (or its trigger, if it is deferred) and be live; nobody, if it is not a holder who ends it.
    pub holder: Option<Incarnation>,
    /// The state it ends in.
    pub state: EndState,
    /// Its [`End`], sealed.
    pub result: Vec<u8>,
    /// Why.
    pub why: Why,
    /// The event that ended it.
    pub event: Option<Uuid>,
    /// Who ended it.
    pub who: Option<Incarnation>,
}

impl Store {
    /// An ending without an event, which only its task's state and generation must allow.
    ///
    /// # Errors
    /// If the result is over the payload limit.
    pub fn ending(&self, fence: Fence, was: TaskState, end: &End, why: Why) -> Result<Ending> {
        // A bad end must always be small enough to be stored, however small the limit is.
        let result = match end.result {
            Some(_) => self.seal(Purpose::Result, "result", end)?,
            None => self.seal_own(Purpose::Result, "result", end)?,
        };
        Ok(Ending { fence, was, holder: None, state: end.state, result, why, event: None, who: None })
    }
}

/// A task that has ended, for what [follows](Store::ended).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Over {
    /// The task.
    pub task: TaskId,
    /// Its concurrency key, of which it may have had a slot.
    pub slot: Option<String>,
}

/// Ends tasks; answers which. Others had moved on, or are not the holder's to end.
///
/// # Errors
/// If the database does not answer.
pub async fn end(db: &mut Db<'_>, now: i64, batch: &[Ending]) -> Result<Vec<Over>> {
    let ended: Result<Vec<(Uuid, Option<String>)>, sqlx::Error> = match db {
        Db::Postgres(c) => end_postgres(c, now, batch).await,
        Db::Sqlite(c) => end_sqlite(c, now, batch).await,
    };
    let ended = ended.map_err(doing("ending tasks"))?.into_iter();
    Ok(ended.map(|(task, slot)| Over { task: TaskId(task), slot }).collect())
}

async fn end_postgres(
    c: &mut sqlx::PgConnection,
    now: i64,
    batch: &[Ending],
) -> Result<Vec<(Uuid, Option<String>)>, sqlx::Error> {
    macro_rules! column {
        ($e:ident => $value:expr) => {
            batch.iter().map(|$e| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query_as(include_str!("sql/end.postgres.sql"))
        .bind(now)
        .bind(column!(e => e.fence.task.0))
        .bind(column!(e => e.fence.generation))
        .bind(column!(e => e.was.word()))
        .bind(column!(e => e.holder.map(|holder| holder.0)))
        .bind(column!(e => e.state.word()))
        .bind(column!(e => e.result.as_slice()))
        .bind(column!(e => e.why.word()))
        .bind(column!(e => e.event))
        .bind(column!(e => e.who.map(|who| who.0)))
        .fetch_all(c)
        .await
}

async fn end_sqlite(
    c: &mut sqlx::SqliteConnection,
    now: i64,
    batch: &[Ending],
) -> Result<Vec<(Uuid, Option<String>)>, sqlx::Error> {
    // Of two for one task the first is taken.
    let mut seen = HashSet::new();
    let batch: Vec<&Ending> = batch.iter().filter(|e| seen.insert(e.fence)).collect();
    let mut ended = Vec::with_capacity(batch.len());
    for part in rows::parts(&batch) {
        let (text, bound) = rows::statements(include_str!("sql/end.sqlite.sql"), [now.into()], part, |e| {
            [
                e.fence.task.0.into(),
                e.fence.generation.into(),
                e.was.word().into(),
                e.holder.map(|holder| holder.0).into(),
                e.state.word().into(),
                (&e.result).into(),
                e.why.word().into(),
                e.event.into(),
                e.who.map(|who| who.0).into(),
            ]
        });
        ended.extend(sqlx::query_as_with(text, bound).fetch_all(&mut *c).await?);
    }
    Ok(ended)
}

/// What became of a call to cancel a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Done,
    /// It is running: its worker is told, and cancels it unless it ends first.
    Asked,
    /// It had ended.
    Ended,
    /// There is no such task.
    Unknown,
}

impl Store {
    /// Calls a task off, with the reason; what its wait was for is undone by a triggerer.
    ///
    /// # Errors
    /// If the database does not answer: cancelling again is safe.
    pub async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled> {
        let (outcome, over) = super::within("cancelling", async {
            let mut tx = self.begin().await?;
            let outcome = self.cancel_in(&mut tx.db(), task, reason).await?;
            tx.commit().await?;
            Ok(outcome)
        })
        .await?;
        match outcome {
            Cancelled::Done => {
                // Who holds its trigger is to drop it, and who can is to undo what it was for.
                self.wake().hint(super::wake::Topic::Cancelled);
                self.wake().hint(super::wake::Topic::Waiting);
                self.ended(&over).await?;
            }
            Cancelled::Asked => self.wake().hint(super::wake::Topic::Cancelled),
            Cancelled::Ended | Cancelled::Unknown => {}
        }
        Ok(outcome)
    }

    pub(crate) async fn cancel_in(
        &self,
        db: &mut Db<'_>,
        task: TaskId,
        reason: &str,
    ) -> Result<(Cancelled, Vec<Over>)> {
        let now = self.clock().now_ms();
        let Some((generation, state)) = locked(db, task).await? else {
            let text = "select count(*) from reveille_finished where id = $1";
            let finished: i64 = each!(db, c => sqlx::query_scalar(text).bind(task.0).fetch_one(&mut **c).await)
                .map_err(doing("looking for a finished task"))?;
            return Ok((if finished > 0 { Cancelled::Ended } else { Cancelled::Unknown }, Vec::new()));
        };
        if state == TaskState::Running {
            let text = "update reveille_task set cancel_requested_at = coalesce(cancel_requested_at, $2) where id = $1";
            each!(db, c => sqlx::query(text).bind(task.0).bind(now).execute(&mut **c).await.map(drop))
                .map_err(doing("cancelling"))?;
            return Ok((Cancelled::Asked, Vec::new()));
        }
        let ending = self.ending(Fence { task, generation }, state, &End::cancelled(reason), Why::Cancelled)?;
        Ok((Cancelled::Done, end(db, now, &[ending]).await?))
    }
}

/// The generation and state of an unfinished task, locked until the transaction ends.
async fn locked(db: &mut Db<'_>, task: TaskId) -> Result<Option<(i32, TaskState)>> {
    let text = locking!(db, "select generation, state from reveille_task where id = $1");
    let row: Option<(i32, String)> = each!(db, c => sqlx::query_as(text).bind(task.0).fetch_optional(&mut **c).await)
        .map_err(doing("looking for a task"))?;
    row.map(|(generation, state)| Ok((generation, state.parse()?))).transpose()
}

/// Locks tasks in the order of their ids until the transaction ends, where several statements are to move them: each of
/// those keeps the order only for its own.
pub(super) async fn lock(db: &mut Db<'_>, tasks: &[Uuid]) -> Result<()> {
    let Db::Postgres(c) = db else { return Ok(()) };
    let text = "select id from reveille_task where id = any($1) order by id for update";
    sqlx::query(text).bind(tasks).execute(&mut **c).await.map(drop).map_err(doing("locking tasks"))
}

/// A task that a worker is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The task, as it is held.
    pub fence: Fence,
    /// It was called off.
    pub cancelled: bool,
}

/// What the database says that I hold, in a transaction that may write: it waits for leases of mine that are under way.
///
/// # Errors
/// If the database does not answer.
pub async fn held(db: &mut Db<'_>, me: Incarnation) -> Result<Vec<Held>> {
    super::replica::await_leases(db, me).await?;
    let text = "select id, generation, cancel_requested_at from reveille_task where holder = $1";
    let rows: Vec<(Uuid, i32, Option<i64>)> = each!(db, c => sqlx::query_as(text).bind(me.0).fetch_all(&mut **c).await)
        .map_err(doing("asking what is held"))?;
    let held = |(id, generation, cancelled): (Uuid, i32, Option<i64>)| Held {
        fence: Fence { task: TaskId(id), generation },
        cancelled: cancelled.is_some(),
    };
    Ok(rows.into_iter().map(held).collect())
}

impl Store {
    /// Stores how far a running task of mine has come.
    ///
    /// # Errors
    /// If the database does not answer, or the progress is over the payload limit.
    pub async fn set_progress(
        &self,
        db: &mut Db<'_>,
        me: Incarnation,
        fence: Fence,
        progress: &serde_json::Value,
    ) -> Result<()> {
        let sealed = self.seal(Purpose::Result, "progress", progress)?;
        let text = "update reveille_task set progress = $4
                     where id = $1 and generation = $2 and holder = $3
                       and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)";
        each!(db, c => sqlx::query(text).bind(fence.task.0).bind(fence.generation).bind(me.0).bind(sealed)
            .execute(&mut **c).await.map(drop))
        .map_err(doing("storing progress"))
    }
}

/// What went wrong with a row, for those who report it.
pub(crate) fn unreadable(
    task: TaskId,
    column: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Unreadable { task, column, source: Box::new(source) }
}
