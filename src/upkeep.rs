//! What any live replica does for all: fires passive waits that are due, matches keys again, strikes deadlines, takes tasks
//! from workers that are gone, skips what has expired, and drops what is old.
//!
//! Every part is safe to repeat and to do twice at once. In a process with two roles only one does it at a time.

use std::{sync::Mutex, time::Duration};

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    id::Incarnation,
    outage::{Turn, jittered, turns},
    store::{BATCH, Reach, Store, Verdict, check, replica, trigger, wake::Topic, within},
    tally::Tally,
    task::{WaitFailed, WaitFailure},
};

/// How long a hint that does not come may cost.
pub(crate) const POLL: Duration = Duration::from_millis(250);

/// How many rows one transaction takes where each takes statements of its own.
const ROWS: usize = 50;

/// How often what only a crash leaves behind is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long of each sweep goes to matching again, page after page: what waits is not read through at full speed for ever.
const MATCHING: Duration = Duration::from_millis(100);

/// How often old rows are looked for.
const DROP: Duration = Duration::from_mins(1);

/// The upkeep that one replica does.
pub(crate) struct Upkeep<'a> {
    pub(crate) store: &'a Store,
    pub(crate) me: Incarnation,
    /// How long results and history are kept.
    pub(crate) kept: Duration,
    /// Where what it fires is counted.
    pub(crate) tally: Tally,
}

