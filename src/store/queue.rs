//! Queues: known from the first task on, and paused or not. A paused queue's tasks are not claimed; their waits go on.

use serde::Serialize;

use super::{Db, doing, each, wake::Topic};
use crate::error::Result;

/// A queue as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Since when it is paused, in milliseconds.
    pub paused_at: Option<i64>,
    /// How many of its tasks are ready, counted up to 10,000.
    pub ready: i64,
}

/// Remembers a queue.
pub(super) async fn know(db: &mut Db<'_>, name: &str) -> Result<()> {
    let text =
        "insert into reveille_queue (name) select $1 where not exists (select 1 from reveille_queue where name = $1)
                    on conflict (name) do nothing";
    each!(db, c => sqlx::query(text).bind(name).execute(&mut **c).await.map(drop)).map_err(doing("storing a queue"))
}

/// Every queue, with a bounded count of what is ready.
///
/// # Errors
/// If the database does not answer.
pub async fn list(db: &mut Db<'_>) -> Result<Vec<Queue>> {
    let text = "select q.name, q.paused_at,
                       (select count(*) from (select 1 from reveille_task k where k.queue = q.name and k.state = 'ready' limit 10000) as counted) as ready
                  from reveille_queue q order by q.name";
    each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("listing queues"))
}

impl super::Store {
    /// Stops claiming from a queue, or goes on; whether there is such a queue. Pausing one that is paused changes nothing.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn set_paused(&self, queue: &str, paused_at: Option<i64>) -> Result<bool> {
        let text = "update reveille_queue set paused_at = case when $2 is null then null else coalesce(paused_at, $2) end where name = $1";
        let rows = super::within("pausing a queue", async {
            let mut tx = self.begin().await?;
            let rows = each!(&mut tx.db(), c => sqlx::query(text).bind(queue).bind(paused_at).execute(&mut **c).await.map(|done| done.rows_affected()))
                .map_err(doing("pausing a queue"))?;
            tx.commit().await?;
            Ok(rows)
        })
        .await?;
        if paused_at.is_none() {
            self.wake().hint(Topic::Ready);
        }
        Ok(rows > 0)
    }
}
