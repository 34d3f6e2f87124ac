//! What the live triggerers hold, and what can be leased: by this they share.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Db, Scope, doing, each, task::json};
use crate::{error::Result, id::Incarnation};

/// A triggerer that is at work.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Member {
    /// This life of it.
    pub incarnation: Uuid,
    /// How much it holds at most.
    pub capacity: i32,
    /// When it joined, in milliseconds.
    pub joined_at: i64,
    kinds: String,
    queues: String,
}

impl Member {
    /// Whether it may take whatever one with these kinds and queues may.
    pub fn takes_all(&self, kinds: &[&str], queues: Option<&[String]>) -> bool {
        let (has, serves): (Vec<&str>, Vec<&str>) = (self.kinds.split(',').collect(), self.queues.split(',').collect());
        let serves_all = queues.is_some_and(|queues| queues.iter().all(|queue| serves.contains(&queue.as_str())));
        kinds.iter().all(|kind| has.contains(kind)) && (self.queues == "*" || serves_all)
    }
}

/// The triggerers that are not gone, and did not miss two renewals: I, and those who could take something now.
///
/// # Errors
/// If the database does not answer.
pub async fn members(db: &mut Db<'_>, me: Incarnation, now: i64) -> Result<Vec<Member>> {
    let text = "select incarnation, capacity, joined_at, kinds, queues from reveille_replica
                 where role = 'triggerer' and gone_at is null and (seen_at > $2 - 2 * lease_ms / 3 or incarnation = $1)";
    each!(db, c => sqlx::query_as(text).bind(me.0).bind(now).fetch_all(&mut **c).await)
        .map_err(doing("looking at the other triggerers"))
}

/// How many triggers each live triggerer holds.
///
/// # Errors
/// If the database does not answer.
pub async fn held(db: &mut Db<'_>) -> Result<HashMap<Uuid, i64>> {
    // A range: see docs/decisions/0023.
    let text = "select r.incarnation, (select count(*) from reveille_trigger t where t.holder between r.incarnation and r.incarnation)
                  from reveille_replica r where r.role = 'triggerer' and r.gone_at is null";
    let rows: Vec<(Uuid, i64)> = each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await)
        .map_err(doing("counting what triggerers hold"))?;
    Ok(rows.into_iter().collect())
}

/// How many triggers could be leased now, those that are left behind included; of each sort up to `most` are counted.
///
/// # Errors
/// If the database does not answer.
pub async fn free(db: &mut Db<'_>, scope: &Scope, now: i64, most: usize) -> Result<i64> {
    let (most, queues) = (most as i64, scope.queues.as_deref());
    let counted = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_scalar(include_str!("sql/free.postgres.sql")).bind(queues).bind(&scope.kinds);
            query.bind(now).bind(most).bind(scope.aside_ids()).fetch_one(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_scalar(include_str!("sql/free.sqlite.sql")).bind(queues.map(json));
            query.bind(json(&scope.kinds)).bind(now).bind(most).bind(scope.aside_json()).fetch_one(&mut **c).await
        }
    };
    counted.map_err(doing("counting what is free"))
}
