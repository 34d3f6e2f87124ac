//! Claiming: the right to run tasks, those that come first first.

use std::cmp::Reverse;

use uuid::Uuid;

use super::{json, retry};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    store::{
        Db, Scope, doing, rows,
        slot::{self, Keyed},
    },
    task::{Priority, Retry},
};

/// The right to run a task, and what is needed to. Sealed until the worker opens it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What every write of the holder names.
    pub fence: Fence,
    /// The task's name.
    pub name: String,
    /// Its queue.
    pub queue: String,
    /// Its priority.
    pub priority: Priority,
    /// How many times it moved to a next step.
    pub turn: i32,
    /// Which attempt at this turn this is, from 1.
    pub attempt: i32,
    /// How many workers were lost with this turn.
    pub crashes: i32,
    /// How often and how far apart it is tried.
    pub retry: Retry,
    pub(crate) step: Vec<u8>,
    pub(crate) event: Option<Vec<u8>>,
}

/// What a claim came to.
#[derive(Debug, Default)]
pub struct Claims {
    /// What is mine to run, what comes first first.
    pub mine: Vec<Claim>,
    /// What came first as well, and now waits for a slot of its concurrency key. If there is any, there may be more to
    /// claim behind it.
    pub turned_away: Vec<TaskId>,
    /// The keys under which tasks wait since this claim, for what [follows](crate::Store::claimed) its commit.
    pub keys: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct ClaimRow {
    id: Uuid,
    name: String,
    queue: String,
    priority: i16,
    ready_at: Option<i64>,
    generation: i32,
    turn: i32,
    attempt: i32,
    crashes: i32,
    max_attempts: i32,
    backoff_ms: i64,
    backoff_cap_ms: i64,
    slot_key: Option<String>,
    slot_limit: Option<i32>,
    step: Vec<u8>,
    event: Option<Vec<u8>>,
}

impl ClaimRow {
    fn keyed(&self) -> Option<Keyed<'_>> {
        Some(Keyed { task: self.id, key: self.slot_key.as_deref()?, limit: self.slot_limit? })
    }
}

impl From<ClaimRow> for Claim {
    fn from(row: ClaimRow) -> Self {
        Self {
            fence: Fence { task: TaskId(row.id), generation: row.generation },
            name: row.name,
            queue: row.queue,
            priority: Priority::from_rank(row.priority).expect("the column is checked to be 0 to 3"),
            turn: row.turn,
            attempt: row.attempt,
            crashes: row.crashes,
            retry: retry(row.max_attempts, row.backoff_ms, row.backoff_cap_ms),
            step: row.step,
            event: row.event,
        }
    }
}

/// Claims up to `limit` tasks of these names, those that come first first. No queues means all.
///
/// # Errors
/// If the database does not answer: then [`held`](super::held) tells what was claimed.
pub async fn claim(db: &mut Db<'_>, me: Incarnation, scope: &Scope, now: i64, limit: usize) -> Result<Claims> {
    let limit = limit as i64;
    let mut rows: Vec<ClaimRow> = match db {
        Db::Postgres(c) => {
            let query = sqlx::query_as(include_str!("../sql/claim.postgres.sql"));
            let query = query.bind(scope.queues.as_deref()).bind(&scope.kinds).bind(me.0).bind(now).bind(limit);
            query.bind(scope.aside_ids()).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let query = sqlx::query_as(include_str!("../sql/claim.sqlite.sql"));
            let query = query.bind(scope.queues.as_deref().map(json)).bind(json(&scope.kinds)).bind(me.0).bind(now);
            let rows: Vec<ClaimRow> =
                query.bind(limit).bind(scope.aside_json()).fetch_all(&mut **c).await.map_err(doing("claiming"))?;
            told(c, &rows, me, now).await.map(|()| rows)
        }
    }
    .map_err(doing("claiming"))?;
    // The right ones come in any order.
    rows.sort_by_key(|row| (Reverse(row.priority), row.ready_at, row.id));
    let keyed: Vec<Keyed<'_>> = rows.iter().filter_map(ClaimRow::keyed).collect();
    if keyed.is_empty() {
        return Ok(Claims { mine: rows.into_iter().map(Claim::from).collect(), ..Claims::default() });
    }
    let refused = slot::admit(db, me, scope, now, &keyed).await?;
    let (turned_away, mine): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| refused.tasks.contains(&row.id));
    Ok(Claims {
        mine: mine.into_iter().map(Claim::from).collect(),
        turned_away: turned_away.into_iter().map(|row| TaskId(row.id)).collect(),
        keys: refused.keys,
    })
}

async fn told(
    c: &mut sqlx::SqliteConnection,
    claimed: &[ClaimRow],
    me: Incarnation,
    now: i64,
) -> Result<(), sqlx::Error> {
    let file = "with f(id) as (values ($3))
                insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
                select $1 / 86400000 % 32, k.id, $1, k.generation, k.turn, k.attempt, 'ready', 'running', 'claimed', $2
                  from f cross join reveille_task k on k.id = f.id";
    for part in rows::parts(claimed) {
        let (text, bound) = rows::statements(file, [now.into(), me.0.into()], part, |row| [row.id.into()]);
        sqlx::query_with(text, bound).execute(&mut *c).await?;
    }
    Ok(())
}
