//! Adding tasks: idempotent by id, unique by key if asked, and in the caller's own transaction if it likes.

mod taken;

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use self::taken::{give_back, known, reserve, take_back};
use super::{BATCH, Db, Store, doing, parts, rows, slot, wait::Wait, wake::Topic};
use crate::{
    clock::millis,
    error::{Error, Result},
    id::{BatchId, TaskId},
    task::{Deferral, Origin, Priority, Retry, Step, Task},
    vault::Purpose,
};

/// A task to be added.
///
/// ```no_run
/// # use reveille::{NewTask, Priority, Store, Task, id::TaskId};
/// # async fn example(store: &Store, report: impl Task) -> reveille::Result<TaskId> {
/// store.enqueue(NewTask::of(&report)?.priority(Priority::High).dedupe("2026-01-01")).await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct NewTask {
    id: Option<TaskId>,
    name: String,
    queue: String,
    origin: Origin,
    batch: Option<BatchId>,
    priority: Priority,
    start: Start,
    expires: Option<Timestamp>,
    retry: Retry,
    dedupe: Option<Dedupe>,
    limit: Option<Limit>,
    trace: Option<String>,
    step: Step,
}

#[derive(Clone, Debug)]
enum Start {
    Now,
    At(Timestamp),
    After(Duration),
    When(Box<Deferral>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Dedupe {
    key: String,
    window: Option<Duration>,
}

/// A concurrency key, and how many tasks under it may be at work at once.
#[derive(Clone, Debug)]
struct Limit {
    key: String,
    n: u32,
}

impl NewTask {
    /// A task that begins with this step, on the queue `default`.
    ///
    /// # Errors
    /// If the step cannot be written as JSON.
    pub fn of<T: Task>(step: &T) -> Result<Self> {
        let step = Step::new(step, false).map_err(|error| Error::json("the step", &error))?;
        Ok(Self::with(T::NAME, step, T::retry()))
    }

    /// A task by its name and the JSON of its step, for a program that does not have its code.
    pub fn named(name: impl Into<String>, step: Value) -> Self {
        Self::with(name, Step { step, or_resume: false }, Retry::default())
    }

    fn with(name: impl Into<String>, step: Step, retry: Retry) -> Self {
        Self {
            id: None,
            name: name.into(),
            queue: "default".to_owned(),
            origin: Origin::Manual,
            batch: None,
            priority: Priority::Normal,
            start: Start::Now,
            expires: None,
            retry,
            dedupe: None,
            limit: None,
            trace: None,
            step,
        }
    }

    /// With an id of the caller's: enqueuing it again changes nothing, and answers with it.
    #[must_use]
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// On another queue than `default`.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// One of many that belong together.
    #[must_use]
    pub fn batch(mut self, batch: BatchId) -> Self {
        self.batch = Some(batch);
        self
    }

    /// Before or after others.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this time.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.start = Start::At(at);
        self
    }

    /// Not before this much time has passed.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.start = Start::After(delay);
        self
    }

    /// Begins deferred: no worker sees it before this wait is over, and the wait may end it without one.
    #[must_use]
    pub fn when(mut self, deferral: Deferral) -> Self {
        self.step.or_resume = deferral.or_resume;
        self.start = Start::When(Box::new(deferral));
        self
    }

    /// Not worth beginning after this time: it is skipped then.
    #[must_use]
    pub fn expires(mut self, at: Timestamp) -> Self {
        self.expires = Some(at);
        self
    }

    /// Another retry policy than its type's.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Only if no unfinished task of this name has this key; else the id of that one is the answer.
    #[must_use]
    pub fn dedupe(mut self, key: impl Into<String>) -> Self {
        self.dedupe = Some(Dedupe { key: key.into(), window: None });
        self
    }

    /// Only if no task of this name was added with this key within the last `window`, finished or not.
    #[must_use]
    pub fn dedupe_within(mut self, key: impl Into<String>, window: Duration) -> Self {
        self.dedupe = Some(Dedupe { key: key.into(), window: Some(window) });
        self
    }

