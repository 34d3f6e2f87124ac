//! Fires at a time.

use std::time::Duration;

use reveille_trigger::{Answer, Context, Error, Event, Timestamp, Trigger, Wait, async_trait, typetag};
use serde::{Deserialize, Serialize};

/// Fires at a time, or some time after the task deferred. The payload is null.
///
/// Its spec has exactly one of two fields: `{"at": "2026-01-01T00:00:00Z"}`, an RFC 3339 time, or `{"after": "2h"}`,
/// a duration such as `"1h 30m"` or `"250ms"`. A time in the past fires at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timer {
    // Two options rather than an enum, so that a spec with both or neither is answered with what to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional"
    )]
    after: Option<Duration>,
}

impl Timer {
    /// Fires at `at`, by the database's clock.
    pub const fn at(at: Timestamp) -> Self {
        Self { at: Some(at), after: None }
    }

    /// Fires `after` the task deferred, however often the wait changes hands in between. A duration that leads past
    /// the end of time waits until then.
    pub const fn after(after: Duration) -> Self {
        Self { at: None, after: Some(after) }
    }

    fn due_at(&self, since: Timestamp) -> Result<Timestamp, Error> {
        due_at(self.at, self.after, since)
    }
}

/// The one time that a spec names in one of two ways.
pub(crate) fn due_at(at: Option<Timestamp>, after: Option<Duration>, since: Timestamp) -> Result<Timestamp, Error> {
    match (at, after) {
        (Some(at), None) => Ok(at),
        (None, Some(after)) => Ok(since.checked_add(after).unwrap_or(Timestamp::MAX)),
        (Some(_), Some(_)) => Err(Error::fatal(
            "it has both `at` and `after`: keep `at` for a fixed time, or `after` for a time from the deferral",
        )),
        (None, None) => {
            Err(Error::fatal("it needs a time: write \"at\": \"2026-01-01T00:00:00Z\", or \"after\": \"2h\""))
        }
    }
}

#[typetag::serde(name = "timer")]
#[async_trait]
impl Trigger for Timer {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        if cx.now() >= self.due_at(cx.since())? { Ok(Answer::Fire(Event::resume(())?)) } else { Ok(Answer::NotYet) }
    }

    fn validate(&self) -> Result<(), Error> {
        self.due_at(Timestamp::UNIX_EPOCH).map(|_| ())
    }

    fn wait(&self, since: Timestamp) -> Wait {
        // A spec that was stored without `validate` gets its one check, which says what is wrong with it.
        self.due_at(since).map_or(Wait::Active, Wait::Until)
    }
}

#[cfg(test)]
mod tests {
    use reveille_trigger::{Memory, Outcome};

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time in a test")
    }

    fn read(spec: &str) -> serde_json::Result<Timer> {
        serde_json::from_str(spec)
    }

    async fn check(timer: &Timer, since: Timestamp, now: Timestamp) -> Result<Answer, Error> {
        timer.check(&Context::new(move || now, since, Memory::default())).await
    }

    #[test]
    fn a_fixed_time_does_not_depend_on_the_deferral() {
        let at = time("2026-03-01T00:00:00Z");
        assert_eq!(Timer::at(at).wait(time("2026-01-01T00:00:00Z")), Wait::Until(at));
    }

    #[test]
    fn a_duration_is_anchored_at_the_deferral() {
        let since = time("2026-01-01T00:00:00Z");
        assert_eq!(Timer::after(2 * HOUR).wait(since), Wait::Until(time("2026-01-01T02:00:00Z")));
    }

    #[test]
    fn the_longest_duration_waits_until_the_end_of_time() {
        assert_eq!(Timer::after(Duration::MAX).wait(Timestamp::MAX), Wait::Until(Timestamp::MAX));
        assert_eq!(Timer::after(Duration::MAX).wait(Timestamp::UNIX_EPOCH), Wait::Until(Timestamp::MAX));
    }

    #[test]
    fn the_longest_duration_can_be_stored() {
        let timer = Timer::after(Duration::MAX);
        let spec = serde_json::to_string(&timer).expect("a spec");
        assert_eq!(read(&spec).expect("the same spec"), timer);
    }

    #[tokio::test]
    async fn a_check_fires_when_due_and_not_before() {
        let since = time("2026-01-01T00:00:00Z");
        let timer = Timer::after(HOUR);
        let early = check(&timer, since, time("2026-01-01T00:59:59.999Z")).await.expect("an answer");
        assert!(matches!(early, Answer::NotYet));
        let due = check(&timer, since, time("2026-01-01T01:00:00Z")).await.expect("an answer");
        assert!(matches!(due, Answer::Fire(event) if event.outcome == Outcome::Resume(serde_json::Value::Null)));
    }

    #[test]
    fn either_field_alone_is_valid() {
        assert!(Timer::at(Timestamp::UNIX_EPOCH).validate().is_ok());
        assert!(Timer::after(Duration::ZERO).validate().is_ok());
    }

    #[tokio::test]
    async fn both_fields_or_neither_are_refused_with_what_to_write() {
        for spec in ["{}", r#"{"at": null}"#, r#"{"at": "2026-01-01T00:00:00Z", "after": "2h"}"#] {
            let timer = read(spec).expect("a timer");
            let error = timer.validate().expect_err(spec);
            assert!(error.is_fatal());
            let message = error.to_string();
            assert!(message.contains("`at`") || message.contains("\"at\""), "{message}");
            assert!(message.contains("after"), "{message}");

            // Stored all the same, it is checked once and ends badly, and does not fire.
            assert_eq!(timer.wait(Timestamp::UNIX_EPOCH), Wait::Active);
            let checked = check(&timer, Timestamp::UNIX_EPOCH, Timestamp::MAX).await;
            assert!(checked.is_err_and(|error| error.is_fatal()));
        }
    }

    #[test]
    fn a_negative_duration_is_refused() {
        assert!(read(r#"{"after": "-2h"}"#).is_err());
        assert!(read(r#"{"after": "2h ago"}"#).is_err());
    }

    #[test]
    fn a_time_without_an_offset_is_refused() {
        assert!(read(r#"{"at": "2026-01-01T00:00:00"}"#).is_err());
    }
}
