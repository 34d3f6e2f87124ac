//! When an answer is the one that is waited for.

use reqwest::header::{HeaderMap, HeaderName};
use reveille_trigger::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{Answered, Path, StatusRange, Statuses, Test};

/// A condition on an answer: on its status, a header, a field of its JSON body, or several of them, all of which must
/// hold.
///
/// In a spec: a status (`200`, `"2xx"`, `"200-204"`), or
/// `{"status": "2xx", "header": {"name": "x-state", "equals": "done"}, "json": {"path": "$.state", "one_of": ["a", "b"]}}`
/// with at least one of the three. One without a status is about answers of 2xx.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    status: Option<Statuses>,
    header: Option<(String, Test)>,
    json: Option<(Path, Test)>,
}

impl Condition {
    /// On the status: one, a range such as `200..=204`, or an array of either.
    pub fn status(status: impl Into<Statuses>) -> Self {
        Self { status: Some(status.into()), ..Self::default() }
    }

    /// On a header.
    pub fn header(name: impl Into<String>, test: impl Into<Test>) -> Self {
        Self { header: Some((name.into(), test.into())), ..Self::default() }
    }

    /// On what a path selects in the JSON body: it holds if it holds for any value that is selected.
    pub fn json(path: impl Into<Path>, test: impl Into<Test>) -> Self {
        Self { json: Some((path.into(), test.into())), ..Self::default() }
    }

    /// With what `other` says, too; where both say something of the same part, `other` does.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            status: other.status.or(self.status),
            header: other.header.or(self.header),
            json: other.json.or(self.json),
        }
    }

    /// Whether it holds for an answer.
    ///
    /// # Errors
    /// That may be tried again: it is about a JSON body, and the body is none.
    pub fn holds(&self, answered: &Answered) -> Result<bool, Error> {
        let status = answered.status();
        // What costs least decides first: a body is only parsed if all else holds.
        if !self.status.as_ref().map_or(StatusRange::SUCCESS.contains(status), |it| it.contains(status)) {
            return Ok(false);
        }
        if let Some((name, test)) = &self.header {
            let values = of_header(answered.headers(), name);
            if !test.holds_for(&values.iter().collect::<Vec<_>>()) {
                return Ok(false);
            }
        }
        match &self.json {
            Some((path, test)) => Ok(test.holds_for(&path.select(answered.json()?)?)),
            None => Ok(true),
        }
    }

    /// Refuses what can never hold.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if *self == Self::default() {
            return Err(Error::fatal("a condition is empty: write a `status`, a `header` or a `json`"));
        }
        if let Some(statuses) = &self.status {
            statuses.validate()?;
        }
        if let Some((name, test)) = &self.header {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(Error::fatal(format!(
                    "`name` {name:?} is no name of a header: write one such as \"x-state\""
                )));
            }
            test.validate(true)?;
        }
        if let Some((path, test)) = &self.json {
            path.validate()?;
            test.validate(false)?;
        }
        Ok(())
    }

    /// Whether it looks into the body, which only some answers have.
    pub(crate) fn is_about_body(&self) -> bool {
        self.json.is_some()
    }

    /// Whether a header decides: one may change while the body, and so its `ETag`, stays the same.
    pub(crate) fn is_about_header(&self) -> bool {
        self.header.is_some()
    }

    /// Whether a status alone makes it hold.
    pub(crate) fn holds_for_status(&self, status: u16) -> bool {
        self.status.as_ref().is_some_and(|it| it.contains(status))
    }
}

impl<T: Into<Statuses>> From<T> for Condition {
    fn from(status: T) -> Self {
        Self::status(status)
    }
}

fn of_header(headers: &HeaderMap, name: &str) -> Vec<Value> {
    headers.get_all(name).iter().map(|value| Value::String(String::from_utf8_lossy(value.as_bytes()).into())).collect()
}

/// What an object of a spec has.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Statuses>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<HeaderFields>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json: Option<JsonFields>,
}

/// Gives a part of a condition the four fields of a [`Test`]: serde cannot both flatten and refuse unknown fields.
macro_rules! with_test {
    ($fields:ident { $key:ident: $type:ty }) => {
        #[derive(Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $fields {
            $key: $type,
            #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "even_null")]
            equals: Option<Value>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            one_of: Option<Vec<Value>>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            contains: Option<String>,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            exists: Option<bool>,
        }

        impl $fields {
            fn read(self) -> Result<($type, Test), String> {
                Ok((self.$key, Test::from_fields(self.equals, self.one_of, self.contains, self.exists)?))
            }

            fn write(($key, test): ($type, Test)) -> Self {
                let blank = Self { $key, equals: None, one_of: None, contains: None, exists: None };
                match test {
                    Test::Equals(value) => Self { equals: Some(value), ..blank },
                    Test::OneOf(values) => Self { one_of: Some(values), ..blank },
                    Test::Contains(part) => Self { contains: Some(part), ..blank },
                    Test::Exists(exists) => Self { exists: Some(exists), ..blank },
                }
            }
        }
    };
}

