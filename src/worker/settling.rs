//! Storing what steps answered, in batches, and giving their slots back.
//!
//! Each write names holder and generation. A refused deferral means that the task was cancelled, or is no longer mine; it
//! is then ended as cancelled, under the same fence.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::running::Running;
use crate::{
    commits::{Pace, committed},
    error::Result,
    id::{Fence, Incarnation},
    presence::Presence,
    store::{
        MOST, Reach, Store, halves,
        history::Why,
        json_size, parts,
        task::{Answer, Deferring, Ending, Over},
        wait::Wait,
        wake::Topic,
        within,
    },
    task::{End, TaskState},
};

/// A step's answer, on its way to the database.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) fence: Fence,
    pub(super) attempt: i32,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The task is over.
    End(End, Why),
    /// A next step, sealed, after a wait.
    Defer { step: Vec<u8>, wait: Wait },
    /// The same step, as another attempt.
    Retry(Wait),
    /// The same step, at no cost of attempts.
    Snooze(Wait),
}

pub(super) struct Settling {
    store: Store,
    presence: Arc<Presence>,
    running: Arc<Running>,
    pace: Arc<Pace>,
}

impl Settling {
    pub(super) fn new(store: Store, presence: Arc<Presence>, running: Arc<Running>) -> Self {
        let reach = Reach::on(store.url());
        let pace = Arc::new(Pace::new("storing what steps answered", store.clock(), reach));
        Self { store, presence, running, pace }
    }

    /// Stores until nothing more can come, or this life is over: then nothing of it can be stored.
    pub(super) async fn run(self, ends: mpsc::Receiver<Ended>, under_way: TaskTracker) {
        let this = Arc::new(self);
        committed(ends, &under_way, &this.pace, |batch| Arc::clone(&this).commit(batch)).await;
    }

    async fn commit(self: Arc<Self>, batch: Vec<Ended>) {
        let mut parts = parts(batch, MOST, Ended::size);
        while let Some(part) = parts.pop() {
            if self.presence.gone().is_cancelled() {
                self.free(&part);
                continue;
            }
            let stored = self.store_all(&part).await;
            match stored {
                Ok(done) => {
                    self.pace.note(&Ok(()));
                    self.free(&part);
                    self.follow_up(done).await;
                }
                Err(error) if error.is_outage() => parts.extend(self.pace.again(part, error).await),
                // One of them cannot be stored: halve until it is alone.
                Err(_) if part.len() > 1 => parts.extend(halves(part)),
                Err(error) => {
                    let task = part[0].fence.task;
                    tracing::error!(task.id = %task, "what task {task} answered cannot be stored: {}", error.chain());
                    self.give_up(part, &error.chain(), &mut parts);
                }
            }
        }
    }

    fn free(&self, part: &[Ended]) {
        self.running.free(part.iter().map(|ended| ended.fence));
        self.presence.set_running(self.running.len());
    }

    /// An answer that the database refuses fails its task; a failure that it refuses is left to whoever finds it.
    fn give_up(&self, part: Vec<Ended>, why: &str, parts: &mut Vec<Vec<Ended>>) {
        for ended in part {
            if let Outcome::End(_, Why::Failed) = ended.outcome {
                self.free(&[ended]);
            } else {
                let end = End::failed(format!("its answer cannot be stored: {why}"));
                parts.push(vec![Ended { outcome: Outcome::End(end, Why::Failed), ..ended }]);
            }
        }
    }

    async fn store_all(&self, batch: &[Ended]) -> Result<Stored> {
        let me = self.presence.me();
        let answers = batch.iter().map(|ended| ended.answer(&self.store, me)).collect::<Result<Vec<_>>>()?;
        let settled = within("storing what steps answered", async {
            let mut tx = self.store.begin().await?;
            let settled = self.store.settle(&mut tx.db(), me, answers).await?;
            tx.commit().await?;
            Ok(settled)
        })
        .await?;
        let waits = batch.iter().filter_map(|ended| Some((ended.fence.task, ended.outcome.wait()?)));
        let waits: Vec<&Wait> =
            waits.filter(|(task, _)| settled.deferred.contains(task)).map(|(_, wait)| wait).collect();
        Ok(Stored {
            over: settled.ended,
            keys: waits.iter().flat_map(|wait| wait.keys()).cloned().collect(),
            passive: waits.iter().any(|wait| wait.is_passive()),
            active: waits.iter().any(|wait| !wait.is_passive()),
        })
    }

    /// What follows a commit: hints, and the matching of what may have come before it.
    async fn follow_up(&self, stored: Stored) {
        let wake = self.store.wake();
        if stored.passive {
            wake.hint(Topic::Passive);
        }
        if stored.active {
            wake.hint(Topic::Waiting);
        }
        let me = Some(self.presence.me());
        let followed = match self.store.match_keys(&stored.keys, me).await {
            Ok(_) => self.store.ended(&stored.over).await,
            Err(error) => Err(error),
        };
        if let Err(error) = followed {
            tracing::debug!("waits that are over are found at the next match: {}", error.chain());
        }
    }
}

/// What a batch has changed.
struct Stored {
    over: Vec<Over>,
    keys: Vec<String>,
    passive: bool,
    active: bool,
}

impl Ended {
    /// In bytes, as far as it is large.
    fn size(&self) -> usize {
        match &self.outcome {
            Outcome::End(end, _) => json_size(end),
            Outcome::Defer { step, wait } => step.len() + wait.size(),
            Outcome::Retry(wait) | Outcome::Snooze(wait) => wait.size(),
        }
    }

    /// As it goes to the database.
    fn answer(&self, store: &Store, me: Incarnation) -> Result<Answer> {
        let (step, attempt, why, wait) = match &self.outcome {
            Outcome::End(end, why) => {
                let ending = store.ending(self.fence, TaskState::Running, end, *why)?;
                return Ok(Answer::End(Ending { holder: Some(me), who: Some(me), ..ending }));
            }
            Outcome::Defer { step, wait } => (Some(step.clone()), 1, Why::Deferred, wait),
            Outcome::Retry(wait) => (None, self.attempt + 1, Why::Retry, wait),
            Outcome::Snooze(wait) => (None, self.attempt, Why::Snooze, wait),
        };
        Ok(Answer::Defer(Deferring { fence: self.fence, step, attempt, why, wait: wait.clone() }))
    }
}

impl Outcome {
    fn wait(&self) -> Option<&Wait> {
        match self {
            Self::End(..) => None,
            Self::Defer { wait, .. } | Self::Retry(wait) | Self::Snooze(wait) => Some(wait),
        }
    }
}
