//! A database, a folder, and the way to other processes: what the acts are played on.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Settings,
    act::{Act, Expected},
    tasks::{self, Sleeper},
};
use crate::{
    Task,
    clock::millis,
    error::{Error, Result},
    id::{BatchId, TaskId},
    outside,
    store::{
        NewTask, Store, Url,
        report::{self, Census, Whole},
        scratch::Scratch,
    },
    task::{EndState, TaskState},
    trigger::Config,
};

/// How often the stage is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The sleepers fall asleep first, and wake over this long.
const ASLEEP: Duration = Duration::from_secs(8);
const WAKING: Duration = Duration::from_secs(5);

/// How many tasks are added at once.
const BATCH: usize = 500;

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) store: Store,
    /// This program, for what other processes do.
    pub(super) program: PathBuf,
    scratch: Scratch,
    batch: BatchId,
    acts: Mutex<Vec<Act>>,
}

impl Stage {
    pub(super) async fn set(settings: &Settings) -> Result<Self> {
        let scratch = Scratch::make(&settings.database, "reveille_demo").await?;
        match scratch.open().await {
            Ok(store) => {
                let program = settings.program.clone();
                Ok(Self { store, program, scratch, batch: BatchId::mint(), acts: Mutex::default() })
            }
            Err(error) => {
                scratch.remove().await?;
                Err(error)
            }
        }
    }

    pub(super) async fn strike(self, keep: bool) -> Result<()> {
        self.store.close().await;
        if !keep {
            return self.scratch.remove().await;
        }
        let url = self.scratch.written_url();
        eprintln!("kept: --database-url '{url}' --key-file {}", self.scratch.keep().display());
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        self.scratch.folder()
    }

    /// A database that knows nothing of us: beside ours if that is a file, or in our schema.
    pub(super) fn elsewhere(&self) -> Url {
        match self.scratch.url() {
            Url::Sqlite(_) => Url::Sqlite(self.folder().join("orders.db")),
            server @ Url::Postgres(_) => server.clone(),
        }
    }

    /// One of its tables by its whole name, for whoever is not led to our schema: behind a pooler no session can be.
    pub(super) fn elsewhere_as(&self, table: &str) -> String {
        self.scratch.schema().map_or_else(|| table.to_owned(), |schema| format!("{schema}.{table}"))
    }

    /// What the triggerer is configured with, as `reveille.toml` would have it.
    pub(super) fn config(&self) -> Config {
        let url = match self.elsewhere() {
            Url::Sqlite(path) => format!("sqlite://{}", path.display()),
            Url::Postgres(_) => self.scratch.server_url().expect("a schema is on a server").to_owned(),
        };
        let connections = [("orders".to_owned(), json!({ "url": url }))];
        let kinds = [("command".to_owned(), json!({ "allow": [self.program] }))];
        Config::new(connections.into(), kinds.into())
    }

    pub(super) fn acts(&self) -> MutexGuard<'_, Vec<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a task that is told of by itself.
    pub(super) async fn add(&self, title: &'static str, task: NewTask, expected: Expected) -> Result<TaskId> {
        let id = self.store.enqueue(task.batch(self.batch)).await?;
        self.acts().push(Act { title, id, expected });
        Ok(id)
    }

    /// Adds those that are only counted.
    pub(super) async fn put_to_sleep(&self, sleepers: usize) -> Result<()> {
        tasks::LAGS.forget();
        let asleep_until = self.store.clock().now_ms() + millis(ASLEEP);
        for from in (0..sleepers).step_by(BATCH) {
            let batch = (from..sleepers.min(from + BATCH)).map(|sleeper| {
                let spread = millis(WAKING) * sleeper as i64 / sleepers as i64;
                let task = NewTask::of(&Sleeper::new(asleep_until + spread))?;
                Ok(task.queue("sleepers").batch(self.batch))
            });
            self.store.enqueue_all(batch.collect::<Result<_>>()?).await?;
        }
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let failed = |error| Error::Unusable(format!("cannot rename {}: {error}", from.display()));
        std::fs::rename(from, to).map_err(failed)
    }

    /// Sends a signal as a person would, from another process.
    pub(super) async fn signal(&self, key: &str, payload: impl Into<Value>) -> Result<()> {
        let (payload, url, key_file) =
            (payload.into().to_string(), self.scratch.written_url(), self.scratch.key_file());
        let key_file = key_file.to_string_lossy();
        let place = ["--database-url", &url, "--key-file", &key_file];
        outside::run(&self.program, &[&["task", "signal", key, "--payload", &payload], &place[..]].concat()).await
    }

    pub(super) async fn until_deferred(&self, task: TaskId) -> Result<()> {
        self.until(task, |whole| whole.brief.state == TaskState::Deferred.word()).await
    }

    pub(super) async fn until_ended(&self, task: TaskId) -> Result<()> {
        self.until(task, |whole| whole.end.is_some()).await
    }

    async fn until(&self, task: TaskId, is_so: impl Fn(&Whole) -> bool) -> Result<()> {
        while !self.store.show(task).await?.is_some_and(|whole| is_so(&whole)) {
            self.store.clock().sleep(LOOK).await;
        }
        Ok(())
    }

    pub(super) async fn until_all_have_ended(&self) -> Result<()> {
        loop {
            let census = self.census().await?;
            if census.ready + census.running + census.deferred == 0 {
                return Ok(());
            }
            self.store.clock().sleep(LOOK).await;
        }
    }

    pub(super) async fn census(&self) -> Result<Census> {
        self.store.census(Some(self.batch)).await
    }

    /// How many sleepers have ended well.
    pub(super) async fn awake(&self, sleepers: usize) -> Result<usize> {
        let filter = report::Filter {
            state: Some(EndState::Succeeded.word().to_owned()),
            name: Some(<Sleeper as Task>::NAME.to_owned()),
            batch: Some(self.batch.0),
            limit: sleepers as i64 + 1,
            ..Default::default()
        };
        let mut tx = self.store.read().await?;
        let found = report::list(&mut tx.db(), &filter).await?.len();
        tx.commit().await?;
        Ok(found)
    }
}
