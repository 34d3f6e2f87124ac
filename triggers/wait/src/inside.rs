//! What triggers with others inside them have in common: when those are to be looked at, and what they leave.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::{FutureExt, future::join_all};
use reveille_trigger::{Context, Error, Key, Memory, Receipt, Spacing, Timestamp, Trigger, Wait, pace::jittered};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

/// Triggers by the names that their spec gives them.
pub(crate) type Named = BTreeMap<String, Box<dyn Trigger>>;

/// The most that one trigger has inside.
const MOST: usize = 32;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// What a look takes beside the looks inside.
pub(crate) const MARGIN: Duration = Duration::from_secs(5);

/// What the looks of one replica leave one another, by the names of those inside, and which of them fired.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) memories: BTreeMap<String, Memory>,
    pub(crate) paces: BTreeMap<String, Pace>,
    pub(crate) fired: Option<String>,
}

/// When one is to be looked at, and how it has fared.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pace {
    /// None: at once.
    pub(crate) due: Option<Timestamp>,
    /// How often in a row it could not tell.
    pub(crate) failures: u32,
    /// It has said that it can never fire.
    pub(crate) is_dead: bool,
    /// How much of what it waits for had come.
    pub(crate) come: usize,
}

impl Pace {
    /// The same, but to be looked at at once if more has come for it.
    pub(crate) fn told(self, come: usize) -> Self {
        let due = self.due.filter(|_| self.is_dead || self.come == come);
        Self { due, come, ..self }
    }
}

/// How much of what a trigger waits for has come.
pub(crate) fn come(trigger: &dyn Trigger, cx: &Context) -> usize {
    let keys = Reasons::of(trigger, cx.since()).keys;
    keys.iter().filter(|key| cx.arrived(key).is_some()).count()
}

/// Reads one by way of a value: read straight through what is around it, each layer would take more stack than the last, and
/// a few dozen more than a thread has.
pub(crate) fn read_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<dyn Trigger>, D::Error> {
    Deserialize::deserialize(Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads them so, and says of one that does not read which it is.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
    let written = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let read = |(name, spec)| match Deserialize::deserialize(spec) {
        Ok(trigger) => Ok((name, trigger)),
        Err(error) => Err(D::Error::custom(format_args!("{name}: {error}"))),
    };
    written.into_iter().map(read).collect()
}

/// Refuses names that nobody could use, and what can never work inside.
pub(crate) fn validate(named: &Named) -> Result<(), Error> {
    if named.is_empty() || named.len() > MOST {
        return Err(Error::fatal(format!(
            "it has {} triggers inside: give it 1 to {MOST}, each under a name, such as {{\"paid\": {{\"signal\": {{\"key\": \"order-42/paid\"}}}}}}",
            named.len()
        )));
    }
    for (name, trigger) in named {
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(Error::fatal(format!(
                "a name inside has 1 to {LONGEST_NAME} bytes and no control characters, unlike {name:?}"
            )));
        }
        validate_one(name, &**trigger)?;
    }
    Ok(())
}

pub(crate) fn validate_one(name: &str, trigger: &dyn Trigger) -> Result<(), Error> {
    trigger.validate().map_err(|error| Error::fatal(format!("{name}: {}: {error}", trigger.typetag_name())))
}

/// When the first look at a trigger is due, if it is due by itself, and what may arrive for it.
pub(crate) struct Reasons {
    pub(crate) from: Option<Timestamp>,
    pub(crate) keys: Vec<Key>,
}

impl Reasons {
    pub(crate) fn of(trigger: &dyn Trigger, since: Timestamp) -> Self {
        match trigger.wait(since) {
            Wait::Until(at) => Self { from: Some(at), keys: Vec::new() },
            Wait::On(key) => Self { from: None, keys: vec![key] },
            Wait::Mixed { from, keys } => Self { from, keys },
            _ => Self { from: Some(since), keys: Vec::new() },
        }
    }
}

/// Whether a look at it asks nobody: it is about the clock, or about what has arrived.
pub(crate) fn is_passive(trigger: &dyn Trigger, since: Timestamp) -> bool {
    matches!(trigger.wait(since), Wait::Until(_) | Wait::On(_))
}

