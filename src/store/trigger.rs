//! Triggers: lease, release, fire what is passively due, and find what is past its deadline.

use std::{collections::HashSet, hash::BuildHasher};

use futures::TryStreamExt;
use uuid::Uuid;

use super::{
    Db, Scope,
    arrival::{self, Sealed},
    doing, each,
    task::json,
};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
};

/// The right to run an active trigger, and what is needed to. Sealed until the triggerer opens it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The task that waits, as every write names it.
    pub fence: Fence,
    /// Every kind in it, joined by `+`.
    pub kinds: String,
    /// When the task deferred, in milliseconds.
    pub since: i64,
    /// When it is due for a look.
    pub wake_at: i64,
    /// It was taken over from a holder that is gone.
    pub inherited: bool,
    /// When it ends badly.
    pub deadline_at: Option<i64>,
    /// How many of its holders were lost.
    pub deaths: i32,
    /// How many checks in a row may fail to tell.
    pub error_budget: Option<i32>,
    /// What has come under its keys.
    pub arrived: Vec<Sealed>,
    pub(crate) spec: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct LeaseRow {
    task_id: Uuid,
    generation: i32,
    kind: String,
    spec: Vec<u8>,
    since: i64,
    wake_at: i64,
    deadline_at: Option<i64>,
    deaths: i32,
    error_budget: Option<i32>,
    arrivals: i32,
    #[sqlx(default)]
    inherited: bool,
}

impl From<LeaseRow> for Lease {
    fn from(row: LeaseRow) -> Self {
        Self {
            fence: Fence { task: TaskId(row.task_id), generation: row.generation },
            kinds: row.kind,
            since: row.since,
            wake_at: row.wake_at,
            inherited: row.inherited,
            deadline_at: row.deadline_at,
            deaths: row.deaths,
            error_budget: row.error_budget,
            arrived: Vec::new(),
            spec: row.spec,
        }
    }
}

impl Lease {
    /// The same, with what has come for it.
    fn with_arrived(self, came: &mut arrival::ByTask) -> Self {
        Self { arrived: came.remove(&self.fence.task).unwrap_or_default(), ..self }
    }
}

/// What a triggerer asks before it leases.
#[derive(Clone, Debug)]
pub struct Look {
    /// Every set of kinds that was ever stored.
    pub kinds: Vec<String>,
    /// Holders that are gone left something behind, be it what nobody here can run.
    pub left_behind: bool,
    /// Something has come for what I hold that I have not been told of: see [`news`](arrival::news).
    pub has_news: bool,
}

/// Looks at what there is beside what is free: most of the time, that is nothing.
///
/// # Errors
/// If the database does not answer.
pub async fn look(db: &mut Db<'_>, me: Incarnation) -> Result<Look> {
    let looked = match db {
        Db::Postgres(c) => sqlx::query_as(include_str!("sql/look.postgres.sql")).bind(me.0).fetch_one(&mut **c).await,
        Db::Sqlite(c) => {
            let looked = sqlx::query_as(include_str!("sql/look.sqlite.sql")).bind(me.0).fetch_one(&mut **c).await;
            looked.and_then(|(kinds, left_behind, has_news): (String, bool, bool)| {
                let kinds = serde_json::from_str(&kinds).map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok((kinds, left_behind, has_news))
            })
        }
    };
    let (kinds, left_behind, has_news) = looked.map_err(doing("looking for what there is to lease"))?;
    Ok(Look { kinds, left_behind, has_news })
}

/// Leases up to `limit` triggers: first what holders that are gone left behind, if a [look] saw any of it, then what is free.
///
/// # Errors
/// If the database does not answer: then [`held`] tells what was leased.
pub async fn lease(
    db: &mut Db<'_>,
    me: Incarnation,
    left_behind: bool,
    scope: &Scope,
    now: i64,
    limit: usize,
) -> Result<Vec<Lease>> {
    let mut rows = Vec::new();
    if left_behind {
        rows = take_over(db, me, scope, limit).await.map_err(doing("taking over"))?;
    }
    if rows.len() < limit {
        let free = lease_free(db, me, scope, now, limit - rows.len()).await;
        rows.extend(free.map_err(doing("leasing"))?);
    }
    with_arrived(db, rows).await
}

async fn with_arrived(db: &mut Db<'_>, rows: Vec<LeaseRow>) -> Result<Vec<Lease>> {
    let told = rows.iter().filter(|row| row.arrivals > 0);
    let tasks: Vec<Uuid> = told.map(|row| row.task_id).collect();
    let mut came = arrival::of(db, &tasks).await?;
    Ok(rows.into_iter().map(|row| Lease::from(row).with_arrived(&mut came)).collect())
}

