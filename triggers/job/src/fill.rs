//! The places of a URL or a body that parameters fill: `{name}`.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reveille_trigger::Error;
use serde_json::Value;

/// All that could end a segment of a path, or the value of a query.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Values by the names of their places: texts and integers.
pub(crate) type Params = BTreeMap<String, Value>;

/// A URL with its places filled. No value can lead out of its segment.
pub(crate) fn url(template: &str, params: &Params) -> Result<String, Error> {
    fill(template, params, |value| utf8_percent_encode(&text(value), RESERVED).to_string())
}

/// A body with its places filled: a text that is nothing but one place becomes the value itself.
pub(crate) fn body(template: &Value, params: &Params) -> Result<Value, Error> {
    Ok(match template {
        Value::String(template) => match whole(template).and_then(|name| params.get(name)) {
            Some(value) => value.clone(),
            None => Value::String(fill(template, params, text)?),
        },
        Value::Array(items) => Value::Array(items.iter().map(|item| body(item, params)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, value)| Ok((name.clone(), body(value, params)?)));
            Value::Object(filled.collect::<Result<_, Error>>()?)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => template.clone(),
    })
}

/// The names of the places of a URL.
pub(crate) fn places(template: &str) -> Vec<&str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

fn fill(template: &str, params: &Params, show: impl Fn(&Value) -> String) -> Result<String, Error> {
    let mut parts = template.split('{');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let Some((name, rest)) = part.split_once('}') else {
            return Err(Error::fatal(format!("{template:?} has a `{{` with no `}}` after it")));
        };
        let Some(value) = params.get(name) else {
            return Err(Error::fatal(format!("`params` has no {name:?}, which {template:?} needs")));
        };
        filled += &show(value);
        filled += rest;
    }
    Ok(filled)
}

fn whole(template: &str) -> Option<&str> {
    template.strip_prefix('{')?.strip_suffix('}').filter(|name| !name.contains(['{', '}']))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params() -> Params {
        [("id".to_owned(), json!(7)), ("name".to_owned(), json!("a/b?c#d e&é"))].into()
    }

    #[test]
    fn a_value_stays_within_its_segment() {
        assert_eq!(url("/x/{id}?y={name}", &params()).unwrap(), "/x/7?y=a%2Fb%3Fc%23d%20e%26%C3%A9");
        assert_eq!(url("/x", &params()).unwrap(), "/x");
        assert_eq!(places("/x/{id}?y={name}"), ["id", "name"]);
    }

    #[test]
    fn a_body_keeps_the_types_of_its_values() {
        let template = json!({"run_id": "{id}", "why": "for {name}: {id}", "all": ["{name}", 1, null]});
        let filled = json!({"run_id": 7, "why": "for a/b?c#d e&é: 7", "all": ["a/b?c#d e&é", 1, null]});
        assert_eq!(body(&template, &params()).unwrap(), filled);
    }

    #[test]
    fn a_place_without_a_value_is_refused() {
        assert!(url("/{other}", &params()).unwrap_err().to_string().contains("`params` has no \"other\""));
        assert!(body(&json!("{other}"), &params()).is_err());
        assert!(url("/{id", &params()).unwrap_err().to_string().contains("no `}` after it"));
    }
}
