//! Fires when all of several do.

use std::time::Duration;

use reveille_trigger::{
    Answer, Context, Error, Event, Outcome, Spacing, Timestamp, Trigger, Wait, async_trait, look, typetag,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::inside::{self, Kept, MARGIN, Named, Reasons};

/// Fires when all of those inside do, at one look. The payload is an object with what each fired, by its name. In Rust
/// that reads as a struct.
///
/// Its spec is an object of triggers by names:
/// `{"file": {"file": {"path": "/data/in/a.csv"}}, "approved": {"signal": {"key": "a/approved"}}}`.
///
/// - A look asks those first that only ask the clock or for what has arrived, then the others by their names, and ends at
///   the first that cannot tell yet: the next look is when that one is due. What has arrived stays.
/// - One that ends the task as failed or skipped ends it, one that ends it as succeeded does so once all have fired. If
///   one can never fire, the wait ends badly.
/// - A trigger that takes something from a source has no place in it, because it would have to give it back for as long as
///   another holds the whole up; nor has one whose check lasts, because a look must come to an end.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct All(#[serde(deserialize_with = "inside::read")] Named);

impl All {
    /// All of several, each under its name.
    pub fn of<N: Into<String>>(named: impl IntoIterator<Item = (N, Box<dyn Trigger>)>) -> Self {
        Self(named.into_iter().map(|(name, trigger)| (name.into(), trigger)).collect())
    }

    /// One more, under its name.
    #[must_use]
    pub fn and(mut self, name: impl Into<String>, trigger: impl Trigger + 'static) -> Self {
        self.0.insert(name.into(), Box::new(trigger));
        self
    }
}

#[typetag::serde(name = "all")]
#[async_trait]
impl Trigger for All {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let mut kept: Kept = cx.take().unwrap_or_default();
        let looked = self.look_at_each(cx, &mut kept).await;
        kept.memories.retain(|_, memory| !memory.is_empty());
        if !kept.memories.is_empty() {
            cx.remember(kept);
        }
        looked
    }

    fn validate(&self) -> Result<(), Error> {
        inside::validate(&self.0)?;
        for (name, trigger) in &self.0 {
            let kind = trigger.typetag_name();
            if trigger.consumes() {
                return Err(Error::fatal(format!(
                    "{name}: {kind} takes what it finds away from its source, which `all` cannot hold: put it into `any`, or wait for it alone"
                )));
            }
            if trigger.time_out().is_none() {
                return Err(Error::fatal(format!(
                    "{name}: a check of {kind} lasts, and `all` looks at everything at one moment: put it into `any`, or wait for it alone"
                )));
            }
        }
        Ok(())
    }

    fn wait(&self, since: Timestamp) -> Wait {
        let reasons: Vec<Reasons> = self.0.values().map(|trigger| Reasons::of(&**trigger, since)).collect();
        // Before the last of them is due, or while one waits for what is to arrive, a look would find nothing.
        let from = reasons.iter().map(|reasons| reasons.from.unwrap_or(Timestamp::MAX)).max();
        let from = from.filter(|from| *from < Timestamp::MAX);
        Wait::Mixed { from, keys: reasons.into_iter().flat_map(|reasons| reasons.keys).collect() }
    }

    fn spacing(&self) -> Spacing {
        inside::spacing(&self.0)
    }

    fn destination(&self) -> Option<String> {
        inside::destination(&self.0)
    }

    fn time_out(&self) -> Option<Duration> {
        Some(inside::time_outs(&self.0).flatten().fold(MARGIN, Duration::saturating_add))
    }

    fn inside(&self) -> Vec<&dyn Trigger> {
        self.0.values().map(|trigger| &**trigger).collect()
    }

    async fn cleanup(&self, cx: &Context) {
        inside::cleanup(&self.0, cx).await;
    }

    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        inside::on_cancel(&self.0, cx).await
    }
}

impl All {
    async fn look_at_each(&self, cx: &Context, kept: &mut Kept) -> Result<Answer, Error> {
        let (mut fired, mut end) = (Map::new(), None);
        let (passive, active): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|(_, trigger)| inside::is_passive(&***trigger, cx.since()));
        for (name, trigger) in passive.into_iter().chain(active) {
            let inner = cx.inside(kept.memories.remove(name).unwrap_or_default());
            let begun = cx.now();
            let answer = look(&**trigger, &inner).await;
            match &answer {
                Ok(Answer::NotYet) => {
                    cx.look_again_at(inside::next_look(&**trigger, &inner, begun));
                    let said = inner.said();
                    cx.say(format!("{name}: {}", said.as_deref().unwrap_or("not yet")));
                }
                Err(_) => {
                    if let Some(asked) = inner.next_look() {
                        cx.look_again_at(asked);
                    }
                }
                Ok(Answer::Fire(_)) => {}
            }
            kept.memories.insert(name.clone(), inner.into_memory());
            let event = match answer.map_err(|error| within(name, &error))? {
                Answer::NotYet => return Ok(Answer::NotYet),
                Answer::Fire(event) => event,
            };
            match event.outcome {
                Outcome::Resume(payload) => drop(fired.insert(name.clone(), payload)),
                Outcome::Succeed(_) => end = end.or(Some(event)),
                Outcome::Fail(_) | Outcome::Skip(_) => return Ok(Answer::Fire(event)),
            }
        }
        Ok(Answer::Fire(match end {
            Some(end) => end,
            None => Event::resume(Value::Object(fired))?,
        }))
    }
}

/// The same error, which says whose it is.
fn within(name: &str, error: &Error) -> Error {
    let said = format!("{name}: {error}");
    let named = if error.is_fatal() { Error::fatal(said) } else { Error::again(said) };
    match error.retry_after() {
        Some(delay) => named.after(delay),
        None => named,
    }
}
