//! What the checks of a triggerer come to, in figures: counted where they are made, read by whoever asks.
//!
//! Counting is an addition and a note in a histogram: cheap enough to be done always.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::lag::{Lag, Lags};

/// Counts checks. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
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
    pub(super) fn began(&self, late: i64) {
        self.0.late.note(late);
    }

    /// A check came to an end.
    pub(super) fn answered(&self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// And could not tell.
    pub(super) fn failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts from here on.
    pub fn begin_anew(&self) {
        self.0.answered.store(0, Ordering::Relaxed);
        self.0.failed.store(0, Ordering::Relaxed);
        self.0.late.forget();
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        Counted {
            answered: self.0.answered.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
            late: self.0.late.told(),
        }
    }
}
