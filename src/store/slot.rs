//! Concurrency keys: of the tasks under one key, at most so many are at work at once.
//!
//! A task takes a numbered slot of its key when it is claimed for the first time, keeps it through waits and retries, and
//! gives it back with its end, in the transaction of each. That a number is taken once is what limits; nothing counts.
//!
//! Who finds no slot waits for one, as a passive wait under the key `slot:KEY`. As with signals, whoever gives a slot back
//! or stores such a wait commits first and *then* matches, and every replica matches again. Slots are taken under a lock of
//! their key: a claim does not wait for it, its tasks wait in line instead; a match waits a little, before it locks a task.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use uuid::Uuid;

use super::{
    BATCH, Db, Scope, Store, doing, each, signal,
    task::{Claims, json},
};
use crate::{error::Result, id::Incarnation};

/// The most slots that a key can have: its numbers are gone through for those that are free.
pub const MOST: u32 = 10_000;

/// What stands before a concurrency key where keys of all sorts are waited for.
pub(super) const PREFIX: &str = "slot:";

/// How many of those who wait are looked at first: mostly one slot is given back at a time.
const FIRST_LOOK: usize = 8;

/// A task under a concurrency key that was just claimed.
#[derive(Clone, Debug)]
pub(super) struct Keyed<'a> {
    pub(super) task: Uuid,
    pub(super) key: &'a str,
    pub(super) limit: i32,
}

/// Who does not get in.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// Of those who asked.
    pub(super) tasks: HashSet<Uuid>,
    /// The keys, as they are waited for, under which somebody waits since this call: to be matched after the commit.
    pub(super) keys: Vec<String>,
}

