//! Each answer, on a task and a fleet that call for it.

use uuid::Uuid;

use super::*;
use crate::store::{
    history::Transition,
    report::{Brief, Slot},
};

const NOW: i64 = 1_000_000;
const MINUTE: i64 = 60_000;

fn task(state: &str, why: &str) -> Whole {
    let moved = Transition {
        at: NOW - MINUTE,
        generation: 0,
        turn: 0,
        attempt: 1,
        was: None,
        became: state.to_owned(),
        why: why.to_owned(),
        event: None,
        who: Some(Uuid::from_u128(1)),
    };
    Whole {
        brief: Brief {
            id: Uuid::nil(),
            name: "report".to_owned(),
            queue: "night".to_owned(),
            state: state.to_owned(),
            priority: 1,
            turn: 0,
            attempt: 1,
            enqueued_at: NOW - MINUTE,
            finished_at: None,
            waits_for: None,
            wake_at: None,
        },
        origin: "manual".to_owned(),
        crashes: 0,
        max_attempts: 3,
        generation: 0,
        holder: Some(Uuid::from_u128(1)).filter(|_| state == "running"),
        cancel_requested_at: None,
        step: None,
        progress: None,
        event: None,
        wait: None,
        slot: None,
        end: None,
        history: vec![moved],
    }
}

fn waiting(kind: &str, holder: Option<Uuid>) -> Whole {
    let wait = Waiting {
        generation: 0,
        kind: kind.to_owned(),
        passive: false,
        since: NOW - MINUTE,
        wake_at: Some(NOW - MINUTE),
        deadline_at: None,
        or_resume: false,
        error_budget: None,
        holder,
        deaths: 0,
        keys: Vec::new(),
        arrived: Vec::new(),
        checked: None,
    };
    Whole { wait: Some(wait), ..task("deferred", "deferred") }
}

fn sleeping(why: &str, wake_at: Option<i64>, keys: &[&str]) -> Whole {
    let mut task = waiting("timer", None);
    task.history[0].why = why.to_owned();
    let wait = task.wait.take().map(|wait| Waiting {
        passive: true,
        wake_at,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..wait
    });
    Whole { wait, ..task }
}

fn replica(role: Role, kinds: &str, queues: &str, running: i32) -> Replica {
    Replica {
        incarnation: Uuid::from_u128(1),
        role: role.to_string(),
        label: "east".to_owned(),
        version: String::new(),
        capacity: 2,
        running,
        kinds: kinds.to_owned(),
        queues: queues.to_owned(),
        joined_at: 0,
        seen_at: NOW,
        beat: 1,
        gone_at: None,
        gone_why: None,
    }
}

fn ask(task: &Whole, replicas: Vec<Replica>, paused_at: Option<i64>) -> Why {
    let fleet = Fleet::new(replicas, NOW);
    Facts { task, fleet: &fleet, paused_at, now_ms: NOW, again: "reveille" }.why()
}

fn sentence(task: &Whole, replicas: Vec<Replica>) -> String {
    ask(task, replicas, None).sentence
}

fn worker(kinds: &str, queues: &str, running: i32) -> Vec<Replica> {
    vec![replica(Role::Worker, kinds, queues, running)]
}

fn triggerer(kinds: &str, queues: &str, running: i32) -> Vec<Replica> {
    vec![replica(Role::Triggerer, kinds, queues, running)]
}

#[test]
fn a_ready_task_says_what_the_workers_lack() {
    let ready = task("ready", "enqueued");
    for (replicas, expected) in [
        (Vec::new(), "is ready, and no worker is live"),
        (worker("other", "*", 0), "is ready, and no live worker knows its name: they know other"),
        (worker("report", "day", 0), "is ready, and no live worker that knows its name takes from the queue night"),
        (worker("report", "day,night", 2), "is ready, and every worker that could run it is full, with 2 steps in all"),
        (worker("report", "*", 1), "has been ready for 1m, although workers have room for it"),
    ] {
        let why = ask(&ready, replicas, None);
        assert_eq!(why.sentence, expected);
        assert!(why.advice.is_some(), "{expected}");
    }
}

#[test]
fn a_paused_queue_comes_before_all_that_workers_lack() {
    let why = ask(&task("ready", "enqueued"), Vec::new(), Some(NOW - MINUTE));
    assert_eq!(why.sentence, "is ready, and its queue night was paused 1m ago");
    assert_eq!(why.advice.unwrap(), "`reveille queue resume night` lets its tasks be claimed again");
}

