//! What plain SQL writes that knows all rows beforehand and does nothing else: what the benchmark compares with.
//!
//! No looking for what is due, no fences, no sealing, nobody to tell; the same tables and indexes. On PostgreSQL only.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Db, Store, doing, each};
use crate::error::Result;

/// What a value takes that is sealed.
const SEALED: &str = "decode(repeat('5e', 60), 'hex')";

const WHEN: &str = "1767225600000";

/// The statements of one transaction, each for the tasks `$1`.
type Transaction = Vec<String>;

/// What is written of each task, in transactions.
#[derive(Clone, Debug)]
pub struct Floor(Vec<Transaction>);

impl Floor {
    /// What a wait leaves that is over.
    pub fn fire() -> Self {
        Self(vec![fired(1)])
    }

    /// What a lease changes.
    pub fn lease() -> Self {
        Self(vec![leased()])
    }

    /// All that a task leaves that waits once, from being added to its end.
    pub fn cycle() -> Self {
        Self(cycled())
    }
}

impl Store {
    /// Writes it for some tasks.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn write_floor(&self, floor: &Floor, ids: &[Uuid]) -> Result<()> {
        for statements in &floor.0 {
            let mut tx = self.begin().await?;
            if let Db::Postgres(c) = tx.db() {
                for text in statements {
                    // Made of constants of this file.
                    let query = sqlx::query(AssertSqlSafe(text.clone())).bind(ids);
                    query.fetch_all(&mut *c).await.map_err(doing("writing the floor"))?;
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Takes away all tasks there are, with their history; or all but those that were [laid out](Store::lay_out_asleep) on
    /// other queues.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take_all_away(&self, but_those_asleep: bool) -> Result<()> {
        let text = if but_those_asleep {
            "set local statement_timeout = '600s';
             delete from reveille_trigger where queue = 'default';
             delete from reveille_task where queue = 'default';
             truncate reveille_history, reveille_finished"
        } else {
            "truncate reveille_task, reveille_trigger, reveille_history, reveille_finished"
        };
        let mut tx = self.begin().await?;
        if let Db::Postgres(c) = tx.db() {
            sqlx::raw_sql(text).execute(c).await.map_err(doing("taking all away"))?;
        }
        tx.commit().await
    }

    /// The tasks that wait, none of those asleep.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn waiting(&self) -> Result<Vec<Uuid>> {
        let text = "select task_id from reveille_trigger where queue = 'default' and holder is null and not passive";
        let look = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_scalar(text).fetch_all(&mut **c).await).map_err(doing("looking for what waits"))
        };
        self.reading("looking for what waits", look).await
    }
}

fn told(generation: i32, was: &str, became: &str, why: &str) -> String {
    format!(
        "insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
         select 1, id, {WHEN}, {generation}, 0, 1, {was}, '{became}', '{why}', id, id from unnest($1::uuid[]) as t(id)"
    )
}

fn fired(generation: i32) -> Transaction {
    vec![
        "delete from reveille_trigger where task_id = any($1)".to_owned(),
        format!(
            "update reveille_task set state = 'ready', generation = {generation}, ready_at = {WHEN}, event = {SEALED} where id = any($1)"
        ),
        told(generation, "'deferred'", "ready", "event"),
    ]
}

fn leased() -> Transaction {
    let holder = Uuid::nil();
    vec![format!(
        "update reveille_trigger set holder = '{holder}' where task_id = any($1)
         returning task_id, generation, kind, spec, since, wake_at, deadline_at, deaths, error_budget"
    )]
}

fn claimed(generation: i32) -> Transaction {
    let holder = Uuid::nil();
    vec![
        format!(
            "update reveille_task set state = 'running', holder = '{holder}', generation = {generation} where id = any($1)
             returning id, name, queue, generation, turn, attempt, step, event"
        ),
        told(generation, "'ready'", "running", "claimed"),
    ]
}

fn cycled() -> Vec<Transaction> {
    let added = format!(
        "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                    max_attempts, backoff_ms, backoff_cap_ms, step, enqueued_at)
         select id, 'bench.floor', 'default', 'manual', 'ready', 1, {WHEN}, 0, 0, 1, 0, 3, 1000, 60000, {SEALED}, {WHEN}
           from unnest($1::uuid[]) as t(id)"
    );
    let waits = format!(
        "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume, deaths)
         select id, 2, 'any+file+timer', false, 'default', 1, {SEALED} || {SEALED}, {WHEN}, {WHEN}, false, 0
           from unnest($1::uuid[]) as t(id)"
    );
    let finished = format!(
        "with gone as (delete from reveille_task where id = any($1) returning *)
         insert into reveille_finished (day, id, name, queue, origin, state, priority, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, result, enqueued_at, finished_at)
         select 1, id, name, queue, origin, 'succeeded', priority, generation, turn, attempt, crashes,
                max_attempts, backoff_ms, backoff_cap_ms, {SEALED}, enqueued_at, {WHEN}
           from gone"
    );
    vec![
        vec![added, told(0, "null", "ready", "enqueued")],
        claimed(1),
        vec![
            format!(
                "update reveille_task set state = 'deferred', holder = null, generation = 2, turn = 1, step = {SEALED} where id = any($1)"
            ),
            waits,
            told(2, "'running'", "deferred", "deferred"),
        ],
        leased(),
        fired(3),
        claimed(4),
        vec![finished, told(5, "'running'", "succeeded", "finished")],
    ]
}
