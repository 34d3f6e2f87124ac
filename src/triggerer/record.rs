//! How the checks of one trigger have gone, in memory; and what of it is worth telling those who ask why a task does not
//! move.

use crate::store::check::Check;

/// How the checks of one trigger on this replica have gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// How many there were.
    pub(super) checks: u32,
    /// The last, if there were any.
    last: Check,
    /// It is in line to be told.
    is_in_line: bool,
}

impl Record {
    /// Adds a check. Whether that is news: the first, one that saw something else than the one before, one that could tell
    /// again, and each time that twice as many in a row could not. What goes on as before costs nobody anything.
    pub(super) fn add(&mut self, check: &Check) -> bool {
        let is_other = match (self.checks, check.failures) {
            (0, _) => true,
            (_, 0) => self.last.failures > 0 || self.last.said != check.said,
            (_, failures) => failures.is_power_of_two(),
        };
        let is_news = is_other && !self.is_in_line;
        self.is_in_line |= is_other;
        self.checks = self.checks.saturating_add(1);
        self.last = check.clone();
        is_news
    }

    /// How many of the last could not tell.
    pub(super) fn failures(&self) -> u32 {
        self.last.failures
    }

    /// What there is to tell now.
    pub(super) fn told(&mut self) -> Option<(u32, Check)> {
        self.is_in_line = false;
        (self.checks > 0).then(|| (self.checks, self.last.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failures: u32, said: &str) -> Check {
        Check { failures, at: 0, took_ms: 0, said: Some(said.into()), next_at: 0 }
    }

    #[test]
    fn what_goes_on_as_before_is_no_news() {
        let mut record = Record::default();
        let checks = [
            (0, "503", true),
            (0, "503", false),
            (0, "202", true),
            (1, "refused", true),
            (2, "refused", true),
            (3, "refused", false),
            (4, "refused", true),
            (0, "202", true),
        ];
        for (at, (failures, said, is_news)) in checks.into_iter().enumerate() {
            assert_eq!(record.add(&check(failures, said)), is_news, "check {at}");
            if is_news {
                assert_eq!(record.told(), Some((at as u32 + 1, check(failures, said))));
            }
        }
    }

    #[test]
    fn what_is_in_line_is_told_once_and_as_it_is_then() {
        let mut record = Record::default();
        assert!(record.add(&check(0, "503")));
        assert!(!record.add(&check(0, "202")));
        assert_eq!(record.told(), Some((2, check(0, "202"))));
    }
}
