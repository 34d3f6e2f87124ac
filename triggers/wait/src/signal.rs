//! Fires when a signal is sent.

use reveille_trigger::{Answer, Context, Error, Event, Key, Timestamp, Trigger, Wait, async_trait, typetag};
use serde::{Deserialize, Serialize};

/// The longest key, in bytes. Keys are indexed, and a page of an index holds only a few long ones.
const MAX_KEY_BYTES: usize = 512;

/// Fires when a signal is sent under its key, before or after the task deferred. The payload is the signal's.
///
/// Its spec is `{"key": "order-42/paid"}`. A key is text of 1 to 512 bytes without control characters; it is compared
/// byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    key: String,
}

impl Signal {
    /// Waits for a signal under `key`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into() }
    }

    fn as_key(&self) -> Key {
        Key::Signal(self.key.clone())
    }
}

#[typetag::serde(name = "signal")]
#[async_trait]
impl Trigger for Signal {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        // A signal and the waits on it are matched in the database; inside another trigger, its look is told of it.
        arrived(cx, &self.as_key())
    }

    fn validate(&self) -> Result<(), Error> {
        if self.key.is_empty() {
            return Err(Error::fatal(
                "`key` is empty: write what the signal will be sent under, such as \"order-42/paid\"",
            ));
        }
        if self.key.len() > MAX_KEY_BYTES {
            return Err(Error::fatal(format!(
                "`key` has {} bytes, and may have {MAX_KEY_BYTES}: shorten it, or put a hash of the long part in its place",
                self.key.len()
            )));
        }
        if let Some(control) = self.key.chars().find(|c| c.is_control()) {
            return Err(Error::fatal(format!("`key` contains the control character {control:?}: leave it out")));
        }
        Ok(())
    }

    fn wait(&self, _since: Timestamp) -> Wait {
        Wait::On(self.as_key())
    }
}

/// Fires what has arrived under a key, once it has.
pub(crate) fn arrived(cx: &Context, key: &Key) -> Result<Answer, Error> {
    match cx.arrived(key) {
        Some(payload) => Ok(Answer::Fire(Event::resume(payload)?)),
        None => Ok(Answer::NotYet),
    }
}

#[cfg(test)]
mod tests {
    use reveille_trigger::{Arrived, Memory, Outcome};
    use serde_json::json;

    use super::*;

    fn refusal(key: &str) -> String {
        let error = Signal::new(key).validate().expect_err("a refusal");
        assert!(error.is_fatal());
        error.to_string()
    }

    #[test]
    fn it_waits_on_its_key() {
        let wait = Signal::new("order-42/paid").wait(Timestamp::UNIX_EPOCH);
        assert_eq!(wait, Wait::On(Key::Signal("order-42/paid".to_owned())));
    }

    #[tokio::test]
    async fn a_check_fires_what_has_arrived_under_its_key_and_nothing_else() {
        for (key, fires) in [("order-42/paid", true), ("order-43/paid", false)] {
            let arrived = Arrived::from([(Key::Signal(key.to_owned()), json!({"cents": 4200}))]);
            let cx = Context::new(|| Timestamp::MAX, Timestamp::UNIX_EPOCH, Memory::default()).with_arrived(arrived);
            let answer = Signal::new("order-42/paid").check(&cx).await.expect("an answer");
            let paid = Outcome::Resume(json!({"cents": 4200}));
            assert_eq!(matches!(answer, Answer::Fire(event) if event.outcome == paid), fires);
        }
    }

    #[test]
    fn a_key_of_512_bytes_is_valid_and_one_more_is_not() {
        // Counted in bytes, as the index does: this letter has two.
        let longest = "é".repeat(256);
        assert!(Signal::new(longest.as_str()).validate().is_ok());
        assert!(refusal(&format!("{longest}x")).contains("has 513 bytes, and may have 512"));
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert!(refusal("").starts_with("`key` is empty"));
    }

    #[test]
    fn control_characters_are_refused() {
        assert!(refusal("order\n42").contains(r"control character '\n'"));
        assert!(refusal("order\0").contains(r"control character '\0'"));
        assert!(refusal("order\u{85}").contains(r"control character '\u{85}'"));
    }
}
