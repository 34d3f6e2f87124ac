//! What has come under the keys of waits that look at more than that: kept with the wait, so that it survives a change of
//! hands and counts at every look.
//!
//! A wait with nothing to look at but a key is over when something comes; see [`signal`](super::signal). Of the others
//! the holder is told once, and told again after any doubt; whoever leases one is given all that has come.

use std::collections::HashMap;

use reveille_trigger::Key;
use serde_json::Value;
use uuid::Uuid;

use super::{BATCH, Db, Store, doing, event::Resuming, task::json, wait::key_of};
use crate::{
    error::{Error, Result},
    id::{Fence, Incarnation, TaskId},
    task::Woken,
    vault::Purpose,
};

/// Something that has come for a wait: the key as stored, and what came, sealed.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub(super) key: String,
    pub(super) event: Vec<u8>,
}

impl Store {
    /// Opens what has come for a wait.
    ///
    /// # Errors
    /// If it cannot be read here.
    pub fn open_arrived(&self, came: Vec<Sealed>) -> Result<Vec<(Key, Value)>> {
        let open = |Sealed { key, event }: Sealed| match self.open(Purpose::Event, event)? {
            Woken::Payload(payload) => Ok((key_of(&key).ok_or_else(|| corrupt(&key))?, payload)),
            Woken::Failed(_) => Err(corrupt(&key)),
        };
        came.into_iter().map(open).collect()
    }
}

fn corrupt(key: &str) -> Error {
    Error::Invalid(format!("what has come under {key} in reveille_wait_key.arrived is nothing that a wait is given"))
}

/// Keeps what has come under a key with these waits; answers with which.
pub(super) async fn arrive(db: &mut Db<'_>, now: i64, key: &str, batch: &[Resuming]) -> Result<Vec<TaskId>> {
    let Some(event) = batch.first().map(|came| came.event.as_slice()) else { return Ok(Vec::new()) };
    let ids = match db {
        Db::Postgres(c) => {
            sqlx::query_scalar(include_str!("sql/arrive.postgres.sql"))
                .bind(now)
                .bind(key)
                .bind(event)
                .bind(batch.iter().map(|came| came.fence.task.0).collect::<Vec<_>>())
                .bind(batch.iter().map(|came| came.fence.generation).collect::<Vec<_>>())
                .fetch_all(&mut **c)
                .await
        }
        Db::Sqlite(c) => arrive_sqlite(c, now, key, event, batch).await,
    };
    let ids: Vec<Uuid> = ids.map_err(doing("keeping what has come"))?;
    Ok(ids.into_iter().map(TaskId).collect())
}

async fn arrive_sqlite(
    c: &mut sqlx::SqliteConnection,
    now: i64,
    key: &str,
    event: &[u8],
    batch: &[Resuming],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut told = Vec::with_capacity(batch.len());
    for Resuming { fence, .. } in batch {
        let query = sqlx::query_scalar(include_str!("sql/arrive.sqlite.sql")).bind(now).bind(key).bind(event);
        let ids: Vec<Uuid> = query.bind(fence.task.0).bind(fence.generation).fetch_all(&mut *c).await?;
        told.extend(ids);
    }
    Ok(told)
}

/// What has come for waits, by their tasks.
pub type ByTask = HashMap<TaskId, Vec<Sealed>>;

/// The triggers of mine for which something has come that I have not been told of, each with all that has come. Now I have
/// been: if the answer is lost, [`held`](super::trigger::held) tells it again.
///
/// # Errors
/// If the database does not answer.
pub async fn news(db: &mut Db<'_>, me: Incarnation) -> Result<Vec<(Fence, Vec<Sealed>)>> {
    let rows: Result<Vec<(Uuid, i32)>, _> = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_as(include_str!("sql/news.postgres.sql")).bind(me.0).bind(BATCH as i64);
            query.fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_as(include_str!("sql/news.sqlite.sql")).bind(me.0).bind(BATCH as i64);
            query.fetch_all(&mut **c).await
        }
    };
    let rows = rows.map_err(doing("asking what has come"))?;
    let fences = rows.into_iter().map(|(task, generation)| Fence { task: TaskId(task), generation });
    let fences: Vec<Fence> = fences.collect();
    let tasks: Vec<Uuid> = fences.iter().map(|fence| fence.task.0).collect();
    let mut came = of(db, &tasks).await?;
    Ok(fences.into_iter().map(|fence| (fence, came.remove(&fence.task).unwrap_or_default())).collect())
}

/// All that has come for the waits of these tasks.
pub(super) async fn of(db: &mut Db<'_>, tasks: &[Uuid]) -> Result<ByTask> {
    if tasks.is_empty() {
        return Ok(ByTask::new());
    }
    let rows: Result<Vec<(Uuid, String, Vec<u8>)>, _> = match db {
        Db::Postgres(c) => {
            let text =
                "select task_id, key, arrived from reveille_wait_key where task_id = any($1) and arrived is not null";
            sqlx::query_as(text).bind(tasks).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let text = "select task_id, key, arrived from reveille_wait_key
                         where arrived is not null and task_id in (select unhex(value) from json_each($1))";
            let ids: Vec<String> = tasks.iter().map(|task| task.simple().to_string()).collect();
            sqlx::query_as(text).bind(json(&ids)).fetch_all(&mut **c).await
        }
    };
    let mut came = ByTask::new();
    for (task, key, event) in rows.map_err(doing("reading what has come"))? {
        came.entry(TaskId(task)).or_default().push(Sealed { key, event });
    }
    Ok(came)
}
