//! The one shape of every loop, and how it speaks of an outage: at its start, once a minute, and at its end.

use std::time::Duration;

use futures::FutureExt;
pub(crate) use reveille_trigger::pace::jittered;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// What one turn of a loop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A full batch: there is likely more, look again at once.
    Full,
    /// Nothing more for now.
    Idle,
    /// The database was not asked, as when parked: nothing is known of it.
    Unasked,
}

const SAY_AGAIN: Duration = Duration::from_mins(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Keeps count of failed turns, so that they are logged with measure and tried again with back-off and jitter.
#[derive(Debug)]
pub(crate) struct Outage {
    what: &'static str,
    clock: Clock,
    since: Option<Duration>,
    said: Duration,
    failures: u32,
}

impl Outage {
    pub(crate) fn of(what: &'static str, clock: &Clock) -> Self {
        Self { what, clock: clock.clone(), since: None, said: Duration::ZERO, failures: 0 }
    }

    /// Takes a turn's outcome; answers how long to wait before the next, beyond which a wake-up may come first.
    pub(crate) fn note<T>(&mut self, turn: &Result<T>) -> Option<Duration> {
        match turn {
            Ok(_) => {
                if let Some(since) = self.since.take() {
                    let lasted = self.clock.monotonic().saturating_sub(since).as_secs();
                    tracing::info!(outage.seconds = lasted, "{} works again, after {lasted} s", self.what);
                }
                self.failures = 0;
                None
            }
            Err(error) => Some(self.failed(error)),
        }
    }

    /// Takes a failure; answers how long to wait.
    pub(crate) fn failed(&mut self, error: &Error) -> Duration {
        let now = self.clock.monotonic();
        let since = *self.since.get_or_insert(now);
        if self.failures == 0 || now.saturating_sub(self.said) >= SAY_AGAIN {
            self.said = now;
            let lasted = now.saturating_sub(since).as_secs();
            let chain = error.chain();
            tracing::warn!(outage.seconds = lasted, "{} does not work, trying again: {chain}", self.what);
        }
        self.failures = self.failures.saturating_add(1);
        jittered(FIRST_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACKOFF))
    }

    /// The same of a loop's turn, which may say nothing of the database.
    fn note_turn(&mut self, turn: &Result<(Turn, Duration)>) -> Option<Duration> {
        if let Ok((Turn::Unasked, _)) = turn { None } else { self.note(turn) }
    }
}

/// Turns until stopped. `woken` is armed before each turn, or a wake-up in between would be lost; after a failed turn
/// wake-ups are not listened to, so that they cannot defeat the back-off. Dropping a turn must be safe.
pub(crate) async fn turns<W: Future, T: Future<Output = Result<(Turn, Duration)>>>(
    what: &'static str,
    clock: &Clock,
    stop: &CancellationToken,
    mut woken: impl FnMut() -> W,
    mut turn: impl FnMut() -> T,
) {
    let mut outage = Outage::of(what, clock);
    while !stop.is_cancelled() {
        let woken = woken();
        let outcome = tokio::select! {
            () = stop.cancelled() => break,
            outcome = turn() => outcome,
        };
        if let Some(backoff) = outage.note_turn(&outcome) {
            tokio::select! {
                () = stop.cancelled() => break,
                () = clock.sleep(backoff) => continue,
            }
        }
        let Ok((Turn::Idle | Turn::Unasked, period)) = outcome else {
            // A wake-up that came meanwhile may have more to say than "look again".
            woken.now_or_never();
            continue;
        };
        // In this order: a wake-up that comes as the period ends may have more to say than "look again", too.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = woken => {}
            () = clock.sleep(period) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::{clock::timestamp, error::Error};

    #[test]
    fn what_did_not_ask_does_not_work_again() {
        let mut outage = Outage::of("turning", &Clock::turned(timestamp(0)));
        let late = Error::Outage { doing: "turning", source: "gone".into() };
        assert!(outage.note_turn(&Err(late)).is_some());
        assert!(outage.note_turn(&Ok((Turn::Unasked, Duration::ZERO))).is_none() && outage.since.is_some());
        assert!(outage.note_turn(&Ok((Turn::Idle, Duration::ZERO))).is_none() && outage.since.is_none());
    }

    #[tokio::test]
    async fn a_wake_up_that_comes_as_the_period_ends_is_heard() {
        let (clock, stop) = (Clock::turned(timestamp(0)), CancellationToken::new());
        let (turned, heard) = (Cell::new(0), Cell::new(0));
        let woken = || async { heard.set(heard.get() + 1) };
        let turn = async || {
            turned.set(turned.get() + 1);
            if turned.get() == 100 {
                stop.cancel();
            }
            Ok((Turn::Idle, Duration::ZERO))
        };
        turns("turning", &clock, &stop, woken, turn).await;
        assert_eq!((turned.get(), heard.get()), (100, 99));
    }
}
