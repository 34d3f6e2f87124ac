//! The specification: what a database holds, as plain values, and what each verb does to it.
//!
//! There is no SQL, no batch and no lock here: a verb changes the world at once, one row after the other. Read this
//! file for the words, then `enqueue`, `claim`, `defer`, `fire` and `end` for the life of a task.

mod advance;
mod claim;
mod defer;
mod end;
mod enqueue;
mod fire;
mod lease;
mod replica;
mod report;
mod retention;
mod settle;
mod signal;
mod slot;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use reveille::{
    Origin, Priority, Retry,
    id::{Fence, Incarnation, TaskId},
    store::{
        history::{Transition, Why},
        replica::Role,
    },
    task::{End, TaskState, Woken},
};
use serde_json::Value;
use uuid::Uuid;

pub(crate) use self::{
    advance::{Advanced, Arrival},
    claim::Claimed,
    defer::{Defers, On, WaitFor},
    end::Ends,
    enqueue::{New, Start},
    fire::Struck,
    lease::Leased,
    slot::TurnedAway,
    undo::Undoes,
};

/// The last moment of the calendar: no duration leads past it.
pub(crate) const LATEST: i64 = 253_402_207_200_000;

/// Everything that is stored. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) now: i64,
    /// The unfinished.
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    pub(crate) finished: BTreeMap<TaskId, Finished>,
    pub(crate) history: BTreeMap<TaskId, Vec<Transition>>,
    pub(crate) signals: BTreeMap<Uuid, Signal>,
    /// By name and key.
    pub(crate) dedupe: BTreeMap<(String, String), Taken>,
    /// Who is at work under a concurrency key, by that and a number.
    pub(crate) slots: BTreeMap<(String, i32), TaskId>,
    pub(crate) undo: BTreeMap<Fence, Undo>,
    pub(crate) replicas: BTreeMap<Incarnation, Replica>,
    /// Every queue that ever had a task, and since when it is paused.
    pub(crate) queues: BTreeMap<String, Option<i64>>,
    /// Every kind that was ever waited for.
    pub(crate) kinds: BTreeSet<String>,
}

/// An unfinished task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) card: Card,
    pub(crate) state: State,
    /// Raised at every change of hands.
    pub(crate) generation: i32,
    /// Raised only when the task moves to a next step.
    pub(crate) turn: i32,
    /// Counted per turn, from 1.
    pub(crate) attempt: i32,
    /// How many workers were lost with this turn.
    pub(crate) crashes: i32,
    /// When it was ready for the first time: it keeps that place in the queue.
    pub(crate) ready_at: Option<i64>,
    /// It is skipped if it has not begun by then; none once it was claimed, and has its slot if it needs one.
    pub(crate) expires_at: Option<i64>,
    pub(crate) cancel_requested_at: Option<i64>,
    pub(crate) step: Value,
    pub(crate) event: Option<Woken>,
    /// How far the step has come, as it last said: gone when it is run again.
    pub(crate) progress: Option<Value>,
}

/// What never changes about a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Card {
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) origin: Origin,
    pub(crate) batch: Option<Uuid>,
    pub(crate) priority: Priority,
    pub(crate) retry: Retry,
    pub(crate) dedupe: Option<String>,
    /// A concurrency key, and how many under it may be at work at once.
    pub(crate) limit: Option<(String, i32)>,
    pub(crate) trace: Option<String>,
    pub(crate) enqueued_at: i64,
}

/// Where an unfinished task is. There is no other waiting state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Ready,
    Running(Incarnation),
    Deferred(Wait),
}

/// What a deferred task waits for: a time, a key, or a trigger that has checks to make.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wait {
    pub(crate) kind: String,
    /// An active trigger has one; a passive wait is all in the other fields.
    pub(crate) spec: Option<Value>,
    pub(crate) since: i64,
    /// When it is over, or due for a look.
    pub(crate) wake_at: Option<i64>,
    pub(crate) deadline_at: Option<i64>,
    /// It is a time of the calendar, and stays when the wait is armed again.
    pub(crate) deadline_is_fixed: bool,
    pub(crate) or_resume: bool,
    pub(crate) key: Option<String>,
    /// The triggerer that runs it.
    pub(crate) holder: Option<Incarnation>,
    /// How many of its holders were lost.
    pub(crate) deaths: i32,
    /// By how much its times may be earlier: the jitter of a retry, not known before it is read.
    pub(crate) slack: i64,
}

