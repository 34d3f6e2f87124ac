//! Waiting in the worker's own slot, for tasks or workers that do not defer.
//!
//! The wait holds its slot, and costs what a waiting thread costs elsewhere; but what it ends with, and the step that
//! follows, are stored before that step runs, as after a deferral.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use reveille_trigger::{Answer, Context, Memory, Outcome as Fired, Trigger, Wait};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    attempt::Attempts,
    handler::{AnyStep, Claimed},
    settling::Outcome,
};
use crate::{
    clock::{millis, timestamp},
    error::Result,
    outage::{Outage, jittered},
    store::{
        advance::Arrival,
        history::Why,
        wait::{Wait as Stored, key_text},
        within,
    },
    task::{Deferral, End, Step, TaskError, WaitFailed, WaitFailure, Woken},
    upkeep::{POLL, past_deadline},
    vault::Purpose,
};

/// How a wait in the slot ended.
pub(super) enum Waited {
    /// The next step, to be run in the same slot.
    Over(AnyStep),
    /// The task's fate without another step here.
    Ended(Outcome),
    /// It is no longer mine.
    Lost,
}

/// Waits, stores what the wait ended with, and decodes the step that follows.
pub(super) async fn wait(
    attempts: &Attempts,
    claimed: &mut Claimed,
    cancelled: &CancellationToken,
    deferral: &Deferral,
    step: &Step,
) -> Waited {
    let armed = attempts.store.arm(deferral);
    let stored = match armed {
        Ok(stored) => stored,
        Err(error) => return Waited::Ended(Outcome::End(End::failed(error.chain()), Why::Failed)),
    };
    let over = tokio::select! {
        over = watch(attempts, claimed, deferral, &stored, step) => over,
        () = cancelled.cancelled() => {
            return Waited::Ended(Outcome::End(End::cancelled("cancelled while it waited"), Why::Cancelled));
        }
    };
    let woken = match over {
        Ok(Some(woken)) => woken,
        Ok(None) => return Waited::Lost,
        Err(outcome) => return Waited::Ended(*outcome),
    };
    (claimed.turn, claimed.attempt) = (claimed.turn + 1, 1);
    let decoded = attempts.tasks.decode(claimed, step, woken.as_ref());
    claimed.woken = woken;
    match decoded {
        Ok(next) => Waited::Over(next),
        Err(error) => Waited::Ended(Outcome::End(End::failed(error.chain()), Why::Failed)),
    }
}

/// Looks until the wait is over and stored. `None`: the task is not mine; an outcome: it ends, or is tried again.
async fn watch(
    attempts: &Attempts,
    claimed: &Claimed,
    deferral: &Deferral,
    stored: &Stored,
    step: &Step,
) -> Result<Option<Option<Woken>>, Box<Outcome>> {
    let store = &attempts.store;
    let clock = store.clock();
    let since = timestamp(stored.since());
    let mut outage = Outage::of("waiting in a slot", clock);
    let mut look = Look { trigger: &*deferral.trigger, memory: Memory::default(), failures: 0 };
    loop {
        let seen = look.once(attempts, &deferral.trigger.wait(since), since).await;
        let (arrival, pause) = match seen {
            Seen::Arrived(arrival) => (Some(arrival), Duration::ZERO),
            Seen::Ends(end) => return Err(Box::new(Outcome::End(end, Why::Event))),
            Seen::Failed(failed) => (Some(bad_end(attempts, claimed, deferral, failed)?), Duration::ZERO),
            Seen::Nothing(pause) => match stored.deadline_at() {
                Some(deadline_at) if clock.now_ms() >= deadline_at => {
                    (Some(bad_end(attempts, claimed, deferral, past_deadline())?), Duration::ZERO)
                }
                Some(deadline_at) => {
                    let left = Duration::from_millis((deadline_at - clock.now_ms()).max(1).cast_unsigned());
                    (None, pause.min(left))
                }
                None => (None, pause),
            },
        };
        let mut pause = pause;
        if let Some(arrival) = arrival {
            let advanced = advance(attempts, claimed, step, &arrival).await;
            let backoff = outage.note(&advanced);
            match advanced {
                Ok(Advanced::Moved(woken)) => return Ok(Some(woken)),
                Ok(Advanced::NotYet) => pause = jittered(POLL),
                Ok(Advanced::NotMine) => return Ok(None),
                Err(error) if error.is_outage() => pause = backoff.unwrap_or(POLL),
                Err(error) => return Err(Box::new(Outcome::End(End::failed(error.chain()), Why::Failed))),
            }
        }
        clock.sleep(pause).await;
    }
}

