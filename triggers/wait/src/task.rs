//! Fires when another task ends.

use reveille_trigger::{Answer, Context, Error, Key, Timestamp, Trigger, Wait, async_trait, typetag};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::signal::arrived;

/// Fires when another task ends, whatever its end, before or after this one deferred. The payload is [`Ended`].
///
/// Its spec is `{"id": "01997d3e-8f00-7000-8000-000000000000"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskEnd {
    id: Uuid,
}

impl TaskEnd {
    /// Waits for the end of the task with this id.
    pub const fn of(task: Uuid) -> Self {
        Self { id: task }
    }
}

#[typetag::serde(name = "task")]
#[async_trait]
impl Trigger for TaskEnd {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        // A task's end and the waits on it are matched in the database; inside another trigger, its look is told of it.
        arrived(cx, &Key::Task(self.id))
    }

    fn wait(&self, _since: Timestamp) -> Wait {
        Wait::On(Key::Task(self.id))
    }
}

/// How a task ended: what a wait on its end resumes with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The task that ended.
    pub task: Uuid,
    /// Which of the four ends it was.
    pub state: EndState,
    /// What a succeeded task left; a null result reads as none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why a task failed, was skipped or was cancelled, as far as it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The states a task ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndState {
    /// It did what it was for.
    Succeeded,
    /// It failed for good.
    Failed,
    /// It was not needed.
    Skipped,
    /// Somebody called it off.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use reveille_trigger::{Arrived, Memory, Outcome};
    use serde_json::json;

    use super::*;

    const TASK: Uuid = Uuid::from_u128(0x0199_7d3e_8f00_7000_8000_0000_0000_0000);

    #[test]
    fn it_waits_on_the_task() {
        assert_eq!(TaskEnd::of(TASK).wait(Timestamp::UNIX_EPOCH), Wait::On(Key::Task(TASK)));
    }

    #[tokio::test]
    async fn a_check_fires_the_end_that_has_arrived_and_no_other() {
        for (task, fires) in [(TASK, true), (Uuid::nil(), false)] {
            let arrived = Arrived::from([(Key::Task(task), json!({"state": "skipped"}))]);
            let cx = Context::new(|| Timestamp::MAX, Timestamp::UNIX_EPOCH, Memory::default()).with_arrived(arrived);
            let answer = TaskEnd::of(TASK).check(&cx).await.expect("an answer");
            let ended = Outcome::Resume(json!({"state": "skipped"}));
            assert_eq!(matches!(answer, Answer::Fire(event) if event.outcome == ended), fires);
        }
    }

    #[test]
    fn an_end_is_delivered_as_it_was_stored() {
        let stored = json!({
            "task": "01997d3e-8f00-7000-8000-000000000000", "state": "succeeded", "result": {"rows": 7},
        });
        let ended: Ended = serde_json::from_value(stored.clone()).expect("an end");
        let expected = Ended { task: TASK, state: EndState::Succeeded, result: Some(json!({"rows": 7})), error: None };
        assert_eq!(ended, expected);
        assert_eq!(serde_json::to_value(ended).expect("json"), stored);
    }

    #[test]
    fn states_are_spelt_as_those_of_a_task() {
        let states = [EndState::Succeeded, EndState::Failed, EndState::Skipped, EndState::Cancelled];
        let expected = json!(["succeeded", "failed", "skipped", "cancelled"]);
        assert_eq!(serde_json::to_value(states).expect("json"), expected);
    }

    #[test]
    fn an_id_that_is_no_uuid_is_refused() {
        assert!(serde_json::from_value::<TaskEnd>(json!({"id": "order-42"})).is_err());
    }
}
