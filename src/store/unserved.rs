//! What waits for a kind that no live triggerer has: it stays untouched until one comes.

use super::{Db, doing, each, replica};
use crate::{error::Result, kind};

/// Free triggers of one kind on one queue that no live triggerer can take.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Unserved {
    /// The kind, or the kinds within it, joined by `+`.
    pub kinds: String,
    /// The queue.
    pub queue: String,
}

/// The live replicas of a role.
///
/// # Errors
/// If the database does not answer.
pub async fn live(db: &mut Db<'_>, role: replica::Role) -> Result<Vec<replica::Replica>> {
    let mut replicas = replica::list(db).await?;
    replicas.retain(|replica| replica.gone_at.is_none() && replica.role == role.word());
    Ok(replicas)
}

/// Whether one of these triggerers serves the queue and has all of the kinds.
pub fn is_served(triggerers: &[replica::Replica], Unserved { kinds, queue }: &Unserved) -> bool {
    let mut serving = triggerers.iter().filter(|triggerer| triggerer.serves(queue));
    serving.any(|triggerer| kind::has_whole(&triggerer.kinds.split(',').collect::<Vec<_>>(), kinds))
}

/// What these triggerers leave untouched. Reads one index entry for each kind and queue, and what the gone still hold.
///
/// # Errors
/// If the database does not answer.
pub async fn beside(db: &mut Db<'_>, triggerers: &[replica::Replica]) -> Result<Vec<Unserved>> {
    let text = match db {
        Db::Sqlite(_) => {
            "select s.kinds, q.name as queue from reveille_kind_set s, reveille_queue q
              where exists (select 1 from reveille_trigger t
                             where t.queue = q.name and t.kind = s.kinds and t.holder is null and t.passive = 0)
             union
             select t.kind, t.queue from reveille_replica r join reveille_trigger t on t.holder = r.incarnation
              where r.gone_at is not null and r.role = 'triggerer'
              order by 1, 2"
        }
        Db::Postgres(_) => {
            // Ranges: see docs/decisions/0023.
            "select s.kinds, q.name as queue
               from reveille_kind_set s, reveille_queue q,
                    lateral (select from reveille_trigger t
                              where t.queue = q.name and t.kind = s.kinds and t.holder is null and not t.passive
                              order by t.priority limit 1) t
             union
             select t.kind, t.queue
               from reveille_replica r,
                    lateral (select t.kind, t.queue from reveille_trigger t
                              where t.holder between r.incarnation and r.incarnation order by t.holder) t
              where r.gone_at is not null and r.role = 'triggerer'
              order by 1, 2"
        }
    };
    let mut free: Vec<Unserved> = each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await)
        .map_err(doing("looking for what nobody serves"))?;
    free.retain(|free| !is_served(triggerers, free));
    Ok(free)
}

/// How many of them are free, counted up to `most`.
///
/// # Errors
/// If the database does not answer.
pub async fn count(db: &mut Db<'_>, unserved: &Unserved, most: i64) -> Result<i64> {
    let text = match db {
        Db::Sqlite(_) => {
            "select count(*) from (select 1 from reveille_trigger t left join reveille_replica r on r.incarnation = t.holder
              where t.queue = $1 and t.kind = $2 and t.passive = 0 and (t.holder is null or r.gone_at is not null)
              limit $3) as counted"
        }
        Db::Postgres(_) => {
            "select least(count(*), $3)
               from ((select 1 from reveille_trigger t
                       where t.queue = $1 and t.kind = $2 and t.holder is null and not t.passive
                       order by t.priority limit $3)
                     union all
                     (select 1
                        from reveille_replica r,
                             lateral (select from reveille_trigger t
                                       where t.holder between r.incarnation and r.incarnation and t.queue = $1 and t.kind = $2
                                       order by t.holder) t
                       where r.gone_at is not null
                       limit $3)) as counted"
        }
    };
    each!(db, c => sqlx::query_scalar(text).bind(&unserved.queue).bind(&unserved.kinds).bind(most).fetch_one(&mut **c).await)
        .map_err(doing("counting what nobody serves"))
}
