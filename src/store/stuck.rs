//! Rows that cannot run, beside some that can, and what a claim and a lease go through to find the latter: what the
//! benchmark shows of both.
//!
//! The rows are written by plain SQL, which takes seconds for a million, and look as the runtime leaves them. What is read is
//! told by the database itself: pages on PostgreSQL, steps of its virtual machine on SQLite. What is taken for that is put
//! back.

mod yard;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

pub(super) use self::yard::FAR;
use self::yard::{NAME, Rows, SLOTS, Wait, Yard};
use super::{
    Db, Scope, Store, Url, doing, each,
    replica::{self, Card, Role},
    task, trigger,
};
use crate::{
    error::{Error, Result},
    id::Incarnation,
};

/// What those who claim and lease here can run, and what nobody here can.
const KIND: &str = "file";
const UNKNOWN: &str = "bench.unknown";

/// How many tasks are ready, and as many triggers free, of the lowest priority but one.
const MOVABLE: usize = 2_000;

/// How many of them a claim or a lease takes: so few that reading what is stuck would show.
const TAKEN: usize = 100;

/// The part of a claim and of a lease that finds rows.
const SEARCH: &str = "CTE first";

/// How many are written in one transaction.
const AT_ONCE: usize = 1_000_000;

/// How many rows cannot run. All are of the highest priority, and lie on three queues.
#[derive(Clone, Copy, Debug)]
pub struct Stuck {
    /// Tasks that sleep long: half of them on passive waits, half on dormant triggers.
    pub dormant: usize,
    /// Tasks that wait for a slot of a concurrency key that is full.
    pub keyed: usize,
    /// Tasks that are ready under a name that nobody here has; and as many on triggers of a kind that nobody here has.
    pub unknown: usize,
}

/// What a claim and a lease go through.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// To claim some tasks that are ready.
    pub claim: Cost,
    /// To lease some triggers that are free.
    pub lease: Cost,
}

/// What one of them goes through.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Pages that are read or found in memory, or steps.
    pub work: u64,
    /// How many of these go into finding the rows; the rest into taking them. Not told on SQLite.
    pub search: Option<u64>,
    /// How long it takes.
    pub took: Duration,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self {
            work: self.work + other.work,
            search: self.search.zip(other.search).map(|(search, more)| search + more),
            took: self.took + other.took,
        }
    }
}

/// Who claims and leases.
#[derive(Clone, Copy, Debug)]
pub struct Takers {
    worker: Incarnation,
    triggerer: Incarnation,
}

