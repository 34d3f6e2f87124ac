//! The demo: every way that a task can wait and end, for real, with a triggerer and a worker side by side.
//!
//! It uses what users use: tasks written against the public API, files, servers, other processes, and the command line
//! itself. It is right only if every task ended as it should.

mod act;
mod play;
mod report;
mod several;
mod stage;
mod tasks;

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use self::report::Report;
use futures::FutureExt;
use tracing::Span;

use self::{
    several::{Order, Publish},
    stage::{LOOK, Stage},
    tasks::{Approval, Chain, Doomed, FilePickup, Flaky, FromCommand, FromDatabase, FromWeb, Journey, Sleeper},
};
use crate::{
    error::{Error, Result},
    life::{self, Stop},
    store::{Url, report::Census},
    triggerer,
    worker::{self, Tasks},
};

/// How long everything may take before the demo gives up.
const LIMIT: Duration = Duration::from_mins(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A server, on which a schema is made; or a file, which is left alone for a fresh one.
    pub database: Url,
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
    /// Whether the sleepers have all been added.
    pub all_added: bool,
    /// Where they are.
    pub census: Census,
}

/// Runs it; `None` if it was stopped before its end. `show` is told of the progress.
///
/// # Errors
/// If the stage cannot be set. Tasks that end otherwise than they should are in the report.
pub async fn run(settings: Settings, stop: &Stop, show: impl Fn(Progress)) -> Result<Option<Report>> {
    let stage = Stage::set(&settings).await?;
    let played = play(&stage, &settings, stop, show).await;
    stage.strike(settings.keep).await?;
    played
}

async fn play(stage: &Stage, settings: &Settings, stop: &Stop, show: impl Fn(Progress)) -> Result<Option<Report>> {
    let over = Stop::new();
    let lease = Duration::from_secs(10);
    let triggerer = triggerer::Settings {
        label: "demo".to_owned(),
        lease,
        config: stage.config(),
        ..triggerer::Settings::default()
    };
    let worker = worker::Settings { label: "demo".to_owned(), lease, ..worker::Settings::default() };
    let store = &stage.store;
    let checking = triggerer::run(store.clone(), triggerer, over.clone());
    let working = worker::run(store.clone(), tasks(), worker, over.clone());
    let roles = life::together(&over, [(Span::none(), checking.boxed()), (Span::none(), working.boxed())]);
    let playing = async {
        let limit = LIMIT.as_secs();
        let report = tokio::select! {
            report = watched(stage, settings, &show) => report.map(Some),
            () = stop.soft().cancelled() => Ok(None),
            () = store.clock().sleep(LIMIT) => Err(Error::Unusable(format!("the demo had not ended after {limit} s"))),
        };
        over.soft().cancel();
        report
    };
    let (report, served) = tokio::join!(playing, roles);
    served?;
    report
}

/// Plays all acts to their end, while it is looked at how many tasks wait.
async fn watched(stage: &Stage, settings: &Settings, show: &impl Fn(Progress)) -> Result<Report> {
    let started = stage.store.clock().now_ms();
    let peak = Mutex::new(Census::default());
    let added = AtomicBool::new(false);
    let watching = async {
        loop {
            let census = match stage.census().await {
                Ok(census) => census,
                Err(error) => break error,
            };
            {
                let mut peak = peak.lock().unwrap_or_else(PoisonError::into_inner);
                peak.deferred = peak.deferred.max(census.deferred);
                peak.held = peak.held.max(census.held);
            }
            let tasks = settings.sleepers + stage.acts().len();
            show(Progress { tasks, all_added: added.load(Ordering::Relaxed), census });
            stage.store.clock().sleep(LOOK).await;
        }
    };
    let playing = async {
        let sleepers = async {
            stage.put_to_sleep(settings.sleepers).await?;
            added.store(true, Ordering::Relaxed);
            Ok(())
        };
        tokio::try_join!(sleepers, play::all(stage))?;
        stage.until_all_have_ended().await
    };
    tokio::select! {
        played = playing => played?,
        error = watching => return Err(error),
    }
    let acts = std::mem::take(&mut *stage.acts());
    let peak = *peak.lock().unwrap_or_else(PoisonError::into_inner);
    let awake = stage.awake(settings.sleepers).await?;
    report::gather(&stage.store, acts, settings.sleepers, awake, peak, started).await
}

// Linked into the stock binary too, so that a worker of it has something to run by hand.
crate::tasks!(
    FilePickup,
    FromWeb,
    FromDatabase,
    FromCommand,
    Order,
    Publish,
    Journey,
    Approval,
    Flaky,
    Doomed,
    Chain,
    Sleeper
);

/// The tasks of the demo.
pub fn tasks() -> Tasks {
    Tasks::new()
        .with::<FilePickup>()
        .with::<FromWeb>()
        .with::<FromDatabase>()
        .with::<FromCommand>()
        .with::<Order>()
        .with::<Publish>()
        .with::<Journey>()
        .with::<Approval>()
        .with::<Flaky>()
        .with::<Doomed>()
        .with::<Chain>()
        .with::<Sleeper>()
}
