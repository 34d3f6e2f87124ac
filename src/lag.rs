//! How late things were: noted by many, told as a few figures.
//!
//! A histogram, and not a list: what is noted a million times takes no more room than what is noted once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Of three digits, as far as it has been needed.
#[derive(Debug)]
pub struct Lags(Mutex<Histogram<u64>>);

/// How late things were, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// For half of them at most this.
    pub p50: u64,
    /// For 99 in 100 at most this.
    pub p99: u64,
    /// For all of them at most this.
    pub max: u64,
    /// How many were in time, how many up to 1 ms late, up to 3, up to 7 and so on, up to the latest: for a picture.
    #[serde(skip)]
    pub shape: Vec<u64>,
}

impl Lags {
    /// Nothing yet.
    pub fn new() -> Self {
        Self(Mutex::new(Histogram::new(3).expect("3 digits are within its bounds")))
    }

    /// Notes that something was so late, in milliseconds. What came early was in time.
    pub fn note(&self, ms: i64) {
        // Not `saturating_record`, which takes what is later than was ever needed for less than it is.
        self.lock().record(ms.max(0).cast_unsigned()).expect("it grows to hold any number");
    }

    /// Forgets what was noted so far.
    pub fn forget(&self) {
        self.lock().reset();
    }

    /// What was noted since.
    pub fn told(&self) -> Lag {
        let lags = self.lock();
        let mut shape = Vec::new();
        let (mut from, mut to) = (0, 0);
        while !lags.is_empty() && from <= lags.max() {
            shape.push(lags.count_between(from, to));
            (from, to) = (to + 1, 2 * to + 1);
        }
        Lag { p50: lags.value_at_quantile(0.5), p99: lags.value_at_quantile(0.99), max: lags.max(), shape }
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        // A count more or less is all that a panic could leave behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Lags {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_told_and_forgotten() {
        let lags = Lags::new();
        assert_eq!(lags.told(), Lag::default());
        [-5, 0, 1, 2, 3, 10].into_iter().for_each(|ms| lags.note(ms));
        assert_eq!(lags.told(), Lag { p50: 1, p99: 10, max: 10, shape: vec![2, 1, 2, 0, 1] });
        lags.note(100_000);
        assert!((100_000..100_100).contains(&lags.told().max));
        lags.forget();
        assert_eq!(lags.told(), Lag::default());
    }
}
