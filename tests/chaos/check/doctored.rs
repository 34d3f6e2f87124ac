//! The checker against histories that never were: a good one passes, and each that is doctored is refused for what was
//! done to it.

use serde_json::json;
use uuid::Uuid;

use super::{MOST_CRASHES, Rule, check};
use crate::{
    plan::LEASE,
    record::{Asked, Cancelled, Evidence, Finished, Held, Holding, Left, Look, Moved, Pause, Sign},
};

const SLEEPER: Uuid = Uuid::from_u128(1);
const LISTENER: Uuid = Uuid::from_u128(2);
const CALLED_OFF: Uuid = Uuid::from_u128(3);
const RETRIED: Uuid = Uuid::from_u128(4);
const SKIPPED: Uuid = Uuid::from_u128(5);
const SIGNAL: Uuid = Uuid::from_u128(100);
const WORKER: Uuid = Uuid::from_u128(200);
const OTHER_WORKER: Uuid = Uuid::from_u128(201);
const TRIGGERER: Uuid = Uuid::from_u128(202);

/// Writes a history down, transition by transition.
struct Story {
    task: Uuid,
    moves: Vec<Moved>,
}

impl Story {
    fn of(task: Uuid) -> Self {
        let enqueued = Moved {
            task_id: task,
            at: 0,
            generation: 0,
            turn: 0,
            attempt: 1,
            was: None,
            became: "ready".to_owned(),
            why: "enqueued".to_owned(),
            event: None,
            who: None,
        };
        Self { task, moves: vec![enqueued] }
    }

    /// The next transition, which counts as it should.
    fn then(mut self, became: &str, why: &str, who: Uuid) -> Self {
        let last = self.moves.last().unwrap();
        let (turn, attempt) = match why {
            "deferred" => (last.turn + 1, 1),
            "retry" | "rearmed" => (last.turn, last.attempt + 1),
            _ => (last.turn, last.attempt),
        };
        let next = Moved {
            generation: last.generation + 1,
            turn,
            attempt,
            was: Some(last.became.clone()),
            became: became.to_owned(),
            why: why.to_owned(),
            who: Some(who),
            ..last.clone()
        };
        self.moves.push(Moved { event: None, ..next });
        self
    }

    fn by(mut self, event: Uuid) -> Self {
        self.moves.last_mut().unwrap().event = Some(event);
        self
    }

    fn end(&self, result: Option<serde_json::Value>) -> Finished {
        let last = self.moves.last().unwrap();
        Finished {
            task: self.task,
            state: last.became.clone(),
            generation: last.generation,
            turn: last.turn,
            attempt: last.attempt,
            crashes: 0,
            result,
        }
    }
}

fn asked(task: Uuid, end: &'static str) -> Asked {
    Asked {
        task,
        shape: "a task".to_owned(),
        ends: vec![end],
        result: None,
        max_attempts: 3,
        signals: Vec::new(),
        cancelled: None,
    }
}

fn sign(at: i64, lost: bool) -> Sign {
    Sign { incarnation: TRIGGERER, label: "a triggerer".to_owned(), at, lost }
}

fn look(at: i64) -> Look {
    Look { label: "a triggerer".to_owned(), at }
}