async fn take_over(
    db: &mut Db<'_>,
    me: Incarnation,
    scope: &Scope,
    limit: usize,
) -> Result<Vec<LeaseRow>, sqlx::Error> {
    let (queues, limit) = (scope.queues.as_deref(), limit as i64);
    match db {
        Db::Postgres(c) => {
            let query = sqlx::query_as(include_str!("sql/take_over.postgres.sql")).bind(queues).bind(&scope.kinds);
            query.bind(me.0).bind(limit).bind(scope.aside_ids()).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_as(include_str!("sql/take_over.sqlite.sql")).bind(queues.map(json));
            let query = query.bind(json(&scope.kinds)).bind(me.0).bind(limit).bind(scope.aside_json());
            query.fetch_all(&mut **c).await
        }
    }
}

async fn lease_free(
    db: &mut Db<'_>,
    me: Incarnation,
    scope: &Scope,
    now: i64,
    limit: usize,
) -> Result<Vec<LeaseRow>, sqlx::Error> {
    let (queues, limit) = (scope.queues.as_deref(), limit as i64);
    match db {
        Db::Postgres(c) => {
            let query = sqlx::query_as(include_str!("sql/lease.postgres.sql")).bind(queues).bind(&scope.kinds);
            query.bind(me.0).bind(now).bind(limit).bind(scope.aside_ids()).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_as(include_str!("sql/lease.sqlite.sql")).bind(queues.map(json));
            let query = query.bind(json(&scope.kinds)).bind(me.0).bind(now).bind(limit).bind(scope.aside_json());
            query.fetch_all(&mut **c).await
        }
    }
}

/// What the database says that I hold.
#[derive(Debug, Default)]
pub struct Held {
    /// All of it.
    pub fences: Vec<Fence>,
    /// What of it I do not run, as it was leased.
    pub missing: Vec<Lease>,
    /// What has come for those that I run.
    pub news: Vec<(Fence, Vec<Sealed>)>,
}

/// What the database says that I hold, who run these, in a transaction that may write: it waits for leases of mine that are
/// under way. Of what I run, which may be a million, no more is read than that it is there.
///
/// # Errors
/// If the database does not answer.
pub async fn held(db: &mut Db<'_>, me: Incarnation, running: &HashSet<Fence, impl BuildHasher + Sync>) -> Result<Held> {
    const ASKING: &str = "asking what is held";
    super::replica::await_leases(db, me).await?;
    let text = "select task_id, generation, arrivals from reveille_trigger where holder = $1";
    let rows: Vec<(Uuid, i32, i32)> =
        each!(db, c => sqlx::query_as(text).bind(me.0).fetch_all(&mut **c).await).map_err(doing(ASKING))?;
    let fence = |task_id, generation| Fence { task: TaskId(task_id), generation };
    let mut held = Held { fences: Vec::with_capacity(rows.len()), ..Held::default() };
    let mut told = Vec::new();
    for (task_id, generation, arrivals) in rows {
        held.fences.push(fence(task_id, generation));
        if arrivals > 0 {
            told.push(task_id);
        }
    }
    let mut came = arrival::of(db, &told).await?;
    if held.fences.iter().any(|fence| !running.contains(fence)) {
        let text = "select task_id, generation, kind, spec, since, wake_at, deadline_at, deaths, error_budget, arrivals from reveille_trigger where holder = $1";
        let is_missing = |row: &LeaseRow| std::future::ready(!running.contains(&fence(row.task_id, row.generation)));
        let rows: Result<Vec<LeaseRow>, _> = each!(db, c => {
            sqlx::query_as(text).bind(me.0).fetch(&mut **c).try_filter(is_missing).try_collect().await
        });
        let leases = rows.map_err(doing(ASKING))?.into_iter().map(Lease::from);
        held.missing = leases.map(|lease| lease.with_arrived(&mut came)).collect();
    }
    let news = held.fences.iter().filter_map(|fence| Some((*fence, came.remove(&fence.task)?)));
    held.news = news.collect();
    Ok(held)
}

/// A trigger that is given back.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The task that waits.
    pub fence: Fence,
    /// From when on it is to be leased again, in milliseconds.
    pub wake_at: i64,
    /// How much had come for it when it was last checked: if more has by now, it is due at once.
    pub known: i32,
}