    /// At most `n` unfinished tasks with this key at work, whatever their names: one of `n` slots is taken when the task
    /// is first claimed, and kept through waits and retries until it ends. Until there is one it waits.
    #[must_use]
    pub fn limit(mut self, key: impl Into<String>, n: u32) -> Self {
        self.limit = Some(Limit { key: key.into(), n });
        self
    }

    /// A W3C `traceparent` to go on from.
    #[must_use]
    pub fn trace(mut self, parent: impl Into<String>) -> Self {
        self.trace = Some(parent.into());
        self
    }

    fn validate(&self) -> Result<()> {
        for (what, word) in [("task name", &self.name), ("queue", &self.queue)] {
            if word.is_empty() || word.len() > 200 || word.chars().any(char::is_control) {
                return Err(Error::Invalid(format!(
                    "a {what} has 1 to 200 bytes and no control characters, unlike {word:?}"
                )));
            }
        }
        if let Some(dedupe) = &self.dedupe
            && (dedupe.key.is_empty() || dedupe.key.len() > 500)
        {
            return Err(Error::Invalid("a dedupe key has 1 to 500 bytes".to_owned()));
        }
        if let Some(Limit { key, n }) = &self.limit {
            if key.is_empty() || key.len() > 200 || key.chars().any(char::is_control) {
                return Err(Error::Invalid(format!(
                    "a concurrency key has 1 to 200 bytes and no control characters, unlike {key:?}"
                )));
            }
            if !(1..=slot::MOST).contains(n) {
                return Err(Error::Invalid(format!(
                    "a concurrency key has 1 to {} slots, unlike {key:?} with {n}: under 1, its tasks would wait for ever",
                    slot::MOST
                )));
            }
        }
        if self.retry.max_attempts < 1 {
            return Err(Error::Invalid("a task needs at least 1 attempt".to_owned()));
        }
        Ok(())
    }
}

impl Limit {
    /// As it is stored.
    fn column(&self) -> i32 {
        i32::try_from(self.n).unwrap_or(i32::MAX)
    }
}

/// A task as it goes to the database.
#[derive(Debug)]
struct Row {
    id: Uuid,
    task: NewTask,
    step: Vec<u8>,
    wait: Option<Wait>,
    /// It has its dedupe key by this call.
    took_key: bool,
}

impl Row {
    /// In bytes, as far as it is large.
    fn size(&self) -> usize {
        self.step.len() + self.wait.as_ref().map_or(0, Wait::size)
    }
}

impl Store {
    /// Adds a task in a transaction of its own; answers with its id, or that of the one that was there.
    ///
    /// # Errors
    /// If something about it is wrong, or the database does not answer: then enqueue it again with the same id.
    pub async fn enqueue(&self, task: NewTask) -> Result<TaskId> {
        let mut ids = self.enqueue_all(vec![task]).await?;
        Ok(ids.pop().expect("one task was given"))
    }

    /// Adds tasks in one transaction; answers in the order given.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); then none of them is added.
    pub async fn enqueue_all(&self, tasks: Vec<NewTask>) -> Result<Vec<TaskId>> {
        let keys = self.keys_of(&tasks)?;
        let ids = super::within("enqueuing", async {
            let mut tx = self.begin().await?;
            let ids = self.enqueue_in(&mut tx.db(), tasks).await?;
            tx.commit().await?;
            Ok(ids)
        })
        .await?;
        self.enqueued();
        // They are stored. What has come for them already is found by a replica's next look, if not now.
        if let Err(error) = self.match_keys(&keys, None).await {
            tracing::debug!("waits that are over are found at the next match: {}", error.chain());
        }
        Ok(ids)
    }

