//! Running checks as they fall due.
//!
//! Between checks a trigger is an entry in a heap; equal ones that share their checks are one entry. A check runs in a task
//! of its own, bounded in time, and in number both overall and per destination, so that one that panics, hangs or is slow
//! touches no other. No check begins while this replica is parked.

mod group;
mod outcome;
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
use reveille_trigger::{Answer, Arrived, Context, Event, Memory, Spacing, Timestamp, Trigger, look};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::{
    group::{GroupId, Groups, Members},
    schedule::{Begin, Destination, Next, Schedule},
};
use super::{Settings, held::Hold, holding::Holdings};
use crate::{
    clock::{Clock, millis, timestamp},
    id::Fence,
    presence::Presence,
    task::WaitFailed,
};

/// How soon a parked replica looks whether it still is.
const PARKED: Duration = Duration::from_millis(100);

/// What falls due within this time is begun together: waking up for each by itself costs more than many of the checks do.
const GATHERED: Duration = Duration::from_millis(20);

/// How long a trigger that cannot be read again is left alone.
const UNREADABLE: Duration = Duration::from_mins(1);

/// Over how long the first checks of triggers that change hands are spread at most.
const LONGEST_SPREAD: Duration = Duration::from_secs(30);

/// What there is to be checked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// It has just been leased.
    Leased(Fence),
    /// Something has come for one that was held before.
    News(Fence),
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) fence: Fence,
    /// The lease that it ends, if that was not over already.
    pub(super) hold: Option<Hold>,
    pub(super) what: What,
    /// What the trigger is told of it, and let go of with; nothing where equals share their checks.
    pub(super) after: Option<(Arc<dyn Trigger>, Context)>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// It has happened.
    Fire(Arc<Event>),
    /// The wait has ended badly.
    Fail(WaitFailed),
    /// Nothing until then, in milliseconds of the database's time: the trigger goes dormant. With how much the check knew
    /// to have come.
    Sleep { until: i64, known: i32 },
}

/// What is checked: a trigger by itself, or equal ones together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    One(Fence),
    Group(GroupId),
}

/// The heap, and what runs.
pub(super) struct Checks {
    clock: Clock,
    /// The same clock, as checks are given it.
    now: reveille_trigger::Clock,
    presence: Arc<Presence>,
    holdings: Arc<Holdings>,
    settings: Settings,
    found: mpsc::Sender<Finding>,
    schedule: Schedule<Subject>,
    groups: Groups,
    running: JoinSet<Checked>,
    /// What the running checks are of, and where they go to.
    going: HashMap<Id, (Subject, Destination)>,
    /// How many of these last, such as those that listen: they hold a slot of the capacity, and none of the checks.
    lasting: Arc<AtomicUsize>,
}

/// What a check begins with.
struct Begins {
    /// The members of a group.
    members: Members,
    trigger: Arc<dyn Trigger>,
    since: Timestamp,
    memory: Memory,
    arrived: Arrived,
}

/// A check that is over.
struct Checked {
    subject: Subject,
    /// The members of a group when it began.
    members: Members,
    trigger: Arc<dyn Trigger>,
    cx: Context,
    answer: Result<Answer, reveille_trigger::Error>,
    interval: Duration,
    /// How much it knew to have come.
    known: i32,
    /// When it began, in milliseconds of the database's time, and how long it took.
    begun_at: i64,
    took: Duration,
}

impl Checks {
    pub(super) fn new(
        clock: Clock,
        presence: Arc<Presence>,
        holdings: Arc<Holdings>,
        settings: Settings,
        found: mpsc::Sender<Finding>,
    ) -> Self {
        Self {
            now: as_checks_see(&clock),
            clock,
            presence,
            holdings,
            found,
            schedule: Schedule::new(settings.checks_per_destination),
            settings,
            groups: Groups::default(),
            running: JoinSet::new(),
            going: HashMap::new(),
            lasting: Arc::default(),
        }
    }

