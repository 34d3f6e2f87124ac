//! How far apart checks are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far apart the checks of one trigger are. In a spec: a duration such as `"5s"`, `"250ms"` or `"1h 30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spacing {
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    every: Duration,
}

impl Spacing {
    /// One check each `every`.
    pub const fn every(every: Duration) -> Self {
        Self { every }
    }

    /// How long after a check the next one is due.
    pub const fn interval(&self) -> Duration {
        self.every
    }
}

impl Default for Spacing {
    fn default() -> Self {
        Self::every(Duration::from_secs(5))
    }
}