impl Store {
    /// Joins, and writes rows that can run.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lay_out_movable(&self) -> Result<Takers> {
        let takers = Takers { worker: Incarnation::mint(), triggerer: Incarnation::mint() };
        let mut tx = self.begin().await?;
        for (incarnation, role) in [(takers.worker, Role::Worker), (takers.triggerer, Role::Triggerer)] {
            let (label, lease, capacity) = ("bench".to_owned(), Duration::from_secs(10), i32::MAX);
            let card = Card { incarnation, role, label, lease, capacity, kinds: Vec::new(), queues: None };
            replica::join(&mut tx.db(), &card, self.clock().now_ms()).await?;
        }
        tx.commit().await?;
        let yard = Yard::of(self.url());
        let rows = Rows { from: 0, count: MOVABLE, name: NAME, priority: 1, ..Rows::default() };
        let waiting = Rows { from: MOVABLE, wait: Some(Wait { kind: KIND, passive: "false", wake_at: "n" }), ..rows };
        self.write(&[vec![yard.queues()], rows.texts(&yard), waiting.texts(&yard)].concat()).await?;
        Ok(takers)
    }

    /// Writes rows that cannot run.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lay_out_stuck(&self, stuck: Stuck, takers: Takers) -> Result<()> {
        let yard = Yard::of(self.url());
        let far = far();
        let [passive, dormant] = asleep(0, stuck.dormant, &far);
        let for_slot = Wait { kind: "slot", passive: "true", wake_at: "null" };
        let unknown = Wait { kind: UNKNOWN, passive: "false", wake_at: "n" };
        let mut from = 2 * MOVABLE;
        let mut texts = Vec::new();
        for rows in [
            passive,
            dormant,
            Rows { count: stuck.keyed, wait: Some(for_slot), is_keyed: true, ..Rows::default() },
            Rows { count: SLOTS, is_keyed: true, runs: Some(takers.worker), ..Rows::default() },
            Rows { count: stuck.unknown, name: UNKNOWN, ..Rows::default() },
            Rows { count: stuck.unknown, wait: Some(unknown), ..Rows::default() },
        ] {
            texts.extend(Rows { from, ..rows }.texts(&yard));
            from += rows.count;
        }
        self.write(&texts).await
    }

    /// Writes tasks that sleep long: half of them on passive waits, half on dormant triggers.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn lay_out_asleep(&self, count: usize) -> Result<()> {
        let yard = Yard::of(self.url());
        let far = far();
        self.write(&[yard.queues()]).await?;
        for from in (0..count).step_by(AT_ONCE) {
            let count = AT_ONCE.min(count - from);
            let texts = asleep(from, count, &far).map(|rows| rows.texts(&yard));
            self.write(&texts.concat()).await?;
        }
        Ok(())
    }

    /// Does what autovacuum does in time, so that what was just written is as what has lain there for long.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn vacuum(&self) -> Result<()> {
        let Url::Postgres(server) = self.url() else { return Ok(()) };
        let schema: String = self
            .reading("looking for the schema", async |db| {
                let Db::Postgres(c) = db else { return Ok(String::new()) };
                let text = "select quote_ident(current_schema())";
                sqlx::query_scalar(text).fetch_one(&mut **c).await.map_err(doing("looking for the schema"))
            })
            .await?;
        let tables = ["task", "trigger", "wait_key", "slot", "replica", "queue"];
        let tables = tables.map(|table| format!("{schema}.reveille_{table}")).join(", ");
        // In no transaction, and in its own time.
        let (mut c, _) = Url::unlimited_hosts(server)?.connect().await.map_err(doing("connecting"))?;
        let vacuumed = sqlx::raw_sql(AssertSqlSafe(format!("vacuum (analyze) {tables}"))).execute(&mut c).await;
        vacuumed.map_err(doing("vacuuming"))?;
        c.close().await.map_err(doing("closing a connection"))
    }

    /// What a claim and a lease of some rows go through.
    ///
    /// # Errors
    /// If the database does not answer, or does not take as many rows as there are to take.
    pub async fn effort(&self, takers: Takers) -> Result<Effort> {
        match self.url() {
            Url::Postgres(_) => self.pages(takers).await,
            Url::Sqlite(path) => {
                let connected = Url::sqlite_options(path, false).connect().await;
                let mut c = connected.map_err(doing("connecting"))?;
                let effort = self.steps(&mut c, takers).await?;
                c.close().await.map_err(doing("closing a connection"))?;
                Ok(effort)
            }
        }
    }

    /// Runs statements in one transaction, in which they may take their time.
    async fn write(&self, texts: &[String]) -> Result<()> {
        let mut tx = self.begin().await?;
        if let Db::Postgres(c) = tx.db() {
            let patient = sqlx::query("set local statement_timeout = '600s'").execute(c).await;
            patient.map_err(doing("laying out rows"))?;
        }
        for text in texts {
            // Made of constants and numbers of this file.
            let text = AssertSqlSafe(text.clone());
            each!(&mut tx.db(), c => sqlx::raw_sql(text).execute(&mut **c).await.map(drop))
                .map_err(doing("laying out rows"))?;
        }
        tx.commit().await
    }

    /// On PostgreSQL, of the runtime's statements themselves.
    async fn pages(&self, takers: Takers) -> Result<Effort> {
        let now = self.clock().now_ms();
        let (worker, triggerer) = (takers.worker, takers.triggerer);
        let (none, taken) = ("array[]::uuid[]", format!("{TAKEN}::bigint"));
        let claim = format!("null::text[], array['{NAME}'], '{worker}'::uuid, {now}::bigint, {taken}, {none}");
        let lease = format!("null::text[], array['{KIND}'], '{triggerer}'::uuid, {now}::bigint, {taken}, {none}");
        let mut tx = self.begin().await?;
        let Db::Postgres(c) = tx.db() else { return Err(Error::Invalid("pages are PostgreSQL's".to_owned())) };
        let claim = explained(c, include_str!("sql/claim.postgres.sql"), &claim, Some(TAKEN)).await?;
        let look = explained(c, include_str!("sql/look.postgres.sql"), &format!("'{triggerer}'::uuid"), None).await?;
        let lease = explained(c, include_str!("sql/lease.postgres.sql"), &lease, Some(TAKEN)).await?;
        // The connection is closed with its transaction, and nothing is left of either.
        Ok(Effort { claim, lease: look.and(lease) })
    }

    /// On SQLite, of the runtime's verbs.
    async fn steps(&self, c: &mut SqliteConnection, takers: Takers) -> Result<Effort> {
        let steps = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&steps);
        let counted = move || {
            counting.fetch_add(1, Ordering::Relaxed);
            true
        };
        c.lock_handle().await.map_err(doing("counting steps"))?.set_progress_handler(1, counted);
        let (clock, now) = (self.clock(), self.clock().now_ms());
        let scope = |kind: &str| Scope { kinds: vec![kind.to_owned()], ..Scope::default() };
        let (tasks, triggers) = (scope(NAME), scope(KIND));
        let mut least: Option<Effort> = None;
        // The first time finds less in memory than the others.
        for _ in 0..3 {
            let mut tx = c.begin().await.map_err(doing("beginning a transaction"))?;
            let mut spent = (steps.load(Ordering::Relaxed), clock.monotonic());
            let mut lap = || {
                let (from, now) = (spent, (steps.load(Ordering::Relaxed), clock.monotonic()));
                spent = now;
                Cost { work: now.0 - from.0, search: None, took: now.1.saturating_sub(from.1) }
            };
            let claims = task::claim(&mut Db::Sqlite(&mut tx), takers.worker, &tasks, now, TAKEN).await?;
            let claim = lap();
            let (triggerer, db) = (takers.triggerer, &mut Db::Sqlite(&mut tx));
            let look = trigger::look(db, triggerer).await?;
            let leases = trigger::lease(db, triggerer, look.left_behind, &triggers, now, TAKEN).await?;
            let lease = lap();
            taken(claims.mine.len(), TAKEN)?;
            taken(leases.len(), TAKEN)?;
            tx.rollback().await.map_err(doing("putting back what was taken"))?;
            let before = least.unwrap_or(Effort { claim, lease });
            let less = |now: Cost, before: Cost| Cost { took: now.took.min(before.took), ..now };
            least = Some(Effort { claim: less(claim, before.claim), lease: less(lease, before.lease) });
        }
        least.ok_or_else(|| Error::Unusable("nothing was measured".to_owned()))
    }
}