/// A run in which all went well: a timer, a signal, a cancellation, a retry after a crash, and a wait that ends its task.
fn good() -> Evidence {
    let sleeper = Story::of(SLEEPER)
        .then("running", "claimed", WORKER)
        .then("deferred", "deferred", WORKER)
        .then("ready", "due", TRIGGERER)
        .then("running", "claimed", WORKER)
        .then("succeeded", "finished", WORKER);
    let listener = Story::of(LISTENER)
        .then("running", "claimed", WORKER)
        .then("deferred", "deferred", WORKER)
        .then("ready", "signal", TRIGGERER)
        .by(SIGNAL)
        .then("running", "claimed", OTHER_WORKER)
        .then("succeeded", "finished", OTHER_WORKER);
    let called_off = Story::of(CALLED_OFF)
        .then("running", "claimed", WORKER)
        .then("deferred", "deferred", WORKER)
        .then("cancelled", "cancelled", TRIGGERER);
    let retried = Story::of(RETRIED)
        .then("running", "claimed", WORKER)
        .then("deferred", "retry", WORKER)
        .then("ready", "due", TRIGGERER)
        .then("running", "claimed", WORKER)
        .then("ready", "crashed", OTHER_WORKER)
        .then("running", "claimed", OTHER_WORKER)
        .then("succeeded", "finished", OTHER_WORKER);
    let skipped = Story::of(SKIPPED)
        .then("running", "claimed", WORKER)
        .then("deferred", "deferred", WORKER)
        .then("skipped", "event", TRIGGERER);
    Evidence {
        asked: vec![
            asked(SKIPPED, "skipped"),
            asked(SLEEPER, "succeeded"),
            Asked { result: Some(json!("hi")), signals: vec![SIGNAL], ..asked(LISTENER, "succeeded") },
            Asked { cancelled: Some(Cancelled::Done), ..asked(CALLED_OFF, "cancelled") },
            asked(RETRIED, "succeeded"),
        ],
        finished: vec![
            sleeper.end(None),
            listener.end(Some(json!("hi"))),
            called_off.end(None),
            retried.end(None),
            skipped.end(None),
        ],
        history: [sleeper, listener, called_off, retried, skipped].into_iter().flat_map(|story| story.moves).collect(),
        left: Vec::new(),
        holdings: vec![Holding { incarnation: TRIGGERER, role: "triggerer".to_owned(), capacity: 2, held: 2 }],
        held: vec![Held { task_id: SKIPPED, generation: 2, holder: TRIGGERER }],
        signs: [0, 600, 1_200].map(|at| sign(at, false)).into_iter().chain([sign(4_000, true)]).collect(),
        looks: vec![look(1_300), look(1_200 + LEASE.as_millis() as i64)],
        pauses: Vec::new(),
    }
}

/// The rules that are broken once the good run was doctored.
fn broken(doctor: impl FnOnce(&mut Evidence)) -> Vec<Rule> {
    let mut evidence = good();
    doctor(&mut evidence);
    let mut rules: Vec<Rule> = check(&evidence).into_iter().map(|complaint| complaint.rule).collect();
    rules.dedup();
    rules
}

/// One transition of a task.
fn moved(evidence: &mut Evidence, task: Uuid, generation: i32) -> &mut Moved {
    let found = evidence.history.iter_mut().find(|moved| moved.task_id == task && moved.generation == generation);
    found.expect("the good run has it")
}

fn end(evidence: &mut Evidence, task: Uuid) -> &mut Finished {
    evidence.finished.iter_mut().find(|end| end.task == task).expect("the good run has it")
}

fn ask(evidence: &mut Evidence, task: Uuid) -> &mut Asked {
    evidence.asked.iter_mut().find(|asked| asked.task == task).expect("the good run has it")
}

#[test]
fn a_good_run_is_believed() {
    assert_eq!(broken(|_| {}), []);
}

#[test]
fn a_task_that_is_not_there_is_missed() {
    let gone = |evidence: &mut Evidence| {
        evidence.history.retain(|moved| moved.task_id != SLEEPER);
        evidence.finished.retain(|end| end.task != SLEEPER);
    };
    assert_eq!(broken(gone), [Rule::Lost]);
    assert_eq!(broken(|evidence| evidence.finished.retain(|end| end.task != SLEEPER)), [Rule::Lost], "its end alone");
    assert_eq!(
        broken(|evidence| evidence.history.retain(|moved| moved.task_id != SLEEPER)),
        [Rule::Lost],
        "its history"
    );
}

#[test]
fn a_task_that_nobody_added_is_found() {
    assert_eq!(broken(|evidence| evidence.asked.retain(|asked| asked.task != SLEEPER)), [Rule::Unasked]);
}

