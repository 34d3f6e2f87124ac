//! What runs on this worker: the registry that concurrency is counted by.

use std::{collections::HashSet, sync::Arc};

use dashmap::DashMap;
use tokio::{
    sync::{Notify, futures::OwnedNotified},
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    id::{Fence, TaskId},
    task::Progress,
};

/// The claimed tasks, those being settled included, up to the concurrency.
#[derive(Debug)]
pub(super) struct Running {
    concurrency: usize,
    tasks: DashMap<TaskId, Run>,
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Run {
    fence: Fence,
    cancelled: CancellationToken,
    progress: Progress,
    /// None until its attempt is spawned.
    attempt: Option<AbortHandle>,
    /// Its attempt is over, and what it answered is being stored.
    settling: bool,
}

impl Running {
    pub(super) fn new(concurrency: usize) -> Self {
        Self { concurrency, tasks: DashMap::new(), freed: Arc::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn room(&self) -> usize {
        self.concurrency.saturating_sub(self.tasks.len())
    }

    /// Completes when a slot was given back, counted from this call.
    pub(super) fn freed(&self) -> OwnedNotified {
        Arc::clone(&self.freed).notified_owned()
    }

    /// Completes when nothing runs.
    pub(super) async fn idle(&self) {
        loop {
            let freed = self.freed();
            if self.tasks.is_empty() {
                return;
            }
            freed.await;
        }
    }

    /// Takes a slot; answers with what tells the step that it is called off.
    pub(super) fn hold(&self, fence: Fence) -> CancellationToken {
        let cancelled = CancellationToken::new();
        let run =
            Run { fence, cancelled: cancelled.clone(), progress: Progress::default(), attempt: None, settling: false };
        self.tasks.insert(fence.task, run);
        cancelled
    }

    /// Where a step tells of its progress.
    pub(super) fn progress(&self, fence: Fence) -> Progress {
        self.tasks.get(&fence.task).map_or_else(Progress::default, |run| run.progress.clone())
    }

    /// What the steps have told of their progress since the last call.
    pub(super) fn progressed(&self) -> Vec<(Fence, serde_json::Value)> {
        self.tasks.iter().filter_map(|run| Some((run.fence, run.progress.take()?))).collect()
    }

    pub(super) fn spawned(&self, fence: Fence, attempt: AbortHandle) {
        if let Some(mut run) = self.tasks.get_mut(&fence.task).filter(|run| run.fence == fence) {
            run.attempt = Some(attempt);
        }
    }

    /// What runs now.
    pub(super) fn fences(&self) -> HashSet<Fence> {
        self.tasks.iter().map(|run| run.fence).collect()
    }

    pub(super) fn has(&self, fence: Fence) -> bool {
        self.tasks.get(&fence.task).is_some_and(|run| run.fence == fence)
    }

    /// The attempt is over: from here on it is not dropped, but stored or refused.
    pub(super) fn settling(&self, fence: Fence) {
        if let Some(mut run) = self.tasks.get_mut(&fence.task).filter(|run| run.fence == fence) {
            run.settling = true;
        }
    }

    /// Gives slots back.
    pub(super) fn free(&self, fences: impl IntoIterator<Item = Fence>) {
        for fence in fences {
            self.tasks.remove_if(&fence.task, |_, run| run.fence == fence);
        }
        self.freed.notify_waiters();
    }

    /// Tells a step that its task was cancelled. It is dropped a little later, unless it ends first.
    pub(super) fn cancel(&self, fence: Fence) {
        if let Some(run) = self.tasks.get(&fence.task).filter(|run| run.fence == fence) {
            run.cancelled.cancel();
        }
    }

    /// Drops what is not among these and still runs; answers what. Steps that run together are dropped together: the
    /// others of a group are still mine.
    pub(super) fn drop_all_but(&self, mine: impl Iterator<Item = Fence>) -> HashSet<Fence> {
        let mine: HashSet<Fence> = mine.collect();
        let lost = |run: &Run| !run.settling && !mine.contains(&run.fence);
        let attempts: HashSet<_> =
            self.tasks.iter().filter(|run| lost(run)).filter_map(|run| run.attempt_id()).collect();
        let mut dropped = HashSet::new();
        self.tasks.retain(|_, run| {
            let keep =
                run.settling || !(lost(run) || run.attempt_id().is_some_and(|attempt| attempts.contains(&attempt)));
            if !keep {
                run.drop_attempt();
                dropped.insert(run.fence);
            }
            keep
        });
        if !dropped.is_empty() {
            self.freed.notify_waiters();
        }
        dropped
    }

    /// Drops everything that still runs.
    pub(super) fn drop_all(&self) {
        self.drop_all_but(std::iter::empty());
    }
}

impl Run {
    fn attempt_id(&self) -> Option<tokio::task::Id> {
        self.attempt.as_ref().map(AbortHandle::id)
    }

    fn drop_attempt(&self) {
        self.cancelled.cancel();
        if let Some(attempt) = &self.attempt {
            attempt.abort();
        }
    }
}
