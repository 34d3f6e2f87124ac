//! Roles in processes of their own, to be killed.
//!
//! A test binary is whatever its environment says: with orders in it, any test is the role that it is ordered to be.

use std::{process::Stdio, time::Duration};

use reveille::{
    Next, Options, Retry, Store, Task, TaskContext, TaskError, Url, done_with, life::Stop, triggerer, vault::Vault,
    worker,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

use super::{
    LEASE, Stage, quick,
    role::{LONG, tasks},
};

const ORDERS: &str = "REVEILLE_TEST_ORDERS";

/// A test that the harness can find under this name; which does not matter.
const CHILD: &str = "processes::a_killed_triggerer_is_replaced::sqlite";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    url: String,
    key_file: String,
    role: String,
    label: String,
    lease: Duration,
}

/// A process that lives until it is killed, or this one ends.
#[derive(Debug)]
pub(crate) struct Child(tokio::process::Child);

impl Stage {
    /// Starts a `worker` or a `triggerer` with the shortest lease.
    pub(crate) fn process(&self, role: &str, label: &str) -> Child {
        self.process_with(role, label, LEASE)
    }

    /// The same with a lease that does not pass while a test runs.
    pub(crate) fn patient_process(&self, role: &str, label: &str) -> Child {
        self.process_with(role, label, LONG)
    }

    fn process_with(&self, role: &str, label: &str, lease: Duration) -> Child {
        let url = match self.home.url() {
            Url::Sqlite(path) => format!("sqlite:{}", path.display()),
            Url::Postgres(text) => text,
        };
        let key_file = self.key_file().to_string_lossy().into_owned();
        let orders = Orders { url, key_file, role: role.to_owned(), label: label.to_owned(), lease };
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--nocapture"])
            .env(ORDERS, serde_json::to_string(&orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Child(child.unwrap())
    }
}

impl Child {
    /// Such as one that stops it for a while.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.0.id().expect("it has not ended");
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// SIGKILL: it can do nothing any more.
    pub(crate) async fn kill(mut self) {
        self.0.kill().await.unwrap();
    }
}

pub(super) fn orders() -> Option<Orders> {
    std::env::var(ORDERS).ok().map(|orders| serde_json::from_str(&orders).unwrap())
}

pub(super) async fn obey(orders: Orders) {
    let vault = Vault::read_or_create(&orders.key_file).unwrap();
    let store = Store::connect(Options::new(orders.url.parse().unwrap(), vault)).await.unwrap();
    let (label, lease) = (&orders.label, orders.lease);
    let (worker, triggerer) = (quick::worker(label), quick::triggerer(label));
    let role = async {
        match orders.role.as_str() {
            "worker" => reveille::worker::run(store, tasks(), worker::Settings { lease, ..worker }, Stop::new()).await,
            _ => reveille::triggerer::run(store, triggerer::Settings { lease, ..triggerer }, Stop::new()).await,
        }
    };
    std::thread::spawn(|| {
        // Ends when whoever started it does.
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        std::process::exit(0);
    });
    role.await.unwrap();
}

/// Calls a service that remembers idempotency keys, and does as that says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Caller {
    pub(crate) service: String,
}

impl Task for Caller {
    const NAME: &'static str = "caller";

    fn retry() -> Retry {
        Retry::NEVER
    }

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        let mut service = BufReader::new(TcpStream::connect(&self.service).await?);
        service.write_all(format!("{}\n", cx.idempotency_key()).as_bytes()).await?;
        let mut answer = String::new();
        service.read_line(&mut answer).await?;
        match answer.trim() {
            "done" => Ok(done_with(cx.attempt())),
            // Called, and not yet committed.
            _ => std::future::pending().await,
        }
    }
}
