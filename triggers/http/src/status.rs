//! Which statuses a condition is about.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use reveille_trigger::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A status, or a range of them. In a spec: `200`, `"2xx"` or `"200-204"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// Those that say that a request did what it was for.
    pub const SUCCESS: Self = Self { first: 200, last: 299 };

    /// Whether a status is one of them.
    pub const fn contains(self, status: u16) -> bool {
        self.first <= status && status <= self.last
    }

    pub(crate) fn validate(self) -> Result<(), Error> {
        if self.first >= 100 && self.first <= self.last && self.last <= 599 {
            return Ok(());
        }
        Err(Error::fatal(format!(
            "`status` {self} is none: write one from 100 to 599, such as 200, \"2xx\" or \"200-204\""
        )))
    }
}

impl From<u16> for StatusRange {
    fn from(status: u16) -> Self {
        Self { first: status, last: status }
    }
}

impl From<RangeInclusive<u16>> for StatusRange {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), last: *range.end() }
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_class = |digits: &str| digits.len() == 1 && digits.as_bytes()[0].is_ascii_digit();
        if let Some(class) = text.strip_suffix("xx").filter(|class| is_class(class)) {
            let hundreds = u16::from(class.as_bytes()[0] - b'0') * 100;
            return Ok(Self { first: hundreds, last: hundreds + 99 });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => Ok(Self { first, last }),
            _ => Err(format!("{text:?} is no status: write one such as 200, \"2xx\" or \"200-204\"")),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else if first.is_multiple_of(100) && *last == first + 99 {
            write!(f, "{}xx", first / 100)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { serializer.serialize_u16(self.first) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// One or more [ranges of statuses](StatusRange). In a spec: one of them, or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<StatusRange>);

impl Statuses {
    /// Whether a status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(status))
    }

    pub(crate) fn single(&self) -> Option<StatusRange> {
        if let [only] = self.0[..] { Some(only) } else { None }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.0.is_empty() {
            return Err(Error::fatal("`status` is empty: write one or more, such as 200, \"2xx\" or \"200-204\""));
        }
        self.0.iter().try_for_each(|range| range.validate())
    }
}

impl<T: Into<StatusRange>> From<T> for Statuses {
    fn from(range: T) -> Self {
        Self(vec![range.into()])
    }
}

impl<T: Into<StatusRange>, const N: usize> From<[T; N]> for Statuses {
    fn from(ranges: [T; N]) -> Self {
        Self(ranges.map(Into::into).into())
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(range) => range.serialize(serializer),
            None => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = match Value::deserialize(deserializer)? {
            Value::Array(ranges) => ranges.into_iter().map(StatusRange::deserialize).collect(),
            one => StatusRange::deserialize(one).map(|range| vec![range]),
        };
        ranges.map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_are_numbers_classes_ranges_and_lists() {
        for (spec, inside, outside) in [
            (json!(200), 200, 201),
            (json!("2xx"), 299, 300),
            (json!("200-204"), 204, 205),
            (json!([200, "4xx", "500-503"]), 502, 504),
        ] {
            let statuses: Statuses = serde_json::from_value(spec.clone()).unwrap();
            assert!(statuses.contains(inside) && !statuses.contains(outside), "{spec}");
            statuses.validate().unwrap();
            assert_eq!(serde_json::to_value(&statuses).unwrap(), spec);
        }
        assert_eq!(serde_json::from_value::<Statuses>(json!("200")).unwrap(), Statuses::from(200));
    }

    #[test]
    fn what_is_no_status_is_refused_with_what_to_write() {
        for spec in [json!("ok"), json!("xx"), json!("22xx"), json!(true), json!(-1), json!(70_000), json!([200, {}])] {
            let error = serde_json::from_value::<Statuses>(spec.clone()).unwrap_err().to_string();
            assert!(error.contains("is no status: write one such as 200"), "{spec}: {error}");
        }
        for statuses in
            [Statuses::from(99), Statuses::from(600), Statuses::from(RangeInclusive::new(204, 200)), Statuses(vec![])]
        {
            assert!(statuses.validate().unwrap_err().to_string().starts_with("`status` "), "{statuses:?}");
        }
    }
}
