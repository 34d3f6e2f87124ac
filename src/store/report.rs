//! What people ask of the store: a task whole, many tasks in brief, and what is not moving.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Db, Store, check::Report, doing, each, history::Transition};
use crate::{
    error::{Error, Result},
    id::{BatchId, Fence, TaskId},
    task::{End, Step, Woken},
    vault::Purpose,
};

/// A task in one line.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Brief {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Its queue.
    pub queue: String,
    /// The state it is in, or ended in.
    pub state: String,
    /// 0 (low) to 3 (urgent).
    pub priority: i16,
    /// How many times it moved to a next step.
    pub turn: i32,
    /// Which attempt at this turn it is at.
    pub attempt: i32,
    /// When it was added, in milliseconds.
    pub enqueued_at: i64,
    /// When it ended.
    pub finished_at: Option<i64>,
    /// The kinds that it waits for.
    pub waits_for: Option<String>,
    /// When its wait is due for a look, or over.
    pub wake_at: Option<i64>,
}

/// Which tasks to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those of this name.
    pub name: Option<String>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those of this batch.
    pub batch: Option<Uuid>,
    /// How many at most.
    pub limit: i64,
}

/// The latest tasks that match, unfinished and finished.
///
/// # Errors
/// If the database does not answer.
pub async fn list(db: &mut Db<'_>, filter: &Filter) -> Result<Vec<Brief>> {
    let unfinished = "select k.id, k.name, k.queue, k.state, k.priority, k.turn, k.attempt, k.enqueued_at, cast(null as bigint) as finished_at,
                             t.kind as waits_for, t.wake_at
                        from reveille_task k left join reveille_trigger t on t.task_id = k.id
                       where (k.state = $1 or $1 is null) and (k.name = $2 or $2 is null) and (k.queue = $3 or $3 is null)
                         and (k.batch = $4 or $4 is null)
                       order by k.id desc limit $5";
    let finished = "select id, name, queue, state, priority, turn, attempt, enqueued_at, finished_at,
                           cast(null as text) as waits_for, cast(null as bigint) as wake_at
                      from reveille_finished
                     where (state = $1 or $1 is null) and (name = $2 or $2 is null) and (queue = $3 or $3 is null)
                       and (batch = $4 or $4 is null)
                     order by id desc limit $5";
    let mut all: Vec<Brief> = Vec::new();
    for text in [unfinished, finished] {
        let rows: Vec<Brief> =
            each!(&mut *db, c => sqlx::query_as(text).bind(filter.state.as_deref()).bind(filter.name.as_deref())
            .bind(filter.queue.as_deref()).bind(filter.batch).bind(filter.limit).fetch_all(&mut **c).await)
            .map_err(doing("listing tasks"))?;
        all.extend(rows);
    }
    all.sort_by_key(|brief| std::cmp::Reverse(brief.id));
    all.truncate(filter.limit.try_into().unwrap_or(usize::MAX));
    Ok(all)
}

/// Everything that is known of one task.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    /// In one line.
    #[serde(flatten)]
    pub brief: Brief,
    /// Where it came from.
    pub origin: String,
    /// How many workers were lost with this turn.
    pub crashes: i32,
    /// How often it is tried.
    pub max_attempts: i32,
    /// The generation, which fences.
    pub generation: i32,
    /// Who holds it.
    pub holder: Option<Uuid>,
    /// When somebody called it off while it ran.
    pub cancel_requested_at: Option<i64>,
    /// The step that it is at, or is to run next.
    pub step: Option<Value>,
    /// How far the step has come, as it last said.
    pub progress: Option<Value>,
    /// What its last wait ended with.
    pub event: Option<Woken>,
    /// What it waits for.
    pub wait: Option<Waiting>,
    /// Its concurrency key.
    pub slot: Option<Slot>,
    /// How it ended.
    pub end: Option<End>,
    /// What happened to it, oldest first.
    pub history: Vec<Transition>,
}

/// A concurrency key as one task has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// The key.
    pub key: String,
    /// How many tasks under it may be at work at once.
    pub limit: i32,
    /// The number that it has taken, from 1 to that; none before it begins and after its end.
    pub number: Option<i32>,
}

/// A wait, as far as the database knows it.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct Waiting {
    /// The generation of its task.
    pub generation: i32,
    /// The kinds of triggers in it.
    pub kind: String,
    /// Whether any live replica may fire it.
    pub passive: bool,
    /// When it began, in milliseconds.
    pub since: i64,
    /// When it is due for a look, or over.
    pub wake_at: Option<i64>,
    /// When it ends badly.
    pub deadline_at: Option<i64>,
    /// Whether a bad end resumes the task.
    pub or_resume: bool,
    /// How many checks in a row may fail to tell.
    pub error_budget: Option<i32>,
    /// The triggerer that holds it.
    pub holder: Option<Uuid>,
    /// How many of its holders were lost.
    pub deaths: i32,
    /// The signals or tasks that it waits for.
    #[sqlx(skip)]
    pub keys: Vec<String>,
    /// Those of them that have come, where it waits for more than that.
    #[sqlx(skip)]
    pub arrived: Vec<String>,
    /// What its checks have come to, as far as its holder has told.
    #[sqlx(skip)]
    pub checked: Option<Report>,
}

#[derive(sqlx::FromRow)]
struct WholeRow {
    #[sqlx(flatten)]
    brief: Brief,
    origin: String,
    crashes: i32,
    max_attempts: i32,
    generation: i32,
    holder: Option<Uuid>,
    cancel_requested_at: Option<i64>,
    step: Option<Vec<u8>>,
    event: Option<Vec<u8>>,
    progress: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
    slot_key: Option<String>,
    slot_limit: Option<i32>,
    slot_number: Option<i32>,
}

