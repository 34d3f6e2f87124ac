//! Kinds of triggers: which this binary has, and how one becomes a row and back. The only place that knows typetag.
//!
//! A trigger is stored as its kind, in clear, and its spec, sealed: external tagging, split in two.

use std::{
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::LazyLock,
};

use reveille_trigger::{Timestamp, Trigger, Wait};
use serde::{Deserialize, de};
use serde_json::Value;

use crate::error::{Error, Result};

/// A trigger in the two parts that are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// Every kind in the tree, sorted and joined by `+`: a replica leases only what it has whole.
    pub kinds: String,
    /// The outermost trigger's kind and fields, as JSON.
    pub spec: Vec<u8>,
}

/// The kinds linked into this binary, sorted.
///
/// # Errors
/// If two crates bring a trigger of the same kind.
pub fn kinds() -> Result<&'static [&'static str]> {
    static KINDS: LazyLock<std::result::Result<Vec<&'static str>, String>> = LazyLock::new(|| {
        let mut kinds = registered();
        kinds.sort_unstable();
        if let Some(twice) = kinds.iter().find(|kind| is_ambiguous(kind)) {
            return Err(format!("two triggers are linked under the kind {twice:?}: rename one, or link only one"));
        }
        match kinds.iter().find(|kind| kind.contains(['+', ','])) {
            Some(odd) => Err(format!("a kind cannot have a plus sign or a comma in it, as {odd:?} has: rename it")),
            None => Ok(kinds),
        }
    });
    KINDS.as_deref().map_err(|message| Error::Invalid(message.clone()))
}

/// Takes a trigger apart, refusing one that could not be put together again or can never work.
///
/// # Errors
/// [`Error::BadSpec`] with the field that is wrong.
pub fn split(trigger: &dyn Trigger) -> Result<Parts> {
    let bad = |why: String| Error::BadSpec { kind: trigger.typetag_name().to_owned(), why };
    trigger.validate().map_err(|error| bad(error.to_string()))?;
    let spec = serde_json::to_vec(trigger).map_err(|error| bad(error.to_string()))?;
    join(&spec).map_err(|error| bad(format!("its own JSON does not read back: {}", error.chain())))?;
    let mut kinds = BTreeSet::new();
    collect(trigger, &mut kinds);
    Ok(Parts { kinds: kinds.into_iter().collect::<Vec<_>>().join("+"), spec })
}

/// Every kind in the tree.
fn collect(trigger: &dyn Trigger, kinds: &mut BTreeSet<&'static str>) {
    kinds.insert(trigger.typetag_name());
    trigger.inside().into_iter().for_each(|inner| collect(inner, kinds));
}

/// Puts a trigger together from its stored spec.
///
/// # Errors
/// [`Error::UnknownKind`] or [`Error::BadSpec`].
pub fn join(spec: &[u8]) -> Result<Box<dyn Trigger>> {
    kinds()?;
    let read = serde_json::from_slice::<Box<dyn Trigger>>(spec).ok();
    if let Some(trigger) = read.filter(|trigger| trigger.validate().is_ok()) {
        return Ok(trigger);
    }
    // Read again, to say what is wrong with it.
    parse(serde_json::from_slice(spec).map_err(|error| Error::json("the spec", &error))?)
}

/// Reads a trigger as a person writes it: `{"timer": {"after": "2h"}}`.
///
/// # Errors
/// [`Error::UnknownKind`] or [`Error::BadSpec`].
pub fn parse(spec: Value) -> Result<Box<dyn Trigger>> {
    let known = kinds()?;
    let kind = match &spec {
        Value::Object(map) if map.len() == 1 => map.keys().next().expect("it has one entry").clone(),
        _ => {
            return Err(Error::Invalid(
                r#"a trigger is written as its kind with its fields: {"timer": {"after": "2h"}}"#.to_owned(),
            ));
        }
    };
    if !known.contains(&kind.as_str()) {
        return Err(Error::UnknownKind { kind, known: known.join(", ") });
    }
    let trigger: Box<dyn Trigger> =
        serde_json::from_value(spec).map_err(|error| Error::BadSpec { kind: kind.clone(), why: error.to_string() })?;
    trigger.validate().map_err(|error| Error::BadSpec { kind, why: error.to_string() })?;
    Ok(trigger)
}

/// Whether equal triggers of this form are checked once for all of them. A check that lasts would never count for whoever
/// defers after it began, what is taken away from a source can be given to one alone, and what comes under a key comes for
/// one wait. An author's code that panics shares nothing.
pub fn shares(trigger: &dyn Trigger, since: Timestamp) -> bool {
    let shares = || {
        let is_alike = trigger.time_out().is_some() && !trigger.consumes() && trigger.wait(since) == Wait::Active;
        trigger.share() && is_alike
    };
    catch_unwind(AssertUnwindSafe(shares)).unwrap_or_default()
}

