//! The demo: every way that a task can wait and end, for real, with a triggerer and a worker side by side.
//!
//! It uses what users use: tasks written against the public API, files, other processes, and the command line itself. It
//! is right only if every task ended as it should.

mod act;
mod report;
mod tasks;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::process::Command;

pub use self::report::Report;
use self::{
    act::{Act, Expected},
    tasks::{Approval, Chain, Doomed, FilePickup, Flaky, Journey, Sleeper},
};
use crate::{
    error::{Error, Result},
    id::{BatchId, TaskId},
    life::Stop,
    store::{NewTask, Options, Store, Url, report::Census, scratch::Scratch},
    task::{EndState, TaskState, defer},
    triggerer,
    vault::Vault,
    wait::TaskEnd,
    worker::{self, Tasks},
};

/// How long everything may take before the demo gives up.
const LIMIT: Duration = Duration::from_mins(2);

/// How often the stage is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The sleepers fall asleep first, and wake over this long.
const ASLEEP: Duration = Duration::from_secs(8);
const WAKING: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A PostgreSQL server, or none for a fresh embedded database.
    pub server: Option<String>,
    /// Whether to keep the database afterwards.
    pub keep: bool,
    /// How many tasks sleep on timers.
    pub sleepers: usize,
    /// This program, for what other processes do.
    pub program: PathBuf,
}

/// What the demo has come to, for whoever shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// How many tasks there are.
    pub tasks: usize,
    /// Whether they have all been added.
    pub all_added: bool,
    /// Where they are.
    pub census: Census,
}

/// Runs it. `show` is told of the progress.
///
/// # Errors
/// If the stage cannot be set. Tasks that end otherwise than they should are in the report.
pub async fn run(settings: Settings, show: impl Fn(Progress)) -> Result<Report> {
    let stage = Stage::set(&settings).await?;
    let stop = Stop::new();
    let store = stage.store.clone();
    let lease = Duration::from_secs(10);
    let triggerer = triggerer::Settings { label: "demo".to_owned(), lease, ..triggerer::Settings::default() };
    let worker = worker::Settings { label: "demo".to_owned(), lease, ..worker::Settings::default() };
    let roles = async {
        tokio::try_join!(
            triggerer::run(store.clone(), triggerer, stop.clone()),
            worker::run(store.clone(), tasks(), worker, stop.clone()),
        )
    };
    let play = async {
        let report = tokio::select! {
            report = stage.play(&settings, &show) => report,
            () = store.clock().sleep(LIMIT) => Err(Error::Unusable(format!("the demo had not ended after {} s", LIMIT.as_secs()))),
        };
        stop.soft().cancel();
        report
    };
    let (report, served) = tokio::join!(play, roles);
    served?;
    stage.strike(settings.keep).await?;
    report
}

// Linked into the stock binary too, so that a worker of it has something to run by hand.
crate::tasks!(FilePickup, Journey, Approval, Flaky, Doomed, Chain, Sleeper);

/// The tasks of the demo.
pub fn tasks() -> Tasks {
    Tasks::new()
        .with::<FilePickup>()
        .with::<Journey>()
        .with::<Approval>()
        .with::<Flaky>()
        .with::<Doomed>()
        .with::<Chain>()
        .with::<Sleeper>()
}

