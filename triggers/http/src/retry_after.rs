//! When a server wants to be asked again.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use reveille_trigger::Timestamp;

/// The longest that a server is left alone for its asking: one that says a year has made a mistake.
const MAX: Duration = Duration::from_hours(1);

/// What `Retry-After` says, in seconds or as a date, up to an hour. A date is taken relative to the server's own `Date`,
/// so that its clock need not agree with ours; without one, to `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        let from = date(headers, DATE).unwrap_or_else(|| SystemTime::from(now));
        at.duration_since(from).unwrap_or(Duration::ZERO)
    };
    Some(delay.min(MAX))
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let second = Duration::from_secs(1);
        assert_eq!(said("7", None), Some(7 * second));
        assert_eq!(said("Thu, 01 Jan 2026 00:00:30 GMT", None), Some(30 * second));
        // The server's clock is a day behind.
        assert_eq!(said("Wed, 31 Dec 2025 00:00:30 GMT", Some("Wed, 31 Dec 2025 00:00:00 GMT")), Some(30 * second));
        assert_eq!(said("Thu, 01 Jan 2015 00:00:30 GMT", None), Some(Duration::ZERO));
        assert_eq!(said("99999999999", None), Some(MAX));
        assert_eq!(said("99999999999999999999999", None), None);
        assert_eq!(said("soon", None), None);
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
    }
}