/// Gives slots to tasks that were just claimed, in their order, and has the rest wait; with them up to a batch of those
/// that would be claimed next and could get none either, so that nobody else's turn is spent on them.
pub(super) async fn admit(
    db: &mut Db<'_>,
    me: Incarnation,
    scope: &Scope,
    now: i64,
    claimed: &[Keyed<'_>],
) -> Result<Refused> {
    let have = holding(db, &claimed.iter().map(|one| one.task).collect::<Vec<_>>()).await?;
    let mut wanting: BTreeMap<&str, Vec<&Keyed<'_>>> = BTreeMap::new();
    for one in claimed.iter().filter(|one| !have.contains(&one.task)) {
        wanting.entry(one.key).or_default().push(one);
    }
    if wanting.is_empty() {
        return Ok(Refused::default());
    }
    let locked = try_lock(db, &wanting.keys().copied().collect::<Vec<_>>()).await?;
    let lines: Vec<String> = locked.iter().map(|key| format!("{PREFIX}{key}")).collect();
    let lines: HashSet<String> = signal::awaited(db, &lines).await?.into_iter().collect();
    // Who comes after others have begun to wait goes behind them.
    let open = locked.iter().filter(|key| !lines.contains(&format!("{PREFIX}{key}"))).map(String::as_str);
    let asked: Vec<Asked<'_>> = open.map(|key| Asked::of(key, wanting[key].iter().map(|one| one.limit))).collect();
    let mut free = free(db, &asked).await?;
    let mut taking = Vec::new();
    for (key, tasks) in &wanting {
        let Some(numbers) = free.get_mut(*key) else { continue };
        for one in tasks {
            taking.extend(numbers.pop_front_if(|n| *n <= one.limit).map(|n| (*key, n, one.task)));
        }
    }
    let took = take(db, &taking).await?;
    let refused: Vec<&Keyed<'_>> = wanting.into_values().flatten().filter(|one| !took.contains(&one.task)).collect();
    let keys: BTreeSet<&str> = refused.iter().map(|one| one.key).collect();
    let tasks: HashSet<Uuid> = refused.iter().map(|one| one.task).collect();
    wait(db, me, now, &tasks.iter().copied().collect::<Vec<_>>(), "running").await?;
    // There may yet be room under a key that somebody else has locked.
    let full: Vec<String> = locked.into_iter().filter(|key| keys.contains(key.as_str())).collect();
    let next = next(db, scope, &full).await?;
    wait(db, me, now, &next, "ready").await?;
    Ok(Refused { tasks, keys: keys.iter().map(|key| format!("{PREFIX}{key}")).collect() })
}

impl Store {
    /// What follows a claim, after its commit: a slot that was given back before anybody was known to wait for it goes to
    /// who waits now.
    ///
    /// # Errors
    /// If the database does not answer: the next period's match does it.
    pub async fn claimed(&self, claims: &Claims, who: Incarnation) -> Result<()> {
        if claims.keys.is_empty() {
            return Ok(());
        }
        let open = super::within("looking for free slots", async {
            let mut tx = self.read().await?;
            let open = open(&mut tx.db(), &claims.keys).await?;
            tx.commit().await?;
            Ok(open)
        })
        .await?;
        self.match_keys(&open, Some(who)).await.map(drop)
    }

    /// Gives what is free under a concurrency key to those who wait for it, in the order in which they would be claimed.
    /// Answers how many are ready now.
    pub(super) async fn match_slots(&self, db: &mut Db<'_>, key: &str, who: Option<Incarnation>) -> Result<usize> {
        if !lock(db, key).await? {
            // Whoever has it for so long is lost or slow. The next period's match looks again.
            return Ok(0);
        }
        let now = self.clock().now_ms();
        let (mut resumed, mut look) = (0, FIRST_LOOK);
        loop {
            let waiting = waiting(db, key, look).await?;
            let asked = Asked::of(key, waiting.iter().map(|one| one.limit));
            let mut numbers = free(db, &[asked]).await?.remove(key).unwrap_or_default();
            let mut going = Vec::new();
            for one in &waiting {
                // The first that finds none holds up the rest: if its limit is lower, they would pass it by for ever.
                let Some(n) = numbers.pop_front_if(|n| *n <= one.limit) else { break };
                going.push((one.id, one.generation, n));
            }
            let gone = fire(db, who, now, key, &going).await?;
            resumed += gone;
            if gone < look {
                return Ok(resumed);
            }
            look = BATCH;
        }
    }
}

/// For which of these keys, as they are waited for, the first in line might find a slot.
pub(super) async fn open(db: &mut Db<'_>, keys: &[String]) -> Result<Vec<String>> {
    let keys: Vec<String> = keys.iter().filter_map(|key| key.strip_prefix(PREFIX).map(ToOwned::to_owned)).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let open: Result<Vec<String>, _> = match db {
        Db::Postgres(c) => {
            sqlx::query_scalar(include_str!("sql/slot_open.postgres.sql")).bind(&keys).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            sqlx::query_scalar(include_str!("sql/slot_open.sqlite.sql")).bind(json(&keys)).fetch_all(&mut **c).await
        }
    };
    Ok(open.map_err(doing("looking for free slots"))?.iter().map(|key| format!("{PREFIX}{key}")).collect())
}

/// Which of these tasks have a slot.
async fn holding(db: &mut Db<'_>, tasks: &[Uuid]) -> Result<HashSet<Uuid>> {
    let mut holding = HashSet::new();
    match db {
        Db::Postgres(c) => {
            let text = "select task_id from reveille_slot where task_id = any($1)";
            let found: Result<Vec<Uuid>, _> = sqlx::query_scalar(text).bind(tasks).fetch_all(&mut **c).await;
            holding.extend(found.map_err(doing("looking for slots"))?);
        }
        Db::Sqlite(c) => {
            let text = "select task_id from reveille_slot where task_id = $1";
            for task in tasks {
                let found: Result<Option<Uuid>, _> = sqlx::query_scalar(text).bind(task).fetch_optional(&mut **c).await;
                holding.extend(found.map_err(doing("looking for slots"))?);
            }
        }
    }
    Ok(holding)
}

/// Locks those of these keys that nobody has locked, until the transaction ends. On SQLite it is the lock.
async fn try_lock(db: &mut Db<'_>, keys: &[&str]) -> Result<Vec<String>> {
    let Db::Postgres(c) = db else { return Ok(keys.iter().map(|key| (*key).to_owned()).collect()) };
    let text = "select key from unnest($1::text[]) as k(key)
                 where pg_try_advisory_xact_lock(hashtextextended('slot:' || key, 0))";
    sqlx::query_scalar(text).bind(keys).fetch_all(&mut **c).await.map_err(doing("locking concurrency keys"))
}

/// Locks a key until the transaction ends, of which this must be the first statement; whether it could be had in time.
async fn lock(db: &mut Db<'_>, key: &str) -> Result<bool> {
    let Db::Postgres(c) = db else { return Ok(true) };
    // The limit is for this lock alone: what follows has the connection's.
    let text = "with connection as materialized (select current_setting('lock_timeout') as lock_timeout)
                select set_config('lock_timeout', '250ms', true),
                       pg_advisory_xact_lock(hashtextextended('slot:' || $1::text, 0)),
                       set_config('lock_timeout', connection.lock_timeout, true)
                  from connection";
    match sqlx::query(text).bind(key).execute(&mut **c).await {
        Ok(_) => Ok(true),
        // lock_not_available
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some("55P03") => Ok(false),
        Err(error) => Err(doing("locking a concurrency key")(error)),
    }
}

/// How many free slots are looked for.
#[derive(Debug)]
struct Asked<'a> {
    key: &'a str,
    /// Up to this number.
    limit: i32,
    many: i32,
}

