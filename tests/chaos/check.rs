//! What must be true of every run, whatever failed: a pure function of what was asked for and what is stored.
//!
//! A history is judged by itself, transition by transition, and then against what is known from outside. Times are not
//! compared: order is by generation, and the database's clock was made to jump.

mod doctored;
mod lives;
mod moves;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use uuid::Uuid;

use crate::record::{Asked, Cancelled, Evidence, Finished, Moved};

/// How many workers may be lost with one turn before its task is taken for what kills them.
const MOST_CRASHES: i32 = 5;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A task whose adding was acknowledged is not there.
    Lost,
    /// There is a task that nobody added.
    Unasked,
    /// A task has not ended, or left something behind.
    Stuck,
    /// Two transitions made the same generation, or a task ended more than once.
    TwoOutcomes,
    /// A generation is missing, or a transition does not begin where the one before it ended.
    Gap,
    /// A transition that there is not.
    NoSuchMove,
    /// A turn or an attempt that does not follow.
    Counting,
    /// A task was moved on by somebody who did not hold it.
    NotHolder,
    /// An event was accepted twice.
    EventTwice,
    /// An acknowledged signal did not reach the one that waited for it.
    SignalLost,
    /// A task that was called off ended in another way.
    NotCancelled,
    /// A task ended in a state that it cannot end in.
    WrongEnd,
    /// A task succeeded and did not say what it should.
    WrongResult,
    /// A live replica held more than it has room for.
    OverCapacity,
    /// A replica was declared lost that had just shown life, or showed life after that.
    Alive,
    /// A replica began a check that had been silent for longer than its lease.
    NotParked,
}

/// A rule that was broken, and where.
#[derive(Clone, Debug)]
pub(crate) struct Complaint {
    pub(crate) rule: Rule,
    pub(crate) task: Option<Uuid>,
    pub(crate) says: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: ", self.rule)?;
        if let Some(task) = self.task {
            write!(f, "task {task}: ")?;
        }
        f.write_str(&self.says)
    }
}

/// Everything that is wrong.
pub(crate) fn check(evidence: &Evidence) -> Vec<Complaint> {
    let mut histories: BTreeMap<Uuid, Vec<&Moved>> = BTreeMap::new();
    for moved in &evidence.history {
        histories.entry(moved.task_id).or_default().push(moved);
    }
    let mut finished: HashMap<Uuid, Vec<&Finished>> = HashMap::new();
    for end in &evidence.finished {
        finished.entry(end.task).or_default().push(end);
    }

    let held: HashMap<(Uuid, i32), Uuid> =
        evidence.held.iter().map(|held| ((held.task_id, held.generation), held.holder)).collect();

    let mut complaints = Vec::new();
    for (task, history) in &histories {
        let mut judge = Judge { task: *task, complaints: &mut complaints };
        judge.moves(history);
        judge.verdicts(history, &held);
        judge.ends(history, finished.get(task).map_or(&[], Vec::as_slice));
    }
    let there: HashSet<Uuid> = histories.keys().chain(finished.keys()).copied().collect();
    let asked: HashSet<Uuid> = evidence.asked.iter().map(|asked| asked.task).collect();
    for task in there.difference(&asked) {
        complaints.push(Complaint { rule: Rule::Unasked, task: Some(*task), says: "nobody added it".to_owned() });
    }
    let waiting: HashSet<Uuid> = evidence.left.iter().map(|left| left.task_id).collect();
    for asked in &evidence.asked {
        let mut judge = Judge { task: asked.task, complaints: &mut complaints };
        let end = finished.get(&asked.task).and_then(|ends| ends.last().copied());
        match (histories.get(&asked.task), end) {
            (Some(history), Some(end)) => judge.outcome(asked, history, end),
            (Some(_), None) if waiting.contains(&asked.task) => {}
            (None, None) => judge.complain(Rule::Lost, format!("{}: it was added, and is not there", asked.shape)),
            (history, end) => judge
                .complain(Rule::Lost, format!("{}: history {}, end {}", asked.shape, history.is_some(), end.is_some())),
        }
    }
    for left in &evidence.left {
        complaints.push(Complaint { rule: Rule::Stuck, task: Some(left.task_id), says: left.says.clone() });
    }
    for holding in evidence.holdings.iter().filter(|holding| holding.held > i64::from(holding.capacity)) {
        let says = format!("{} {} held {} of {}", holding.role, holding.incarnation, holding.held, holding.capacity);
        complaints.push(Complaint { rule: Rule::OverCapacity, task: None, says });
    }
    complaints.extend(lives::declared_alive(&evidence.signs));
    complaints.extend(lives::not_parked(evidence));
    complaints
}

/// Judges one task.
struct Judge<'a> {
    task: Uuid,
    complaints: &'a mut Vec<Complaint>,
}

impl Judge<'_> {
    fn complain(&mut self, rule: Rule, says: impl Into<String>) {
        self.complaints.push(Complaint { rule, task: Some(self.task), says: says.into() });
    }

    /// A task has one end, its last transition says which, and nothing comes after it.
    fn ends(&mut self, history: &[&Moved], finished: &[&Finished]) {
        if finished.len() > 1 {
            self.complain(Rule::TwoOutcomes, format!("it is finished {} times", finished.len()));
        }
        let (Some(last), Some(end)) = (history.last(), finished.first()) else { return };
        let says = (&last.became, last.generation, last.turn, last.attempt);
        let stored = (&end.state, end.generation, end.turn, end.attempt);
        if says != stored {
            self.complain(Rule::Gap, format!("its history ends at {says:?}, and it is stored as {stored:?}"));
        }
    }

    /// What its end is, against what is known from outside.
    fn outcome(&mut self, asked: &Asked, history: &[&Moved], end: &Finished) {
        // A task whose worker is lost again and again fails, by design.
        let crashed = end.state == "failed" && end.crashes >= MOST_CRASHES - 1 && ended_by(history, "crashed");
        if !asked.ends.contains(&end.state.as_str()) && !crashed {
            self.complain(Rule::WrongEnd, format!("{}: {}, and not one of {:?}", asked.shape, end.state, asked.ends));
        }
        if end.state == "succeeded"
            && let Some(result) = &asked.result
            && end.result.as_ref() != Some(result)
        {
            self.complain(Rule::WrongResult, format!("{}: {:?}, and not {result}", asked.shape, end.result));
        }
        if end.attempt > asked.max_attempts {
            self.complain(Rule::Counting, format!("attempt {} of {}", end.attempt, asked.max_attempts));
        }
        // A wait that looks at more than the signal fires an event of its own, whose payload is the task's result.
        let heard = |signal| history.iter().any(|moved| moved.event == Some(signal) || moved.why == "event");
        for signal in asked.signals.iter().filter(|signal| !crashed && !heard(**signal)) {
            self.complain(Rule::SignalLost, format!("{}: signal {signal} was acknowledged", asked.shape));
        }
        let was = history.last().and_then(|moved| moved.was.as_deref());
        let kept = match asked.cancelled {
            None | Some(Cancelled::Ended) => true,
            Some(Cancelled::Done) => end.state == "cancelled",
            // Its step may have ended before it heard of it.
            Some(Cancelled::Asked) => end.state == "cancelled" || was == Some("running"),
        };
        if !kept {
            self.complain(Rule::NotCancelled, format!("{}: {:?}, and {}", asked.shape, asked.cancelled, end.state));
        }
    }
}

fn ended_by(history: &[&Moved], why: &str) -> bool {
    history.last().is_some_and(|moved| moved.why == why)
}