/// Whether `have` holds every kind of a stored set.
pub fn has_whole(have: &[&str], kinds: &str) -> bool {
    kinds.split('+').all(|kind| have.contains(&kind))
}

/// Asks typetag's registry for its names: it lists them in the error for a name that it does not know.
fn registered() -> Vec<&'static str> {
    match from_tag("\0") {
        Err(Refusal::UnknownVariant(names)) => names.to_vec(),
        Err(Refusal::Other(_)) | Ok(_) => Vec::new(),
    }
}

/// Whether the registry holds a tag more than once: it then refuses the tag itself, before any field.
fn is_ambiguous(kind: &str) -> bool {
    matches!(from_tag(kind), Err(Refusal::Other(message)) if message.contains("non-unique tag"))
}

fn from_tag(tag: &str) -> std::result::Result<Box<dyn Trigger>, Refusal> {
    let entry = de::value::MapDeserializer::new(std::iter::once((tag, ())));
    Deserialize::deserialize(entry)
}

/// What a deserializer is told, kept as told.
#[derive(Debug)]
enum Refusal {
    UnknownVariant(&'static [&'static str]),
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::UnknownVariant(expected)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reveille_http::Http;
    use reveille_sql::Listen;
    use reveille_trigger::{Answer, Context, Key, async_trait, typetag};
    use reveille_wait::{All, Any, NotBefore, Signal, Timer};

    use super::*;

    #[test]
    fn a_trigger_is_stored_under_every_kind_in_it() {
        let later = NotBefore::after(Duration::from_secs(1), Http::get("http://127.0.0.1/"));
        let all = All::default().and("go", Signal::new("go")).and("later", later);
        let any = Any::default().or("all", all).or("late", Timer::after(Duration::from_secs(1)));
        let Parts { kinds, spec } = split(&any).expect("it can be stored");
        assert_eq!(kinds, "all+any+http+not_before+signal+timer");
        let again = split(&*join(&spec).expect("it reads")).expect("it can be stored again");
        assert_eq!((again.kinds, again.spec), (kinds.clone(), spec));
        assert!(has_whole(&["all", "any", "http", "not_before", "signal", "timer", "other"], &kinds));
        assert!(!has_whole(&["all", "any", "not_before", "signal", "timer"], &kinds));
    }

    #[test]
    fn as_deep_as_json_is_read_a_spec_fits_on_the_stack_of_a_thread() {
        let around = |before: &str, levels| {
            let spec = before.repeat(levels) + r#"{"timer":{"after":"1s"}}"# + &"}}".repeat(levels);
            join(spec.as_bytes())
        };
        for before in [
            r#"{"any":{"x":"#,
            r#"{"all":{"x":"#,
            r#"{"not_before":{"after":"1s","of":"#,
            r#"{"absent":{"after":"1s","of":"#,
        ] {
            assert!(around(before, 62).is_ok(), "{before}");
            assert!(around(before, 80).is_err(), "{before}");
        }
    }

    #[test]
    fn what_can_never_work_inside_is_refused_before_it_is_stored() {
        let error = split(&Any::default().or("go", Signal::new(""))).expect_err("a refusal");
        assert!(
            matches!(&error, Error::BadSpec { kind, why } if kind == "any" && why.contains("go: signal: `key` is empty"))
        );
    }

    #[test]
    fn what_lasts_or_differs_from_task_to_task_is_not_shared() {
        let shares = |trigger: &dyn Trigger| shares(trigger, Timestamp::UNIX_EPOCH);
        assert!(shares(&Http::get("http://127.0.0.1/")));
        assert!(!shares(&Listen::on("orders", "paid")));
        assert!(!shares(&Any::default().or("go", Signal::new("go"))));
        for (odd, may) in [(Odd::Plain, true), (Odd::Keyed, false), (Odd::Consumes, false), (Odd::Panics, false)] {
            assert_eq!(shares(&odd), may, "{odd:?}");
        }
    }

    /// Asks to share its checks, though it may have something of its own.
    #[derive(Debug, serde::Serialize, Deserialize)]
    enum Odd {
        Plain,
        Keyed,
        Consumes,
        Panics,
    }

    #[typetag::serde(name = "odd")]
    #[async_trait]
    impl Trigger for Odd {
        async fn check(&self, _: &Context) -> std::result::Result<Answer, reveille_trigger::Error> {
            Ok(Answer::NotYet)
        }

        fn share(&self) -> bool {
            assert!(!matches!(self, Self::Panics), "a bug in a trigger");
            true
        }

        fn consumes(&self) -> bool {
            matches!(self, Self::Consumes)
        }

        fn wait(&self, since: Timestamp) -> Wait {
            match self {
                Self::Keyed => Wait::Mixed { from: Some(since), keys: vec![Key::Signal("go".to_owned())] },
                Self::Plain | Self::Consumes | Self::Panics => Wait::Active,
            }
        }
    }
}
