//! One history by itself: its generations, its states, its counters, its holders and its events.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Judge, Rule};
use crate::record::Moved;

/// What a transition does to turn and attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// Both stay.
    Same,
    /// The next turn, from its first attempt on.
    NextTurn,
    /// The next attempt at the same turn.
    NextAttempt,
}

/// What a transition does to the counters; `None` if there is no such transition.
///
/// This is the state machine, written down a second time: by what moved a task, from where, and to where.
fn counts(was: Option<&str>, became: &str, why: &str) -> Option<Counts> {
    let counts = match (was, became, why) {
        (None, "ready" | "deferred", "enqueued")
        | (Some("ready"), "running", "claimed")
        | (Some("running"), "deferred", "snooze" | "full")
        | (Some("running"), "ready", "crashed" | "released")
        | (Some("ready"), "deferred", "full")
        | (Some("deferred"), "ready", "event" | "due" | "signal" | "task" | "slot" | "deadline" | "wait_failed")
        | (Some("running"), "succeeded" | "skipped", "finished")
        | (Some("running"), "failed", "failed" | "crashed" | "wait_failed")
        | (Some("deferred"), "succeeded" | "skipped" | "failed", "event")
        | (Some("deferred"), "failed", "deadline" | "wait_failed")
        | (Some("ready" | "running" | "deferred"), "cancelled", "cancelled")
        | (Some("ready" | "deferred"), "skipped", "expired") => Counts::Same,
        (Some("running"), "deferred", "deferred") => Counts::NextTurn,
        (Some("running"), "deferred", "retry") | (Some("deferred"), "deferred", "rearmed") => Counts::NextAttempt,
        _ => return None,
    };
    Some(counts)
}

impl Judge<'_> {
    /// Every transition follows from the one before it.
    pub(super) fn moves(&mut self, history: &[&Moved]) {
        let mut events = HashSet::new();
        let mut before: Option<&Moved> = None;
        for moved in history {
            self.follows(before, moved);
            self.counted(before, moved);
            self.held(before, moved);
            if let Some(event) = moved.event
                && !events.insert(event)
            {
                self.complain(Rule::EventTwice, format!("event {event} moved it twice"));
            }
            before = Some(moved);
        }
    }

    /// How a wait ends badly, or without its thing having happened, only the holder of its trigger may say.
    pub(super) fn verdicts(&mut self, history: &[&Moved], held: &HashMap<(Uuid, i32), Uuid>) {
        for moved in history.iter().filter(|moved| moved.was.as_deref() == Some("deferred")) {
            let holder = held.get(&(moved.task_id, moved.generation - 1)).copied();
            let is_verdict = match moved.why.as_str() {
                "event" => moved.became == "skipped" || moved.became == "failed",
                "wait_failed" => true,
                // A deadline that nobody's trigger has strikes by anybody's hand.
                "rearmed" => holder.is_some(),
                _ => false,
            };
            if is_verdict && moved.who != holder {
                self.complain(Rule::NotHolder, format!("{holder:?} held its trigger; and then {moved}"));
            }
        }
    }

    /// One transition a generation, each from where the last one led.
    fn follows(&mut self, before: Option<&Moved>, moved: &Moved) {
        let (expected, from) = before.map_or((0, None), |before| (before.generation + 1, Some(&before.became)));
        if before.is_some_and(|before| before.generation == moved.generation) {
            return self.complain(Rule::TwoOutcomes, format!("two made generation {}: {moved}", moved.generation));
        }
        if moved.generation != expected {
            self.complain(Rule::Gap, format!("generation {expected} is missing before {moved}"));
        } else if moved.was.as_ref() != from {
            self.complain(Rule::Gap, format!("it was {from:?} before {moved}"));
        }
    }

    fn counted(&mut self, before: Option<&Moved>, moved: &Moved) {
        let Some(counts) = counts(moved.was.as_deref(), &moved.became, &moved.why) else {
            return self.complain(Rule::NoSuchMove, moved.to_string());
        };
        let (turn, attempt) = before.map_or((0, 1), |before| (before.turn, before.attempt));
        let expected = match counts {
            Counts::Same => (turn, attempt),
            Counts::NextTurn => (turn + 1, 1),
            Counts::NextAttempt => (turn, attempt + 1),
        };
        if (moved.turn, moved.attempt) != expected {
            self.complain(Rule::Counting, format!("after turn {turn}, attempt {attempt}: {moved}"));
        }
    }

    /// What a step answered is stored by the worker that claimed it. Others only put back what one that is gone left
    /// behind, or end it because it was called off.
    fn held(&mut self, before: Option<&Moved>, moved: &Moved) {
        let Some(claim) = before.filter(|before| before.became == "running") else { return };
        let anybody = ["crashed", "released", "cancelled"].contains(&moved.why.as_str());
        if !anybody && moved.who != claim.who {
            self.complain(Rule::NotHolder, format!("{claim}; and then {moved}"));
        }
    }
}
