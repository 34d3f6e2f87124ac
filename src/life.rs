//! The life of a process that serves: how it is told to stop, how long it may take, and how that ended.
//!
//! The rule: the first signal asks, softly, and takes nothing away. Only a second Ctrl-C, or the end of the time to
//! drain, drops what still runs.

use std::{future::Future, io, pin::pin, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::clock::Clock;

/// How long a role has to return after everything was dropped. Past it the process ends without it.
const GRACE: Duration = Duration::from_secs(5);

/// Tells the roles of a process to stop: first softly, then hard. Clones share it.
#[derive(Clone, Debug)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Stop {
    /// Tells nothing yet.
    pub fn new() -> Self {
        let hard = CancellationToken::new();
        // A child, as whoever drops everything has also begun to stop.
        Self { soft: hard.child_token(), hard }
    }

    /// Cancelled when it is time to stop: take nothing new, and finish what runs.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the time to finish is over: drop what runs. Cancelling it cancels the soft one too.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Whether it has begun to stop.
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

/// How a process that served came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// What ran was finished.
    Finished,
    /// The time to drain was over before that.
    DrainPassed,
    /// A second Ctrl-C did not want to wait for that.
    Interrupted,
}

/// The signals that a process listens to from now on, instead of dying of them.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens to SIGINT and SIGTERM. Needs a runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Completes at one of them, and says which.
    pub(crate) async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Supervisors send SIGTERM more than once; only somebody at the keyboard is in a hurry.
    async fn impatient(&mut self) {
        self.interrupt.recv().await;
    }
}

/// Lets the roles run until they end by themselves or are stopped, by a signal or by `stop`. They have `drain` to
/// finish, and are dropped after that.
pub(crate) async fn serve<E>(
    mut signals: Signals,
    stop: &Stop,
    clock: &Clock,
    drain: Duration,
    roles: impl Future<Output = Result<(), E>>,
) -> Result<Ended, E> {
    let mut roles = pin!(roles);
    tokio::select! {
        ended = &mut roles => return ended.map(|()| Ended::Finished),
        signal = signals.any() => {
            let seconds = drain.as_secs();
            tracing::info!("{signal}: stopping; what runs has {seconds} s to finish, or until Ctrl-C is pressed again");
        }
        () = stop.soft.cancelled() => {}
    }
    stop.soft.cancel();
    let how = tokio::select! {
        ended = &mut roles => return ended.map(|()| Ended::Finished),
        () = signals.impatient() => Ended::Interrupted,
        () = clock.sleep(drain) => Ended::DrainPassed,
    };
    tracing::warn!("dropping what still runs: others will take it over");
    stop.hard.cancel();
    match tokio::time::timeout(GRACE, roles).await {
        Ok(ended) => ended.map(|()| how),
        Err(_) => Ok(how),
    }
}

/// Runs a role as a task of the runtime. What it starts there it is woken by on the same threads: on the thread that a
/// command runs on, each check that ends would wake another thread.
///
/// # Panics
/// If the role does.
pub(crate) async fn alone<E: Send + 'static>(
    stop: &Stop,
    role: impl Future<Output = Result<(), E>> + Send + 'static,
) -> Result<(), E> {
    together(stop, [(Span::none(), role.boxed())]).await
}

/// Runs roles beside one another, each as a task of its own. The first that fails stops the others, and is the answer.
///
/// # Panics
/// If a role does.
pub(crate) async fn together<E: Send + 'static>(
    stop: &Stop,
    roles: impl IntoIterator<Item = (Span, BoxFuture<'static, Result<(), E>>)>,
) -> Result<(), E> {
    let mut running = JoinSet::new();
    for (span, role) in roles {
        running.spawn(role.instrument(span));
    }
    let mut ended = Ok(());
    while let Some(joined) = running.join_next().await {
        match joined.map_err(tokio::task::JoinError::try_into_panic) {
            // Nobody aborts a role but the set, when it is dropped.
            Ok(Ok(())) | Err(Err(_)) => {}
            Ok(Err(error)) => {
                stop.soft.cancel();
                ended = ended.and(Err(error));
            }
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timestamp;

    const DRAIN: Duration = Duration::from_secs(30);

    async fn serve_on(clock: &Clock, stop: &Stop, roles: impl Future<Output = Result<(), &'static str>>) -> Ended {
        serve(Signals::listen().unwrap(), stop, clock, DRAIN, roles).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_finishes_in_time_is_not_dropped() {
        let (stop, clock) = (Stop::new(), Clock::turned(timestamp(0)));
        stop.soft().cancel();
        assert_eq!(serve_on(&clock, &stop, async { Ok(()) }).await, Ended::Finished);
        assert!(!stop.hard().is_cancelled());
    }

    #[tokio::test]
    async fn what_still_runs_after_the_drain_is_dropped() {
        let (stop, clock) = (Stop::new(), Clock::turned(timestamp(0)));
        stop.soft().cancel();
        let role = async {
            // Again and again, as only what sleeps already is woken by it.
            while !stop.hard().is_cancelled() {
                clock.turn(DRAIN);
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        assert_eq!(serve_on(&clock, &stop, role).await, Ended::DrainPassed);
    }

    #[tokio::test]
    async fn dropping_everything_begins_to_stop() {
        let stop = Stop::new();
        let other = stop.clone();
        stop.hard().cancel();
        assert!(other.is_stopping());
    }

    #[tokio::test]
    async fn stopping_drops_nothing() {
        let stop = Stop::new();
        stop.soft().cancel();
        assert!(stop.is_stopping() && !stop.hard().is_cancelled());
    }

    #[tokio::test]
    async fn a_role_that_fails_is_the_end() {
        let (stop, clock) = (Stop::new(), Clock::turned(timestamp(0)));
        let signals = Signals::listen().unwrap();
        let ended: Result<Ended, &str> = serve(signals, &stop, &clock, DRAIN, async { Err("broken") }).await;
        assert_eq!(ended, Err("broken"));
    }

    #[tokio::test]
    async fn one_role_that_fails_stops_the_others() {
        let stop = Stop::new();
        let other = stop.clone();
        let roles: [(_, BoxFuture<'static, Result<(), &str>>); 2] = [
            (
                Span::none(),
                Box::pin(async move {
                    other.soft().cancelled().await;
                    Ok(())
                }),
            ),
            (Span::none(), Box::pin(async { Err("broken") })),
        ];
        assert_eq!(together(&stop, roles).await, Err("broken"));
    }
}