/// How long a look at each may take. If an author's hook panics, the look at that one says so.
pub(crate) fn time_outs(named: &Named) -> impl Iterator<Item = Option<Duration>> {
    let limits = named.values().map(|trigger| catch_unwind(AssertUnwindSafe(|| trigger.time_out())));
    limits.map(|limit| limit.unwrap_or(Some(Duration::ZERO)))
}

/// When to look again at what has just answered, to a look that began at `begun`, that it cannot tell yet. The end of time:
/// only when something arrives.
pub(crate) fn next_look(trigger: &dyn Trigger, cx: &Context, begun: Timestamp) -> Timestamp {
    if let Some(at) = cx.next_look() {
        return at;
    }
    let now = cx.now();
    let spaced = || later(now, jittered(trigger.spacing().interval(cx.waited())));
    match trigger.wait(cx.since()) {
        Wait::On(_) => Timestamp::MAX,
        // Also if that has passed since the look.
        Wait::Until(at) if at > begun => at,
        // It has been over and is not any more, as a window that has closed: it may open again.
        Wait::Until(_) => match trigger.wait(now) {
            Wait::Until(at) if at > now => at,
            _ => spaced(),
        },
        _ => spaced(),
    }
}

/// In whole milliseconds, as replicas count: a look at a time in between would come too early.
pub(crate) fn later(now: Timestamp, by: Duration) -> Timestamp {
    let later = now.checked_add(by).and_then(|at| Timestamp::from_millisecond(at.as_millisecond()));
    later.unwrap_or(Timestamp::MAX)
}

/// The shortest spacing inside.
pub(crate) fn spacing(named: &Named) -> Spacing {
    let spacings = named.values().map(|trigger| trigger.spacing());
    spacings.min_by_key(|spacing| spacing.interval(Duration::ZERO)).unwrap_or_default()
}

/// Where looks go to, if only to one place. A look at several places is bounded with those that go to the same ones.
pub(crate) fn destination(named: &Named) -> Option<String> {
    let mut places: Vec<String> = named.values().filter_map(|trigger| trigger.destination()).collect();
    places.sort_unstable();
    places.dedup();
    if places.is_empty() { None } else { Some(places.join(" ")) }
}

/// Tells the one that fired what became of that.
pub(crate) async fn settled(named: &Named, cx: &Context, receipt: Receipt) {
    let Some(mut kept) = cx.take::<Kept>() else { return };
    if let Some((name, trigger)) = kept.fired.as_ref().and_then(|name| named.get_key_value(name)) {
        let inner = cx.inside(kept.memories.remove(name).unwrap_or_default());
        trigger.settled(&inner, receipt).await;
        kept.memories.insert(name.clone(), inner.into_memory());
    }
    cx.remember(kept);
}

/// Lets all of them go, each whatever the others do.
pub(crate) async fn cleanup(named: &Named, cx: &Context) {
    let mut kept = cx.take::<Kept>().unwrap_or_default();
    let cleanups = named.iter().map(|(name, trigger)| {
        let inner = cx.inside(kept.memories.remove(name).unwrap_or_default());
        async move { AssertUnwindSafe(trigger.cleanup(&inner)).catch_unwind().await }
    });
    join_all(cleanups).await;
}

/// Undoes what all of them were for. All are tried, and those that did it do it again if another is to be tried again.
pub(crate) async fn on_cancel(named: &Named, cx: &Context) -> Result<(), Error> {
    let undos = named.values().map(|trigger| {
        let inner = cx.inside(Memory::default());
        async move {
            let undone = AssertUnwindSafe(trigger.on_cancel(&inner)).catch_unwind().await;
            undone.unwrap_or_else(|panic| Err(Error::panicked(&*panic)))
        }
    });
    let errors: Vec<Error> = join_all(undos).await.into_iter().filter_map(Result::err).collect();
    let worst = errors.into_iter().min_by_key(Error::is_fatal);
    worst.map_or(Ok(()), Err)
}
