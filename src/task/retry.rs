//! How often something is tried, and how far apart.

use std::time::Duration;

use crate::clock::millis;

/// A retry policy, stored with each task so that a replica without the task's code can apply it.
///
/// Exponential back-off: the delay doubles from `backoff` at each attempt, up to `cap`, and is spread over the half
/// below it, so that what failed together does not come back together ("equal jitter" in Brooker, *Exponential
/// Backoff and Jitter*, AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often it is tried at most, the first time included. At least 1.
    pub max_attempts: i32,
    /// The delay before the second attempt.
    pub backoff: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Retry {
    /// One attempt and no other.
    pub const NEVER: Self = Self { max_attempts: 1, backoff: Duration::ZERO, cap: Duration::ZERO };

    /// When the attempt after `attempt` (counted from 1) is due, in milliseconds from now; `None` if it was the last.
    /// `jitter` lies in 0..1.
    pub(crate) fn delay_ms(&self, attempt: i32, jitter: f64) -> Option<i64> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).clamp(0, 40);
        let delay = millis(self.backoff).saturating_mul(1_i64 << doublings).min(millis(self.cap));
        Some(delay - (delay as f64 * 0.5 * jitter) as i64)
    }
}

impl Default for Retry {
    /// Three attempts, from 5 seconds apart up to an hour.
    fn default() -> Self {
        Self { max_attempts: 3, backoff: Duration::from_secs(5), cap: Duration::from_hours(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_end_with_the_attempts() {
        let retry = Retry { max_attempts: 5, backoff: Duration::from_secs(1), cap: Duration::from_secs(3) };
        let delays: Vec<_> = (1..=5).map(|attempt| retry.delay_ms(attempt, 0.0)).collect();
        assert_eq!(delays, [Some(1_000), Some(2_000), Some(3_000), Some(3_000), None]);
        assert_eq!(retry.delay_ms(1, 1.0), Some(500));
    }

    #[test]
    fn a_huge_policy_does_not_overflow() {
        let retry = Retry { max_attempts: i32::MAX, backoff: Duration::MAX, cap: Duration::MAX };
        assert!(retry.delay_ms(i32::MAX - 1, 0.0).is_some());
    }
}
