//! Fires when another trigger has not.

use std::time::Duration;

use reveille_trigger::{Answer, Context, Error, Event, Spacing, Timestamp, Trigger, Wait, async_trait, look, typetag};
use serde::{Deserialize, Serialize};

use crate::{
    inside::{self, Reasons},
    timer::due_at,
};

/// Fires if another trigger has not fired by a time: a file that has not come, a heartbeat that is missing. The payload is
/// null.
///
/// Its spec is `{"after": "2h", "of": {…}}`, counted from the deferral, or `{"at": "2026-01-01T00:00:00Z", "of": {…}}`; and
/// `"otherwise"`, which says what becomes of the task if the other fires first: `"skip"` (unless given) or `"fail"`.
///
/// That it has not fired is what the first look at or after that time says. A look that cannot tell is not a proof: it is
/// repeated until it can.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "jiff::fmt::serde::unsigned_duration::friendly::compact::optional"
    )]
    after: Option<Duration>,
    #[serde(deserialize_with = "inside::read_one")]
    of: Box<dyn Trigger>,
    #[serde(default, skip_serializing_if = "Otherwise::is_default")]
    otherwise: Otherwise,
}

/// What becomes of the task if what should be absent is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// It ends as skipped: there is nothing to be done.
    #[default]
    Skip,
    /// Its wait ends badly.
    Fail,
}

impl Otherwise {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is said of one that has fired.
const PRESENT: &str = "what was waited for to stay absent is there";

/// How long a check that lasts is listened to where the time is over already.
const LISTEN: Duration = Duration::from_secs(5);

impl Absent {
    /// Fires if `of` has not fired by `at`, by the database's clock.
    pub fn by(at: Timestamp, of: impl Trigger + 'static) -> Self {
        Self { at: Some(at), after: None, of: Box::new(of), otherwise: Otherwise::default() }
    }

    /// Fires if `of` has not fired so long after the deferral.
    pub fn after(after: Duration, of: impl Trigger + 'static) -> Self {
        Self { at: None, after: Some(after), of: Box::new(of), otherwise: Otherwise::default() }
    }

    /// What becomes of the task if `of` fires first.
    #[must_use]
    pub fn otherwise(self, otherwise: Otherwise) -> Self {
        Self { otherwise, ..self }
    }

    fn due_at(&self, since: Timestamp) -> Result<Timestamp, Error> {
        due_at(self.at, self.after, since)
    }

    /// One look at what should be absent. That a check which lasts has seen nothing for so long is an answer too.
    async fn look(&self, cx: &Context, due: Timestamp) -> Result<Answer, Error> {
        if self.of.time_out().is_some() {
            return look(&*self.of, cx).await;
        }
        let left: Duration = due.duration_since(cx.now()).try_into().unwrap_or_default();
        tokio::time::timeout(left.max(LISTEN), look(&*self.of, cx)).await.unwrap_or(Ok(Answer::NotYet))
    }
}

#[typetag::serde(name = "absent")]
#[async_trait]
impl Trigger for Absent {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let due = self.due_at(cx.since())?;
        let lasts = self.of.time_out().is_none();
        let begun = cx.now();
        let answer = self.look(cx, due).await;
        // One that lasts was listening all the time, any other looked when it began.
        let looked = if lasts { cx.now() } else { begun };
        if looked < due {
            if let Ok(Answer::NotYet) = answer {
                cx.look_again_at(inside::next_look(&*self.of, cx, begun));
            }
            // Also after one that could not tell.
            cx.look_again_at(due);
        }
        match (answer?, self.otherwise) {
            (Answer::Fire(_), Otherwise::Skip) => Ok(Answer::Fire(Event::skip(PRESENT))),
            (Answer::Fire(_), Otherwise::Fail) => Ok(Answer::Fire(Event::fail(PRESENT))),
            (Answer::NotYet, _) if looked >= due => Ok(Answer::Fire(Event::resume(())?)),
            (Answer::NotYet, _) => Ok(Answer::NotYet),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        self.due_at(Timestamp::UNIX_EPOCH)?;
        if self.of.consumes() {
            return Err(Error::fatal(format!(
                "of: {} takes what it finds away from its source, and nobody would be given it",
                self.of.typetag_name()
            )));
        }
        inside::validate_one("of", &*self.of)
    }

    fn wait(&self, since: Timestamp) -> Wait {
        let Reasons { from, keys } = Reasons::of(&*self.of, since);
        // A spec that was stored without `validate` gets its one check, which says what is wrong with it.
        let due = self.due_at(since).unwrap_or(since);
        Wait::Mixed { from: Some(from.map_or(due, |from| from.min(due))), keys }
    }

    fn spacing(&self) -> Spacing {
        self.of.spacing()
    }

    fn destination(&self) -> Option<String> {
        self.of.destination()
    }

    fn time_out(&self) -> Option<Duration> {
        self.of.time_out()
    }

    fn inside(&self) -> Vec<&dyn Trigger> {
        vec![&*self.of]
    }

    async fn cleanup(&self, cx: &Context) {
        self.of.cleanup(cx).await;
    }

    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        self.of.on_cancel(cx).await
    }
}
