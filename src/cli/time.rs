//! Times and durations, as people write and read them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::clock::timestamp;

/// Reads `"10s"`, `"1h 30m"` or `"7d"`; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let example = "write a duration such as 10s, 5m, 2h or 7d";
    let span: Span = text.parse().map_err(|_| format!("{text:?} is not a duration: {example}"))?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| {
        format!("{text:?} is not a duration of a certain length (months and years have none): {example}")
    })?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is negative: {example}"))
}

/// A time, or a while from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    After(Duration),
}

/// Reads a moment as a time in RFC 3339, or as a duration.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(at) = text.parse() {
        return Ok(Moment::At(at));
    }
    duration(text).map(Moment::After).map_err(|_| {
        format!("{text:?} is neither a time nor a duration: write 2026-01-01T12:00:00Z, or 2h for two hours from now")
    })
}

/// Reads a time in RFC 3339.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| format!("{text:?} is not a time: write it with its offset, such as 2026-01-01T12:00:00Z"))
}

/// `2026-01-01 12:00:00Z`
pub(super) fn stamp(ms: i64) -> String {
    timestamp(ms).strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// `2026-01-01 12:00:00.123Z`
pub(super) fn exact_stamp(ms: i64) -> String {
    timestamp(ms).strftime("%Y-%m-%d %H:%M:%S.%3fZ").to_string()
}

/// `3m 5s ago`, `in 2h`, `just now` or `now`.
pub(super) fn relative(ms: i64, now_ms: i64) -> String {
    match ms.saturating_sub(now_ms) {
        -999..=0 => "just now".to_owned(),
        1..=999 => "now".to_owned(),
        ahead if ahead > 0 => format!("in {}", brief(ahead)),
        behind => format!("{} ago", brief(behind.saturating_neg())),
    }
}

/// As [`relative`], in the largest unit alone: `3m ago`.
pub(super) fn coarse(ms: i64, now_ms: i64) -> String {
    let text = relative(ms, now_ms);
    let mut words: Vec<&str> = text.split(' ').collect();
    if words.len() > 2 {
        words.remove(if words[0] == "in" { 2 } else { 1 });
    }
    words.join(" ")
}

/// How long it has lasted, at the least a second.
pub(super) fn since(ms: i64, now_ms: i64) -> String {
    brief(now_ms.saturating_sub(ms).max(1_000))
}

/// The two largest units of a duration in milliseconds: `250ms`, `1.4s`, `3m 5s`, `2h 4m`, `5d 3h`.
pub(super) fn brief(ms: i64) -> String {
    let seconds = ms / 1_000;
    let pair = |whole: i64, unit: &str, part: i64, sub: &str| match part {
        0 => format!("{whole}{unit}"),
        part => format!("{whole}{unit} {part}{sub}"),
    };
    match seconds {
        ..1 => format!("{ms}ms"),
        1..10 => format!("{}.{}s", seconds, ms % 1_000 / 100).replace(".0s", "s"),
        10..60 => format!("{seconds}s"),
        60..3_600 => pair(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in [("10s", 10), ("1h 30m", 5_400), ("7d", 604_800), ("PT5M", 300)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "soon", "-5s", "1mo", "5s ago"] {
            assert!(duration(text).is_err_and(|message| message.contains("such as 10s")), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_while_from_now() {
        assert_eq!(moment("2h"), Ok(Moment::After(Duration::from_hours(2))));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Moment::At(timestamp(1_000))));
        assert!(moment("tomorrow").is_err_and(|message| message.contains("2h for two hours from now")));
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        let shown: Vec<_> = [0, 250, 1_000, 1_449, 59_999, 60_000, 185_000, 7_440_000, 443_000_000].map(brief).into();
        assert_eq!(shown, ["0ms", "250ms", "1s", "1.4s", "59s", "1m", "3m 5s", "2h 4m", "5d 3h"]);
    }

    #[test]
    fn times_show_how_far_off_they_are() {
        assert_eq!(relative(10_000, 70_000), "1m ago");
        assert_eq!(relative(70_000, 10_000), "in 1m");
        let coarse: Vec<_> = [-1_000, -185_000, 0, 60_000, 185_000].map(|ms| coarse(ms, 0)).into();
        assert_eq!(coarse, ["1s ago", "3m ago", "just now", "in 1m", "in 3m"]);
        assert_eq!((relative(10_500, 10_000), relative(9_500, 10_000)), ("now".to_owned(), "just now".to_owned()));
        assert_eq!(exact_stamp(1), "1970-01-01 00:00:00.001Z");
    }
}
