//! What a wait ended with, and its typed place in the step that follows.
//!
//! A step is stored as JSON in which each [`Awaited`] is a marker. On resuming, the payload takes the marker's place
//! and the step is decoded: a payload that does not fit its type shows there, before the step runs.

use std::{error::Error as StdError, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, json};

use super::Task;

const MARKER: &str = "$awaited";

/// The place in a step for what its wait ends with.
///
/// Filled by the runtime before the step runs; see [`Deferral::then_with`](super::Deferral::then_with).
#[derive(Clone, Debug, PartialEq)]
pub struct Awaited<E>(State<E>);

#[derive(Clone, Debug, PartialEq)]
enum State<E> {
    Pending,
    Arrived(E),
    Failed(WaitFailed),
}

impl<E> Awaited<E> {
    pub(crate) fn pending() -> Self {
        Self(State::Pending)
    }

    /// What the trigger fired.
    ///
    /// # Errors
    /// How the wait ended badly; only with [`or_resume`](super::Deferral::or_resume).
    pub fn get(self) -> Result<E, WaitFailed> {
        match self.0 {
            State::Arrived(event) => Ok(event),
            State::Failed(failed) => Err(failed),
            State::Pending => Err(WaitFailed {
                reason: WaitFailure::Misfit,
                message: "the step was started without a wait before it, so nothing was awaited".to_owned(),
            }),
        }
    }
}

impl<E: Serialize> Serialize for Awaited<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match &self.0 {
            State::Pending => json!({ MARKER: null }),
            State::Arrived(event) => {
                json!({ MARKER: Woken::Payload(serde_json::to_value(event).map_err(serde::ser::Error::custom)?) })
            }
            State::Failed(failed) => json!({ MARKER: <Woken>::Failed(failed.clone()) }),
        };
        form.serialize(serializer)
    }
}

impl<'de, E: DeserializeOwned> Deserialize<'de> for Awaited<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            #[serde(rename = "$awaited")]
            woken: Option<Woken>,
        }
        Ok(Self(match Form::deserialize(deserializer)?.woken {
            None => State::Pending,
            Some(Woken::Failed(failed)) => State::Failed(failed),
            Some(Woken::Payload(payload)) => State::Arrived(E::deserialize(payload).map_err(serde::de::Error::custom)?),
        }))
    }
}

/// What a wait ended with, as stored with the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Woken<P = Value> {
    /// It fired, with this payload.
    Payload(P),
    /// It ended badly, and the task asked to see why.
    Failed(WaitFailed),
}

/// How a wait ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitFailed {
    /// The cause.
    pub reason: WaitFailure,
    /// For people.
    pub message: String,
}

/// Why a wait ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WaitFailure {
    /// Nothing had fired by the deadline.
    Deadline,
    /// The trigger said that no further check can succeed, or fired a failure.
    Fatal,
    /// As many checks in a row could not tell as the deferral's error budget allows.
    Errors,
    /// The payload does not fit the type that the next step awaits.
    Misfit,
}

impl WaitFailed {
    /// The error budget is spent.
    pub(crate) fn errors(checks: u32, last: impl fmt::Display) -> Self {
        let message = format!("{checks} checks in a row could not tell, the last: {last}");
        Self { reason: WaitFailure::Errors, message }
    }
}

impl fmt::Display for WaitFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for WaitFailed {}

/// A step as stored: its JSON, and what a bad end of the wait before it means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) step: Value,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) or_resume: bool,
}

/// Why a stored step does not become a running one.
#[derive(Debug)]
pub(crate) enum Undecodable {
    /// This binary cannot read the step at all: it is left alone.
    Step(serde_json::Error),
    /// The step reads, but not with this payload in it.
    Payload(serde_json::Error),
}

impl Step {
    pub(crate) fn new(step: &impl Serialize, or_resume: bool) -> Result<Self, serde_json::Error> {
        Ok(Self { step: serde_json::to_value(step)?, or_resume })
    }

    /// Decodes the step with what its wait ended with in its place.
    pub(crate) fn decode<T: Task>(&self, woken: Option<&Woken>) -> Result<T, Undecodable> {
        let bare = T::deserialize(&self.step).map_err(Undecodable::Step)?;
        let Some(woken) = woken else { return Ok(bare) };
        let mut filled = self.step.clone();
        if !fill(&mut filled, woken) {
            return Ok(bare);
        }
        match T::deserialize(filled) {
            Ok(step) => Ok(step),
            Err(misfit) if self.or_resume => {
                let failed = WaitFailed { reason: WaitFailure::Misfit, message: misfit_message(&misfit) };
                let mut step = self.step.clone();
                fill(&mut step, &Woken::Failed(failed));
                T::deserialize(step).map_err(Undecodable::Step)
            }
            Err(misfit) => Err(Undecodable::Payload(misfit)),
        }
    }
}

pub(crate) fn misfit_message(misfit: &serde_json::Error) -> String {
    format!("the payload does not fit the type that the next step awaits: {misfit}")
}

/// Puts `woken` in the place of every pending marker; whether there was one.
fn fill(value: &mut Value, woken: &Woken) -> bool {
    match value {
        Value::Object(map) if map.len() == 1 && map.get(MARKER).is_some_and(Value::is_null) => {
            *value = json!({ MARKER: woken });
            true
        }
        Value::Object(map) => map.values_mut().fold(false, |any, value| fill(value, woken) | any),
        Value::Array(values) => values.iter_mut().fold(false, |any, value| fill(value, woken) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Next, TaskContext, TaskError, done};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Order {
        Ship { paid: Awaited<u32> },
    }

    impl Task for Order {
        const NAME: &'static str = "order";
        async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
            Ok(done())
        }
    }

    fn ship(or_resume: bool) -> Step {
        Step::new(&Order::Ship { paid: Awaited::pending() }, or_resume).unwrap()
    }

    #[test]
    fn a_payload_that_fits_takes_its_place() {
        let Order::Ship { paid } = ship(false).decode(Some(&Woken::Payload(json!(42)))).unwrap();
        assert_eq!(paid.get(), Ok(42));
    }

    #[test]
    fn a_payload_that_does_not_fit_is_the_waits_bad_end() {
        let woken = Woken::Payload(json!("forty-two"));
        assert!(matches!(ship(false).decode::<Order>(Some(&woken)), Err(Undecodable::Payload(_))));
        let Order::Ship { paid } = ship(true).decode(Some(&woken)).unwrap();
        assert_eq!(paid.get().unwrap_err().reason, WaitFailure::Misfit);
    }

    #[test]
    fn a_step_that_no_longer_decodes_is_told_from_a_misfit() {
        let gone = Step { step: json!({ "Sail": {} }), or_resume: true };
        assert!(matches!(gone.decode::<Order>(Some(&Woken::Payload(json!(1)))), Err(Undecodable::Step(_))));
    }
}
