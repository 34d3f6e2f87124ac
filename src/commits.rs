//! Committing what comes, in batches.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::{
    clock::Clock,
    error::{Error, Result},
    outage::Outage,
    store::{BATCH, Reach, halves},
};

/// How many transactions are under way at once while there is more than one takes.
pub(crate) const AT_A_TIME: usize = 3;

/// How the transactions of one sort go: how much the next may take, and whether there is an outage, of which all that are under
/// way speak as one.
#[derive(Debug)]
pub(crate) struct Pace {
    clock: Clock,
    outage: Mutex<Outage>,
    reach: Reach,
}

impl Pace {
    pub(crate) fn new(doing: &'static str, clock: &Clock, reach: Reach) -> Self {
        Self { clock: clock.clone(), outage: Mutex::new(Outage::of(doing, clock)), reach }
    }

    /// Takes note of how one went; how long to wait, if it is to be tried again.
    pub(crate) fn note<T>(&self, outcome: &Result<T>) -> Option<Duration> {
        self.outage().note(outcome)
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().expect("nothing panics while it is held")
    }

    /// Waits after an outage, and answers with what it kept from being stored: in halves, if it took too long.
    pub(crate) async fn again<T>(&self, part: Vec<T>, outage: Error) -> Vec<Vec<T>> {
        self.reach.note(None);
        let is_late = outage.is_late() && part.len() > 1;
        let backoff = self.outage().failed(&outage);
        self.clock.sleep(backoff).await;
        if is_late { halves(part).into() } else { vec![part] }
    }

    /// Commits so many, and learns from how long a full batch takes whether the next may be larger.
    async fn timed(&self, count: usize, commit: impl Future<Output = ()>) {
        let (began, is_full) = (self.clock.monotonic(), count == self.reach.rows());
        commit.await;
        if is_full {
            self.reach.note(Some(self.clock.monotonic().saturating_sub(began)));
        }
    }
}

/// Commits until nothing more can come: one batch at a time, of whatever came meanwhile, and several while there
/// is more than a batch and that goes quickly. Where it is slow, the connection that is in use is the quickest. Each is a
/// task of its own, so that one can be sealed while the database stores another: whoever aborts this waits for `under_way`
/// to be empty.
pub(crate) async fn committed<T, C>(
    mut items: mpsc::Receiver<T>,
    under_way: &TaskTracker,
    pace: &Arc<Pace>,
    commit: impl Fn(Vec<T>) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut commits = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let rows = pace.reach.rows();
        let is_quick = rows > BATCH && items.len() >= rows;
        let may_begin = commits.is_empty() || (is_quick && commits.len() < AT_A_TIME);
        tokio::select! {
            count = items.recv_many(&mut batch, rows), if may_begin => {
                if count == 0 {
                    break;
                }
                let (pace, commit) = (Arc::clone(pace), commit(std::mem::take(&mut batch)));
                let timed = async move { pace.timed(count, commit).await };
                commits.spawn(under_way.track_future(timed.in_current_span()));
            }
            Some(committed) = commits.join_next() => seen_to(committed),
        }
    }
    while let Some(committed) = commits.join_next().await {
        seen_to(committed);
    }
}

/// Nobody but us aborts one, and then all: what else it can have done is panic.
fn seen_to(committed: Result<(), JoinError>) {
    if let Err(error) = committed
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}
