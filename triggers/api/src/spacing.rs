//! How far apart checks are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far apart the checks of one trigger are: a function of how long the task has waited, so that it survives a change
/// of hands. The runtime adds jitter.
///
/// In a spec: a duration such as `"5s"`, `"250ms"` or `"1h 30m"`; or `{"from": "1s", "to": "5m"}`, for checks that are
/// further and further apart, each as long after the last as the task had waited by then, within these bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Spacing {
    /// As far apart from the first to the last.
    Fixed(#[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")] Duration),
    /// Further and further apart.
    Growing(Growing),
}

/// The bounds of a [spacing](Spacing) that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growing {
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    from: Duration,
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    to: Duration,
}

impl Spacing {
    /// One check each `every`.
    pub const fn every(every: Duration) -> Self {
        Self::Fixed(every)
    }

    /// The second check `from` after the first, each further one twice as late, and from `to` on no further apart.
    pub const fn growing(from: Duration, to: Duration) -> Self {
        Self::Growing(Growing { from, to })
    }

    /// How long after a check the next one is due, if the task has waited this long.
    pub fn interval(&self, waited: Duration) -> Duration {
        match self {
            Self::Fixed(every) => *every,
            Self::Growing(Growing { from, to }) => waited.min(*to).max(*from),
        }
    }
}

impl Default for Spacing {
    fn default() -> Self {
        Self::every(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_spacing_doubles_within_its_bounds() {
        let (second, spacing) =
            (Duration::from_secs(1), Spacing::growing(Duration::from_secs(1), Duration::from_secs(10)));
        let (mut waited, mut intervals) = (Duration::ZERO, Vec::new());
        for _ in 0..7 {
            let interval = spacing.interval(waited);
            intervals.push(interval.as_secs());
            waited += interval;
        }
        assert_eq!(intervals, [1, 1, 2, 4, 8, 10, 10]);
        assert_eq!(Spacing::every(second).interval(Duration::from_hours(1)), second);
    }

    #[test]
    fn a_spec_says_a_duration_or_two_bounds() {
        for (spec, spacing) in [
            (r#""1m 30s""#, Spacing::every(Duration::from_secs(90))),
            (r#"{"from":"1s","to":"5m"}"#, Spacing::growing(Duration::from_secs(1), Duration::from_mins(5))),
        ] {
            assert_eq!(serde_json::from_str::<Spacing>(spec).unwrap(), spacing);
            assert_eq!(serde_json::to_string(&spacing).unwrap(), spec);
        }
        assert!(serde_json::from_str::<Spacing>(r#"{"from":"1s"}"#).is_err());
        assert!(serde_json::from_str::<Spacing>(r#"{"from":"1s","to":"2s","by":3}"#).is_err());
    }
}