with_test!(HeaderFields { name: String });
with_test!(JsonFields { path: Path });

/// Tells `"equals": null` from no `equals`.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self { status: Some(status), header: None, json: None } = self
            && let Some(range) = status.single()
        {
            return range.serialize(serializer);
        }
        let Self { status, header, json } = self.clone();
        let fields = Fields { status, header: header.map(HeaderFields::write), json: json.map(JsonFields::write) };
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if !value.is_object() {
            return StatusRange::deserialize(value).map(Self::status).map_err(de::Error::custom);
        }
        let Fields { status, header, json } = Fields::deserialize(value).map_err(de::Error::custom)?;
        let header = header.map(HeaderFields::read).transpose().map_err(de::Error::custom)?;
        let json = json.map(JsonFields::read).transpose().map_err(de::Error::custom)?;
        Ok(Self { status, header, json })
    }
}

/// Any number of [conditions](Condition), of which one must hold. In a spec: one of them, or a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one that will do, too.
    pub fn push(&mut self, condition: Condition) {
        self.0.push(condition);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.0.iter()
    }

    /// Whether one of them holds for an answer.
    ///
    /// # Errors
    /// That may be tried again: one of them is about a JSON body, and the body is none.
    pub fn hold(&self, answered: &Answered) -> Result<bool, Error> {
        for condition in &self.0 {
            if condition.holds(answered)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn validate(&self, field: &str) -> Result<(), Error> {
        self.0.iter().try_for_each(Condition::validate).map_err(|why| Error::fatal(format!("`{field}`: {why}")))
    }
}

impl From<Condition> for Conditions {
    fn from(condition: Condition) -> Self {
        Self(vec![condition])
    }
}

impl Serialize for Conditions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [only] = &self.0[..] { only.serialize(serializer) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Conditions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let conditions = match Value::deserialize(deserializer)? {
            Value::Array(conditions) => conditions.into_iter().map(Condition::deserialize).collect(),
            one => Condition::deserialize(one).map(|condition| vec![condition]),
        };
        conditions.map(Self).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_written_as_they_are_read() {
        for spec in [
            json!(200),
            json!(["2xx", 404]),
            json!({"status": [200, "500-503"]}),
            json!({"header": {"name": "x-state", "equals": "done"}}),
            json!({"status": 200, "json": {"path": "$.state", "one_of": ["a", 1, null]}}),
            json!([{"json": {"path": "$.state", "equals": null}}, {"json": {"path": "$.error", "exists": false}}]),
            json!({"json": {"path": "$.log", "contains": "ready"}}),
        ] {
            let conditions: Conditions = serde_json::from_value(spec.clone()).unwrap();
            conditions.validate("until").unwrap();
            assert_eq!(serde_json::to_value(&conditions).unwrap(), spec);
        }
    }

    #[test]
    fn a_condition_that_cannot_be_read_says_what_to_write() {
        for (spec, part) in [
            (json!("done"), "write one such as 200"),
            (json!({"state": "done"}), "unknown field `state`"),
            (json!({"json": {"equals": 1}}), "missing field `path`"),
            (json!({"json": {"path": "$.a"}}), "needs one of `equals`"),
            (json!({"json": {"path": "$.a", "equals": 1, "exists": true}}), "takes only one of `equals`"),
            (json!({"header": {"name": "a", "is": 1}}), "unknown field `is`"),
        ] {
            let error = serde_json::from_value::<Conditions>(spec.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{spec}: {error}");
        }
    }

    #[test]
    fn a_condition_that_can_never_hold_is_refused() {
        for (condition, part) in [
            (Condition::default(), "a condition is empty"),
            (Condition::status(0), "`status` 0 is none"),
            (Condition::header("a b", "c"), "no name of a header"),
            (Condition::header("a", 1), r#"write "1", in quotes"#),
            (Condition::header("a", Test::contains("")), "`contains` is empty"),
            (Condition::json("a", 1), "`path` \"a\" is no JSON path"),
            (Condition::json("$.a", Test::OneOf(vec![])), "`one_of` is empty"),
        ] {
            let error = Conditions::from(condition).validate("until").unwrap_err();
            assert!(error.is_fatal());
            assert!(error.to_string().starts_with("`until`: ") && error.to_string().contains(part), "{error}");
        }
    }
}
