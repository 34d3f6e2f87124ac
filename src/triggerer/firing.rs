//! Committing what checks found, in batches, and telling the triggers what became of it.
//!
//! What was found is kept until it is stored, through any outage. Evidence needs no lease, and is stored even when this
//! life turns out to be over; a verdict is given only while the replica is neither parked nor gone.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use reveille_trigger::{Event, Outcome, Receipt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    checks::{Finding, What},
    holding::{CLEAN_UP, Holdings, clean_up_now},
    home::Home,
};
use crate::{
    clock::Clock,
    commits::{Pace, committed},
    error::Result,
    metrics,
    presence::{Doubt, Presence},
    store::{Reach, Verdict, event, halves, trigger::Release},
    tally::Tally,
    task::{WaitFailed, WaitFailure},
};

/// How many bad ends one transaction takes.
const AT_ONCE: usize = 50;

/// How soon a parked replica looks again whether it may give its verdicts.
const PARKED: Duration = Duration::from_millis(100);

pub(super) struct Firing {
    clock: Clock,
    presence: Arc<Presence>,
    home: Arc<dyn Home>,
    holdings: Arc<Holdings>,
    doubt: Arc<Doubt>,
    tally: Tally,
    pace: Arc<Pace>,
}

impl Firing {
    pub(super) fn new(
        clock: Clock,
        presence: Arc<Presence>,
        home: Arc<dyn Home>,
        holdings: Arc<Holdings>,
        doubt: Arc<Doubt>,
        tally: Tally,
        reach: Reach,
    ) -> Self {
        let pace = Arc::new(Pace::new("firing", &clock, reach));
        Self { clock, presence, home, holdings, doubt, tally, pace }
    }

    /// Commits until nothing more can come.
    pub(super) async fn run(self, findings: mpsc::Receiver<Finding>, under_way: TaskTracker) {
        let this = Arc::new(self);
        committed(findings, &under_way, &this.pace, |batch| Arc::clone(&this).commit(batch)).await;
    }

    async fn commit(self: Arc<Self>, batch: Vec<Finding>) {
        let (mut evidence, mut judged, mut fails, mut sleeps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for finding in batch {
            match &finding.what {
                What::Fire(event) if is_evidence(event) => evidence.push(finding),
                What::Fire(_) => judged.push(finding),
                What::Fail(_) => fails.push(finding),
                What::Sleep { .. } => sleeps.push(finding),
            }
        }
        fails.extend(self.fire(evidence).await);
        if !judged.is_empty() {
            // Of one that is gone they are refused, and given back.
            self.may_judge().await;
            fails.extend(self.fire(judged).await);
        }
        self.fail(fails).await;
        self.release(sleeps).await;
        self.presence.set_running(self.holdings.len());
    }

    /// Fires; answers with what cannot be stored, as bad ends.
    async fn fire(&self, fires: Vec<Finding>) -> Vec<Finding> {
        let mut unstorable = Vec::new();
        let mut parts = vec![fires];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let batch: Vec<event::Firing> = part.iter().filter_map(|finding| self.firing(finding)).collect();
            let fired = self.home.fire(batch).await;
            match fired {
                Ok(receipts) => {
                    self.pace.note(&Ok(()));
                    self.settled(part, &receipts);
                }
                Err(error) if error.is_outage() => parts.extend(self.pace.again(part, error).await),
                // One of them cannot be stored: halve until it is alone.
                Err(_) if part.len() > 1 => parts.extend(halves(part)),
                Err(error) => {
                    let failed = WaitFailed {
                        reason: WaitFailure::Fatal,
                        message: format!("its event cannot be stored: {}", error.chain()),
                    };
                    for mut finding in part {
                        // What it has consumed it gives back.
                        self.tell(&mut finding, Receipt::Refused);
                        unstorable.push(Finding { what: What::Fail(failed.clone()), ..finding });
                    }
                }
            }
        }
        unstorable
    }

    fn firing(&self, finding: &Finding) -> Option<event::Firing> {
        match &finding.what {
            What::Fire(event) => {
                Some(event::Firing { fence: finding.fence, event: Arc::clone(event), holder: self.presence.me() })
            }
            What::Fail(_) | What::Sleep { .. } => None,
        }
    }