    /// Adds tasks in the caller's own transaction: they exist if and only if it commits. Call
    /// [`enqueued`](Self::enqueued) after that, to have them looked at without waiting for a poll.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_in(&self, db: &mut Db<'_>, tasks: Vec<NewTask>) -> Result<Vec<TaskId>> {
        let now = self.clock().now_ms();
        tasks.iter().try_for_each(NewTask::validate)?;
        let given: Vec<Uuid> = tasks.iter().filter_map(|task| Some(task.id?.0)).collect();
        // One that is there, or comes twice in this batch, changes nothing: it takes no key either.
        let mut seen = known(db, &given).await?;
        let mut ids: Vec<TaskId> = tasks.iter().map(|task| task.id.unwrap_or_else(TaskId::mint)).collect();
        let mut tasks: Vec<(usize, NewTask)> =
            tasks.into_iter().enumerate().filter(|(at, _)| seen.insert(ids[*at])).collect();
        // Keys in their order, and then tasks in theirs, so that two batches with the same ones wait for each other in turn.
        tasks.sort_by(|(_, a), (_, b)| (&a.name, &a.dedupe).cmp(&(&b.name, &b.dedupe)));
        // What cannot be stored is found before anything is written: a caller may commit after an error of ours.
        let mut sealed = Vec::with_capacity(tasks.len());
        for (at, task) in tasks {
            let step = self.seal(Purpose::Step, "step", &task.step)?;
            let wait = match &task.start {
                Start::Now => None,
                Start::At(at) => Some(Wait::until(at.as_millisecond())),
                Start::After(delay) => Some(Wait::until(now.saturating_add(millis(*delay)))),
                Start::When(deferral) => Some(self.arm(deferral)?),
            };
            sealed.push((at, Row { id: ids[at].0, task, step, wait, took_key: false }));
        }
        let mut rows = Vec::with_capacity(sealed.len());
        for (at, mut row) in sealed {
            let own = ids[at];
            if let Some(dedupe) = &row.task.dedupe {
                let holder = reserve(db, &row.task.name, dedupe, own, now).await?;
                row.took_key = holder.is_none();
                ids[at] = holder.unwrap_or(own);
            }
            if ids[at] == own {
                rows.push(row);
            }
        }
        rows.sort_by_key(|row| row.id);
        for queue in rows.iter().map(|row| row.task.queue.as_str()).collect::<BTreeSet<_>>() {
            super::queue::know(db, queue).await?;
        }
        for kind in
            rows.iter().filter_map(|row| row.wait.as_ref()).map(|wait| wait.kind.as_str()).collect::<BTreeSet<_>>()
        {
            super::trigger::know_kinds(db, kind).await?;
        }
        for rows in parts(rows, BATCH, Row::size) {
            let mut made = insert(db, now, &rows).await?;
            // Only an id of a caller's can be another's as well.
            let shared = rows.iter().filter(|row| row.task.id.is_some() && made.contains(&row.id)).map(|row| row.id);
            for ended in take_back(db, now, &shared.collect::<Vec<_>>()).await? {
                made.remove(&ended);
            }
            for row in rows.iter().filter(|row| !made.contains(&row.id)) {
                give_back(db, row).await?;
            }
        }
        Ok(ids)
    }

    /// Tells the loops that tasks were added.
    pub fn enqueued(&self) {
        for topic in [Topic::Ready, Topic::Waiting, Topic::Passive] {
            self.wake().hint(topic);
        }
    }

    /// The keys that these tasks will wait on: whoever stores a wait commits first, and then matches.
    fn keys_of(&self, tasks: &[NewTask]) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        for task in tasks {
            if let Start::When(deferral) = &task.start {
                keys.extend(self.arm(deferral)?.keys);
            }
        }
        Ok(keys)
    }
}

/// Inserts tasks; answers which. The others are there already.
async fn insert(db: &mut Db<'_>, now: i64, rows: &[Row]) -> Result<HashSet<Uuid>> {
    let made = match db {
        Db::Postgres(c) => insert_postgres(c, now, rows).await,
        Db::Sqlite(c) => insert_sqlite(c, now, rows).await,
    };
    Ok(made.map_err(doing("enqueuing"))?.into_iter().collect())
}