    /// Runs until stopped. What is running then is dropped, and what was found is handed on.
    pub(super) async fn run(mut self, mut arrivals: mpsc::Receiver<Arrival>, stop: CancellationToken) {
        loop {
            let pause = self.start_due();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(arrival) = arrivals.recv() => self.arrive(arrival),
                Some(joined) = self.running.join_next_with_id() => self.joined(joined).await,
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
        while self.has_room() {
            let (holdings, groups) = (&self.holdings, &mut self.groups);
            let claim = |subject, at| match subject {
                Subject::One(fence) => {
                    let claim = holdings.with_alone(fence, |alone| {
                        alone.next.take_if(|next| *next == at).map(|_| alone.destination.clone())
                    });
                    claim.flatten()
                }
                Subject::Group(id) => {
                    let group = groups.get_mut(id)?;
                    group.next.take_if(|next| *next == at).map(|_| group.destination.clone())
                }
            };
            match self.schedule.next(now, claim) {
                Next::Begin(begin) => self.start(begin),
                Next::At(at) => return Duration::from_millis((at - now).cast_unsigned()).max(GATHERED),
                Next::Nothing => break,
            }
        }
        // The end of a check, or an arrival, comes first.
        Duration::from_hours(1)
    }

    /// Whether another check may begin.
    fn has_room(&self) -> bool {
        self.running.len().saturating_sub(self.lasting.load(Ordering::Relaxed)) < self.settings.checks
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Leased(fence) => self.adopt(fence),
            // One that is being checked is dropped, and checked again; one that waits in its lane sees it there.
            Arrival::News(fence) => {
                let waits = self.holdings.with_alone(fence, |alone| alone.next.is_some());
                if waits == Some(true) {
                    self.schedule(Subject::One(fence), Duration::ZERO);
                }
            }
        }
    }

    /// What has just begun to wait, or has slept until now, is checked at once. What others had held before is spread over
    /// its interval: of a replica that was lost there are thousands, whose checks were spread too.
    fn adopt(&mut self, fence: Fence) {
        let now = self.clock.now_ms();
        let has_room = self.has_room();
        let groups = &mut self.groups;
        let first = self.holdings.with(fence, |holding| {
            let inherited = holding.alone.as_ref().filter(|_| holding.inherited);
            let interval = inherited.and_then(|alone| interval_of(&*alone.trigger, waited(now, holding.since)).ok());
            let subject = match holding.shared.clone() {
                None => Subject::One(fence),
                Some(spec) => match groups.join(&spec, holding, has_room) {
                    (id, true) => Subject::Group(id),
                    (id, false) => return Err(id),
                },
            };
            let Some(interval) = interval else { return Ok((subject, Duration::ZERO)) };
            let within = millis(interval.min(LONGEST_SPREAD));
            let within = holding.deadline_at.map_or(within, |deadline_at| within.min(deadline_at - now)).max(0);
            Ok((subject, Duration::from_millis(rand::random_range(0..=within.cast_unsigned()))))
        });
        match first {
            Some(Ok((subject, first))) => self.schedule(subject, first),
            Some(Err(joined)) => self.bring_forward(joined),
            None => {}
        }
    }

    /// Has it checked after a while, and not when it was said to be before.
    fn schedule(&mut self, subject: Subject, wait: Duration) {
        let now = self.clock.monotonic();
        // Not before its time, even by a part of a millisecond.
        let at = if wait.is_zero() { millis(now) } else { millis(now + wait) + 1 };
        match subject {
            Subject::One(fence) => drop(self.holdings.with_alone(fence, |alone| alone.next = Some(at))),
            Subject::Group(id) => {
                if let Some(group) = self.groups.get_mut(id) {
                    group.next = Some(at);
                }
            }
        }
        self.schedule.push(at, subject);
    }

    fn start(&mut self, begin: Begin<Subject>) {
        let Begin { what: subject, destination, due_at } = begin;
        let check = match subject {
            Subject::One(fence) => self.start_one(fence),
            Subject::Group(id) => self.take_up(id).map(|begins| self.run_one(subject, begins).id()),
        };
        // One that is no longer held is simply not checked again.
        let Some(check) = check else { return self.schedule.left(&destination) };
        self.settings.tally.began(millis(self.clock.monotonic()) - due_at);
        self.going.insert(check, (subject, destination));
    }