    /// Gives the slots back, and tells the triggers: what consumed from a source acknowledges now, or gives back.
    fn settled(&self, fired: Vec<Finding>, receipts: &[Receipt]) {
        let accepted = receipts.iter().filter(|receipt| **receipt == Receipt::Accepted).count();
        self.tally.fired(accepted);
        metrics::events(accepted, receipts.len() - accepted);
        self.holdings.free(fired.iter().filter_map(|finding| finding.hold));
        for (mut finding, receipt) in fired.into_iter().zip(receipts.iter().copied()) {
            let task = finding.fence.task;
            match receipt {
                Receipt::Accepted => tracing::debug!(task.id = %task, "fired the trigger of task {task}"),
                Receipt::Refused => {
                    tracing::debug!(task.id = %task, "an event for task {task} came too late, and changed nothing");
                }
            }
            self.tell(&mut finding, receipt);
        }
    }

    /// Tells a trigger what became of its event, on the side, and lets it go. Each in a task of its own: one that blocks its
    /// thread would keep others from being told.
    fn tell(&self, finding: &mut Finding, receipt: Receipt) {
        let (task, Some((trigger, cx))) = (finding.fence.task, finding.after.take()) else { return };
        self.holdings.aftermath().spawn(async move {
            let telling = AssertUnwindSafe(trigger.settled(&cx, receipt)).catch_unwind();
            match tokio::time::timeout(CLEAN_UP, telling).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::warn!(task.id = %task, "the trigger of task {task} was told {receipt:?}, and panicked"),
                Err(_) => {
                    tracing::warn!(task.id = %task, "the trigger of task {task} was told {receipt:?}, and has not come back");
                }
            }
            let config = cx.config().clone();
            clean_up_now(&*trigger, cx.since(), cx.into_memory(), config).await;
        });
    }

    async fn fail(&self, fails: Vec<Finding>) {
        if fails.is_empty() {
            return;
        }
        let verdict = |finding: &Finding| match &finding.what {
            What::Fail(failed) => Some(Verdict {
                fence: finding.fence,
                failed: failed.clone(),
                holder: Some(self.presence.me()),
                event: None,
            }),
            What::Fire(_) | What::Sleep { .. } => None,
        };
        // Each takes statements of its own: few at a time, or a slow network would never let them through.
        let mut fails = fails.into_iter().peekable();
        while fails.peek().is_some() {
            let part: Vec<Finding> = fails.by_ref().take(AT_ONCE).collect();
            let verdicts: Vec<Verdict> = part.iter().filter_map(verdict).collect();
            self.persist(|| self.home.fail(verdicts.clone())).await;
            self.let_go(part);
        }
    }

    async fn release(&self, sleeps: Vec<Finding>) {
        if sleeps.is_empty() {
            return;
        }
        let given_back = |finding: &Finding| match finding.what {
            What::Sleep { until, known } => Some(Release { fence: finding.fence, wake_at: until, known }),
            What::Fire(_) | What::Fail(_) => None,
        };
        let batch: Vec<_> = sleeps.iter().filter_map(given_back).collect();
        let released = self.persist(|| self.home.release(&batch)).await;
        if released.is_some_and(|released| released < batch.len()) {
            // Some may still be mine, and are run by nobody.
            self.doubt.raise();
        }
        self.let_go(sleeps);
    }

    /// Tries until it is stored, while this life may decide anything: what only a holder may say is dropped when it is over.
    async fn persist<T, S: Future<Output = Result<T>>>(&self, store: impl Fn() -> S) -> Option<T> {
        while self.may_judge().await {
            let stored = store().await;
            match (self.pace.note(&stored), stored) {
                (_, Ok(done)) => return Some(done),
                (_, Err(error)) if !error.is_outage() => {
                    tracing::error!("a bad end cannot be stored, and will be looked for again: {}", error.chain());
                    // It stays mine, and is run by nobody. In no hurry, as it may well come to the same.
                    self.doubt.suspect();
                    break;
                }
                (backoff, Err(_)) => self.clock.sleep(backoff.unwrap_or_default()).await,
            }
        }
        None
    }

    /// Waits while this replica is parked; whether it may decide anything then, or is gone.
    async fn may_judge(&self) -> bool {
        while self.presence.is_parked() && !self.presence.gone().is_cancelled() {
            self.clock.sleep(PARKED).await;
        }
        !self.presence.gone().is_cancelled()
    }

    fn let_go(&self, findings: Vec<Finding>) {
        self.holdings.free(findings.iter().filter_map(|finding| finding.hold));
        for (trigger, cx) in findings.into_iter().filter_map(|finding| finding.after) {
            self.holdings.clean_up(trigger, cx.since(), cx.into_memory());
        }
    }
}

/// Whether an event says that something has happened, as against what a trigger makes of it.
fn is_evidence(event: &Event) -> bool {
    match event.outcome {
        Outcome::Resume(_) | Outcome::Succeed(_) => true,
        Outcome::Skip(_) | Outcome::Fail(_) => false,
    }
}
