//! Tasks that do not go on by themselves: their worker is gone or gives them back, or their time is over.

use uuid::Uuid;

use super::{Ending, Over, end};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    store::{Db, Store, doing, each, history::Why},
    task::{End, TaskState},
};

/// Puts running tasks of mine back as they were, to be claimed again: those that I was given and cannot run.
///
/// # Errors
/// If the database does not answer.
pub async fn put_back(db: &mut Db<'_>, me: Incarnation, now: i64, fences: &[Fence]) -> Result<()> {
    // In the order of ids, as whoever moves several tasks locks them.
    let mut fences = fences.to_vec();
    fences.sort_unstable();
    for fence in fences {
        back(db, Some(me), now, fence, me, 0, Why::Released).await?;
    }
    Ok(())
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
        let mut endings = Vec::new();
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
                back(db, Some(Incarnation(holder)), now, fence, who, i32::from(lost), why).await?;
            }
        }
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

async fn back(
    db: &mut Db<'_>,
    holder: Option<Incarnation>,
    now: i64,
    fence: Fence,
    who: Incarnation,
    crashed: i32,
    why: Why,
) -> Result<()> {
    let text =
        "update reveille_task set state = 'ready', holder = null, generation = generation + 1, crashes = crashes + $4
                 where id = $1 and generation = $2 and state = 'running' and holder = $3
                returning turn, attempt";
    let moved: Option<(i32, i32)> = each!(&mut *db, c => sqlx::query_as(text).bind(fence.task.0).bind(fence.generation)
        .bind(holder.map(|holder| holder.0)).bind(crashed).fetch_optional(&mut **c).await)
    .map_err(doing("putting a task back"))?;
    let Some((turn, attempt)) = moved else { return Ok(()) };
    let text = "insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
                values ($1 / 86400000 % 32, $2, $1, $3, $4, $5, 'running', 'ready', $6, $7)";
    each!(db, c => sqlx::query(text).bind(now).bind(fence.task.0).bind(fence.generation + 1).bind(turn).bind(attempt)
        .bind(why.word()).bind(who.0).execute(&mut **c).await.map(drop))
    .map_err(doing("writing history"))
}