async fn insert_postgres(c: &mut sqlx::PgConnection, now: i64, rows: &[Row]) -> Result<Vec<Uuid>, sqlx::Error> {
    /// One array of a column of the tasks.
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let waits: Vec<(Uuid, &Wait)> = rows.iter().filter_map(|row| Some((row.id, row.wait.as_ref()?))).collect();
    let keys: Vec<(Uuid, &str)> =
        waits.iter().flat_map(|(id, wait)| wait.keys.iter().map(|key| (*id, key.as_str()))).collect();
    sqlx::query_scalar(include_str!("sql/enqueue.postgres.sql"))
        .bind(now)
        .bind(column!(row => row.id))
        .bind(column!(row => row.task.name.as_str()))
        .bind(column!(row => row.task.queue.as_str()))
        .bind(column!(row => row.task.origin.word()))
        .bind(column!(row => row.task.batch.map(|batch| batch.0)))
        .bind(column!(row => row.task.priority.rank()))
        .bind(column!(row => row.wait.is_none().then_some(now)))
        .bind(column!(row => row.task.expires.map(jiff::Timestamp::as_millisecond)))
        .bind(column!(row => row.task.retry.max_attempts))
        .bind(column!(row => millis(row.task.retry.backoff)))
        .bind(column!(row => millis(row.task.retry.cap)))
        .bind(column!(row => row.task.dedupe.as_ref().map(|dedupe| dedupe.key.as_str())))
        .bind(column!(row => row.step.as_slice()))
        .bind(column!(row => row.task.trace.as_deref()))
        .bind(column!(row => row.task.limit.as_ref().map(|limit| limit.key.as_str())))
        .bind(column!(row => row.task.limit.as_ref().map(Limit::column)))
        .bind(waits.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.kind.as_str()).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.passive).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.spec.as_deref()).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.wake_at).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.deadline_at).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.deadline_is_fixed).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.or_resume).collect::<Vec<_>>())
        .bind(waits.iter().map(|(_, wait)| wait.error_budget).collect::<Vec<_>>())
        .bind(keys.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, key)| *key).collect::<Vec<_>>())
        .fetch_all(c)
        .await
}

async fn insert_sqlite(c: &mut sqlx::SqliteConnection, now: i64, rows: &[Row]) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut all = Vec::with_capacity(rows.len());
    for part in rows::parts(rows) {
        let waits = part.iter().filter_map(|row| Some((row.id, row.wait.as_ref()?)));
        let keys =
            waits.flat_map(|(id, wait)| wait.keys.iter().map(move |key| json!([id.simple(), key]))).collect::<Value>();
        let keys = keys.to_string();
        let all_rows = [now.into(), keys.as_str().into()];
        let (text, bound) = rows::statements(include_str!("sql/enqueue.sqlite.sql"), all_rows, part, |row| {
            let wait = row.wait.as_ref();
            [
                row.id.into(),
                (&row.task.name).into(),
                (&row.task.queue).into(),
                row.task.origin.word().into(),
                row.task.batch.map(|batch| batch.0).into(),
                row.task.priority.rank().into(),
                wait.is_none().then_some(now).into(),
                row.task.expires.map(jiff::Timestamp::as_millisecond).into(),
                row.task.retry.max_attempts.into(),
                millis(row.task.retry.backoff).into(),
                millis(row.task.retry.cap).into(),
                row.task.dedupe.as_ref().map(|dedupe| dedupe.key.as_str()).into(),
                (&row.step).into(),
                row.task.trace.as_deref().into(),
                row.task.limit.as_ref().map(|limit| limit.key.as_str()).into(),
                row.task.limit.as_ref().map(Limit::column).into(),
                wait.map(|wait| wait.kind.as_str()).into(),
                wait.map(|wait| wait.passive).into(),
                wait.and_then(|wait| wait.spec.as_deref()).into(),
                wait.and_then(|wait| wait.wake_at).into(),
                wait.and_then(|wait| wait.deadline_at).into(),
                wait.map(|wait| wait.deadline_is_fixed).into(),
                wait.map(|wait| wait.or_resume).into(),
                wait.and_then(|wait| wait.error_budget).into(),
            ]
        });
        all.extend(sqlx::query_scalar_with::<_, Uuid, _>(text, bound).fetch_all(&mut *c).await?);
    }
    Ok(all)
}
