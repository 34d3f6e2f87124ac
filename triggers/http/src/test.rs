//! What a value must be for a condition to hold.

use reveille_trigger::Error;
use serde_json::Value;

/// What a header or a field must be. In a spec, beside the name or the path, exactly one of `"equals"`, `"one_of"`,
/// `"contains"` and `"exists"`.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It equals this value. Numbers are equal if they are the same number, however they are written.
    Equals(Value),
    /// It equals one of these.
    OneOf(Vec<Value>),
    /// It is a text with this in it, or a list with this text as an element.
    Contains(String),
    /// It is there, whatever it is; or it is not.
    Exists(bool),
}

impl Test {
    /// It equals one of these.
    pub fn one_of<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Self {
        Self::OneOf(values.into_iter().map(Into::into).collect())
    }

    /// It is a text with `part` in it, or a list with this text as an element.
    pub fn contains(part: impl Into<String>) -> Self {
        Self::Contains(part.into())
    }

    /// It is there, whatever it is: `null`, too.
    pub const fn exists() -> Self {
        Self::Exists(true)
    }

    /// It is not there.
    pub const fn missing() -> Self {
        Self::Exists(false)
    }

    /// Whether it holds for at least one of these values; that there are none, if it says so.
    pub fn holds_for(&self, values: &[&Value]) -> bool {
        match self {
            Self::Equals(value) => values.iter().any(|it| same(it, value)),
            Self::OneOf(any) => values.iter().any(|it| any.iter().any(|value| same(it, value))),
            Self::Contains(part) => values.iter().any(|it| contains(it, part)),
            Self::Exists(exists) => values.is_empty() != *exists,
        }
    }

    pub(crate) fn validate(&self, is_text: bool) -> Result<(), Error> {
        let values = match self {
            Self::Equals(value) => std::slice::from_ref(value),
            Self::OneOf(values) if values.is_empty() => {
                return Err(Error::fatal("`one_of` is empty: write the values, one of which it must be"));
            }
            Self::OneOf(values) => values,
            Self::Contains(part) if part.is_empty() => {
                return Err(Error::fatal(
                    "`contains` is empty, and holds for any text: write \"exists\": true for that",
                ));
            }
            Self::Contains(_) | Self::Exists(_) => &[],
        };
        if is_text && let Some(value) = values.iter().find(|value| !value.is_string()) {
            return Err(Error::fatal(format!("a header is text, and never {value}: write \"{value}\", in quotes")));
        }
        Ok(())
    }

    /// From the fields of a spec, of which there must be exactly one.
    pub(crate) fn from_fields(
        equals: Option<Value>,
        one_of: Option<Vec<Value>>,
        contains: Option<String>,
        exists: Option<bool>,
    ) -> Result<Self, String> {
        let mut given =
            [equals.map(Self::Equals), one_of.map(Self::OneOf), contains.map(Self::Contains), exists.map(Self::Exists)]
                .into_iter()
                .flatten();
        match (given.next(), given.next()) {
            (Some(test), None) => Ok(test),
            (None, _) => Err("a condition needs one of `equals`, `one_of`, `contains` and `exists`".to_owned()),
            (Some(_), Some(_)) => {
                Err("a condition takes only one of `equals`, `one_of`, `contains` and `exists`".to_owned())
            }
        }
    }
}

impl<T: Into<Value>> From<T> for Test {
    fn from(value: T) -> Self {
        Self::Equals(value.into())
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // As integers if both are, since ids of 19 digits are not the same for being close to one another.
        (Value::Number(x), Value::Number(y)) => x == y || (x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn contains(value: &Value, part: &str) -> bool {
    match value {
        Value::String(text) => text.contains(part),
        Value::Array(elements) => elements.iter().any(|it| it.as_str() == Some(part)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_test_holds_for_any_of_the_values() {
        let (done, one, none) = (json!("done"), json!(1.0), json!(null));
        let (all, list) = ([&done, &one, &none], json!(["ready", "done"]));
        for test in [
            Test::from("done"),
            Test::from(1),
            Test::from(Value::Null),
            Test::one_of(["failed", "done"]),
            Test::contains("on"),
            Test::exists(),
        ] {
            assert!(test.holds_for(&all), "{test:?}");
            assert!(!test.holds_for(&[]), "{test:?}");
        }
        assert!(Test::missing().holds_for(&[]) && !Test::missing().holds_for(&all));
        assert!(Test::contains("done").holds_for(&[&list]) && !Test::contains("don").holds_for(&[&list]));
        assert!(!Test::from("1").holds_for(&[&one]));
    }

    #[test]
    fn ids_that_are_close_are_not_equal() {
        let id = json!(9_007_199_254_740_993_u64);
        assert!(Test::from(9_007_199_254_740_993_u64).holds_for(&[&id]));
        assert!(!Test::from(9_007_199_254_740_992_u64).holds_for(&[&id]));
    }
}
