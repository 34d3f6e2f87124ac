//! Roles that run in this process, each as a process of its own would run it.

use std::time::Duration;

use reveille::{Store, life::Stop, triggerer, worker};
use tokio::task::JoinHandle;

use super::{
    PATIENCE, Stage,
    script::{Anchored, Crowd, Hasty, Plain, Script},
};

/// The shortest lease there is.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// A lease that does not pass while a test runs.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// Settings with the shortest lease, for tests that wait for one to pass.
pub(crate) mod quick {
    use super::{LEASE, LONG, triggerer, worker};

    pub(crate) fn triggerer(label: &str) -> triggerer::Settings {
        triggerer::Settings { label: label.to_owned(), lease: LEASE, ..triggerer::Settings::default() }
    }

    pub(crate) fn worker(label: &str) -> worker::Settings {
        worker::Settings { label: label.to_owned(), lease: LEASE, drain: LONG, ..worker::Settings::default() }
    }
}

/// Settings with a lease that is not reached.
pub(crate) mod patient {
    use super::{LONG, triggerer, worker};

    pub(crate) fn triggerer() -> triggerer::Settings {
        triggerer::Settings { lease: LONG, ..super::quick::triggerer("triggerer") }
    }

    pub(crate) fn worker() -> worker::Settings {
        worker::Settings { lease: LONG, ..super::quick::worker("worker") }
    }
}

/// A role that runs until it is stopped, or dropped hard with the test.
pub(crate) struct Role {
    stop: Stop,
    ended: Option<JoinHandle<reveille::Result<()>>>,
}

impl Role {
    pub(crate) fn triggerer(store: &Store, settings: triggerer::Settings) -> Self {
        let stop = Stop::new();
        let ended = tokio::spawn(triggerer::run(store.clone(), settings, stop.clone()));
        Self { stop, ended: Some(ended) }
    }

    pub(crate) fn worker(store: &Store, settings: worker::Settings) -> Self {
        let stop = Stop::new();
        let ended = tokio::spawn(worker::run(store.clone(), tasks(), settings, stop.clone()));
        Self { stop, ended: Some(ended) }
    }

    /// Asks it to stop.
    pub(crate) fn ask(&self) {
        self.stop.soft().cancel();
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        self.ask();
        self.ended().await;
    }

    /// Drops what it does, and waits until it has ended.
    pub(crate) async fn drop_hard(self) {
        self.stop.hard().cancel();
        self.ended().await;
    }

    pub(crate) async fn ended(mut self) {
        let ended = self.ended.take().expect("waited for once");
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended.expect("the role did not end").expect("the role panicked").expect("the role failed");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stop.hard().cancel();
    }
}

/// The tasks that the workers of these tests know.
pub(crate) fn tasks() -> worker::Tasks {
    worker::Tasks::new()
        .with::<Script<Plain>>()
        .with::<Script<Anchored>>()
        .with::<Script<Hasty>>()
        .with::<Crowd>()
        .with::<crate::waits::Order>()
        .with::<crate::strangers::Order>()
        .with::<crate::secrets::Keeper>()
        .with::<super::child::Caller>()
}

impl Stage {
    /// A triggerer and a worker with long leases, on one store: one process with both roles.
    pub(crate) async fn both_roles(&self) -> [Role; 2] {
        let store = self.another().await;
        [Role::triggerer(&store, patient::triggerer()), Role::worker(&store, patient::worker())]
    }

    /// A triggerer on a store of its own.
    pub(crate) async fn triggerer(&self, settings: triggerer::Settings) -> Role {
        Role::triggerer(&self.another().await, settings)
    }

    /// A worker on a store of its own.
    pub(crate) async fn worker(&self, settings: worker::Settings) -> Role {
        Role::worker(&self.another().await, settings)
    }
}