impl Store {
    /// Everything that is known of one task, or `None`.
    ///
    /// # Errors
    /// If the database does not answer, or a value does not open.
    pub async fn show(&self, task: TaskId) -> Result<Option<Whole>> {
        self.reading("looking at a task", async |db| self.show_in(db, task).await).await
    }

    async fn show_in(&self, db: &mut Db<'_>, task: TaskId) -> Result<Option<Whole>> {
        let unfinished = "select k.id, k.name, k.queue, k.state, k.priority, k.turn, k.attempt, k.enqueued_at, cast(null as bigint) as finished_at,
                                 t.kind as waits_for, t.wake_at, k.origin, k.crashes, k.max_attempts, k.generation, k.holder,
                                 k.cancel_requested_at, k.step, k.event, k.progress, null as result, k.slot_key, k.slot_limit,
                                 s.n as slot_number
                            from reveille_task k
                            left join reveille_trigger t on t.task_id = k.id
                            left join reveille_slot s on s.task_id = k.id
                           where k.id = $1";
        let finished = "select id, name, queue, state, priority, turn, attempt, enqueued_at, finished_at, cast(null as text) as waits_for,
                               cast(null as bigint) as wake_at, origin, crashes, max_attempts, generation, null as holder,
                               cast(null as bigint) as cancel_requested_at, step, event, null as progress, result, slot_key, slot_limit,
                               cast(null as integer) as slot_number
                          from reveille_finished where id = $1";
        let mut found: Option<WholeRow> = None;
        for text in [unfinished, finished] {
            if found.is_none() {
                found = self.whole_row(db, text, task).await?;
            }
        }
        let Some(row) = found else { return Ok(None) };
        let history = super::history::of(db, task).await?;
        let wait = self.wait_of(db, task).await?;
        Ok(Some(Whole {
            brief: row.brief,
            origin: row.origin,
            crashes: row.crashes,
            max_attempts: row.max_attempts,
            generation: row.generation,
            holder: row.holder,
            cancel_requested_at: row.cancel_requested_at,
            step: row.step.map(|step| self.open::<Step>(Purpose::Step, step).map(|step| step.step)).transpose()?,
            progress: row.progress.map(|progress| self.open(Purpose::Result, progress)).transpose()?,
            event: row.event.map(|event| self.open(Purpose::Event, event)).transpose()?,
            wait,
            slot: row.slot_key.zip(row.slot_limit).map(|(key, limit)| Slot { key, limit, number: row.slot_number }),
            end: row.result.map(|result| self.open(Purpose::Result, result)).transpose()?,
            history,
        }))
    }

    async fn whole_row(&self, db: &mut Db<'_>, text: &'static str, task: TaskId) -> Result<Option<WholeRow>> {
        let text: &'static str = text;
        each!(db, c => sqlx::query_as(text).bind(task.0).fetch_optional(&mut **c).await)
            .map_err(doing("looking for a task"))
    }

    async fn wait_of(&self, db: &mut Db<'_>, task: TaskId) -> Result<Option<Waiting>> {
        let text =
            "select generation, kind, passive, since, wake_at, deadline_at, or_resume, error_budget, holder, deaths
                      from reveille_trigger where task_id = $1";
        let wait: Option<Waiting> =
            each!(&mut *db, c => sqlx::query_as(text).bind(task.0).fetch_optional(&mut **c).await)
                .map_err(doing("looking for a wait"))?;
        let Some(mut wait) = wait else { return Ok(None) };
        let keys = "select key, arrived is not null from reveille_wait_key where task_id = $1 order by key";
        let keys: Vec<(String, bool)> =
            each!(&mut *db, c => sqlx::query_as(keys).bind(task.0).fetch_all(&mut **c).await)
                .map_err(doing("looking for keys"))?;
        for (key, arrived) in keys {
            if arrived {
                wait.arrived.push(key.clone());
            }
            wait.keys.push(key);
        }
        wait.checked = self.last_check(db, Fence { task, generation: wait.generation }).await?;
        Ok(Some(wait))
    }
}

/// How many tasks are where, each counted up to 100,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Ready to be claimed.
    pub ready: i64,
    /// Held by a worker.
    pub running: i64,
    /// Waiting, as a row.
    pub deferred: i64,
    /// Among these, with an active trigger that a triggerer holds.
    pub held: i64,
}

impl Store {
    /// Counts what there is, of one batch or of all.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn census(&self, batch: Option<BatchId>) -> Result<Census> {
        let by_state = "select state, count(*) from (select state from reveille_task where (batch = $1 or $1 is null) limit 100000) as counted group by state";
        let held =
            "select count(*) from (select 1 from reveille_trigger where holder is not null limit 100000) as counted";
        let count = async |db: &mut Db<'_>| {
            let states: Vec<(String, i64)> =
                each!(&mut *db, c => sqlx::query_as(by_state).bind(batch.map(|batch| batch.0)).fetch_all(&mut **c).await)
                    .map_err(doing("counting tasks"))?;
            let held: i64 = each!(db, c => sqlx::query_scalar(held).fetch_one(&mut **c).await)
                .map_err(doing("counting triggers"))?;
            Ok((states, held))
        };
        let (states, held) = self.reading("counting", count).await?;
        let of = |word: &str| states.iter().find(|(state, _)| state == word).map_or(0, |(_, count)| *count);
        Ok(Census { ready: of("ready"), running: of("running"), deferred: of("deferred"), held })
    }
}

/// An id that names no task, as an error that says what to do.
pub fn no_such_task(task: TaskId) -> Error {
    Error::Invalid(format!(
        "there is no task {task}: it was never added here, or is past its retention; `reveille task list` shows those that are"
    ))
}
