//! What a triggerer does, in figures: counted where they are made, read by whoever asks.
//!
//! Counting is an addition and a note in a histogram: cheap enough to be done always.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::lag::{Lag, Lags};

/// Counts what is done. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    fired: AtomicU64,
    leased: AtomicU64,
    late: Lags,
}

/// What was counted since [`Tally::begin_anew`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Checks that came to an end, those that could not tell included.
    pub answered: u64,
    /// Those of them that could not tell.
    pub failed: u64,
    /// From when checks were due until they began.
    pub late: Lag,
}

impl Tally {
    /// A check began so late, in milliseconds.
    pub(crate) fn began(&self, late: i64) {
        self.0.late.note(late);
    }

    /// A check came to an end.
    pub(crate) fn answered(&self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// And could not tell.
    pub(crate) fn failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// So many waits have ended.
    pub(crate) fn fired(&self, count: usize) {
        self.0.fired.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// So many triggers were leased.
    pub(crate) fn leased(&self, count: usize) {
        self.0.leased.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts from here on.
    pub fn begin_anew(&self) {
        self.0.answered.store(0, Ordering::Relaxed);
        self.0.failed.store(0, Ordering::Relaxed);
        self.0.fired.store(0, Ordering::Relaxed);
        self.0.leased.store(0, Ordering::Relaxed);
        self.0.late.forget();
    }

    /// How many waits have ended, as the database has confirmed: what was found, and what was passively due.
    pub fn fired_so_far(&self) -> u64 {
        self.0.fired.load(Ordering::Relaxed)
    }

    /// How many triggers were leased.
    pub fn leased_so_far(&self) -> u64 {
        self.0.leased.load(Ordering::Relaxed)
    }

    /// How many checks came to an end.
    pub fn answered_so_far(&self) -> u64 {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        Counted {
            answered: self.answered_so_far(),
            failed: self.0.failed.load(Ordering::Relaxed),
            late: self.0.late.told(),
        }
    }
}
