//! What the tables take, and forgetting what has ended sooner than days: what the benchmark asks for that runs for long.

use std::{fs, time::Duration};

use serde::Serialize;

use super::{Db, Store, Url, doing};
use crate::error::{Error, Result};

/// What one table takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Size {
    /// Its name, of all its partitions together; on SQLite the file, and its log.
    pub name: String,
    /// The table alone.
    pub bytes: i64,
    /// All its indexes; on SQLite they are in the file.
    pub index_bytes: i64,
    /// Rows as the server counts them; on SQLite pages that are in use.
    pub live: i64,
    /// Rows that nobody sees any more; on SQLite pages that are free.
    pub dead: i64,
}

impl Store {
    /// What each table takes that takes anything.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn sizes(&self) -> Result<Vec<Size>> {
        let measure = async |db: &mut Db<'_>| {
            match db {
            Db::Postgres(c) => {
                let text = "select replace(coalesce(p.relname, c.relname), 'reveille_', '') as name,
                                   sum(pg_table_size(c.oid))::bigint as bytes, sum(pg_indexes_size(c.oid))::bigint as index_bytes,
                                   sum(pg_stat_get_live_tuples(c.oid))::bigint as live,
                                   sum(pg_stat_get_dead_tuples(c.oid))::bigint as dead
                              from pg_class c
                                   left join pg_inherits i on i.inhrelid = c.oid
                                   left join pg_class p on p.oid = i.inhparent
                             where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
                             group by 1
                            having sum(pg_relation_size(c.oid)) > 0
                             order by 1";
                sqlx::query_as(text).fetch_all(&mut **c).await
            }
            Db::Sqlite(c) => {
                let text = "select 'file' as name, c.page_count * s.page_size as bytes, 0 as index_bytes,
                                   c.page_count - f.freelist_count as live, f.freelist_count as dead
                              from pragma_page_count c, pragma_page_size s, pragma_freelist_count f";
                sqlx::query_as(text).fetch_all(&mut **c).await
            }
        }
        .map_err(doing("measuring tables"))
        };
        let mut sizes: Vec<Size> = self.reading("measuring tables", measure).await?;
        if let Url::Sqlite(path) = self.url() {
            let mut log = path.clone().into_os_string();
            log.push("-wal");
            // There is none before the first write.
            let bytes = fs::metadata(log).map_or(0, |log| log.len());
            sizes.push(Size { name: "log".to_owned(), bytes: bytes as i64, index_bytes: 0, live: 0, dead: 0 });
        }
        Ok(sizes)
    }

    /// Forgets results and history: on PostgreSQL all there are of today and yesterday, as days are dropped, or none while
    /// somebody is in the way; on SQLite those that are older than `kept`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn forget_ended(&self, kept: Duration) -> Result<()> {
        if let Url::Sqlite(_) = self.url() {
            while self.drop_old(kept).await? {}
            return Ok(());
        }
        let today = self.clock().now_ms() / 86_400_000;
        let days = [today, today - 1].map(|day| day.rem_euclid(32));
        let days = days.map(|day| format!("reveille_finished_{day:02}, reveille_history_{day:02}")).join(", ");
        let forget = async {
            let mut tx = self.begin().await?;
            if let Db::Postgres(c) = tx.db() {
                let text = format!("set local lock_timeout = '100ms'; truncate {days}");
                // The names are four of 64 that the migration made.
                sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(c).await.map_err(doing("forgetting"))?;
            }
            tx.commit().await
        };
        match super::within("forgetting", forget).await {
            Err(Error::Outage { source, .. }) if is_in_the_way(&*source) => Ok(()),
            forgotten => forgotten,
        }
    }
}

/// Whether a lock could not be had in time.
fn is_in_the_way(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(sqlx::Error::Database(refusal)) = error.downcast_ref() else { return false };
    refusal.code().is_some_and(|code| code == "55P03")
}
