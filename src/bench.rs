//! The benchmark: what a replica does on this machine and with this database, and what that costs.
//!
//! A scenario a file. Each works in a database of its own, which is removed afterwards whatever came of it; what plays
//! the outside is in processes of its own, so that CPU and memory are those of the replica alone.

mod poll;
mod replica;
mod report;
mod takeover;
mod usage;

use std::{future::Future, path::PathBuf, time::Duration};

pub use self::{
    poll::{Kind, Poll},
    report::Report,
    takeover::{Fault, Takeover},
};
use crate::{
    error::Result,
    life::Stop,
    store::{Store, Url, scratch::Scratch},
};

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A server, on which a schema is made; or a file, which is left alone for a fresh one.
    pub database: Url,
    /// This program, to play the outside.
    pub program: PathBuf,
    /// How long to measure.
    pub lasting: Duration,
    /// What to measure.
    pub scenario: Scenario,
}

/// What can be measured.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Active triggers that are checked again and again.
    Poll(Poll),
    /// A replica that is lost, or leaves.
    Takeover(Takeover),
}

/// Measures; `None` if it was stopped before it was done.
///
/// # Errors
/// If the database cannot be used, or left as it was.
pub async fn run(settings: Settings, stop: &Stop) -> Result<Option<Report>> {
    let scratch = Scratch::make(&settings.database, "reveille_bench").await?;
    let measured = measure(&settings, &scratch, stop).await;
    scratch.remove().await?;
    measured
}

async fn measure(settings: &Settings, scratch: &Scratch, stop: &Stop) -> Result<Option<Report>> {
    let bench = Bench { settings, scratch, stop, store: scratch.open().await? };
    let measured = match &settings.scenario {
        Scenario::Poll(poll) => poll::run(&bench, poll).await,
        Scenario::Takeover(takeover) => takeover::run(&bench, takeover).await,
    };
    bench.store.close().await;
    measured
}

/// What a scenario works with.
struct Bench<'a> {
    settings: &'a Settings,
    scratch: &'a Scratch,
    stop: &'a Stop,
    store: Store,
}

impl Bench<'_> {
    /// Runs `body` beside roles, which are stopped, gracefully, once it is over; `None` if it was stopped before that.
    async fn beside<T, R: Future<Output = Result<()>>>(
        &self,
        roles: impl FnOnce(Stop) -> R,
        body: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        let stop = Stop::new();
        let body = async {
            let done = tokio::select! {
                done = body => done.map(Some),
                () = self.stop.soft().cancelled() => Ok(None),
            };
            stop.soft().cancel();
            Ok(done)
        };
        // A role that ends before it is stopped has an error to tell of, and `body` would wait for it in vain.
        let ((), done) = tokio::try_join!(roles(stop.clone()), body)?;
        done
    }
}
