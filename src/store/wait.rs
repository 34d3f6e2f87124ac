//! A wait as it is stored: one row, and one more for each key.

use reveille_trigger::{Key, Timestamp};

use super::Store;
use crate::{
    clock::millis,
    error::{Error, Result},
    kind,
    task::{Deadline, Deferral},
    vault::Purpose,
};

/// The last moment of the calendar, in milliseconds: arithmetic on stored times stays far from the end of their type.
const LATEST: i64 = 253_402_207_200_000;

fn after(now: i64, duration: std::time::Duration) -> i64 {
    now.saturating_add(millis(duration)).min(LATEST)
}

/// What is stored for a deferral.
#[derive(Clone, Debug)]
pub struct Wait {
    pub(super) since: i64,
    pub(super) kind: String,
    pub(super) passive: bool,
    /// Sealed. A passive wait needs none: everything about it is in the other columns.
    pub(super) spec: Option<Vec<u8>>,
    /// When it is due for a look, or over; none if only a key ends it.
    pub(super) wake_at: Option<i64>,
    pub(super) deadline_at: Option<i64>,
    /// The deadline is a time of the calendar, and not so long after the deferral.
    pub(super) deadline_is_fixed: bool,
    pub(super) or_resume: bool,
    /// How many checks in a row may fail to tell; none means any number.
    pub(super) error_budget: Option<i32>,
    pub(super) keys: Vec<String>,
}

impl Wait {
    /// A timer that leads to the same step again: a retry, a snooze, a delayed start.
    pub fn until(wake_at: i64) -> Self {
        Self {
            since: wake_at.min(LATEST),
            kind: "timer".to_owned(),
            passive: true,
            spec: None,
            wake_at: Some(wake_at.min(LATEST)),
            deadline_at: None,
            deadline_is_fixed: false,
            or_resume: false,
            error_budget: None,
            keys: Vec::new(),
        }
    }

    /// Whether any live replica may fire it, without running anything.
    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// In bytes, as far as it is large.
    pub(crate) fn size(&self) -> usize {
        self.spec.as_ref().map_or(0, Vec::len)
    }

    /// When it begins, in milliseconds.
    pub(crate) fn since(&self) -> i64 {
        self.since
    }

    /// When it ends badly.
    pub(crate) fn deadline_at(&self) -> Option<i64> {
        self.deadline_at
    }

    /// The keys that may already have come.
    pub(crate) fn keys(&self) -> &[String] {
        &self.keys
    }
}

impl Store {
    /// Turns a deferral into what is stored for it, refusing what could never be put together again.
    ///
    /// # Errors
    /// [`Error::BadSpec`] or [`Error::TooLarge`].
    pub fn arm(&self, deferral: &Deferral) -> Result<Wait> {
        let since = self.clock().now();
        let now = since.as_millisecond();
        let parts = kind::split(&*deferral.trigger)?;
        let mut wait = Wait {
            deadline_at: deferral.deadline.map(|deadline| match deadline {
                Deadline::After(duration) => after(now, duration),
                Deadline::At(at) => at.as_millisecond(),
            }),
            deadline_is_fixed: matches!(deferral.deadline, Some(Deadline::At(_))),
            or_resume: deferral.or_resume,
            error_budget: deferral.error_budget.map(|checks| checks.get().try_into().unwrap_or(i32::MAX)),
            since: now,
            kind: parts.kinds,
            ..Wait::until(now)
        };
        match deferral.trigger.wait(since) {
            reveille_trigger::Wait::Until(at) => wait.wake_at = Some(at.as_millisecond()),
            reveille_trigger::Wait::On(key) => {
                wait.wake_at = None;
                wait.keys.push(key_text(&key)?);
            }
            reveille_trigger::Wait::Active => wait.passive = false,
            reveille_trigger::Wait::Mixed { from, keys } => {
                wait.passive = false;
                // The last look is at the deadline.
                let from = from.map(Timestamp::as_millisecond);
                wait.wake_at = from.into_iter().chain(wait.deadline_at).min();
                wait.keys = keys.iter().map(key_text).collect::<Result<_>>()?;
                // One signal may be waited for in several places of one wait.
                wait.keys.sort_unstable();
                wait.keys.dedup();
                if wait.wake_at.is_none() && wait.keys.is_empty() {
                    let why = "there is no reason ever to look at it: neither a time nor a key".to_owned();
                    return Err(Error::BadSpec { kind: wait.kind, why });
                }
            }
            other => {
                return Err(Error::BadSpec {
                    kind: wait.kind,
                    why: format!("this version cannot store a wait of the form {other:?}"),
                });
            }
        }
        if !wait.passive {
            wait.spec = Some(self.seal_bytes(Purpose::Spec, "spec", &parts.spec)?);
        }
        Ok(wait)
    }
}

/// A key as it is stored.
pub(crate) fn key_text(key: &Key) -> Result<String> {
    match key {
        Key::Signal(name) => Ok(format!("signal:{name}")),
        Key::Task(id) => Ok(format!("task:{id}")),
        other => Err(Error::Invalid(format!("this version cannot store a key of the form {other:?}"))),
    }
}

/// A stored key, as triggers name it; none for one that no trigger waits for.
pub(crate) fn key_of(text: &str) -> Option<Key> {
    match text.split_once(':')? {
        ("signal", name) => Some(Key::Signal(name.to_owned())),
        ("task", id) => id.parse().ok().map(Key::Task),
        _ => None,
    }
}