/// A task that has ended. What failed keeps its step and event, to be redriven.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    pub(crate) card: Card,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) crashes: i32,
    pub(crate) step: Option<Value>,
    pub(crate) event: Option<Woken>,
    pub(crate) end: End,
    pub(crate) at: i64,
}

/// A signal that was sent. It goes to those who wait when it is taken, and to nobody else.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signal {
    pub(crate) key: String,
    pub(crate) event: Woken,
    pub(crate) sent_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) taken_at: Option<i64>,
}

/// Who has a dedupe key, and until when; none is as long as that task is unfinished.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Taken {
    pub(crate) task: TaskId,
    pub(crate) until: Option<i64>,
}

/// What a cancelled active wait has yet to undo.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Undo {
    pub(crate) kind: String,
    pub(crate) queue: String,
    pub(crate) spec: Value,
    pub(crate) since: i64,
    pub(crate) wake_at: i64,
    pub(crate) attempt: i32,
    pub(crate) holder: Option<Incarnation>,
    pub(crate) dead_at: Option<i64>,
}

/// One life of one role of a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Replica {
    pub(crate) role: Role,
    pub(crate) label: String,
    pub(crate) kinds: String,
    pub(crate) queues: String,
    pub(crate) capacity: i32,
    /// How long it may be silent.
    pub(crate) lease: i64,
    pub(crate) running: i32,
    pub(crate) joined_at: i64,
    pub(crate) seen_at: i64,
    pub(crate) beat: i64,
    pub(crate) gone: Option<Gone>,
}

/// That a replica is gone, and whether it was lost or left by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gone {
    pub(crate) at: i64,
    pub(crate) lost: bool,
}

/// Why something happened, and by what and whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    pub(crate) why: Why,
    pub(crate) event: Option<Uuid>,
    pub(crate) who: Option<Incarnation>,
}

/// The database did what the specification does not allow.
#[derive(Clone, Debug)]
pub(crate) struct Illegal(pub(crate) String);

impl State {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Ready => TaskState::Ready.word(),
            Self::Running(_) => TaskState::Running.word(),
            Self::Deferred(_) => TaskState::Deferred.word(),
        }
    }
}

impl Task {
    pub(crate) fn wait(&self) -> Option<&Wait> {
        match &self.state {
            State::Deferred(wait) => Some(wait),
            State::Ready | State::Running(_) => None,
        }
    }
}

impl Wait {
    /// Whether any replica may fire it, without running anything.
    pub(crate) fn is_passive(&self) -> bool {
        self.spec.is_none()
    }
}

impl World {
    /// Without what ended or happened before a time.
    pub(crate) fn since(&self, since: i64) -> Self {
        let recent = |told: &Vec<Transition>| told.iter().filter(|told| told.at >= since).cloned().collect::<Vec<_>>();
        let history = self.history.iter().map(|(id, told)| (*id, recent(told))).filter(|(_, told)| !told.is_empty());
        let finished = self.finished.iter().filter(|(_, finished)| finished.at >= since);
        Self {
            finished: finished.map(|(id, finished)| (*id, finished.clone())).collect(),
            history: history.collect(),
            tasks: self.tasks.clone(),
            signals: self.signals.clone(),
            dedupe: self.dedupe.clone(),
            slots: self.slots.clone(),
            undo: self.undo.clone(),
            replicas: self.replicas.clone(),
            queues: self.queues.clone(),
            kinds: self.kinds.clone(),
            now: self.now,
        }
    }

    /// An unfinished task, if it is still as the caller knew it.
    fn at(&self, fence: Fence) -> Option<&Task> {
        self.tasks.get(&fence.task).filter(|task| task.generation == fence.generation)
    }

    /// The wait of a task, if it is still the one that the caller knew.
    fn wait_at(&self, fence: Fence) -> Option<&Wait> {
        self.at(fence)?.wait()
    }