impl<'a> Asked<'a> {
    /// One for each of these limits.
    fn of(key: &'a str, limits: impl ExactSizeIterator<Item = i32>) -> Self {
        let many = i32::try_from(limits.len()).unwrap_or(i32::MAX);
        Self { key, limit: limits.max().unwrap_or(0), many }
    }
}

/// The numbers that are free, the lowest first.
async fn free(db: &mut Db<'_>, asked: &[Asked<'_>]) -> Result<BTreeMap<String, VecDeque<i32>>> {
    let mut free: BTreeMap<String, VecDeque<i32>> = BTreeMap::new();
    let found: Result<Vec<(String, i32)>, sqlx::Error> = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_as(include_str!("sql/slot_free.postgres.sql"));
            query
                .bind(asked.iter().map(|one| one.key).collect::<Vec<_>>())
                .bind(asked.iter().map(|one| one.limit).collect::<Vec<_>>())
                .bind(asked.iter().map(|one| one.many).collect::<Vec<_>>())
                .fetch_all(&mut **c)
                .await
        }
        Db::Sqlite(c) => {
            let mut all = Vec::new();
            for one in asked {
                let query = sqlx::query_as(include_str!("sql/slot_free.sqlite.sql"));
                let query = query.bind(one.key).bind(one.limit).bind(one.many);
                all.extend(query.fetch_all(&mut **c).await.map_err(doing("looking for free slots"))?);
            }
            Ok(all)
        }
    };
    for (key, n) in found.map_err(doing("looking for free slots"))? {
        free.entry(key).or_default().push_back(n);
    }
    free.values_mut().for_each(|numbers| numbers.make_contiguous().sort_unstable());
    Ok(free)
}

/// Takes slots for tasks that have begun with this; answers which tasks have theirs.
async fn take(db: &mut Db<'_>, taking: &[(&str, i32, Uuid)]) -> Result<HashSet<Uuid>> {
    let mut took = HashSet::new();
    if taking.is_empty() {
        return Ok(took);
    }
    match db {
        Db::Postgres(c) => {
            let text = "insert into reveille_slot (key, n, task_id)
                        select * from unnest($1::text[], $2::integer[], $3::uuid[])
                            on conflict do nothing
                        returning task_id";
            let taken: Result<Vec<Uuid>, _> = sqlx::query_scalar(text)
                .bind(taking.iter().map(|(key, ..)| *key).collect::<Vec<_>>())
                .bind(taking.iter().map(|(_, n, _)| *n).collect::<Vec<_>>())
                .bind(taking.iter().map(|(.., task)| *task).collect::<Vec<_>>())
                .fetch_all(&mut **c)
                .await;
            let taken = taken.map_err(doing("taking slots"))?;
            let begun = "update reveille_task set expires_at = null where id = any($1) and expires_at is not null";
            sqlx::query(begun).bind(&taken).execute(&mut **c).await.map_err(doing("taking slots"))?;
            took.extend(taken);
        }
        Db::Sqlite(c) => {
            let text = "insert into reveille_slot (key, n, task_id) values ($1, $2, $3) on conflict do nothing";
            let begun = "update reveille_task set expires_at = null where id = $1 and expires_at is not null";
            for (key, n, task) in taking {
                let taken = sqlx::query(text).bind(key).bind(n).bind(task).execute(&mut **c).await;
                if taken.map_err(doing("taking slots"))?.rows_affected() > 0 {
                    sqlx::query(begun).bind(task).execute(&mut **c).await.map_err(doing("taking slots"))?;
                    took.insert(*task);
                }
            }
        }
    }
    Ok(took)
}

