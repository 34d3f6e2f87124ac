//! Operations as data: what they name stands for itself in any run, so that a list of them can be replayed and cut.

use std::{collections::HashMap, fmt};

use reveille::{
    Priority, Retry,
    id::{Fence, Incarnation, TaskId},
    store::{history::Why, replica::Role, report::Filter},
    task::{EndState, TaskState, WaitFailure},
    trigger::Outcome,
};
use uuid::Uuid;

use crate::world::World;

/// A task, a replica, an event or signal, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct T(pub(crate) u32);
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct R(pub(crate) u32);
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct E(pub(crate) u32);

/// A task as somebody knew it, this many changes of hands ago.
#[derive(Clone, Copy)]
pub(crate) struct At(pub(crate) T, pub(crate) i32);

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Turn { ms: i64 },
    Enqueue { batch: Vec<Adds>, alone: bool },
    Claim { by: R, reach: Reach, limit: usize },
    Defer { by: R, batch: Vec<(At, Then)> },
    End { batch: Vec<Ending> },
    Progress { by: R, at: At, done: u32 },
    Advance { by: R, at: At, turns_ago: i32, step: u32, arrival: Arrives },
    PutBack { by: R, batch: Vec<At> },
    Cancel { task: T },
    Rescue { by: R, limit: usize },
    Expire { by: R, limit: usize },
    Lease { by: R, reach: Reach, limit: usize },
    Release { by: R, batch: Vec<(At, i64)> },
    Fire { by: R, batch: Vec<Shot> },
    FailWaits { who: Option<R>, batch: Vec<Charge> },
    FireDue { by: R, limit: usize },
    Strike { by: R, grace: i64, limit: usize },
    Send { signal: E, key: &'static str, payload: u32, kept: i64, alone: bool },
    Match { keys: Vec<On>, who: Option<R> },
    MatchAgain { who: R },
    Ended { tasks: Vec<T> },
    Join { replica: R, role: Role, capacity: i32 },
    Renew { replica: R, running: i32 },
    Declare { replica: R, beats_ago: i64 },
    Leave { replica: R },
    Forget,
    Pause { queue: &'static str, paused: bool },
    LeaseUndo { by: R, reach: Reach, limit: usize },
    SettleUndo { by: R, task: T, stale: bool, undone: Settled },
    DropOld { days: i64 },
    Ask(Question),
}

/// What changes nothing.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Show(T),
    List(Wanted),
    Census(Option<u32>),
    Queues,
    Replicas,
    Peers(R),
    LongestLease,
    Findings,
    NextDue,
    NextDeadline,
    Kinds,
    Claims(R),
    Leases(R),
}

/// Which tasks to list.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) state: Option<&'static str>,
    pub(crate) name: Option<&'static str>,
    pub(crate) queue: Option<&'static str>,
    pub(crate) limit: i64,
}

impl Wanted {
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            state: self.state.map(ToOwned::to_owned),
            name: self.name.map(ToOwned::to_owned),
            queue: self.queue.map(ToOwned::to_owned),
            batch: None,
            limit: self.limit,
        }
    }
}

/// A task to be added; times count from now.
#[derive(Clone, Debug)]
pub(crate) struct Adds {
    pub(crate) task: T,
    /// Whether the caller has made its id.
    pub(crate) minted: bool,
    pub(crate) name: &'static str,
    pub(crate) queue: &'static str,
    pub(crate) priority: Priority,
    pub(crate) start: Starts,
    pub(crate) expires: Option<i64>,
    pub(crate) retry: Retry,
    pub(crate) dedupe: Option<(&'static str, Option<i64>)>,
    pub(crate) limit: Option<(&'static str, u32)>,
    pub(crate) batch: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Starts {
    Now,
    At(i64),
    After(i64),
    When(Waits),
}

#[derive(Clone, Debug)]
pub(crate) struct Waits {
    pub(crate) on: On,
    pub(crate) deadline: Option<Limit>,
    pub(crate) or_resume: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum On {
    After(i64),
    At(i64),
    Signal(&'static str),
    End(T),
    Fake(u32),
    OtherFake,
    /// A concurrency key: only to be matched, as nobody defers to one.
    Slot(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    After(i64),
    At(i64),
    Never,
}

/// What a worker may claim, or a triggerer lease.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) queues: Option<Vec<&'static str>>,
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) aside: Vec<T>,
}

/// How a step goes on that is not over.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Wait(u32, Waits),
    Retry(i64),
    Snooze(i64),
}

impl Then {
    /// The key that is matched after the deferral.
    pub(crate) fn key(&self) -> Option<On> {
        match self {
            Self::Wait(_, Waits { on: on @ (On::Signal(_) | On::End(_)), .. }) => Some(on.clone()),
            Self::Wait(..) | Self::Retry(_) | Self::Snooze(_) => None,
        }
    }
}

/// What a wait in a worker's slot ends with.
#[derive(Clone, Debug)]
pub(crate) enum Arrives {
    Time(E),
    Payload(E, u32),
    Failed(E),
    Under(On),
}

#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) at: At,
    pub(crate) was: TaskState,
    pub(crate) by: Option<R>,
    pub(crate) state: EndState,
    pub(crate) why: Why,
}

#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) at: At,
    pub(crate) event: E,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) at: At,
    pub(crate) reason: WaitFailure,
    pub(crate) holder: Option<R>,
    pub(crate) event: Option<E>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Settled {
    Done,
    Again(i64),
    Unread(i64),
    Dead,
}

/// The ids that names stand for. The store mints some of the tasks' ids itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cast {
    minted: HashMap<T, TaskId>,
}