#[test]
fn a_task_that_has_not_ended_is_stuck() {
    let stuck = |evidence: &mut Evidence| {
        evidence.history.retain(|moved| moved.task_id != SLEEPER || moved.generation <= 2);
        evidence.finished.retain(|end| end.task != SLEEPER);
        evidence.left.push(Left { task_id: SLEEPER, says: "not ended: deferred".to_owned() });
    };
    assert_eq!(broken(stuck), [Rule::Stuck]);
    let outlived = |evidence: &mut Evidence| {
        evidence.left.push(Left { task_id: SLEEPER, says: "a wait is left: timer".to_owned() });
    };
    assert_eq!(broken(outlived), [Rule::Stuck], "a wait that outlived its task");
}

#[test]
fn two_outcomes_of_one_wait_are_found() {
    let doubled = |evidence: &mut Evidence| {
        let at = evidence.history.iter().position(|moved| moved.task_id == LISTENER && moved.generation == 3).unwrap();
        let second = Moved { why: "deadline".to_owned(), event: None, ..evidence.history[at].clone() };
        evidence.history.insert(at + 1, second);
    };
    assert_eq!(broken(doubled), [Rule::TwoOutcomes]);
}

#[test]
fn a_task_that_ends_twice_is_found() {
    let again = |evidence: &mut Evidence| {
        let end = end(evidence, SLEEPER).clone();
        evidence.finished.push(end);
    };
    assert_eq!(broken(again), [Rule::TwoOutcomes]);
    let goes_on = |evidence: &mut Evidence| {
        let at = evidence.history.iter().position(|moved| moved.task_id == SLEEPER && moved.generation == 5).unwrap();
        let after = Moved { generation: 6, was: Some("succeeded".to_owned()), ..evidence.history[at].clone() };
        evidence.history.insert(at + 1, after);
    };
    assert!(broken(goes_on).contains(&Rule::NoSuchMove), "nothing comes after the end");
}

#[test]
fn a_gap_is_found() {
    let missing = |evidence: &mut Evidence| {
        evidence.history.retain(|moved| moved.task_id != SLEEPER || moved.generation != 3);
    };
    assert_eq!(broken(missing), [Rule::Gap]);
    let first = |evidence: &mut Evidence| {
        evidence.history.retain(|moved| moved.task_id != SLEEPER || moved.generation != 0);
    };
    assert_eq!(broken(first), [Rule::Gap], "the first one");
    assert_eq!(broken(|evidence| end(evidence, SLEEPER).generation = 6), [Rule::Gap], "the last one");
    let elsewhere = |evidence: &mut Evidence| moved(evidence, CALLED_OFF, 3).was = Some("ready".to_owned());
    assert_eq!(broken(elsewhere), [Rule::Gap], "it begins where the one before did not end");
}

#[test]
fn a_move_that_there_is_not_is_found() {
    assert_eq!(broken(|evidence| moved(evidence, SLEEPER, 3).why = "finished".to_owned()), [Rule::NoSuchMove]);
}

#[test]
fn counters_that_do_not_follow_are_found() {
    assert_eq!(broken(|evidence| moved(evidence, SLEEPER, 2).turn = 0), [Rule::Counting], "a turn that is not counted");
    assert_eq!(broken(|evidence| moved(evidence, RETRIED, 2).attempt = 1), [Rule::Counting], "nor an attempt");
    assert_eq!(broken(|evidence| moved(evidence, RETRIED, 5).attempt = 3), [Rule::Counting], "a crash costs none");
    assert_eq!(broken(|evidence| ask(evidence, RETRIED).max_attempts = 1), [Rule::Counting], "more than it may have");
}

#[test]
fn the_answer_of_one_who_did_not_hold_it_is_found() {
    assert_eq!(broken(|evidence| moved(evidence, SLEEPER, 2).who = Some(OTHER_WORKER)), [Rule::NotHolder]);
    assert_eq!(broken(|evidence| moved(evidence, SLEEPER, 5).who = None), [Rule::NotHolder]);
}

#[test]
fn an_event_that_is_accepted_twice_is_found() {
    assert_eq!(broken(|evidence| moved(evidence, LISTENER, 5).event = Some(SIGNAL)), [Rule::EventTwice]);
}

#[test]
fn a_signal_that_was_not_delivered_is_missed() {
    assert_eq!(broken(|evidence| moved(evidence, LISTENER, 3).event = Some(Uuid::nil())), [Rule::SignalLost]);
}