/// Which ready tasks within a scope would be next to ask for a slot of these keys.
async fn next(db: &mut Db<'_>, scope: &Scope, keys: &[String]) -> Result<Vec<Uuid>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let next: Result<Vec<Uuid>, _> = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_scalar(include_str!("sql/slot_next.postgres.sql")).bind(keys);
            let query = query.bind(scope.queues.as_deref()).bind(&scope.kinds).bind(scope.aside_ids());
            query.bind(BATCH as i64).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_scalar(include_str!("sql/slot_next.sqlite.sql")).bind(json(keys));
            let query = query.bind(scope.queues.as_deref().map(json)).bind(json(&scope.kinds));
            query.bind(scope.aside_json()).bind(BATCH as i64).fetch_all(&mut **c).await
        }
    };
    next.map_err(doing("looking for who is next under a concurrency key"))
}

/// Has tasks in this state wait for a slot.
async fn wait(db: &mut Db<'_>, who: Incarnation, now: i64, tasks: &[Uuid], was: &'static str) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    match db {
        Db::Postgres(c) => {
            let query = sqlx::query(include_str!("sql/slot_wait.postgres.sql")).bind(now).bind(who.0);
            query.bind(tasks).bind(was).execute(&mut **c).await.map(drop).map_err(doing("waiting for a slot"))
        }
        Db::Sqlite(c) => {
            for task in tasks {
                let query = sqlx::query(include_str!("sql/slot_wait.sqlite.sql")).bind(now).bind(who.0);
                query.bind(task).bind(was).execute(&mut **c).await.map_err(doing("waiting for a slot"))?;
            }
            Ok(())
        }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Waiting {
    id: Uuid,
    generation: i32,
    #[sqlx(rename = "slot_limit")]
    limit: i32,
}

/// Who waits for a slot of a key, those that would be claimed first first.
async fn waiting(db: &mut Db<'_>, key: &str, limit: usize) -> Result<Vec<Waiting>> {
    // Among the deferred under a key that were ever ready, those without a slot are those who wait for one.
    let text = "select k.id, k.generation, k.slot_limit
                  from reveille_task k
                 where k.slot_key = $1 and k.state = 'deferred' and k.ready_at is not null
                   and exists (select 1 from reveille_trigger t where t.task_id = k.id and t.passive and t.kind = 'slot')
                 order by k.priority desc, k.ready_at, k.id
                 limit $2";
    each!(db, c => sqlx::query_as(text).bind(key).bind(limit as i64).fetch_all(&mut **c).await)
        .map_err(doing("looking for who waits for a slot"))
}

/// Ends waits for a slot, each with its number; answers how many.
async fn fire(
    db: &mut Db<'_>,
    who: Option<Incarnation>,
    now: i64,
    key: &str,
    going: &[(Uuid, i32, i32)],
) -> Result<usize> {
    let who = who.map(|who| who.0);
    let mut fired = 0;
    match db {
        _ if going.is_empty() => {}
        Db::Postgres(c) => {
            let query = sqlx::query_scalar(include_str!("sql/slot_fire.postgres.sql")).bind(now).bind(who).bind(key);
            let moved: Result<Vec<Uuid>, _> = query
                .bind(going.iter().map(|(task, ..)| *task).collect::<Vec<_>>())
                .bind(going.iter().map(|(_, generation, _)| *generation).collect::<Vec<_>>())
                .bind(going.iter().map(|(.., n)| *n).collect::<Vec<_>>())
                .fetch_all(&mut **c)
                .await;
            fired = moved.map_err(doing("giving slots to who waits"))?.len();
        }
        Db::Sqlite(c) => {
            for (task, generation, n) in going {
                let query = sqlx::query_scalar(include_str!("sql/slot_fire.sqlite.sql")).bind(now).bind(who).bind(key);
                let moved: Result<Vec<Uuid>, _> = query.bind(task).bind(generation).bind(n).fetch_all(&mut **c).await;
                fired += moved.map_err(doing("giving slots to who waits"))?.len();
            }
        }
    }
    Ok(fired)
}
