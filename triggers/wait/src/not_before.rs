//! Looks at another trigger from a time on.

use std::time::Duration;

use reveille_trigger::{
    Answer, Context, Error, Receipt, Spacing, Timestamp, Trigger, Wait, async_trait, look, typetag,
};
use serde::{Deserialize, Serialize};

use crate::{
    inside::{self, Reasons},
    timer::due_at,
};

/// Fires what another trigger fires, at which nobody looks before a time.
///
/// Its spec is `{"at": "2026-01-01T00:00:00Z", "of": {…}}`, or `{"after": "2h", "of": {…}}`, counted from the deferral.
/// What arrives for it before then is kept until then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotBefore {
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
}

impl NotBefore {
    /// From `at` on, by the database's clock.
    pub fn at(at: Timestamp, of: impl Trigger + 'static) -> Self {
        Self { at: Some(at), after: None, of: Box::new(of) }
    }

    /// From so long after the deferral on.
    pub fn after(after: Duration, of: impl Trigger + 'static) -> Self {
        Self { at: None, after: Some(after), of: Box::new(of) }
    }

    fn due_at(&self, since: Timestamp) -> Result<Timestamp, Error> {
        due_at(self.at, self.after, since)
    }
}

#[typetag::serde(name = "not_before")]
#[async_trait]
impl Trigger for NotBefore {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let due = self.due_at(cx.since())?;
        let begun = cx.now();
        if begun < due {
            cx.look_again_at(due);
            return Ok(Answer::NotYet);
        }
        let answer = look(&*self.of, cx).await?;
        if let Answer::NotYet = answer {
            cx.look_again_at(inside::next_look(&*self.of, cx, begun));
        }
        Ok(answer)
    }

    fn validate(&self) -> Result<(), Error> {
        self.due_at(Timestamp::UNIX_EPOCH)?;
        inside::validate_one("of", &*self.of)
    }

    fn wait(&self, since: Timestamp) -> Wait {
        let Reasons { from, keys } = Reasons::of(&*self.of, since);
        // A spec that was stored without `validate` gets its one check, which says what is wrong with it.
        let due = self.due_at(since).unwrap_or(since);
        // What had arrived by then is a reason to look then.
        Wait::Mixed { from: Some(from.map_or(due, |from| from.max(due))), keys }
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

    fn consumes(&self) -> bool {
        self.of.consumes()
    }

    fn inside(&self) -> Vec<&dyn Trigger> {
        vec![&*self.of]
    }

    async fn settled(&self, cx: &Context, receipt: Receipt) {
        self.of.settled(cx, receipt).await;
    }

    async fn cleanup(&self, cx: &Context) {
        self.of.cleanup(cx).await;
    }

    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        self.of.on_cancel(cx).await
    }
}
