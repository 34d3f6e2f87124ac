//! Undoing what cancelled waits were for: at least once, tried again, and reported when it cannot be done.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use reveille_trigger::{Context, Memory};
use tokio_util::sync::CancellationToken;

use super::{Life, checks::as_checks_see, home::Undoing};
use crate::{
    clock::{millis, timestamp},
    error::Result,
    outage::{Turn, jittered, turns},
    store::{
        undo::{MOST_ATTEMPTS, Undone},
        wake::Topic,
    },
    task::Retry,
};

/// How many are undone at once.
const AT_ONCE: usize = 16;

/// How long one attempt may take.
const TIME_OUT: Duration = Duration::from_secs(30);

/// How long what cannot be read here is left to others.
const ASIDE: Duration = Duration::from_mins(1);

const PERIOD: Duration = Duration::from_secs(1);

const RETRY: Retry =
    Retry { max_attempts: MOST_ATTEMPTS, backoff: Duration::from_secs(5), cap: Duration::from_hours(1) };

/// Undoes until stopped.
pub(super) async fn run(life: &Life<'_>, stop: &CancellationToken) {
    let wake = life.store.wake();
    turns("undoing", life.store.clock(), stop, || wake.on(Topic::Waiting), || turn(life)).await;
}

async fn turn(life: &Life<'_>) -> Result<(Turn, Duration)> {
    if life.presence.is_parked() {
        return Ok((Turn::Unasked, PERIOD));
    }
    let due = life.home.cancelled(AT_ONCE).await?;
    let count = due.len();
    let attempts = futures::future::join_all(due.into_iter().map(|undoing| attempt(life, undoing))).await;
    attempts.into_iter().collect::<Result<()>>()?;
    Ok((if count == AT_ONCE { Turn::Full } else { Turn::Idle }, jittered(PERIOD)))
}

async fn attempt(life: &Life<'_>, undoing: Undoing) -> Result<()> {
    let clock = life.store.clock();
    let task = undoing.fence.task;
    let outcome = match undoing.trigger {
        // Another replica, or a later version of this one, may read it.
        Err(error) => {
            tracing::warn!(task.id = %task, "cannot read what task {task} waited for, and leave its undoing to others: {}", error.chain());
            let later = clock.now_ms().saturating_add(millis(ASIDE));
            return life.home.undone(undoing.fence, Undone::Unread(later)).await;
        }
        Ok(trigger) => {
            let cx = Context::with_clock(as_checks_see(clock), timestamp(undoing.since), Memory::default())
                .with_config(life.settings.config.clone());
            match tokio::time::timeout(TIME_OUT, AssertUnwindSafe(trigger.on_cancel(&cx)).catch_unwind()).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(panic)) => {
                    Err(reveille_trigger::Error::again(format!("it panicked: {}", crate::error::said(&*panic))))
                }
                Err(_) => {
                    Err(reveille_trigger::Error::again(format!("it had not answered after {} s", TIME_OUT.as_secs())))
                }
            }
        }
    };
    let undone = match outcome {
        Ok(()) => Undone::Done,
        Err(error) => {
            let delay = if error.is_fatal() { None } else { RETRY.delay_ms(undoing.attempt, rand::random()) };
            if let Some(delay) = delay {
                tracing::warn!(task.id = %task, "what task {task} waited for is not undone yet: {error}");
                Undone::Again(clock.now_ms().saturating_add(delay))
            } else {
                tracing::error!(task.id = %task, "what task {task} waited for cannot be undone, see to it by hand: {error}");
                Undone::Dead
            }
        }
    };
    life.home.undone(undoing.fence, undone).await
}
