//! What cancelled waits have yet to undo: leased, tried again and dead-lettered like triggers. At least once, never lost.

use uuid::Uuid;

use super::{Db, Scope, doing, each, task::json};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
};

/// How often undoing is tried before an operator must look.
pub const MOST_ATTEMPTS: i32 = 10;

/// The right to undo what a cancelled wait was for.
#[derive(Clone, Debug)]
pub struct Undo {
    /// The task, as it was when it was cancelled.
    pub fence: Fence,
    /// Every kind in the trigger.
    pub kinds: String,
    /// When the task had deferred, in milliseconds.
    pub since: i64,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    pub(crate) spec: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct UndoRow {
    task_id: Uuid,
    generation: i32,
    kind: String,
    spec: Vec<u8>,
    since: i64,
    attempt: i32,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It is undone.
    Done,
    /// It is tried again from this time on, in milliseconds.
    Again(i64),
    /// This replica cannot read it: left to others until this time, at no cost of attempts.
    Unread(i64),
    /// It cannot be undone: kept, and reported by `doctor`.
    Dead,
}

/// Leases what is due to be undone, on the replica's queues and of kinds that it has whole: what is free, what holders
/// that are gone left behind, and what I hold already, as an answer may have been lost.
///
/// # Errors
/// If the database does not answer.
pub async fn lease(db: &mut Db<'_>, me: Incarnation, scope: &Scope, now: i64, limit: i64) -> Result<Vec<Undo>> {
    let rows: Result<Vec<UndoRow>, sqlx::Error> = match db {
        Db::Postgres(c) => {
            let text = "with due as materialized (
                               select u.task_id, u.generation from reveille_undo u
                                where u.dead_at is null and u.wake_at <= $3 and u.kind = any($2)
                                  and ($5::text[] is null or u.queue = any($5))
                                  and (u.holder is null or u.holder = $1 or exists (
                                        select 1 from reveille_replica r where r.incarnation = u.holder and r.gone_at is not null))
                                order by u.wake_at limit $4 for update skip locked)
                        update reveille_undo u set holder = $1 from due d
                         where u.task_id = d.task_id and u.generation = d.generation
                           and exists (select 1 from reveille_replica r where r.incarnation = $1 and r.gone_at is null)
                        returning u.task_id, u.generation, u.kind, u.spec, u.since, u.attempt";
            sqlx::query_as(text)
                .bind(me.0)
                .bind(&scope.kinds)
                .bind(now)
                .bind(limit)
                .bind(scope.queues.as_deref())
                .fetch_all(&mut **c)
                .await
        }
        Db::Sqlite(c) => {
            let text = "update reveille_undo set holder = $1
                         where exists (select 1 from reveille_replica r where r.incarnation = $1 and r.gone_at is null)
                           and rowid in (
                               select u.rowid from reveille_undo u
                                where u.dead_at is null and u.wake_at <= $3 and u.kind in (select value from json_each($2))
                                  and ($5 is null or u.queue in (select value from json_each($5)))
                                  and (u.holder is null or u.holder = $1 or exists (
                                        select 1 from reveille_replica r where r.incarnation = u.holder and r.gone_at is not null))
                                order by u.wake_at limit $4)
                        returning task_id, generation, kind, spec, since, attempt";
            sqlx::query_as(text)
                .bind(me.0)
                .bind(json(&scope.kinds))
                .bind(now)
                .bind(limit)
                .bind(scope.queues.as_deref().map(json))
                .fetch_all(&mut **c)
                .await
        }
    };
    let undo = |row: UndoRow| Undo {
        fence: Fence { task: TaskId(row.task_id), generation: row.generation },
        kinds: row.kind,
        since: row.since,
        attempt: row.attempt,
        spec: row.spec,
    };
    Ok(rows.map_err(doing("leasing what is to be undone"))?.into_iter().map(undo).collect())
}

/// Stores what became of an attempt of mine.
///
/// # Errors
/// If the database does not answer: it is then undone again by the next holder.
pub async fn settle(db: &mut Db<'_>, me: Incarnation, fence: Fence, undone: Undone, now: i64) -> Result<()> {
    let text = match undone {
        Undone::Done => {
            "delete from reveille_undo where task_id = $1 and generation = $2 and holder = $3 and $4 is not null"
        }
        Undone::Again(_) => {
            "update reveille_undo set holder = null, attempt = attempt + 1, wake_at = $4 where task_id = $1 and generation = $2 and holder = $3"
        }
        Undone::Unread(_) => {
            "update reveille_undo set holder = null, wake_at = $4 where task_id = $1 and generation = $2 and holder = $3"
        }
        Undone::Dead => {
            "update reveille_undo set holder = null, dead_at = $4 where task_id = $1 and generation = $2 and holder = $3"
        }
    };
    let at = match undone {
        Undone::Again(at) | Undone::Unread(at) => at,
        Undone::Done | Undone::Dead => now,
    };
    each!(db, c => sqlx::query(text).bind(fence.task.0).bind(fence.generation).bind(me.0).bind(at).execute(&mut **c).await.map(drop))
        .map_err(doing("settling what was undone"))
}
