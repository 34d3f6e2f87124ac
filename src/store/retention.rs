//! What is dropped by age: results and history by whole days, expired signals and dedupe keys in bounded batches.
//!
//! Dead letters and their history stay. On PostgreSQL a day is a partition in a ring of 32, emptied by one `truncate`, so
//! that retention costs the same however much there was; SQLite has no partitions and deletes in batches.

use std::time::Duration;

use super::{Db, Store, doing, each};
use crate::{
    clock::millis,
    error::{Error, Result},
};

/// The longest that results and history can be kept: the ring has 32 days, and one of them is being filled, the next emptied.
pub const LONGEST: Duration = Duration::from_hours(30 * 24);

/// How long one day may take to drop.
const PATIENCE: Duration = Duration::from_mins(5);

const DAY: i64 = 86_400_000;
const RING: i64 = 32;

/// How many rows one sweep deletes where it deletes rows.
const SWEEP: i64 = 1_000;

/// Refuses a retention that the ring cannot hold.
///
/// # Errors
/// If it is under a day or over [`LONGEST`].
pub fn validate(kept: Duration) -> Result<()> {
    if kept < Duration::from_hours(24) || kept > LONGEST {
        return Err(Error::Invalid(format!("retention is from 1 to {} days", LONGEST.as_secs() / 86_400)));
    }
    Ok(())
}

impl Store {
    /// Drops what is older than `kept`; whether there may be more to drop at once.
    ///
    /// # Errors
    /// If the database does not answer: doing it again is safe.
    pub async fn drop_old(&self, kept: Duration) -> Result<bool> {
        let now = self.clock().now_ms();
        let before = now - millis(kept);
        let mut more = super::within("dropping what has expired", async {
            let mut tx = self.begin().await?;
            let more = drop_expired(&mut tx.db(), now).await?;
            tx.commit().await?;
            Ok(more)
        })
        .await?;
        let dropping = async {
            let mut tx = self.begin().await?;
            let more = match tx.db() {
                Db::Postgres(c) => drop_day(c, now, before).await,
                Db::Sqlite(c) => drop_rows(c, before).await,
            }
            .map_err(doing("dropping old history"))?;
            tx.commit().await?;
            Ok(more)
        };
        // It blocks nobody while it looks for what must stay, and may take its time over a day of millions.
        let dropped = tokio::time::timeout(PATIENCE, dropping).await;
        more |= dropped
            .unwrap_or_else(|late| Err(Error::Outage { doing: "dropping old history", source: Box::new(late) }))?;
        Ok(more)
    }
}

async fn drop_expired(db: &mut Db<'_>, now: i64) -> Result<bool> {
    macro_rules! expired {
        ($lock:literal) => {
            [
                concat!("delete from reveille_signal where id in (select id from reveille_signal where expires_at <= $1 and delivered_to is null limit $2 ", $lock, ")"),
                concat!(r#"delete from reveille_dedupe where (name, key) in (select name, key from reveille_dedupe where "until" <= $1 limit $2 "#, $lock, ")"),
            ]
        };
    }
    // What another takes at this moment is left to it: whoever takes several goes by their keys, and we do not.
    let texts = match db {
        Db::Sqlite(_) => expired!(""),
        Db::Postgres(_) => expired!("for update skip locked"),
    };
    let mut more = false;
    for text in texts {
        let rows = each!(&mut *db, c => sqlx::query(text).bind(now).bind(SWEEP).execute(&mut **c).await.map(|done| done.rows_affected()))
            .map_err(doing("dropping what has expired"))?;
        more |= rows as i64 == SWEEP;
    }
    Ok(more)
}

/// Empties the oldest day of the ring that is wholly past, if it holds anything; one a call.
async fn drop_day(c: &mut sqlx::PgConnection, now: i64, before: i64) -> Result<bool, sqlx::Error> {
    let (oldest, kept_from) = (now / DAY - RING + 1, before / DAY);
    sqlx::query("set local statement_timeout = '300s'").execute(&mut *c).await?;
    for day in oldest..kept_from {
        let slot = day.rem_euclid(RING);
        let filled: bool = sqlx::query_scalar("select exists (select 1 from reveille_finished where day = $1) or exists (select 1 from reveille_history where day = $1)")
            .bind(slot as i16)
            .fetch_one(&mut *c)
            .await?;
        if !filled {
            continue;
        }
        // The history of the unfinished moves to today, and only then that of the dead letters to their partition: a task
        // that fails between the two is among the first, or the second.
        let unfinished =
            "update reveille_history set day = $2 where day = $1 and task_id in (select id from reveille_task)";
        sqlx::query(unfinished).bind(slot as i16).bind((now / DAY).rem_euclid(RING) as i16).execute(&mut *c).await?;
        let dead = "update reveille_history set day = -1 where day = $1 and task_id in (select id from reveille_finished where day = -1)";
        sqlx::query(dead).bind(slot as i16).execute(&mut *c).await?;
        // Whoever reads the day at this moment, a dump perhaps, is not waited for: everybody else would wait behind us.
        sqlx::query("set local lock_timeout = '100ms'").execute(&mut *c).await?;
        // The name is one of 64 that the migration made.
        let truncate = format!("truncate reveille_finished_{slot:02}, reveille_history_{slot:02}");
        sqlx::query(sqlx::AssertSqlSafe(truncate)).execute(&mut *c).await?;
        return Ok(true);
    }
    Ok(false)
}

async fn drop_rows(c: &mut sqlx::SqliteConnection, before: i64) -> Result<bool, sqlx::Error> {
    let finished = "delete from reveille_finished where rowid in (
                           select rowid from reveille_finished where day >= 0 and finished_at < $1 limit $2)";
    let keep = "update reveille_history set day = -1
                 where rowid in (select h.rowid from reveille_history h join reveille_finished f on f.id = h.task_id and f.day = -1
                                  where h.day >= 0 and h.at < $1 limit $2)";
    let history = "delete from reveille_history where rowid in (
                          select h.rowid from reveille_history h
                           where h.day >= 0 and h.at < $1
                             and not exists (select 1 from reveille_finished f where f.id = h.task_id and f.day = -1)
                             and not exists (select 1 from reveille_task k where k.id = h.task_id)
                           limit $2)";
    let mut more = false;
    for text in [finished, keep, history] {
        more |= sqlx::query(text).bind(before).bind(SWEEP).execute(&mut *c).await?.rows_affected() as i64 == SWEEP;
    }
    Ok(more)
}