/// What a statement goes through by the server's own account, planned for these arguments and planned for any: the more of
/// the two, and the shorter time. It takes so many rows, or only looks.
async fn explained(c: &mut PgConnection, text: &str, arguments: &str, rows: Option<usize>) -> Result<Cost> {
    let run = async |c: &mut PgConnection, text: String| {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(c).await.map_err(doing("explaining")).map(drop)
    };
    let mut costs = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        run(c, format!("savepoint stuck; set local plan_cache_mode = {mode}")).await?;
        run(c, format!("prepare reveille_stuck as {text}")).await?;
        // The first finds less in memory than the second.
        for _ in 0..2 {
            run(c, "savepoint taking".to_owned()).await?;
            let explain =
                format!("explain (analyze, buffers, timing off, format json) execute reveille_stuck({arguments})");
            let told: Value = sqlx::query_scalar(AssertSqlSafe(explain))
                .persistent(false)
                .fetch_one(&mut *c)
                .await
                .map_err(doing("explaining"))?;
            run(c, "rollback to savepoint taking".to_owned()).await?;
            costs.push(cost(&told[0], rows)?);
        }
        run(c, "deallocate reveille_stuck; rollback to savepoint stuck".to_owned()).await?;
    }
    let took = costs.iter().map(|cost| cost.took).min().unwrap_or_default();
    let (work, search) = (costs.iter().map(|cost| cost.work).max(), costs.iter().filter_map(|cost| cost.search).max());
    Ok(Cost { work: work.unwrap_or_default(), search, took })
}

/// What `explain` tells.
fn cost(told: &Value, rows: Option<usize>) -> Result<Cost> {
    let figure = |value: &Value, name: &str| {
        let figure = value[name].as_f64();
        figure.ok_or_else(|| Error::Unusable(format!("the server's explain tells no {name:?}")))
    };
    let plan = &told["Plan"];
    let pages = |node: &Value| -> Result<u64> {
        Ok((figure(node, "Shared Hit Blocks")? + figure(node, "Shared Read Blocks")?) as u64)
    };
    let search = match rows {
        None => plan,
        Some(rows) => {
            taken(figure(plan, "Actual Rows")?.round() as usize, rows)?;
            let search = nodes(plan).into_iter().find(|node| node["Subplan Name"] == SEARCH);
            search.ok_or_else(|| Error::Unusable("the server's explain tells of no search".to_owned()))?
        }
    };
    let took = Duration::from_secs_f64(figure(told, "Execution Time")? / 1_000.0);
    Ok(Cost { work: pages(plan)?, search: Some(pages(search)?), took })
}

/// Every node of a plan.
fn nodes(plan: &Value) -> Vec<&Value> {
    let children = plan["Plans"].as_array().into_iter().flatten();
    std::iter::once(plan).chain(children.flat_map(nodes)).collect()
}

/// When what sleeps wakes, in SQL.
fn far() -> String {
    format!("{FAR} + n")
}

/// Half on passive waits, half on dormant triggers.
fn asleep(from: usize, count: usize, far: &str) -> [Rows<'_>; 2] {
    let passive = Wait { kind: "timer", passive: "true", wake_at: far };
    let dormant = Wait { kind: KIND, passive: "false", wake_at: far };
    let half = count / 2;
    [
        Rows { from, count: half, wait: Some(passive), ..Rows::default() },
        Rows { from: from + half, count: count - half, wait: Some(dormant), ..Rows::default() },
    ]
}

fn taken(count: usize, wanted: usize) -> Result<()> {
    if count == wanted {
        return Ok(());
    }
    Err(Error::Unusable(format!("{count} rows were taken where {wanted} could be")))
}