/// Gives triggers of mine back: those that sleep long, or that I cannot run. Answers how many: what somebody else is about
/// to change at this moment stays mine, unless that ends it.
///
/// # Errors
/// If the database does not answer: then they stay mine, and [`held`] says so.
pub async fn release(db: &mut Db<'_>, me: Incarnation, batch: &[Release]) -> Result<usize> {
    match db {
        Db::Postgres(c) => {
            let query = sqlx::query(include_str!("sql/release.postgres.sql")).bind(me.0);
            query
                .bind(batch.iter().map(|given| given.fence.task.0).collect::<Vec<_>>())
                .bind(batch.iter().map(|given| given.fence.generation).collect::<Vec<_>>())
                .bind(batch.iter().map(|given| given.wake_at).collect::<Vec<_>>())
                .bind(batch.iter().map(|given| given.known).collect::<Vec<_>>())
                .execute(&mut **c)
                .await
                .map(|done| done.rows_affected() as usize)
                .map_err(doing("releasing triggers"))
        }
        Db::Sqlite(c) => {
            let mut count = 0;
            for Release { fence, wake_at, known } in batch {
                let query = sqlx::query(include_str!("sql/release.sqlite.sql")).bind(me.0).bind(fence.task.0);
                let released = query.bind(fence.generation).bind(*wake_at).bind(*known).execute(&mut **c).await;
                count += released.map_err(doing("releasing triggers"))?.rows_affected() as usize;
            }
            Ok(count)
        }
    }
}

/// Fires up to `limit` passive waits that are due; answers how many.
///
/// # Errors
/// If the database does not answer: doing it again is safe.
pub async fn fire_due(db: &mut Db<'_>, who: Incarnation, now: i64, limit: usize) -> Result<usize> {
    let limit = limit as i64;
    let fired = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_scalar(include_str!("sql/due.postgres.sql")).bind(now).bind(who.0).bind(limit);
            query.fetch_one(&mut **c).await.map(|count: i64| count as usize)
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_scalar(include_str!("sql/due.sqlite.sql")).bind(now).bind(who.0).bind(limit);
            query.fetch_all(&mut **c).await.map(|ids: Vec<Uuid>| ids.len())
        }
    };
    fired.map_err(doing("firing what is due"))
}

/// When the next passive wait is due, in milliseconds.
///
/// # Errors
/// If the database does not answer.
pub async fn next_due(db: &mut Db<'_>) -> Result<Option<i64>> {
    let text = match db {
        Db::Sqlite(_) => {
            "select wake_at from reveille_trigger where passive = 1 and wake_at is not null order by wake_at limit 1"
        }
        Db::Postgres(_) => {
            "select wake_at from reveille_trigger where passive and wake_at is not null order by wake_at limit 1"
        }
    };
    each!(db, c => sqlx::query_scalar(text).fetch_optional(&mut **c).await)
        .map_err(doing("looking for what is due next"))
}

/// The waits that are past their deadline: passive ones at once, the others only past `grace`, as whoever holds or leases
/// them makes a last check first.
///
/// # Errors
/// If the database does not answer.
pub async fn overdue(db: &mut Db<'_>, now: i64, grace: i64, limit: i64) -> Result<Vec<Fence>> {
    let text = "select task_id, generation from reveille_trigger
                 where deadline_at <= $1 and (passive or deadline_at <= $1 - $2) order by deadline_at limit $3";
    let rows: Vec<(Uuid, i32)> =
        each!(db, c => sqlx::query_as(text).bind(now).bind(grace).bind(limit).fetch_all(&mut **c).await)
            .map_err(doing("looking for what is past its deadline"))?;
    Ok(rows.into_iter().map(|(id, generation)| Fence { task: TaskId(id), generation }).collect())
}

/// When the next deadline after `now` is, in milliseconds.
///
/// # Errors
/// If the database does not answer.
pub async fn next_deadline(db: &mut Db<'_>, now: i64) -> Result<Option<i64>> {
    let text = "select deadline_at from reveille_trigger where deadline_at > $1 order by deadline_at limit 1";
    each!(db, c => sqlx::query_scalar(text).bind(now).fetch_optional(&mut **c).await)
        .map_err(doing("looking for the next deadline"))
}

/// Every set of kinds that was ever stored.
///
/// # Errors
/// If the database does not answer.
pub async fn kind_sets(db: &mut Db<'_>) -> Result<Vec<String>> {
    each!(db, c => sqlx::query_scalar("select kinds from reveille_kind_set order by kinds").fetch_all(&mut **c).await)
        .map_err(doing("reading the kinds that are stored"))
}

/// Remembers a set of kinds, so that replicas can tell whether they have it whole.
pub(super) async fn know_kinds(db: &mut Db<'_>, kinds: &str) -> Result<()> {
    let text = "insert into reveille_kind_set (kinds) select $1 where not exists (select 1 from reveille_kind_set where kinds = $1)
                    on conflict (kinds) do nothing";
    each!(db, c => sqlx::query(text).bind(kinds).execute(&mut **c).await.map(drop)).map_err(doing("storing a kind"))
}
