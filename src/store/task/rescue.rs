//! Tasks that do not go on by themselves: their worker is gone or gives them back, or their time is over.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Ending, Over, end};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    store::{Db, Store, doing, each, history::Why, rows},
    task::{End, TaskState},
};

/// Puts running tasks of mine back as they were, to be claimed again: those that I was given and cannot run.
///
/// # Errors
/// If the database does not answer.
pub async fn put_back(db: &mut Db<'_>, me: Incarnation, now: i64, fences: &[Fence]) -> Result<()> {
    let fences: BTreeSet<Fence> = fences.iter().copied().collect();
    let released: Vec<Back> =
        fences.into_iter().map(|fence| Back { fence, holder: me, crashed: false, why: Why::Released }).collect();
    back(db, me, now, &released).await
}

/// How many workers may be lost with one turn before the task is taken for what kills them.
pub const MOST_CRASHES: i32 = 5;

impl Store {
    /// Takes tasks from workers that are gone: back to ready, or to their end if they were cancelled or have crashed too
    /// often. Answers how many, at most `limit`, and which of them ended.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn rescue(&self, db: &mut Db<'_>, who: Incarnation, limit: i64) -> Result<(usize, Vec<Over>)> {
        let now = self.clock().now_ms();
        let text = match db {
            Db::Sqlite(_) => include_str!("../sql/rescue.sqlite.sql"),
            Db::Postgres(_) => include_str!("../sql/rescue.postgres.sql"),
        };
        let rows: Vec<(Uuid, i32, i32, bool, Option<i64>, Uuid)> =
            each!(db, c => sqlx::query_as(text).bind(limit).fetch_all(&mut **c).await)
                .map_err(doing("looking for what the gone left behind"))?;
        let (mut endings, mut backs) = (Vec::new(), Vec::new());
        let count = rows.len();
        for (id, generation, crashes, lost, cancelled, holder) in rows {
            let fence = Fence { task: TaskId(id), generation };
            let crashed = crashes + i32::from(lost);
            let end = if cancelled.is_some() {
                Some((End::cancelled("cancelled while its worker was lost"), Why::Cancelled))
            } else if crashed >= MOST_CRASHES {
                Some((End::failed(format!("{crashed} workers were lost while running it")), Why::Crashed))
            } else {
                None
            };
            if let Some((end, why)) = end {
                endings.push(Ending { who: Some(who), ..self.ending(fence, TaskState::Running, &end, why)? });
            } else {
                let why = if lost { Why::Crashed } else { Why::Released };
                backs.push(Back { fence, holder: Incarnation(holder), crashed: lost, why });
            }
        }
        back(db, who, now, &backs).await?;
        let ended = if endings.is_empty() { Vec::new() } else { end(db, now, &endings).await? };
        Ok((count, ended))
    }

    /// Skips tasks that had not begun by their expiry. Answers how many were due, at most `limit`, and which ended.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn expire(&self, db: &mut Db<'_>, who: Incarnation, limit: i64) -> Result<(usize, Vec<Over>)> {
        let now = self.clock().now_ms();
        let text =
            "select id, generation, state from reveille_task where expires_at <= $1 order by expires_at limit $2";
        let rows: Vec<(Uuid, i32, String)> =
            each!(db, c => sqlx::query_as(text).bind(now).bind(limit).fetch_all(&mut **c).await)
                .map_err(doing("looking for what expired"))?;
        if rows.is_empty() {
            return Ok((0, Vec::new()));
        }
        let mut endings = Vec::with_capacity(rows.len());
        for (id, generation, state) in &rows {
            let fence = Fence { task: TaskId(*id), generation: *generation };
            let end = End::skipped("it had not begun by its expiry");
            endings.push(Ending { who: Some(who), ..self.ending(fence, state.parse()?, &end, Why::Expired)? });
        }
        Ok((rows.len(), end(db, now, &endings).await?))
    }
}

/// A running task that is put back.
struct Back {
    fence: Fence,
    holder: Incarnation,
    /// Its worker was lost.
    crashed: bool,
    why: Why,
}

/// In one statement however many there are: they may be all that a worker ran.
async fn back(db: &mut Db<'_>, who: Incarnation, now: i64, batch: &[Back]) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    match db {
        Db::Postgres(c) => back_postgres(c, who, now, batch).await,
        Db::Sqlite(c) => back_sqlite(c, who, now, batch).await,
    }
    .map_err(doing("putting tasks back"))
}

async fn back_postgres(
    c: &mut sqlx::PgConnection,
    who: Incarnation,
    now: i64,
    batch: &[Back],
) -> Result<(), sqlx::Error> {
    sqlx::query(include_str!("../sql/back.postgres.sql"))
        .bind(now)
        .bind(who.0)
        .bind(batch.iter().map(|b| b.fence.task.0).collect::<Vec<_>>())
        .bind(batch.iter().map(|b| b.fence.generation).collect::<Vec<_>>())
        .bind(batch.iter().map(|b| b.holder.0).collect::<Vec<_>>())
        .bind(batch.iter().map(|b| i32::from(b.crashed)).collect::<Vec<_>>())
        .bind(batch.iter().map(|b| b.why.word()).collect::<Vec<_>>())
        .execute(c)
        .await
        .map(drop)
}

async fn back_sqlite(
    c: &mut sqlx::SqliteConnection,
    who: Incarnation,
    now: i64,
    batch: &[Back],
) -> Result<(), sqlx::Error> {
    for part in rows::parts(batch) {
        let all = [now.into(), who.0.into()];
        let (text, bound) = rows::statements(include_str!("../sql/back.sqlite.sql"), all, part, |b| {
            let Fence { task, generation } = b.fence;
            [task.0.into(), generation.into(), b.holder.0.into(), b.crashed.into(), b.why.word().into()]
        });
        sqlx::query_with(text, bound).execute(&mut *c).await?;
    }
    Ok(())
}
