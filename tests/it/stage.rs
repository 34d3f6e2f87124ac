//! Where tests arrange: a fresh database, a vault, a clock that is turned, and helpers that act as replicas do.

mod acting;
mod backend;
mod fakes;

use std::{sync::Arc, time::Duration};

use reveille::{
    Options, Store,
    clock::{Clock, timestamp},
    vault::Vault,
};

use self::backend::Home;
pub(crate) use self::{
    acting::{card, lease, scope, work},
    backend::{Backend, admin_url},
    fakes::{Fake, OtherFake},
};

/// The longest that a test may take.
const LIMIT: Duration = Duration::from_mins(2);

/// When the clock of a test begins: midnight of the first of January 2030, in milliseconds.
pub(crate) const START: i64 = 1_893_456_000_000;

/// One database, and a store on it.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) vault: Vault,
    home: Arc<Home>,
}

impl Stage {
    async fn new(backend: Backend) -> Self {
        let home = Home::new(backend).await;
        let (vault, clock) = (Vault::ephemeral(), Clock::turned(timestamp(START)));
        let store = Store::connect(options(&home, &vault, &clock)).await.unwrap();
        Self { store, clock, vault, home: Arc::new(home) }
    }

    /// What another process would open the same database with.
    pub(crate) fn options(&self) -> Options {
        options(&self.home, &self.vault, &self.clock)
    }

    /// Another process on the same database.
    pub(crate) async fn another(&self) -> Store {
        Store::connect(self.options()).await.unwrap()
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) fn turn(&self, by: Duration) {
        self.clock.turn(by);
    }
}

fn options(home: &Home, vault: &Vault, clock: &Clock) -> Options {
    Options { clock: clock.clone(), connections: 20, ..Options::new(home.url(), vault.clone()) }
}

/// Runs one test on a stage of its own, and clears that whatever comes of it.
pub(crate) async fn run(backend: Backend, test: impl AsyncFnOnce(Stage)) {
    let stage = Stage::new(backend).await;
    let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(tokio::time::timeout(
        LIMIT,
        test(stage.clone()),
    )))
    .await;
    stage.store.close().await;
    stage.home.clear().await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("the test was not over after {} s", LIMIT.as_secs()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
