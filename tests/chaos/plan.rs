//! What a run is made of, all of it drawn from its seed: which tasks there are, what is done to them, and what fails when.
//!
//! The plan of one seed is always the same. What the processes make of it is not: which of them claims what, and how far
//! it has come when a fault strikes, is up to the machine.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// How many triggerers and workers there are. Replicas are numbered, triggerers first.
pub(crate) const TRIGGERERS: usize = 3;
pub(crate) const WORKERS: usize = 2;
pub(crate) const REPLICAS: usize = TRIGGERERS + WORKERS;

/// How long a replica may be silent before others take its work.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How many tasks are added in one transaction.
pub(crate) const TOGETHER: usize = 100;

/// How long anything waits at most in a long run.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How many tasks ask a server of the run's own while things fail: enough for every triggerer to hold some at any time.
const ASKING: usize = 20;

/// How many tasks kill the worker that first runs them, however many tasks there are.
const DEADLY: usize = 3;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long things fail.
    pub(crate) lasts: Duration,
    /// How long anything waits at most for what is done to it, or comes by itself.
    pub(crate) longest_wait: Duration,
    pub(crate) tasks: Vec<Planned>,
    /// In the order of their times.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) shape: Shape,
    /// How long after the task was added something is done to it from outside, if its shape asks for that.
    pub(crate) acted_after: Duration,
    /// How long it waits for what comes by itself.
    pub(crate) wait: Duration,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// Sleeps on a timer.
    Sleeps,
    /// Begins later.
    BeginsLater,
    /// Defers three times.
    Hops,
    /// Works for a while, so that whoever comes back from the dead finds another at it.
    Works,
    /// Works for a while, and defers then.
    WorksAndSleeps,
    /// Waits three times for what a triggerer finds, one after the other: what ends one wait must not end the next.
    FliesInLegs,
    /// Waits for a signal, which is sent.
    Listens,
    /// Begins as a wait for a signal.
    BeginsListening,
    /// Waits for two signals under one key, one after the other.
    HearsTwice,
    /// Polls for a file, which is written. Five tasks wait for one file, and share its checks.
    Polls,
    /// Asks a server of the run's own, which notes who asks when and says yes towards the end.
    Asks,
    /// Waits for a signal or a time, and hears the signal.
    HearsFirst,
    /// Waits for a signal that nobody sends or a time.
    TimesOut,
    /// Waits for a file and a signal, both.
    NeedsBoth,
    /// Fails twice, and is tried again.
    FailsTwice,
    /// Runs again and again until a file is there.
    Snoozes,
    /// Waits past its deadline, twice, and fails.
    FailsLate,
    /// Waits past its deadline, and goes on.
    GoesOnLate,
    /// Waits for ever, and is called off.
    IsCancelled,
    /// Is ended by its trigger, as succeeded.
    IsEnded,
    /// Is ended by its trigger, as skipped.
    IsSkipped,
    /// Is ended by its trigger, as failed.
    IsFailed,
    /// Waits for the end of the task before it.
    Follows,
    /// Is at work with at most two others under its key.
    TakesTurns,
    /// Kills the worker that first runs it.
    Kills,
}

/// Each shape with how many of a thousand tasks have it. Whoever polls is few, for it costs checks.
const SHAPES: [(Shape, u32); 23] = [
    (Shape::Sleeps, 299),
    (Shape::BeginsLater, 120),
    (Shape::Hops, 50),
    (Shape::Works, 8),
    (Shape::WorksAndSleeps, 8),
    (Shape::FliesInLegs, 30),
    (Shape::Listens, 90),
    (Shape::BeginsListening, 40),
    (Shape::HearsTwice, 15),
    (Shape::Polls, 50),
    (Shape::HearsFirst, 20),
    (Shape::TimesOut, 20),
    (Shape::NeedsBoth, 20),
    (Shape::FailsTwice, 50),
    (Shape::Snoozes, 10),
    (Shape::FailsLate, 20),
    (Shape::GoesOnLate, 20),
    (Shape::IsCancelled, 50),
    (Shape::IsEnded, 15),
    (Shape::IsSkipped, 15),
    (Shape::IsFailed, 15),
    (Shape::Follows, 20),
    (Shape::TakesTurns, 15),
];

/// What fails, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// kill -9, and a new process after a while.
    Kill { replica: usize, down: Duration },
    /// SIGSTOP, and SIGCONT after longer than a lease.
    Freeze { replica: usize, frozen: Duration },
    /// SIGTERM, and a new process.
    Restart { replica: usize },
    /// Nothing passes between one replica and the database, and nobody is told.
    CutOff { replica: usize, silent: Duration },
    /// Every connection of one replica is closed, and new ones are refused.
    Refuse { replica: usize, closed: Duration },
    /// SIGSTOP until others give the replica up, and SIGCONT while they are about to say so: it shows life first.
    Brink { replica: usize },
    /// Whatever the database answers to one replica comes late.
    Slow { replica: usize, slow: Duration, by: Duration },
    /// The same to all of them.
    SlowDatabase { slow: Duration, by: Duration },
    /// Every third commit is lost, with the connection: in turn before it arrives, and its answer. It is that of a replica,
    /// or, with a number after theirs, of whoever acts from outside.
    LoseCommits { whom: usize, long: Duration },
    /// The server is stopped at once, and started again.
    StopDatabase { down: Duration },
    /// One of the server's processes is killed, at which it ends all connections and recovers.
    KillBackend,
    /// The database's clock jumps forward.
    ClockForward { by: Duration },
    /// The database's clock jumps back.
    ClockBack { by: Duration },
}