#[test]
fn a_task_that_was_called_off_and_went_on_is_found() {
    let went_on = |evidence: &mut Evidence| ask(evidence, SLEEPER).cancelled = Some(Cancelled::Done);
    assert_eq!(broken(went_on), [Rule::NotCancelled]);
    let ended_first = |evidence: &mut Evidence| ask(evidence, SLEEPER).cancelled = Some(Cancelled::Asked);
    assert_eq!(broken(ended_first), [], "its step had ended before it heard of it");
    let over = |evidence: &mut Evidence| ask(evidence, SLEEPER).cancelled = Some(Cancelled::Ended);
    assert_eq!(broken(over), []);
    let by_its_trigger = |evidence: &mut Evidence| {
        evidence.history.retain(|moved| moved.task_id != SLEEPER || moved.generation <= 3);
        let last = moved(evidence, SLEEPER, 3);
        (last.became, last.why) = ("succeeded".to_owned(), "event".to_owned());
        end(evidence, SLEEPER).generation = 3;
        ask(evidence, SLEEPER).cancelled = Some(Cancelled::Asked);
    };
    assert_eq!(broken(by_its_trigger), [Rule::NotCancelled], "one that is called off defers no more");
}

#[test]
fn an_end_that_it_cannot_have_is_found() {
    assert_eq!(broken(|evidence| ask(evidence, SLEEPER).ends = vec!["failed"]), [Rule::WrongEnd]);
}

#[test]
fn only_what_kills_its_workers_may_fail_by_crashing() {
    let crashed = |crashes| {
        move |evidence: &mut Evidence| {
            let last = moved(evidence, SLEEPER, 5);
            (last.became, last.why) = ("failed".to_owned(), "crashed".to_owned());
            let end = end(evidence, SLEEPER);
            (end.state, end.crashes) = ("failed".to_owned(), crashes);
        }
    };
    assert_eq!(broken(crashed(MOST_CRASHES - 1)), []);
    assert_eq!(broken(crashed(MOST_CRASHES - 2)), [Rule::WrongEnd]);
}

#[test]
fn a_result_that_is_another_is_found() {
    assert_eq!(broken(|evidence| end(evidence, LISTENER).result = Some(json!("ho"))), [Rule::WrongResult]);
    assert_eq!(broken(|evidence| end(evidence, LISTENER).result = None), [Rule::WrongResult]);
}

#[test]
fn a_holder_with_more_than_it_has_room_for_is_found() {
    assert_eq!(broken(|evidence| evidence.holdings[0].held = 3), [Rule::OverCapacity]);
}

#[test]
fn a_verdict_of_one_who_did_not_hold_the_trigger_is_found() {
    assert_eq!(broken(|evidence| moved(evidence, SKIPPED, 3).who = Some(WORKER)), [Rule::NotHolder]);
    assert_eq!(broken(|evidence| evidence.held.clear()), [Rule::NotHolder], "nobody held it");
    let is_evidence = |evidence: &mut Evidence| {
        (moved(evidence, SKIPPED, 3).became, moved(evidence, SKIPPED, 3).who) = ("succeeded".to_owned(), Some(WORKER));
        end(evidence, SKIPPED).state = "succeeded".to_owned();
        ask(evidence, SKIPPED).ends = vec!["succeeded"];
    };
    assert_eq!(broken(is_evidence), [], "that it happened may be said by anybody");
}

#[test]
fn one_that_is_declared_lost_and_lives_is_found() {
    assert_eq!(broken(|evidence| evidence.signs[3].at = 2_100), [Rule::Alive]);
    assert_eq!(broken(|evidence| evidence.signs.push(sign(4_500, false))), [Rule::Alive]);
}

#[test]
fn a_check_of_one_that_is_silent_is_found() {
    assert_eq!(broken(|evidence| evidence.looks.push(look(4_300))), [Rule::NotParked]);
    let thawed = |evidence: &mut Evidence| {
        evidence.looks.push(look(4_300));
        evidence.pauses.push(Pause { label: "a triggerer".to_owned(), from: 1_300, to: 4_200 });
    };
    assert_eq!(broken(thawed), [], "it had begun before");
}