    pub(crate) fn is_known(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id) || self.finished.contains_key(&id)
    }

    /// The tasks in such a state that have changed hands since, in a world that was read later.
    pub(crate) fn moved_on(&self, later: &Self, state: impl Fn(&State) -> bool) -> Vec<TaskId> {
        let stayed =
            |id: &TaskId, task: &Task| later.tasks.get(id).is_some_and(|later| later.generation == task.generation);
        let moved = self.tasks.iter().filter(|(id, task)| state(&task.state) && !stayed(id, task));
        moved.map(|(id, _)| *id).collect()
    }

    /// How much more a replica has room for.
    pub(crate) fn room(&self, replica: Incarnation) -> usize {
        let Some(capacity) = self.replicas.get(&replica).map(|replica| replica.capacity) else { return usize::MAX };
        let holds = |task: &&Task| match &task.state {
            State::Ready => false,
            State::Running(holder) => *holder == replica,
            State::Deferred(wait) => wait.holder == Some(replica),
        };
        usize::try_from(capacity).unwrap_or(0).saturating_sub(self.tasks.values().filter(holds).count())
    }

    fn is_live(&self, replica: Incarnation) -> bool {
        self.replicas.get(&replica).is_some_and(|replica| replica.gone.is_none())
    }

    fn is_gone(&self, replica: Incarnation) -> bool {
        self.replicas.get(&replica).is_some_and(|replica| replica.gone.is_some())
    }

    /// Whether a replica may give a verdict on a wait: it must hold it, and be live.
    fn may_judge(&self, replica: Incarnation, wait: &Wait) -> bool {
        wait.holder == Some(replica) && self.is_live(replica)
    }

    fn task(&mut self, id: TaskId) -> &mut Task {
        self.tasks.get_mut(&id).expect("the caller has looked it up")
    }

    /// Every change of hands: the state changes, the generation rises, and history says why.
    fn change(&mut self, id: TaskId, to: State, cause: Cause) {
        let task = self.task(id);
        let was = task.state.word();
        task.state = to;
        task.generation += 1;
        let (became, counts) = (task.state.word(), (task.generation, task.turn, task.attempt));
        self.tell(id, counts, Some(was), became, cause);
    }

    /// Writes down a transition: the counters are those after it.
    fn tell(
        &mut self,
        id: TaskId,
        (generation, turn, attempt): (i32, i32, i32),
        was: Option<&str>,
        became: &str,
        cause: Cause,
    ) {
        self.history.entry(id).or_default().push(Transition {
            at: self.now,
            generation,
            turn,
            attempt,
            was: was.map(ToOwned::to_owned),
            became: became.to_owned(),
            why: cause.why.word().to_owned(),
            event: cause.event,
            who: cause.who.map(|who| who.0),
        });
    }
}

impl Cause {
    pub(crate) fn of(why: Why, who: Option<Incarnation>) -> Self {
        Self { why, event: None, who }
    }
}

/// What the database chose, if it is a legal choice among the candidates, which come in an order: as many as there are,
/// up to the limit, and none that comes after one that was left.
fn choose<K: Ord + Copy, I: Ord + Copy + std::fmt::Debug>(
    candidates: &[(K, I)],
    limit: usize,
    chosen: &[I],
) -> Result<(), Illegal> {
    let order: BTreeMap<I, K> = candidates.iter().map(|(key, id)| (*id, *key)).collect();
    let taken: BTreeSet<I> = chosen.iter().copied().collect();
    if taken.len() != chosen.len() {
        return Err(Illegal(format!("one was taken twice: {chosen:?}")));
    }
    if let Some(wrong) = chosen.iter().find(|id| !order.contains_key(id)) {
        return Err(Illegal(format!("{wrong:?} was not to be taken")));
    }
    if taken.len() != limit.min(order.len()) {
        return Err(Illegal(format!("{} were taken of {}, with a limit of {limit}", taken.len(), order.len())));
    }
    let last = chosen.iter().max_by_key(|id| order[id]);
    let left = order.keys().filter(|id| !taken.contains(id)).min_by_key(|id| order[id]);
    match (last, left) {
        (Some(last), Some(left)) if order[left] < order[last] => {
            Err(Illegal(format!("{last:?} was taken before {left:?}")))
        }
        _ => Ok(()),
    }
}