impl Cast {
    /// Learns the ids that the store has made, from what it answered to a batch. Of several that are answered with one new
    /// id it is the first's that takes a dedupe key, in the order of keys.
    pub(crate) fn learn(&mut self, world: &World, batch: &[Adds], answered: &[TaskId]) {
        let mut own: Vec<_> =
            batch.iter().zip(answered).filter(|(adds, id)| !adds.minted && !world.is_known(**id)).collect();
        own.sort_by_key(|(adds, _)| (adds.name, adds.dedupe));
        for (adds, id) in own {
            let is_taken = batch.iter().any(|other| self.task(other.task) == *id);
            if !is_taken {
                self.minted.insert(adds.task, *id);
            }
        }
    }

    pub(crate) fn task(&self, task: T) -> TaskId {
        self.minted.get(&task).copied().unwrap_or_else(|| TaskId(id(1, task.0)))
    }

    /// A task's name and generation, by what is known of it now.
    pub(crate) fn fence(&self, world: &World, At(task, ago): At) -> Fence {
        let task = self.task(task);
        let unfinished = world.tasks.get(&task).map(|task| task.generation);
        let generation = unfinished.or_else(|| world.finished.get(&task).map(|task| task.generation)).unwrap_or(0);
        Fence { task, generation: generation - ago }
    }

    /// What is to be undone for a task.
    pub(crate) fn undo(&self, world: &World, task: T, stale: bool) -> Fence {
        let id = self.task(task);
        let known = world.undo.keys().find(|fence| fence.task == id).copied();
        let fence = known.unwrap_or(Fence { task: id, generation: 0 });
        Fence { generation: fence.generation - i32::from(stale), ..fence }
    }

    /// A text with names in the place of ids, for people.
    pub(crate) fn named(&self, text: &str) -> String {
        let minted = self.minted.iter().map(|(task, id)| (id.0, format!("{task:?}")));
        let given = (0..500).flat_map(|number| {
            [
                (self.task(T(number)).0, format!("{:?}", T(number))),
                (R(number).id().0, format!("{:?}", R(number))),
                (E(number).id(), format!("{:?}", E(number))),
            ]
        });
        minted.chain(given).fold(text.to_owned(), |text, (id, name)| text.replace(&id.to_string(), &name))
    }
}

impl R {
    pub(crate) fn id(self) -> Incarnation {
        Incarnation(id(2, self.0))
    }
}

impl E {
    pub(crate) fn id(self) -> Uuid {
        id(3, self.0)
    }
}

/// The id of a batch of tasks.
pub(crate) fn batch_id(batch: u32) -> Uuid {
    id(4, batch)
}

/// The same in every run, and in no order: nothing may depend on the order of ids.
fn id(kind: u64, number: u32) -> Uuid {
    let mix = |seed: u64| {
        let x = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let seed = mix(kind << 32 | u64::from(number) | 1 << 60);
    let (high, low) = (seed.to_be_bytes(), mix(seed).to_be_bytes());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high);
    bytes[8..].copy_from_slice(&low);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

impl fmt::Debug for T {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl fmt::Debug for R {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for E {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "{:?}", self.0),
            ago => write!(f, "{:?}@now{:+}", self.0, -ago),
        }
    }
}
