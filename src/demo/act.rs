//! One featured task, and how it should end.

use serde_json::Value;

use crate::{id::TaskId, store::report::Whole, task::EndState};

#[derive(Debug)]
pub(super) struct Act {
    pub(super) title: &'static str,
    pub(super) id: TaskId,
    pub(super) expected: Expected,
}

/// How a task should end. What is `None` may be anything.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) state: EndState,
    pub(super) result: Option<Value>,
    pub(super) why: Option<&'static str>,
    pub(super) turns: Option<i32>,
    pub(super) attempts: Option<i32>,
    pub(super) claims: Option<usize>,
}

impl Expected {
    pub(super) fn end(state: EndState) -> Self {
        Self { state, result: None, why: None, turns: None, attempts: None, claims: None }
    }

    pub(super) fn result(result: Value) -> Self {
        Self { result: Some(result), ..Self::end(EndState::Succeeded) }
    }

    pub(super) fn why(state: EndState, why: &'static str) -> Self {
        Self { why: Some(why), ..Self::end(state) }
    }

    /// What is otherwise, in words; nothing if all is as it should be.
    pub(super) fn differs(&self, whole: &Whole) -> Option<String> {
        let claims = whole.history.iter().filter(|transition| transition.became == "running").count();
        let result = whole.end.as_ref().and_then(|end| end.result.as_ref());
        let last = whole.history.last().map(|transition| transition.why.as_str());
        if whole.brief.state != self.state.word() {
            return Some(format!("it should have {}, and is {}", self.state, whole.brief.state));
        }
        if self.result.as_ref().is_some_and(|expected| Some(expected) != result) {
            return Some(format!("its result should be {:?}, and is {result:?}", self.result));
        }
        if self.why.is_some_and(|why| Some(why) != last) {
            return Some(format!("it should have ended because of {:?}, and did because of {last:?}", self.why));
        }
        if self.turns.is_some_and(|turns| turns != whole.brief.turn) {
            return Some(format!("it should have taken {:?} turns, and took {}", self.turns, whole.brief.turn));
        }
        if self.attempts.is_some_and(|attempts| attempts != whole.brief.attempt) {
            return Some(format!(
                "it should have taken {:?} attempts, and took {}",
                self.attempts, whole.brief.attempt
            ));
        }
        if self.claims.is_some_and(|expected| expected != claims) {
            return Some(format!("it should have been claimed {:?} times, and was {claims} times", self.claims));
        }
        None
    }
}
