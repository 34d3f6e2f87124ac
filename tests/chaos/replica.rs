//! The processes: triggerers are the project's own binary, workers are this test's, with tasks of its own.
//!
//! Each is watched and started again when it ends, as a supervisor would, and how it ended is kept: one that ends by
//! itself, or is not ended by what was done to it, is a finding.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use reveille::{Options, Store, Url, clock::Clock, life::Stop, vault::Vault, worker};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    door::Door,
    plan::{LEASE, TRIGGERERS},
    proxy::Proxy,
    tasks::Doing,
};

const ORDERS: &str = "CHAOS_ORDERS";

/// How many triggers a triggerer holds, and how many steps a worker runs: few enough to be full at times.
const CAPACITY: usize = 200;
const CONCURRENCY: usize = 150;

/// The exit code of a process that did not find its database, as the project's own has it.
const NO_DATABASE: i32 = 3;

/// The exit code of one that was asked to stop and could not put away what it had, and how long it tries.
const DROPPED: i32 = 1;
const DRAIN: Duration = Duration::from_secs(30);

/// How long a supervisor waits before it starts again what has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// One replica over all its lives.
pub(crate) struct Replica {
    number: usize,
    pub(crate) proxy: Proxy,
    key_file: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pid: watch::Sender<Option<Pid>>,
    /// How long the next life is put off.
    down: Mutex<Duration>,
    /// How each life ended, and how long after it was asked to stop.
    ended: Mutex<Vec<(ExitStatus, Option<Duration>)>>,
    asked_at: Mutex<Option<Duration>>,
    stop: Stop,
}

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    url: String,
    key_file: PathBuf,
    label: String,
}

impl Replica {
    pub(crate) fn new(number: usize, proxy: Proxy, folder: &Path, door: &Door) -> Arc<Self> {
        let config = folder.join(format!("{}.toml", name(number)));
        std::fs::write(&config, door.config(&name(number))).unwrap();
        Arc::new(Self {
            number,
            proxy,
            key_file: folder.join("reveille.key"),
            config,
            log: folder.join(format!("{}.log", name(number))),
            pid: watch::Sender::new(None),
            down: Mutex::default(),
            ended: Mutex::default(),
            asked_at: Mutex::default(),
            stop: Stop::new(),
        })
    }

    /// Lives until it is [told to end](Self::end), life after life; the last one is asked to stop, and waited for.
    pub(crate) async fn live(&self) {
        let clock = Clock::system();
        while !self.stop.is_stopping() {
            let mut child = self.spawn();
            self.asked_at.lock().unwrap().take();
            self.pid.send_replace(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
            let ended = tokio::select! {
                ended = child.wait() => ended,
                () = self.stop.soft().cancelled() => {
                    self.ask();
                    child.wait().await
                }
            };
            self.pid.send_replace(None);
            let asked_at = *self.asked_at.lock().unwrap();
            let stopping = asked_at.map(|asked_at| clock.monotonic().saturating_sub(asked_at));
            self.ended.lock().unwrap().push((ended.unwrap(), stopping));
            let down = PAUSE + std::mem::take(&mut *self.down.lock().unwrap());
            clock.sleep(down).await;
        }
    }

    /// Sends a signal to the present life, if there is one.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.pid.borrow() {
            kill_process(pid, signal).unwrap();
        }
    }

    /// Asks the present life to stop.
    fn ask(&self) {
        self.asked_at.lock().unwrap().get_or_insert(Clock::system().monotonic());
        self.signal(Signal::TERM);
    }

    /// Kills the present life, and puts the next one off.
    pub(crate) fn kill(&self, down: Duration) {
        *self.down.lock().unwrap() = down;
        self.signal(Signal::KILL);
    }

    /// Asks the present life to stop, and waits until it has.
    pub(crate) async fn stop_softly(&self) {
        let mut pid = self.pid.subscribe();
        let before = *pid.borrow();
        self.ask();
        pid.wait_for(|now| *now != before || now.is_none()).await.unwrap();
    }

    /// No life follows the present one, which is asked to stop.
    pub(crate) fn end(&self) {
        self.stop.soft().cancel();
    }

    /// What ended it that should not have.
    pub(crate) fn findings(&self) -> Vec<String> {
        let ended = self.ended.lock().unwrap();
        let bad = ended.iter().filter(|(status, stopping)| !is_fine(*status, *stopping));
        bad.map(|(status, _)| format!("{} ended with {status}: see {}", name(self.number), self.log.display()))
            .collect()
    }

    pub(crate) fn lives(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    fn spawn(&self) -> Child {
        let Url::Postgres(url) = self.proxy.url() else { unreachable!("it is PostgreSQL") };
        let label = name(self.number);
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = if self.number < TRIGGERERS {
            let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
            command.args(["triggerer", "--label", &label, "--capacity", &CAPACITY.to_string()]);
            command.args(["--lease", &format!("{}s", LEASE.as_secs()), "--log", "info", "--database-url", &url]);
            command.arg("--key-file").arg(&self.key_file).arg("--config").arg(&self.config);
            // The run's own server is near.
            command.env("NO_PROXY", "127.0.0.1");
            command
        } else {
            let orders = Orders { url, key_file: self.key_file.clone(), label };
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", crate::TEST, "--nocapture"]);
            command.env(ORDERS, serde_json::to_string(&orders).unwrap());
            command
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true).spawn().unwrap()
    }
}

/// It did as it was told, found no database, was killed, or dropped something because it could not put it away in time.
/// SIGTERM kills whoever does not listen yet.
fn is_fine(status: ExitStatus, stopping: Option<Duration>) -> bool {
    if status.code() == Some(DROPPED) {
        return stopping.is_some_and(|stopping| stopping >= DRAIN);
    }
    let killed = [Signal::KILL, Signal::TERM].map(Signal::as_raw);
    matches!(status.code(), Some(0 | NO_DATABASE)) || status.signal().is_some_and(|signal| killed.contains(&signal))
}

pub(crate) fn name(number: usize) -> String {
    match number.checked_sub(TRIGGERERS) {
        None => format!("triggerer-{number}"),
        Some(number) => format!("worker-{number}"),
    }
}

/// What this process is to be, if it is not the test.
pub(crate) fn orders() -> Option<Orders> {
    std::env::var(ORDERS).ok().map(|orders| serde_json::from_str(&orders).unwrap())
}

/// A worker, as the project's own binary runs one.
pub(crate) async fn obey(orders: Orders) {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let vault = Vault::read(&orders.key_file).unwrap();
    let Ok(store) = Store::connect(Options::new(orders.url.parse().unwrap(), vault)).await else {
        std::process::exit(NO_DATABASE);
    };
    let stop = Stop::new();
    let settings = worker::Settings {
        concurrency: CONCURRENCY,
        label: orders.label,
        lease: LEASE,
        drain: Duration::from_secs(5),
        ..worker::Settings::default()
    };
    let tasks = worker::Tasks::new().with::<Doing>();
    let asked = async {
        terminate.recv().await;
        stop.soft().cancel();
        std::future::pending::<()>().await;
    };
    let role = async {
        let ended = worker::run(store.clone(), tasks, settings, stop.clone()).await;
        stop.soft().cancel();
        ended
    };
    let hints = store.relay(stop.soft().clone());
    tokio::select! {
        (ended, ()) = async { tokio::join!(role, hints) } => ended.unwrap(),
        () = asked => {}
    }
    // What the test harness would say is of no use to anybody.
    std::process::exit(0);
}
