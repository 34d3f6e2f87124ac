//! Running checks as they fall due.
//!
//! Between checks a trigger is an entry in a heap. A check runs in a task of its own, bounded in time, and in number both
//! overall and per destination, so that one that panics, hangs or is slow touches no other. No check begins while this
//! replica is parked.

mod schedule;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use reveille_trigger::{Answer, Context, Event, Memory, Spacing, Timestamp, Trigger};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::schedule::{Destination, Next, Schedule};
use super::{Settings, holding::Holdings};
use crate::{
    clock::{Clock, millis},
    id::Fence,
    outage::{jittered, next_check},
    presence::Presence,
    task::{WaitFailed, WaitFailure},
    upkeep::past_deadline,
};

/// How soon a parked replica looks whether it still is.
const PARKED: Duration = Duration::from_millis(100);

/// How long a trigger may be overdue and still be checked at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Over how long the first checks of triggers that change hands are spread at most.
const LONGEST_SPREAD: Duration = Duration::from_secs(30);

/// What a check found, with what its trigger is told of it.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) fence: Fence,
    pub(super) what: What,
    pub(super) trigger: Arc<dyn Trigger>,
    pub(super) cx: Context,
}

#[derive(Debug)]
pub(super) enum What {
    /// It has happened.
    Fire(Event),
    /// The wait has ended badly.
    Fail(WaitFailed),
    /// Nothing until then, in milliseconds of the database's time: the trigger goes dormant.
    Sleep(i64),
}

/// The heap, and what runs.
pub(super) struct Checks<'a> {
    clock: Clock,
    presence: Arc<Presence>,
    holdings: Arc<Holdings>,
    settings: &'a Settings,
    found: mpsc::Sender<Finding>,
    schedule: Schedule,
    running: JoinSet<Checked>,
    /// Where the running checks go to.
    going: HashMap<tokio::task::Id, Destination>,
    /// How many of these last, such as those that listen: they hold a slot of the capacity, and none of the checks.
    lasting: Arc<AtomicUsize>,
}

