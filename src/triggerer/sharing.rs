//! Sharing the work with the other triggerers: looking at what they hold, and giving back what is theirs.
//!
//! A look is made at each renewal; and while my share is used up and something is free, again and again, for a tenth of the
//! time. Nothing is counted while I am alone. What is given back is due at once for whoever has room.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use super::{
    Life,
    share::{Fleet, Share},
};
use crate::{
    error::Result,
    store::{BATCH, trigger::Release, wake::Topic},
    upkeep::POLL,
};

/// What is known of the fleet.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    share: Share,
    /// How many renewals there had been at the last look; none before the first.
    renewals: Option<i64>,
    /// When the next may be made, by the monotonic clock.
    next: Duration,
}

impl Sharing {
    /// Whether a look is due after so many renewals.
    pub(super) fn is_due(&self, renewals: i64) -> bool {
        self.known().renewals != Some(renewals)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

/// Looks, if it is time to: then holdings know how much is mine. Answers how soon it is to be looked again, if there is
/// nothing to lease.
pub(super) async fn turn(life: &Life<'_>, sharing: &Sharing) -> Result<Duration> {
    let (clock, renewals) = (life.store.clock(), life.presence.renewals());
    let (has_renewed, next) = (sharing.is_due(renewals), sharing.known().next);
    let began = clock.monotonic();
    if !has_renewed {
        if !life.holdings.has_used_its_share() {
            return Ok(POLL);
        }
        if began < next {
            return Ok(next - began);
        }
        if life.home.free(1, &life.aside).await? == 0 {
            return Ok(POLL);
        }
    }
    let fleet = life.home.fleet(&life.aside).await?;
    let now = clock.monotonic();
    let part = {
        let mut known = sharing.known();
        known.renewals = Some(renewals);
        known.next = now + POLL.min(9 * (now - began));
        fleet.as_ref().map(|fleet| known.share.saw(now, fleet))
    };
    life.holdings.may_hold(part.map(|part| part.limit));
    let Some((fleet, part)) = fleet.zip(part) else { return Ok(POLL) };
    if has_renewed {
        let count = sharing.known().share.gives_back(part);
        give_back(life, count, &fleet).await?;
    }
    Ok(sharing.known().next.saturating_sub(clock.monotonic()))
}

/// Those that it cannot give back it adopts again, as it does with all that the database says is its own.
async fn give_back(life: &Life<'_>, count: usize, fleet: &Fleet) -> Result<()> {
    let joined_at = fleet.peers.iter().map(|peer| peer.joined_at).fold(fleet.me.joined_at, i64::max);
    let wake_at = life.store.clock().now_ms();
    let given_up = if count == 0 { Vec::new() } else { life.holdings.give_up(count, joined_at, wake_at) };
    if given_up.is_empty() {
        return Ok(());
    }
    // Until the answer is here, or if it never comes.
    let raised = life.doubt.raise();
    let mut released = 0;
    for part in given_up.chunks(BATCH) {
        let batch: Vec<Release> =
            part.iter().map(|fence| Release { fence: *fence, wake_at, known: i32::MAX }).collect();
        released += life.home.release(&batch).await?;
    }
    if released == given_up.len() {
        life.doubt.lower(raised);
    }
    life.store.wake().hint(Topic::Waiting);
    tracing::debug!("gave {} trigger(s) back for others to take", given_up.len());
    Ok(())
}
