//! What this replica holds: the registry that capacity is counted by.

use std::{
    collections::{HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use reveille_trigger::{Arrived, Config, Context, Memory, Timestamp, Trigger};
use tokio::sync::{Notify, futures::OwnedNotified};
use tokio_util::task::TaskTracker;

use super::{
    held::{Alone, Hold, Holding},
    home::Leased,
    words::Words,
};
use crate::{
    clock::timestamp,
    id::{Fence, TaskId},
    kind,
    store::check::{Check, Report},
};

/// How long one clean-up may take.
pub(super) const CLEAN_UP: Duration = Duration::from_secs(5);

/// How many wait to be told of their checks. What comes and goes faster than that is not asked about.
const LONGEST_LINE: usize = 10_000;

/// The triggers that this replica holds, those being fired included, up to its capacity.
#[derive(Debug)]
pub(super) struct Holdings {
    capacity: usize,
    /// How many of these may be taken: my share.
    limit: AtomicUsize,
    held: DashMap<TaskId, Box<Holding>>,
    /// What many of them say alike.
    words: Words,
    freed: Arc<Notify>,
    /// What triggers may read that are let go of.
    config: Config,
    /// How many leases there were.
    leases: AtomicU64,
    /// What triggers still do after they are let go of: nothing waits for it but the end of this life.
    aftermath: TaskTracker,
    /// What is to be told of the checks, to those who ask.
    reports: Mutex<VecDeque<Report>>,
}

impl Holdings {
    pub(super) fn new(capacity: usize, config: Config) -> Self {
        Self {
            capacity,
            limit: AtomicUsize::new(capacity),
            held: DashMap::new(),
            words: Words::default(),
            freed: Arc::default(),
            config,
            leases: AtomicU64::default(),
            aftermath: TaskTracker::new(),
            reports: Mutex::default(),
        }
    }

    /// What many triggers say alike is kept once.
    pub(super) fn shared(&self, words: &str) -> Arc<str> {
        self.words.shared(words)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many more may be taken.
    pub(super) fn room(&self) -> usize {
        self.limit.load(Ordering::Relaxed).min(self.capacity).saturating_sub(self.held.len())
    }

    /// Whether more could be taken, if it were mine to take.
    pub(super) fn has_used_its_share(&self) -> bool {
        self.room() == 0 && self.held.len() < self.capacity
    }

    /// So many may be taken, or as many as the capacity allows.
    pub(super) fn may_hold(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(self.capacity), Ordering::Relaxed);
    }

    /// Completes when a slot was given back, counted from this call.
    pub(super) fn freed(&self) -> OwnedNotified {
        Arc::clone(&self.freed).notified_owned()
    }

    pub(super) fn hold(&self, leased: Leased) {
        let trigger = &leased.trigger;
        let lasts = std::panic::catch_unwind(AssertUnwindSafe(|| trigger.time_out().is_none())).unwrap_or_default();
        // A check that lasts would keep its place in the lane for ever.
        let destination = || if lasts { None } else { trigger.destination() };
        let destination = std::panic::catch_unwind(AssertUnwindSafe(destination)).unwrap_or_default();
        let number = self.leases.fetch_add(1, Ordering::Relaxed);
        let holding = Holding::new(leased, number, lasts, destination.map(|name| self.words.shared(&name)));
        if let Some(mut before) = self.held.insert(holding.fence.task, Box::new(holding)) {
            // Its wait is over, or it was given back: that has not been heard of here yet.
            self.drop_now(&mut before);
        }
    }

    /// Keeps what has come for one that is held; whether that is news.
    pub(super) fn tell(&self, fence: Fence, arrived: Arrived) -> bool {
        let told = self.with_alone(fence, |alone| {
            // Nothing of it ever goes.
            if arrived.len() <= alone.arrived.len() {
                return false;
            }
            alone.arrived = arrived;
            alone.has_news = true;
            // It would look at what it was told before.
            if let Some(check) = &alone.check {
                check.abort();
            }
            true
        });
        told.unwrap_or_default()
    }

    /// Adds a check to the record of one that is held, and has it told if that is news.
    pub(super) fn record(&self, fence: Fence, check: &Check) {
        let report = self.with(fence, |holding| {
            holding.record.add(check).then(|| Report {
                fence,
                checks: holding.record.checks.into(),
                last: check.clone(),
            })
        });
        let Some(report) = report.flatten() else { return };
        let too_many = {
            let mut line = self.reports();
            line.push_back(report);
            if line.len() > LONGEST_LINE { line.pop_front() } else { None }
        };
        if let Some(Report { fence, .. }) = too_many {
            // It gets in line again with its next news.
            self.with(fence, |holding| holding.record.told());
        }
    }

    /// The next that are to be told of their checks, at most so many.
    pub(super) fn next_reports(&self, limit: usize) -> Vec<Report> {
        let mut reports: Vec<Report> = {
            let mut line = self.reports();
            let count = line.len().min(limit);
            line.drain(..count).collect()
        };
        // One that was leased again since is in line twice.
        let mut seen = HashSet::new();
        reports.retain(|report| seen.insert(report.fence.task));
        for report in &mut reports {
            // It has gone on since.
            if let Some((checks, last)) = self.with(report.fence, |holding| holding.record.told()).flatten() {
                (report.checks, report.last) = (checks.into(), last);
            }
        }
        reports
    }

    fn reports(&self) -> MutexGuard<'_, VecDeque<Report>> {
        self.reports.lock().expect("nothing panics while it is held")
    }

    /// Whether it is still held, and was not leased again since.
    pub(super) fn still(&self, hold: Hold) -> bool {
        self.held.get(&hold.fence.task).is_some_and(|holding| holding.hold() == hold)
    }

    /// What is held now.
    pub(super) fn fences(&self) -> HashSet<Fence> {
        self.held.iter().map(|holding| holding.fence).collect()
    }

    /// Runs `change` on a holding, if it is still held.
    pub(super) fn with<T>(&self, fence: Fence, change: impl FnOnce(&mut Holding) -> T) -> Option<T> {
        self.held.get_mut(&fence.task).filter(|holding| holding.fence == fence).map(|mut holding| change(&mut holding))
    }

    /// Runs `change` on what a holding is checked with, if it is still held and has not joined its equals.
    pub(super) fn with_alone<T>(&self, fence: Fence, change: impl FnOnce(&mut Alone) -> T) -> Option<T> {
        self.with(fence, |holding| holding.alone.as_deref_mut().map(change)).flatten()
    }

    /// Marks that something was found that ends this lease.
    pub(super) fn found(&self, fence: Fence) -> Option<Hold> {
        self.with(fence, |holding| {
            holding.is_found = true;
            holding.hold()
        })
    }

    /// Gives slots back.
    pub(super) fn free(&self, holds: impl IntoIterator<Item = Hold>) {
        for hold in holds {
            self.held.remove_if(&hold.fence.task, |_, holding| holding.hold() == hold);
        }
        self.freed.notify_waiters();
    }

    /// Drops what is not among these; answers how many.
    pub(super) fn drop_all_but(&self, mine: impl Iterator<Item = Fence>) -> usize {
        let mine: HashSet<Fence> = mine.collect();
        let before = self.held.len();
        self.held.retain(|_, holding| {
            let keep = mine.contains(&holding.fence);
            if !keep {
                self.drop_now(holding);
            }
            keep
        });
        self.freed.notify_waiters();
        before.saturating_sub(self.held.len())
    }

    /// Takes out up to `count` for others to run, first those that lose nothing by it. None that is being checked, unless
    /// its checks last, and none that has moved since `joined_at`.
    pub(super) fn give_up(&self, count: usize, joined_at: i64, now: i64) -> Vec<Fence> {
        let may_move = |holding: &Holding| holding.may_move(joined_at, now);
        let movable = self.held.iter().filter(|holding| may_move(holding));
        let mut movable: Vec<(bool, Fence)> =
            movable.map(|holding| (holding.loses_by_moving(), holding.fence)).collect();
        movable.sort_by_key(|(loses, _)| *loses);
        let still =
            |fence: Fence| self.held.remove_if(&fence.task, |_, holding| holding.fence == fence && may_move(holding));
        let given_up = movable.into_iter().filter_map(|(_, fence)| still(fence)).take(count);
        given_up
            .map(|(_, mut holding)| {
                self.drop_now(&mut holding);
                holding.fence
            })
            .collect()
    }

    /// Where what follows a settled event is done.
    pub(super) fn aftermath(&self) -> &TaskTracker {
        &self.aftermath
    }

    /// Ends its check, and lets go of what it holds.
    fn drop_now(&self, holding: &mut Holding) {
        if let Some(check) = holding.alone.as_ref().and_then(|alone| alone.check.as_ref()) {
            check.abort();
        }
        self.let_go(holding);
    }

    /// What equals share is let go of with the last of them, and what something was found of by whoever stores that.
    fn let_go(&self, holding: &mut Holding) {
        if holding.shared.is_some() || holding.is_found {
            return;
        }
        if let Some(alone) = holding.alone.take() {
            self.clean_up(alone.trigger, timestamp(holding.since), alone.memory);
        }
    }

    /// Lets go of what one trigger holds on this replica, on the side.
    pub(super) fn clean_up(&self, trigger: Arc<dyn Trigger>, since: Timestamp, memory: Memory) {
        let config = self.config.clone();
        self.aftermath.spawn(async move { clean_up_now(&*trigger, since, memory, config).await });
    }

    /// Lets go of everything, once for all who share their checks, bounded in time.
    pub(super) async fn clean_up_all(&self) {
        let mut shared = HashSet::new();
        let held: Vec<TaskId> = self.held.iter().map(|entry| *entry.key()).collect();
        // Each in a task of its own, so that one that panics harms no other.
        for (_, holding) in held.into_iter().filter_map(|task| self.held.remove(&task)) {
            let Holding { is_found, shared: spec, alone, since, .. } = *holding;
            if is_found || spec.as_ref().is_some_and(|spec| !shared.insert(Arc::clone(spec))) {
                continue;
            }
            let read = || Some((Arc::from(kind::join(spec.as_deref()?).ok()?), Memory::default()));
            if let Some((trigger, memory)) = alone.map(|alone| (alone.trigger, alone.memory)).or_else(read) {
                self.clean_up(trigger, timestamp(since), memory);
            }
        }
        self.aftermath.close();
        if tokio::time::timeout(CLEAN_UP, self.aftermath.wait()).await.is_err() {
            tracing::warn!("some triggers had not cleaned up after {} s", CLEAN_UP.as_secs());
        }
    }
}

/// Lets go of what one trigger holds on this replica, bounded in time. It touches nothing that is shared.
pub(super) async fn clean_up_now(trigger: &dyn Trigger, since: Timestamp, memory: Memory, config: Config) {
    let cx = Context::new(move || since, since, memory).with_config(config);
    if tokio::time::timeout(CLEAN_UP, trigger.cleanup(&cx)).await.is_err() {
        tracing::warn!("a trigger had not cleaned up after {} s", CLEAN_UP.as_secs());
    }
}

#[cfg(test)]
mod tests {
    use reveille_wait::Timer;

    use super::{super::held::STAYS, *};

    fn leased(fence: Fence) -> Leased {
        Leased::new(fence, Box::new(Timer::after(Duration::ZERO)))
    }

    #[tokio::test]
    async fn what_was_leased_again_is_not_freed_by_what_had_ended_the_lease_before() {
        let holdings = Holdings::new(2, Config::default());
        let fence = Fence { task: TaskId::mint(), generation: 1 };
        holdings.hold(leased(fence));
        let slept = holdings.found(fence).unwrap();
        // It was due at once, and is here again before it is known that it was given back.
        holdings.hold(leased(fence));
        holdings.free([slept]);
        assert!(holdings.fences().contains(&fence));
        holdings.free(holdings.found(fence));
        assert!(holdings.fences().is_empty());
    }

    #[tokio::test]
    async fn what_something_was_found_of_does_not_move() {
        let holdings = Holdings::new(2, Config::default());
        let fences = [(); 2].map(|()| Fence { task: TaskId::mint(), generation: 1 });
        fences.into_iter().for_each(|fence| holdings.hold(leased(fence)));
        holdings.found(fences[0]);
        assert_eq!(holdings.give_up(2, 0, 2 * STAYS), [fences[1]]);
    }
}
