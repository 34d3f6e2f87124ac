//! What a check may ask of the runtime.

use std::{any::Any, fmt, sync::Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::Config;

/// What one check is given: the clock, the start of the wait, and what the previous check on this replica left.
pub struct Context {
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    since: Timestamp,
    memory: Memory,
    config: Config,
}

impl Context {
    /// A context that reads the time from `now`, for a wait that began at `since`.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static, since: Timestamp, memory: Memory) -> Self {
        Self { now: Box::new(now), since, memory, config: Config::default() }
    }

    /// With what the configuration of this replica has for triggers.
    #[must_use]
    pub fn with_config(self, config: Config) -> Self {
        Self { config, ..self }
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
    pub fn waited(&self) -> SignedDuration {
        self.now().duration_since(self.since)
    }

    /// What the previous check on this replica left with [`remember`](Self::remember). It is lost when the trigger
    /// changes hands, so losing it may delay an answer but must never decide one.
    pub fn recall<T: Clone + Send + 'static>(&self) -> Option<T> {
        self.memory.lock().as_ref()?.downcast_ref::<T>().cloned()
    }

    /// Leaves something for the next check on this replica.
    pub fn remember<T: Send + 'static>(&self, what: T) {
        *self.memory.lock() = Some(Box::new(what));
    }

    /// Whether anything is left for the next check.
    pub fn has_memory(&self) -> bool {
        self.memory.lock().is_some()
    }

    /// Takes the memory out, to hand it to the next check.
    pub fn into_memory(self) -> Memory {
        self.memory
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("since", &self.since).finish_non_exhaustive()
    }
}

/// What a trigger's checks on one replica leave one another. Empty at first; costs nothing until used.
#[derive(Default)]
pub struct Memory(Mutex<Option<Box<dyn Any + Send>>>);

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        // A panic while the lock is held cannot leave it half-written: the value is replaced in one step.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}