/// A bad end resumes the next step, if it asked to see, and is a failed attempt at the whole wait if not.
fn bad_end(
    attempts: &Attempts,
    claimed: &Claimed,
    deferral: &Deferral,
    failed: WaitFailed,
) -> Result<Arrival, Box<Outcome>> {
    if !deferral.or_resume {
        return Err(Box::new(attempts.failed(claimed, TaskError::retry(failed))));
    }
    Ok(Arrival::Woken { woken: Some(Woken::Failed(failed)), event: Uuid::now_v7(), why: Why::WaitFailed })
}

enum Advanced {
    Moved(Option<Woken>),
    /// Nothing has come under the key.
    NotYet,
    NotMine,
}

async fn advance(attempts: &Attempts, claimed: &Claimed, step: &Step, arrival: &Arrival) -> Result<Advanced> {
    let store = &attempts.store;
    let sealed = store.seal(Purpose::Step, "step", step)?;
    let moved = within("storing the next step", async {
        let mut tx = store.begin().await?;
        let moved = store.advance(&mut tx.db(), attempts.me, claimed.fence, &sealed, arrival).await?;
        tx.commit().await?;
        Ok(moved)
    })
    .await?;
    Ok(match moved {
        None => Advanced::NotYet,
        Some(crate::store::advance::Moved::NotMine) => Advanced::NotMine,
        Some(crate::store::advance::Moved::To(woken)) => Advanced::Moved(woken),
    })
}

/// Looks at one trigger, again and again.
struct Look<'a> {
    trigger: &'a dyn Trigger,
    memory: Memory,
    failures: u32,
}

enum Seen {
    Arrived(Arrival),
    Ends(End),
    Failed(WaitFailed),
    Nothing(Duration),
}

impl Look<'_> {
    async fn once(&mut self, attempts: &Attempts, wait: &Wait, since: reveille_trigger::Timestamp) -> Seen {
        let clock = attempts.store.clock();
        match wait {
            Wait::Until(at) => {
                let left = at.as_millisecond() - clock.now_ms();
                if left <= 0 {
                    return Seen::Arrived(Arrival::Woken { woken: None, event: Uuid::now_v7(), why: Why::Due });
                }
                Seen::Nothing(Duration::from_millis(left.cast_unsigned()))
            }
            Wait::On(key) => match key_text(key) {
                Ok(key) => Seen::Arrived(Arrival::Key(key)),
                Err(error) => Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message: error.chain() }),
            },
            _ => self.check(attempts, since).await,
        }
    }

    async fn check(&mut self, attempts: &Attempts, since: reveille_trigger::Timestamp) -> Seen {
        let clock = attempts.store.clock().clone();
        let cx = Context::new(move || clock.now(), since, std::mem::take(&mut self.memory));
        let limit = self.trigger.time_out().unwrap_or(Duration::MAX);
        let answer = tokio::time::timeout(limit, AssertUnwindSafe(self.trigger.check(&cx)).catch_unwind()).await;
        self.memory = cx.into_memory();
        let interval = self.trigger.spacing().interval();
        match answer {
            Ok(Ok(Ok(Answer::Fire(event)))) => match event.outcome {
                Fired::Resume(payload) => Seen::Arrived(Arrival::Woken {
                    woken: Some(Woken::Payload(payload)),
                    event: event.id,
                    why: Why::Event,
                }),
                Fired::Succeed(result) => Seen::Ends(End::succeeded(result)),
                Fired::Skip(reason) => Seen::Ends(End::skipped(reason)),
                Fired::Fail(message) => Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message }),
            },
            Ok(Ok(Ok(Answer::NotYet))) => {
                self.failures = 0;
                Seen::Nothing(jittered(interval))
            }
            Ok(Ok(Err(error))) if error.is_fatal() => {
                Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message: error.to_string() })
            }
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
                self.failures = self.failures.saturating_add(1);
                let doubled = millis(interval).max(100).saturating_mul(1 << self.failures.min(16)).min(60_000);
                Seen::Nothing(jittered(Duration::from_millis(doubled.cast_unsigned()).max(interval)))
            }
        }
    }
}