/// Writes a file in parts, as another program would; what `--write-file` runs in a process of its own.
///
/// # Errors
/// If it cannot be written.
pub async fn write_file(path: &Path) -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let failed = |error: std::io::Error| Error::Invalid(format!("cannot write {}: {error}", path.display()));
    let mut file = tokio::fs::File::create(path).await.map_err(failed)?;
    let clock = crate::clock::Clock::system();
    for part in 1..=5 {
        file.write_all(format!("part {part}\n").as_bytes()).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        clock.sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// A database, a folder, and the way to other processes.
struct Stage {
    store: Store,
    folder: tempfile::TempDir,
    scratch: Option<Scratch>,
    database_url: String,
    batch: BatchId,
}

impl Stage {
    async fn set(settings: &Settings) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("reveille-demo-")
            .tempdir()
            .map_err(|error| Error::Unusable(format!("cannot make a folder: {error}")))?;
        let (scratch, url) = match &settings.server {
            Some(server) => {
                let (scratch, url) = Scratch::make(server, "reveille_demo").await?;
                (Some(scratch), url)
            }
            None => (None, Url::Sqlite(folder.path().join("reveille.db"))),
        };
        let database_url = match &url {
            Url::Sqlite(path) => format!("sqlite:{}", path.display()),
            Url::Postgres(text) => text.clone(),
        };
        Store::migrate(&url).await?;
        let vault = Vault::read_or_create(folder.path().join("reveille.key"))?;
        let store = Store::connect(Options::new(url, vault)).await?;
        Ok(Self { store, folder, scratch, database_url, batch: BatchId::mint() })
    }

    async fn strike(self, keep: bool) -> Result<()> {
        self.store.close().await;
        if keep {
            let folder = self.folder.keep();
            eprintln!(
                "kept: --database-url '{}' --key-file {}",
                self.database_url,
                folder.join("reveille.key").display()
            );
            return Ok(());
        }
        match self.scratch {
            Some(scratch) => scratch.remove().await,
            None => Ok(()),
        }
    }

    async fn play(&self, settings: &Settings, show: &impl Fn(Progress)) -> Result<Report> {
        let started = self.store.clock().now_ms();
        let acts = Arc::new(Mutex::new(Vec::new()));
        let total = settings.sleepers + ACTS;
        let peak = Mutex::new(Census::default());
        let added = AtomicBool::new(false);
        let watching = async {
            loop {
                let census = match self.store.census(Some(self.batch)).await {
                    Ok(census) => census,
                    Err(error) => break error,
                };
                {
                    let mut peak = peak.lock().expect("nothing panics while it is held");
                    peak.deferred = peak.deferred.max(census.deferred);
                    peak.held = peak.held.max(census.held);
                }
                let all_added = added.load(Ordering::Relaxed);
                show(Progress { tasks: total, all_added, census });
                self.store.clock().sleep(LOOK).await;
            }
        };
        let playing = async {
            let sleepers = async {
                self.put_to_sleep(settings.sleepers).await?;
                added.store(true, Ordering::Relaxed);
                Ok(())
            };
            tokio::try_join!(sleepers, self.featured(settings, &acts))?;
            self.all_have_ended().await
        };
        tokio::select! {
            played = playing => played?,
            error = watching => return Err(error),
        }
        let acts = std::mem::take(&mut *acts.lock().expect("nothing panics while it is held"));
        let peak = *peak.lock().expect("nothing panics while it is held");
        let awake = self.ended_well(settings.sleepers).await?;
        report::gather(&self.store, acts, settings.sleepers, awake, peak, started).await
    }

    fn task(&self, task: NewTask) -> NewTask {
        task.batch(self.batch)
    }

    async fn put_to_sleep(&self, sleepers: usize) -> Result<()> {
        tasks::listen();
        let asleep_until = self.store.clock().now_ms() + crate::clock::millis(ASLEEP);
        let mut tasks = Vec::with_capacity(sleepers);
        for sleeper in 0..sleepers {
            let spread = crate::clock::millis(WAKING) * sleeper as i64 / sleepers.max(1) as i64;
            tasks.push(self.task(NewTask::of(&Sleeper::new(asleep_until + spread))?.queue("sleepers")));
        }
        while !tasks.is_empty() {
            let rest = tasks.split_off(tasks.len().min(500));
            self.store.enqueue_all(std::mem::replace(&mut tasks, rest)).await?;
        }
        Ok(())
    }

    /// The tasks that are told of one by one.
    async fn featured(&self, settings: &Settings, acts: &Mutex<Vec<Act>>) -> Result<()> {
        let folder = self.folder.path();
        let program = &settings.program;
        let add = async |title, task: NewTask, expected: Expected| -> Result<TaskId> {
            let id = self.store.enqueue(self.task(task)).await?;
            acts.lock().expect("nothing panics while it is held").push(Act { title, id, expected });
            Ok(id)
        };
        let from_file = async {
            let path = folder.join("report.csv");
            add(
                "waits for a file, written in parts by another process",
                NewTask::of(&FilePickup::at(&path))?,
                Expected::result(json!({ "bytes": 35 })),
            )
            .await?;
            run_program(program, &["demo", "--write-file", &path.to_string_lossy()]).await
        };
        let two_waits = add(
            "defers twice",
            NewTask::of(&Journey::new())?,
            Expected { turns: Some(2), ..Expected::end(EndState::Succeeded) },
        );
        let signalled_late = async {
            let id = add(
                "is signalled from outside, after it deferred",
                NewTask::of(&Approval::of("demo/late"))?,
                Expected::result(json!("late")),
            )
            .await?;
            self.until_deferred(id).await?;
            self.signal(program, "demo/late", "late").await
        };
        let signalled_early = async {
            self.signal(program, "demo/early", "early").await?;
            add(
                "is signalled from outside, before it deferred",
                NewTask::of(&Approval::of("demo/early"))?,
                Expected::result(json!("early")),
            )
            .await
        };
        let by_trigger = add(
            "begins as a trigger and ends from it, with no worker",
            NewTask::of(&Doomed::never_run())?.when(defer(tasks::Countdown::of(3))),
            Expected { claims: Some(0), ..Expected::result(json!({ "looks": 3 })) },
        );
        let retried = add(
            "fails twice and is retried",
            NewTask::of(&Flaky::new())?,
            Expected { attempts: Some(3), ..Expected::end(EndState::Succeeded) },
        );
        let late = add(
            "hits its deadline",
            NewTask::of(&Doomed::waits(Some(Duration::from_secs(1))))?,
            Expected::why(EndState::Failed, "deadline"),
        );
        let cancelled = async {
            let id = add(
                "is cancelled while it waits",
                NewTask::of(&Doomed::waits(None))?,
                Expected::why(EndState::Cancelled, "cancelled"),
            )
            .await?;
            self.until_deferred(id).await?;
            self.store.cancel(id, "the demo called it off").await
        };
        let chained = async {
            let first = TaskId::mint();
            add(
                "waits for another task to end",
                NewTask::of(&Chain::after(first))?,
                Expected::result(json!({ "heard": 42 })),
            )
            .await?;
            add("is that other task", NewTask::of(&Chain::first())?.id(first), Expected::result(json!(42))).await
        };
        let in_order = add(
            "begins when another has ended",
            NewTask::of(&Chain::Last { heard: json!("started by a trigger") })?
                .when(defer(TaskEnd::of(TaskId::mint().0)).deadline(Duration::from_secs(1)).or_resume()),
            Expected::end(EndState::Succeeded),
        );
        tokio::try_join!(
            from_file,
            two_waits,
            signalled_late,
            signalled_early,
            by_trigger,
            retried,
            late,
            cancelled,
            chained,
            in_order
        )?;
        Ok(())
    }

    /// Sends a signal as a person would, from another process.
    async fn signal(&self, program: &Path, key: &str, text: &str) -> Result<()> {
        let payload = json!(text).to_string();
        let key_file = self.folder.path().join("reveille.key");
        let key_file = key_file.to_string_lossy();
        run_program(
            program,
            &[
                "task",
                "signal",
                key,
                "--payload",
                &payload,
                "--database-url",
                &self.database_url,
                "--key-file",
                &key_file,
            ],
        )
        .await
    }

    async fn until_deferred(&self, task: TaskId) -> Result<()> {
        loop {
            let whole = self.store.show(task).await?;
            if whole.is_some_and(|whole| whole.brief.state == TaskState::Deferred.word()) {
                return Ok(());
            }
            self.store.clock().sleep(LOOK).await;
        }
    }

    async fn all_have_ended(&self) -> Result<()> {
        loop {
            let census = self.store.census(Some(self.batch)).await?;
            if census.ready + census.running + census.deferred == 0 {
                return Ok(());
            }
            self.store.clock().sleep(LOOK).await;
        }
    }

    /// How many sleepers have ended well.
    async fn ended_well(&self, sleepers: usize) -> Result<usize> {
        let mut tx = self.store.read().await?;
        let filter = crate::store::report::Filter {
            state: Some(EndState::Succeeded.word().to_owned()),
            name: Some(<Sleeper as crate::Task>::NAME.to_owned()),
            batch: Some(self.batch.0),
            limit: sleepers as i64 + 1,
            ..Default::default()
        };
        let found = crate::store::report::list(&mut tx.db(), &filter).await?.len();
        tx.commit().await?;
        Ok(found)
    }
}

/// How many tasks are told of one by one.
const ACTS: usize = 11;

async fn run_program(program: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::Unusable(format!("cannot run {}: {error}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unusable(format!("`reveille {}` failed: {}", arguments.join(" "), said.trim())))
}
