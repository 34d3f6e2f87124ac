//! A wait as it is stored: one row, and one more for each key.

use reveille_trigger::Key;

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
            reveille_trigger::Wait::Active => {
                wait.passive = false;
                wait.spec = Some(self.seal_bytes(Purpose::Spec, "spec", &parts.spec)?);
            }
            other => {
                return Err(Error::BadSpec {
                    kind: wait.kind,
                    why: format!("this version cannot store a wait of the form {other:?}"),
                });
            }
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