/// How many kinds of faults there are. Each comes once before any comes again.
const KINDS: usize = 15;

/// From one fault to the next, at least and at most, in milliseconds.
const APART: std::ops::Range<u64> = 500..1_500;

/// How far the clock jumps forward at most, at once and in all: history is dropped after a week.
const JUMP_MS: u64 = 600_000;
const JUMPS_MS: u64 = 3 * 24 * 3_600_000;

impl Plan {
    pub(crate) fn of(seed: u64, tasks: usize, lasts: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let longest_wait = LONGEST_WAIT.min(lasts / 3);
        let longest = longest_wait.as_millis() as u64;
        let all = SHAPES.iter().map(|(_, many)| many).sum();
        let mut tasks: Vec<Planned> = (0..tasks)
            .map(|_| {
                let drawn = random.random_range(0..all);
                let shape = shape_at(drawn);
                let acted_after = Duration::from_millis(random.random_range(0..longest));
                let wait = Duration::from_millis(random.random_range(100..longest));
                Planned { shape, acted_after, wait }
            })
            .collect();
        for _ in 0..DEADLY {
            let at = random.random_range(0..tasks.len());
            tasks[at].shape = Shape::Kills;
        }
        for first in tasks.iter_mut().take(ASKING) {
            (first.shape, first.acted_after) = (Shape::Asks, lasts - longest_wait);
        }
        // Whoever follows needs one before it in the same transaction.
        for first in tasks.iter_mut().step_by(TOGETHER).filter(|task| task.shape == Shape::Follows) {
            first.shape = Shape::Sleeps;
        }
        let faults = faults(&mut random, lasts);
        Self { seed, lasts, longest_wait, tasks, faults }
    }
}

/// The shape that a number under the sum of all shares stands for.
fn shape_at(mut drawn: u32) -> Shape {
    for (shape, many) in SHAPES {
        if drawn < many {
            return shape;
        }
        drawn -= many;
    }
    unreachable!("it is under the sum")
}

/// One fault about every 1.2 seconds, the first when everything has begun.
fn faults(random: &mut StdRng, lasts: Duration) -> Vec<(Duration, Fault)> {
    let jumps = lasts.as_millis() as u64 / APART.start / KINDS as u64 + 1;
    let jump = JUMP_MS.min(JUMPS_MS / jumps);
    let mut faults = Vec::new();
    let mut kinds = Vec::new();
    let mut at = Duration::from_secs(2);
    while at < lasts {
        if kinds.is_empty() {
            kinds = (0..KINDS).collect();
        }
        let kind = kinds.swap_remove(random.random_range(0..kinds.len()));
        faults.push((at, fault(random, kind, jump)));
        at += Duration::from_millis(random.random_range(APART));
    }
    faults
}

fn fault(random: &mut StdRng, kind: usize, jump: u64) -> Fault {
    let mut ms = |from, to| Duration::from_millis(random.random_range(from..to));
    let lease = LEASE.as_millis() as u64;
    // Some are over before the lease is, and most are not.
    let (long, short, late) = (ms(lease / 2, lease * 5 / 2), ms(200, 2_000), ms(20, 300));
    let jump = ms(1_000, jump);
    let replica = random.random_range(0..REPLICAS);
    match kind {
        0 => Fault::Kill { replica, down: short },
        1 => Fault::Freeze { replica, frozen: LEASE + long },
        2 => Fault::Restart { replica },
        3 => Fault::CutOff { replica: replica % TRIGGERERS, silent: long },
        4 => Fault::CutOff { replica: TRIGGERERS + replica % WORKERS, silent: long },
        5 => Fault::Refuse { replica, closed: long },
        6 => Fault::Slow { replica, slow: long, by: late },
        7 => Fault::SlowDatabase { slow: short, by: late },
        8 => Fault::StopDatabase { down: short },
        9 => Fault::KillBackend,
        10 => Fault::ClockForward { by: jump },
        11 => Fault::Brink { replica },
        12 => Fault::LoseCommits { whom: replica, long },
        13 => Fault::LoseCommits { whom: REPLICAS, long },
        // Whatever waits waits as much longer.
        _ => Fault::ClockBack { by: short },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn minute_of(seed: u64) -> Plan {
        Plan::of(seed, 5_000, Duration::from_mins(1))
    }

    #[test]
    fn a_seed_makes_one_plan_and_another_seed_another() {
        assert_eq!(minute_of(7), minute_of(7));
        assert_ne!(minute_of(7).tasks, minute_of(8).tasks);
        assert_ne!(minute_of(7).faults, minute_of(8).faults);
    }

    #[test]
    fn there_is_every_shape_and_every_fault() {
        let plan = minute_of(1);
        let mut shapes: BTreeMap<Shape, usize> = BTreeMap::new();
        plan.tasks.iter().for_each(|task| *shapes.entry(task.shape).or_default() += 1);
        assert_eq!(shapes.len(), SHAPES.len() + 2, "{shapes:?}");
        let faults: HashSet<_> = plan.faults.iter().map(|(_, fault)| std::mem::discriminant(fault)).collect();
        // Two strike two sorts of victims, each of them a kind.
        assert_eq!(faults.len(), KINDS - 2, "{:?}", plan.faults);
        let strikes = |hit: fn(&Fault) -> bool| plan.faults.iter().any(|(_, fault)| hit(fault));
        assert!(strikes(|fault| matches!(fault, Fault::CutOff { replica, .. } if *replica >= TRIGGERERS)));
        assert!(strikes(|fault| matches!(fault, Fault::LoseCommits { whom: REPLICAS, .. })));
    }
}