#[test]
fn a_task_that_a_live_worker_gave_back_leads_to_its_log() {
    let why = ask(&task("ready", "released"), worker("report", "*", 0), None);
    assert!(why.advice.unwrap().starts_with("worker east (000001) put it back"));
}

#[test]
fn a_replica_that_shows_no_life_is_not_counted_on() {
    let mut silent = worker("report", "*", 0);
    silent[0].seen_at = NOW - MINUTE;
    let why = sentence(&task("ready", "enqueued"), silent.clone());
    assert_eq!(why, "is ready, and no worker is live (worker east (000001) has shown no life for 1m)");
    let why = ask(&task("running", "claimed"), silent, None);
    assert_eq!(why.sentence, "was running at worker east (000001), which is gone or shows no life");
    assert!(why.advice.unwrap().ends_with("and none is there: start one"));
}

#[test]
fn a_running_task_says_where_and_whether_it_was_called_off() {
    let mut running = task("running", "claimed");
    let fleet = worker("report", "*", 1);
    assert_eq!(sentence(&running, fleet.clone()), "is running, for 1m now, at worker east (000001)");
    running.cancel_requested_at = Some(NOW - 5_000);
    let why = sentence(&running, fleet);
    assert_eq!(
        why,
        "has been running at worker east (000001) for 1m, and was called off 5s ago: its worker lets go of it soon"
    );
}

#[test]
fn an_active_wait_says_what_the_triggerers_lack() {
    let free = waiting("file", None);
    let waits = "has waited for 1m for its file trigger";
    for (replicas, expected) in [
        (Vec::new(), ", and no triggerer is live to check it"),
        (triggerer("timer", "*", 0), ", and no live triggerer has that kind and takes from the queue night"),
        (triggerer("file", "day", 0), ", and no live triggerer has that kind and takes from the queue night"),
        (triggerer("file", "*", 2), ", and every triggerer that could check it is full"),
        (triggerer("file,timer", "night", 0), ", which a triggerer is about to take"),
    ] {
        assert_eq!(sentence(&free, replicas), format!("{waits}{expected}"));
    }
    let held = waiting("file", Some(Uuid::from_u128(1)));
    let why = sentence(&held, triggerer("file", "*", 1));
    assert_eq!(why, format!("{waits}, which triggerer east (000001) checks"));
}

#[test]
fn a_passive_wait_says_when_or_what_ends_it() {
    let soon = Some(NOW + MINUTE);
    for (task, expected) in [
        (sleeping("deferred", soon, &[]), "sleeps until 1970-01-01 00:17:40Z (in 1m)"),
        (sleeping("retry", soon, &[]), "has failed, and attempt 1 of 3 is due in 1m, at 1970-01-01 00:17:40Z"),
        (sleeping("snooze", soon, &[]), "asked to run again later, in 1m, at 1970-01-01 00:17:40Z"),
        (sleeping("deferred", None, &["signal:a:b"]), "has waited for 1m for the signal a:b"),
        (sleeping("deferred", None, &["task:42"]), "has waited for 1m for the end of task 42"),
        (
            sleeping("deferred", Some(NOW - MINUTE), &[]),
            "waited until 1970-01-01 00:15:40Z, which was 1m ago, and nobody has woken it",
        ),
    ] {
        assert_eq!(sentence(&task, Vec::new()), expected);
    }
}

#[test]
fn a_wait_for_a_slot_says_of_what_and_how_many_there_are() {
    let slot = Some(Slot { key: "api=eu".to_owned(), limit: 3, number: None });
    let task = Whole { slot, ..sleeping("full", None, &["slot:api=eu"]) };
    let why = ask(&task, Vec::new(), None);
    assert_eq!(why.sentence, "has waited for 1m for a free slot of api=eu (3 at once)");
    assert!(why.advice.is_some());
}

#[test]
fn a_deadline_says_what_comes_of_it() {
    let mut task = sleeping("deferred", None, &["signal:key"]);
    if let Some(wait) = &mut task.wait {
        wait.deadline_at = Some(NOW + 2 * MINUTE);
    }
    let why = sentence(&task, Vec::new());
    assert_eq!(why, "has waited for 1m for the signal key; its deadline is in 2m, and then the task fails");
}
