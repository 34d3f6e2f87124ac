//! What a scenario came to.

use serde::Serialize;

use super::{
    series::{Flat, Sample},
    shares::Settled,
    stuck::Beside,
};
use crate::lag::Lag;

/// The figures of one run. What does not apply to its scenario is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was measured.
    pub scenario: &'static str,
    /// On what: the kind of trigger, where there is a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// How many triggers there were.
    pub triggers: usize,
    /// How many replicas held them.
    pub replicas: usize,
    /// How long it was measured.
    pub seconds: f64,
    /// How much longer than it takes a round trip to the server was made to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// How many tasks slept in the same tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asleep: Option<usize>,
    /// How many checks came to an end in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polls_per_s: Option<f64>,
    /// How many of all of these could not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polls_failed: Option<u64>,
    /// How many requests the other side answered in a second, by its own count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served_per_s: Option<f64>,
    /// How many events were committed in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_s: Option<f64>,
    /// How many triggers were leased in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pickup_per_s: Option<f64>,
    /// How many tasks went all the way in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycles_per_s: Option<f64>,
    /// How many statements the server ran for each event, where it counts them (`pg_stat_statements`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statements_per_event: Option<f64>,
    /// How many of the same plain SQL does in a second that writes the same rows and does nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_per_s: Option<f64>,
    /// How far up to that it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio_to_floor: Option<f64>,
    /// The CPU time of this process, in hundredths of one core.
    pub cpu_percent: f64,
    /// The memory of this process at the end, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// What it grew by, from before the tasks were added, for each trigger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_per_trigger: Option<u64>,
    /// From when something was due until it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_ms: Option<Lag>,
    /// From the fault until a trigger ran elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takeover_ms: Option<Lag>,
    /// How many deferrals reached no outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// How many reached more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubled: Option<i64>,
    /// How triggers were shared, after one thing and another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Vec<Settled>>,
    /// The pages that a claim and a lease read or find in memory: on PostgreSQL, by its own account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffers: Option<Beside<u64>>,
    /// How many of these go into finding the rows; the rest into taking them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_buffers: Option<Beside<u64>>,
    /// The steps that SQLite's virtual machine makes for them: on SQLite, which counts no pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Beside<u64>>,
    /// How long the quickest of a few of them took the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<Beside<f64>>,
    /// Whether each measure is flat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flat: Option<Vec<Flat>>,
    /// What was seen again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<Sample>>,
}

impl Report {
    /// The same, compared with a floor, where there is one.
    pub(super) fn beside_floor(self, floor_per_s: Option<f64>) -> Self {
        let reached = self.events_per_s.or(self.pickup_per_s).or(self.cycles_per_s);
        let ratio_to_floor = reached.zip(floor_per_s).map(|(reached, floor)| reached / floor);
        Self { floor_per_s, ratio_to_floor, ..self }
    }

    /// What [`events_per_s`](Self::events_per_s) counts.
    pub fn events_are(&self) -> &'static str {
        match self.scenario {
            "soak" => "deferrals that were resumed",
            _ => "committed, from the instant to the last",
        }
    }

    /// Between what and what [`lag_ms`](Self::lag_ms) is.
    pub fn lag_is(&self) -> &'static str {
        match self.scenario {
            "burst" => "the instant to committed",
            "timers" => "due to running",
            "share" => "the first that was resumed",
            _ => "due to begun",
        }
    }
}
