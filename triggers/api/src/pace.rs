//! How soon the next check is: with jitter, and later after checks that could not tell.

use std::time::Duration;

/// The longest back-off after checks that could not tell, unless they are further apart anyway.
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// The longest that what is asked may have us stay away.
const LONGEST_PATIENCE: Duration = Duration::from_hours(24);

/// Spreads a period over its upper quarter, so that what started together does not stay in step.
pub fn jittered(period: Duration) -> Duration {
    period.mul_f64(1.0 - 0.25 * rand::random::<f64>())
}

/// When to check again after so many checks in a row could not tell: later each time, up to a minute, and not before what
/// was asked has said.
pub fn back_off(interval: Duration, failures: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = interval.max(Duration::from_millis(100)).saturating_mul(1 << failures.min(16));
    let backoff = jittered(doubled.min(LONGEST_BACKOFF).max(interval));
    retry_after.map_or(backoff, |asked| backoff.max(asked.min(LONGEST_PATIENCE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_spread_over_its_upper_quarter() {
        let period = Duration::from_secs(100);
        for _ in 0..1_000 {
            assert!((Duration::from_secs(75)..=period).contains(&jittered(period)));
        }
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_back_off_up_to_a_minute() {
        let second = Duration::from_secs(1);
        for (failures, longest) in [(1, 2), (2, 4), (3, 8), (6, 60), (u32::MAX, 60)] {
            let longest = Duration::from_secs(longest);
            let backoff = back_off(second, failures, None);
            assert!(backoff <= longest && backoff >= longest.mul_f64(0.75), "{failures}: {backoff:?}");
        }
        let hour = Duration::from_hours(1);
        assert!(back_off(hour, 1, None) >= hour.mul_f64(0.75), "never sooner than its spacing");
    }

    #[test]
    fn what_was_asked_may_ask_for_more_patience_up_to_a_day() {
        let (second, minutes) = (Duration::from_secs(1), Duration::from_mins(5));
        assert_eq!(back_off(second, 1, Some(minutes)), minutes);
        assert_eq!(back_off(second, 1, Some(Duration::MAX)), Duration::from_hours(24));
    }
}