impl Upkeep<'_> {
    /// Does it until stopped.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let alone = tokio::select! {
            () = stop.cancelled() => return,
            alone = self.store.upkeep().lock() => alone,
        };
        let (clock, wake) = (self.store.clock(), self.store.wake());
        let (cursor, reach) = (Mutex::new(None), Reach::on(self.store.url()));
        tokio::join!(
            turns("firing what is due", clock, stop, || wake.on(Topic::Passive), || self.fire_due(&reach)).boxed(),
            turns("striking deadlines", clock, stop, || wake.on(Topic::Passive), || self.strike()).boxed(),
            turns("sweeping", clock, stop, || wake.on(Topic::Gone), || self.sweep(&cursor)).boxed(),
            turns("dropping what is old", clock, stop, std::future::pending::<()>, || self.drop_old()).boxed(),
        );
        drop(alone);
    }

    /// Fires a batch of what is due, and sleeps no longer than until the next is.
    async fn fire_due(&self, reach: &Reach) -> Result<(Turn, Duration)> {
        let (now, began, most) = (self.store.clock().now_ms(), self.store.clock().monotonic(), reach.rows());
        let (fired, next) = within("firing what is due", async {
            let mut tx = self.store.begin().await?;
            let fired = trigger::fire_due(&mut tx.db(), self.me, now, most).await?;
            // After a full batch it is looked again at once.
            let next = if fired < most { trigger::next_due(&mut tx.db()).await? } else { None };
            tx.commit().await?;
            Ok((fired, next))
        })
        .await
        .inspect_err(|_| reach.note(None))?;
        if fired == most {
            reach.note(Some(self.store.clock().monotonic().saturating_sub(began)));
        }
        self.tally.fired(fired);
        if fired > 0 {
            self.store.wake().hint(Topic::Ready);
        }
        // What fell due meanwhile need not wait either; while nothing can be fired, it is in somebody else's hands.
        let is_due = next.is_some_and(|next| next <= self.store.clock().now_ms());
        if fired == most || (fired > 0 && is_due) {
            return Ok((Turn::Full, Duration::ZERO));
        }
        Ok((Turn::Idle, self.until(next, POLL)))
    }

    async fn sweep(&self, cursor: &Mutex<Option<String>>) -> Result<(Turn, Duration)> {
        let mut full = self.rescue().await?;
        full |= self.expire().await?;
        let begun = self.store.clock().monotonic();
        loop {
            let page = cursor.lock().expect("nothing panics while it is held").take();
            let next = self.store.match_again(self.me, page).await?;
            let is_last = next.is_none();
            *cursor.lock().expect("nothing panics while it is held") = next;
            if is_last || self.store.clock().monotonic() - begun > MATCHING {
                break;
            }
        }
        Ok((if full { Turn::Full } else { Turn::Idle }, jittered(SWEEP)))
    }

    /// Ends the waits that are past their deadline, and sleeps no longer than until the next is: a trigger's holder has
    /// one lease to do it itself.
    async fn strike(&self) -> Result<(Turn, Duration)> {
        let (count, ended, next) = within("striking deadlines", async {
            let mut tx = self.store.begin().await?;
            let now = self.store.clock().now_ms();
            let grace = replica::longest_lease(&mut tx.db()).await?;
            let overdue = trigger::overdue(&mut tx.db(), now, grace, ROWS as i64).await?;
            let count = overdue.len();
            let verdict = |fence| Verdict { fence, failed: past_deadline(), holder: None, event: None };
            let verdicts = overdue.into_iter().map(verdict).collect();
            let struck = self.store.fail_waits(&mut tx.db(), Some(self.me), verdicts).await?;
            let next = trigger::next_deadline(&mut tx.db(), now).await?;
            tx.commit().await?;
            Ok((count, struck.ended, next))
        })
        .await?;
        if count > 0 {
            self.store.wake().hint(Topic::Ready);
        }
        self.store.ended(&ended).await?;
        if count == ROWS {
            return Ok((Turn::Full, Duration::ZERO));
        }
        Ok((Turn::Idle, self.until(next, SWEEP)))
    }

    /// How long to sleep if the next thing to do is due then, and the longest that a hint may be waited for.
    fn until(&self, next: Option<i64>, longest: Duration) -> Duration {
        // What is due already and was not fired is in somebody else's hands: no use asking again at once.
        let left = next.map_or(i64::MAX, |next| match next.saturating_sub(self.store.clock().now_ms()) {
            left if left > 0 => left,
            _ => 20,
        });
        jittered(longest).min(Duration::from_millis(left.cast_unsigned()))
    }

    async fn rescue(&self) -> Result<bool> {
        let (count, ended) = within("rescuing tasks", async {
            let mut tx = self.store.begin().await?;
            let rescued = self.store.rescue(&mut tx.db(), self.me, ROWS as i64).await?;
            tx.commit().await?;
            Ok(rescued)
        })
        .await?;
        if count > 0 {
            tracing::info!(tasks = count, "took {count} task(s) from workers that are gone");
            self.store.wake().hint(Topic::Ready);
        }
        self.store.ended(&ended).await?;
        Ok(count == ROWS)
    }

    async fn expire(&self) -> Result<bool> {
        let (count, ended) = within("skipping what has expired", async {
            let mut tx = self.store.begin().await?;
            let expired = self.store.expire(&mut tx.db(), self.me, BATCH as i64).await?;
            tx.commit().await?;
            Ok(expired)
        })
        .await?;
        self.store.ended(&ended).await?;
        Ok(count == BATCH)
    }

    async fn drop_old(&self) -> Result<(Turn, Duration)> {
        within("forgetting replicas", async {
            let mut tx = self.store.begin().await?;
            replica::forget(&mut tx.db(), self.store.clock().now_ms()).await?;
            tx.commit().await
        })
        .await?;
        let mut page = None;
        loop {
            page = within("forgetting checks", async {
                let mut tx = self.store.begin().await?;
                let next = check::forget(&mut tx.db(), page).await?;
                tx.commit().await?;
                Ok(next)
            })
            .await?;
            if page.is_none() {
                break;
            }
        }
        let more = self.store.drop_old(self.kept).await?;
        Ok((if more { Turn::Full } else { Turn::Idle }, jittered(DROP)))
    }
}

/// How a wait ends that nothing has ended by its deadline.
pub(crate) fn past_deadline() -> WaitFailed {
    WaitFailed { reason: WaitFailure::Deadline, message: "nothing had fired by the deadline".to_owned() }
}