    /// All at once, as others see it: what is told to it or takes it away comes before the check, or ends it.
    fn start_one(&mut self, fence: Fence) -> Option<Id> {
        let now = self.clock.now();
        let holdings = Arc::clone(&self.holdings);
        let started = holdings.with(fence, |holding| {
            let alone = holding.alone.as_mut()?;
            alone.has_news = false;
            let begins = Begins {
                members: Members::new(),
                trigger: Arc::clone(&alone.trigger),
                since: timestamp(holding.since),
                memory: std::mem::take(&mut alone.memory).unless_set_back(now),
                arrived: Arc::clone(&alone.arrived),
            };
            Some(alone.check.insert(self.run_one(Subject::One(fence), begins)).id())
        });
        started.flatten()
    }

    /// What a check needs of a group.
    fn take_up(&mut self, id: GroupId) -> Option<Begins> {
        let now = self.clock.now();
        let group = self.groups.get_mut(id)?;
        group.members.retain(|member| self.holdings.still(*member));
        group.first_deadline = None;
        let Some(first) = group.members.first().map(|member| member.fence.task) else {
            self.disband(id);
            return None;
        };
        let trigger = match self.groups.trigger(id) {
            Ok(trigger) => trigger?,
            // It could be read when it was leased.
            Err(error) => {
                tracing::error!(task.id = %first, "cannot read the trigger of task {first} again: {}", error.chain());
                self.schedule(Subject::Group(id), UNREADABLE);
                return None;
            }
        };
        let group = self.groups.get_mut(id)?;
        Some(Begins {
            members: group.members.clone(),
            trigger,
            since: timestamp(group.since),
            memory: std::mem::take(&mut group.memory).unless_set_back(now),
            arrived: Arrived::default(),
        })
    }

    /// Runs a check, as a task of its own.
    fn run_one(&mut self, subject: Subject, begins: Begins) -> AbortHandle {
        let Begins { members, trigger, since, memory, arrived } = begins;
        let known = arrived.len().try_into().unwrap_or(i32::MAX);
        let cx = Context::with_clock(Arc::clone(&self.now), since, memory)
            .with_config(self.settings.config.clone())
            .with_arrived(arrived);
        let (begun_at, clock, lasting) = (self.clock.now_ms(), self.clock.clone(), Arc::clone(&self.lasting));
        let waited = waited(begun_at, since.as_millisecond());
        self.running.spawn(async move {
            let begun = clock.monotonic();
            // An author's hooks may panic too: all of them are called here.
            let answer = AssertUnwindSafe(counted(&*trigger, &cx, &lasting)).catch_unwind().await;
            let interval = interval_of(&*trigger, waited);
            let answer = answer.unwrap_or_else(|panic| Err(reveille_trigger::Error::panicked(&*panic)));
            let (interval, answer) = match interval {
                Ok(interval) => (interval, answer),
                Err(panic) => (Spacing::default().interval(waited), Err(reveille_trigger::Error::panicked(&*panic))),
            };
            let took = clock.monotonic().saturating_sub(begun);
            Checked { subject, members, trigger, cx, answer, interval, known, begun_at, took }
        })
    }

    async fn joined(&mut self, joined: Result<(Id, Checked), JoinError>) {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((subject, destination)) = self.going.remove(&id) else { return };
        self.schedule.left(&destination);
        match joined {
            Ok((_, checked)) => self.settle(checked).await,
            // It is no longer held; or something has come for it.
            Err(dropped) if dropped.is_cancelled() => {
                if let Subject::One(fence) = subject {
                    self.holdings.with_alone(fence, |alone| alone.check = None);
                    self.schedule(subject, Duration::ZERO);
                }
            }
            Err(error) => tracing::error!("a check was lost: {error}"),
        }
    }
}

fn waited(now: i64, since: i64) -> Duration {
    Duration::from_millis((now - since).max(0).cast_unsigned())
}

/// How far apart its checks are, or the panic of its author's code.
fn interval_of(trigger: &dyn Trigger, waited: Duration) -> std::thread::Result<Duration> {
    std::panic::catch_unwind(AssertUnwindSafe(|| trigger.spacing().interval(waited)))
}

/// The shared clock, as a check reads it.
pub(super) fn as_checks_see(clock: &Clock) -> reveille_trigger::Clock {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}

/// One check, counted while it lasts if it lasts. The context outlives it, and with it what earlier checks left.
async fn counted(
    trigger: &dyn Trigger,
    cx: &Context,
    lasting: &AtomicUsize,
) -> Result<Answer, reveille_trigger::Error> {
    let _counted = trigger.time_out().is_none().then(|| Lasting::count(lasting));
    look(trigger, cx).await
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
