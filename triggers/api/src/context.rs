//! What a check may ask of the runtime.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{Config, Key};

/// What one check is given: the clock, the start of the wait, what has arrived for it, and what the previous check on
/// this replica left. It takes along what the check says of the next one.
pub struct Context {
    now: Clock,
    since: Timestamp,
    memory: Memory,
    config: Config,
    arrived: Arrived,
    next: Mutex<Option<Timestamp>>,
    said: Mutex<Option<String>>,
}

/// What tells the time to checks.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What has arrived for one wait: keys, and what each brought.
pub type Arrived = Arc<[(Key, Value)]>;

impl Context {
    /// A context that reads the time from `now`, for a wait that began at `since`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static, since: Timestamp, memory: Memory) -> Self {
        Self::with_clock(Arc::new(now), since, memory)
    }

    /// The same, with a clock that many share.
    pub fn with_clock(now: Clock, since: Timestamp, memory: Memory) -> Self {
        let (next, said) = (Mutex::default(), Mutex::default());
        Self { now, since, memory, config: Config::default(), arrived: Arrived::default(), next, said }
    }

    /// With what the configuration of this replica has for triggers.
    #[must_use]
    pub fn with_config(self, config: Config) -> Self {
        Self { config, ..self }
    }

    /// With what has arrived under the keys of the wait.
    #[must_use]
    pub fn with_arrived(self, arrived: Arrived) -> Self {
        Self { arrived, ..self }
    }

    /// A context for a look at a trigger inside this one: all the same, but a memory of its own.
    #[must_use]
    pub fn inside(&self, memory: Memory) -> Self {
        Self::with_clock(Arc::clone(&self.now), self.since, memory)
            .with_config(self.config.clone())
            .with_arrived(Arc::clone(&self.arrived))
    }

    /// What the configuration of this replica has for triggers: connections with their secrets, and settings by kind.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The database's time, carried on by this host's monotonic clock. Never the host's wall clock.
    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// When the task deferred. Durations in a spec are anchored here, so that they survive a change of hands.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// How long the task has waited.
    pub fn waited(&self) -> Duration {
        self.now().duration_since(self.since).try_into().unwrap_or_default()
    }

    /// What has arrived under one of the keys that [`Wait::Mixed`](crate::Wait::Mixed) named: the payload of a signal, or
    /// how a task ended. It is stored with the wait, and so survives a change of hands.
    pub fn arrived(&self, key: &Key) -> Option<&Value> {
        self.arrived.iter().find(|(arrived, _)| arrived == key).map(|(_, payload)| payload)
    }

    /// If this look cannot tell yet, the next one is due at that time, in the place of what the spacing says. The earliest
    /// that is asked for counts.
    pub fn look_again_at(&self, at: Timestamp) {
        let mut next = lock(&self.next);
        *next = Some(next.map_or(at, |earlier| earlier.min(at)));
    }

    /// When the next look is to be, if this one has said so.
    pub fn next_look(&self) -> Option<Timestamp> {
        *lock(&self.next)
    }

    /// What this look has seen, in a few words for people, such as `"answered 503"`: they are told when they ask why a
    /// task does not move. Nothing secret, as it is stored. Kept are the first 200 bytes.
    pub fn say(&self, what: impl Into<String>) {
        let mut what = what.into();
        what.truncate(what.floor_char_boundary(LONGEST_SAID));
        *lock(&self.said) = Some(what);
    }

    /// What this look has said.
    pub fn said(&self) -> Option<String> {
        lock(&self.said).clone()
    }

    /// What the previous check on this replica left with [`remember`](Self::remember). It is lost when the trigger
    /// changes hands, so losing it may delay an answer but must never decide one.
    pub fn recall<T: Clone + Send + 'static>(&self) -> Option<T> {
        lock(&self.memory.0).as_ref()?.what.downcast_ref::<T>().cloned()
    }

    /// Takes away what the previous check on this replica left, if it is of this type.
    pub fn take<T: Send + 'static>(&self) -> Option<T> {
        let mut memory = lock(&self.memory.0);
        let Left { what, at } = *memory.take()?;
        match what.downcast() {
            Ok(what) => Some(*what),
            Err(what) => {
                *memory = Some(Box::new(Left { what, at }));
                None
            }
        }
    }

    /// Leaves something for the next check on this replica.
    pub fn remember<T: Send + 'static>(&self, what: T) {
        *lock(&self.memory.0) = Some(Box::new(Left { what: Box::new(what), at: self.now() }));
    }

    /// Takes the memory out, to hand it to the next check.
    pub fn into_memory(self) -> Memory {
        self.memory
    }

    /// Whether anything is left for the next check.
    pub fn has_memory(&self) -> bool {
        !self.memory.is_empty()
    }
}

/// How much a look may say, in bytes.
const LONGEST_SAID: usize = 200;

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("since", &self.since).finish_non_exhaustive()
    }
}

/// What a trigger's checks on one replica leave one another. Empty at first; costs nothing until used.
#[derive(Default)]
pub struct Memory(Mutex<Option<Box<Left>>>);

struct Left {
    what: Box<dyn Any + Send>,
    at: Timestamp,
}

/// How far the clock may go back without anything being forgotten: it is corrected by little all the time.
const CORRECTION: SignedDuration = SignedDuration::from_secs(1);

impl Memory {
    /// Forgets what was left at a time that is yet to come: the clock has been set back, and until then a trigger would wait
    /// for the times that it has noted.
    #[must_use]
    pub fn unless_set_back(self, now: Timestamp) -> Self {
        let is_set_back = lock(&self.0).as_ref().is_some_and(|left| left.at.duration_since(now) > CORRECTION);
        if is_set_back { Self::default() } else { self }
    }

    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).is_none()
    }
}

/// A panic while the lock is held cannot leave it half-written: what is in it is replaced in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    #[test]
    fn what_was_left_at_a_time_yet_to_come_is_forgotten() {
        let at = Timestamp::UNIX_EPOCH;
        let left = || {
            let cx = Context::new(move || at, at, Memory::default());
            cx.remember("something");
            cx.into_memory()
        };
        for (now, is_forgotten) in [(at + 1.hour(), false), (at - 1.second(), false), (at - 2.seconds(), true)] {
            assert_eq!(left().unless_set_back(now).is_empty(), is_forgotten, "{now}");
        }
    }
}