/// A check that is over.
struct Checked {
    fence: Fence,
    trigger: Arc<dyn Trigger>,
    cx: Context,
    answer: Result<Answer, reveille_trigger::Error>,
    interval: Duration,
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        clock: Clock,
        presence: Arc<Presence>,
        holdings: Arc<Holdings>,
        settings: &'a Settings,
        found: mpsc::Sender<Finding>,
    ) -> Self {
        Self {
            clock,
            presence,
            holdings,
            settings,
            found,
            schedule: Schedule::new(settings.checks_per_destination),
            running: JoinSet::new(),
            going: HashMap::new(),
            lasting: Arc::default(),
        }
    }

    /// Runs until stopped. What is running then is dropped, and what was found is handed on.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Fence>, stop: &CancellationToken) {
        loop {
            let pause = self.start_due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(fence) = arrivals.recv() => self.adopt(fence),
                Some(joined) = self.running.join_next_with_id() => {
                    let id = match &joined {
                        Ok((id, _)) => *id,
                        Err(error) => error.id(),
                    };
                    if let Some(destination) = self.going.remove(&id) {
                        self.schedule.left(&destination);
                    }
                    match joined {
                        Ok((_, checked)) => self.settle(checked).await,
                        // What is no longer held is not checked to its end.
                        Err(dropped) if dropped.is_cancelled() => {}
                        Err(error) => tracing::error!("a check was lost: {error}"),
                    }
                }
                () = self.clock.sleep(pause) => {}
            }
        }
        while let Some(joined) = self.running.try_join_next() {
            if let Ok(checked) = joined {
                self.settle(checked).await;
            }
        }
    }

    /// Starts what is due, as far as there is room; answers how long nothing else will be.
    fn start_due(&mut self) -> Duration {
        if self.presence.is_parked() {
            return PARKED;
        }
        let now = millis(self.clock.monotonic());
        while self.running.len().saturating_sub(self.lasting.load(Ordering::Relaxed)) < self.settings.checks {
            let destination = |fence| self.holdings.with(fence, |holding| holding.destination.clone()).flatten();
            match self.schedule.next(now, destination) {
                Next::Begin(fence, destination) => self.start(fence, destination),
                Next::At(at) => return Duration::from_millis((at - now).cast_unsigned()),
                Next::Nothing => break,
            }
        }
        // The end of a check, or an arrival, comes first.
        Duration::from_hours(1)
    }

    /// What has just begun to wait, or has slept until now, is checked at once. What others had held before is spread over
    /// its interval: of a replica that was lost there are thousands, whose checks were spread too.
    fn adopt(&mut self, fence: Fence) {
        let now = self.clock.now_ms();
        let first = self.holdings.with(fence, |holding| {
            let overdue = now - holding.wake_at;
            if overdue < millis(AT_ONCE) {
                return 0;
            }
            let interval = interval_of(&*holding.trigger, waited(now, holding.since)).unwrap_or_default();
            let within = millis(interval.min(LONGEST_SPREAD));
            let within = holding.deadline_at.map_or(within, |deadline_at| within.min(deadline_at - now)).max(0);
            rand::random_range(0..=within)
        });
        if let Some(first) = first {
            self.schedule.push(millis(self.clock.monotonic()) + first, fence);
        }
    }

    fn start(&mut self, fence: Fence, destination: Destination) {
        // One that is no longer held is simply not checked again.
        let Some((trigger, since, memory)) = self
            .holdings
            .with(fence, |holding| (Arc::clone(&holding.trigger), holding.since, std::mem::take(&mut holding.memory)))
        else {
            return self.schedule.left(&destination);
        };
        let cx = context(&self.clock, since, memory).with_config(self.settings.config.clone());
        let waited = waited(self.clock.now_ms(), since);
        let lasting = Arc::clone(&self.lasting);
        let check = self.running.spawn(async move {
            // An author's hooks may panic too: all of them are called here.
            let answer = AssertUnwindSafe(check(&*trigger, &cx, &lasting)).catch_unwind().await;
            let interval = interval_of(&*trigger, waited);
            let answer = answer.unwrap_or_else(|panic| Err(panicked(&*panic)));
            let (interval, answer) = match interval {
                Ok(interval) => (interval, answer),
                Err(panic) => (Spacing::default().interval(waited), Err(panicked(&*panic))),
            };
            Checked { fence, trigger, cx, answer, interval }
        });
        self.going.insert(check.id(), destination);
        self.holdings.with(fence, |holding| holding.check = Some(check));
    }

    async fn settle(&mut self, checked: Checked) {
        let Checked { fence, trigger, cx, answer, interval } = checked;
        let (what, wait) = match answer {
            Ok(Answer::Fire(event)) => (Some(What::Fire(event)), interval),
            Ok(Answer::NotYet) => {
                self.holdings.with(fence, |holding| holding.failures = 0);
                (None, jittered(interval))
            }
            Err(error) if error.is_fatal() => {
                (Some(What::Fail(WaitFailed { reason: WaitFailure::Fatal, message: error.to_string() })), interval)
            }
            Err(error) => (None, self.back_off(fence, interval, &error)),
        };
        if let Some(what) = what {
            return self.hand_on(Finding { fence, what, trigger, cx }).await;
        }
        let now = self.clock.now_ms();
        let deadline_at = self.holdings.with(fence, |holding| holding.deadline_at).flatten();
        if deadline_at.is_some_and(|deadline_at| now >= deadline_at) {
            return self.hand_on(Finding { fence, what: What::Fail(past_deadline()), trigger, cx }).await;
        }
        // The last check is at the deadline.
        let wait = deadline_at.map_or(millis(wait), |deadline_at| millis(wait).min(deadline_at - now)).max(1);
        // One that has left something for its next check would lose it by going dormant, and might never come to an answer.
        if wait > millis(self.settings.horizon) && !cx.has_memory() {
            return self.hand_on(Finding { fence, what: What::Sleep(now + wait), trigger, cx }).await;
        }
        if self.holdings.with(fence, |holding| holding.memory = cx.into_memory()).is_some() {
            self.schedule.push(millis(self.clock.monotonic()) + wait, fence);
        }
    }

    async fn hand_on(&self, finding: Finding) {
        // Firing outlives the checks, and holds no more than the capacity.
        if self.found.send(finding).await.is_err() {
            tracing::error!("something was found after firing had ended: whoever holds it next will see it again");
        }
    }

    /// A check could not tell: that is told, ever more rarely, and the next one is later each time.
    fn back_off(&self, fence: Fence, interval: Duration, error: &reveille_trigger::Error) -> Duration {
        let said = self.holdings.with(fence, |holding| {
            holding.failures = holding.failures.saturating_add(1);
            (holding.failures, holding.kinds.clone())
        });
        let Some((failures, kinds)) = said else { return interval };
        if failures.is_power_of_two() {
            let task = fence.task;
            tracing::warn!(task.id = %task, trigger.kind = kinds, trigger.failures = failures,
                "check {failures} in a row of the {kinds} trigger of task {task} could not tell: {error}");
        }
        next_check(interval, failures, error.retry_after())
    }
}

fn waited(now: i64, since: Timestamp) -> Duration {
    Duration::from_millis((now - since.as_millisecond()).max(0).cast_unsigned())
}

/// How far apart its checks are, or the panic of its author's code.
fn interval_of(trigger: &dyn Trigger, waited: Duration) -> std::thread::Result<Duration> {
    std::panic::catch_unwind(AssertUnwindSafe(|| trigger.spacing().interval(waited)))
}

/// A context that reads the shared clock.
pub(super) fn context(clock: &Clock, since: Timestamp, memory: Memory) -> Context {
    let clock = clock.clone();
    Context::new(move || clock.now(), since, memory)
}

/// One check, bounded in time, its panic caught. The context outlives it, and with it what earlier checks left.
async fn check(trigger: &dyn Trigger, cx: &Context, lasting: &AtomicUsize) -> Result<Answer, reveille_trigger::Error> {
    let limit = trigger.time_out();
    let _counted = limit.is_none().then(|| Lasting::count(lasting));
    let limit = limit.unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, AssertUnwindSafe(trigger.check(cx)).catch_unwind()).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => {
            Err(reveille_trigger::Error::again(format!("the check had not answered after {} s", limit.as_secs_f64())))
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> reveille_trigger::Error {
    reveille_trigger::Error::again(format!("the check panicked: {}", crate::error::said(panic)))
}

/// Counts a lasting check while it lasts, also when it is aborted.
struct Lasting<'a>(&'a AtomicUsize);

impl<'a> Lasting<'a> {
    fn count(lasting: &'a AtomicUsize) -> Self {
        lasting.fetch_add(1, Ordering::Relaxed);
        Self(lasting)
    }
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
