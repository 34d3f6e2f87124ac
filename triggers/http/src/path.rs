//! Which part of a JSON body a condition is about.

use std::fmt;

use reveille_trigger::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

/// The longest path, in bytes.
const MAX_BYTES: usize = 512;
/// How deep brackets may be nested: the parser is recursive.
const MAX_DEPTH: usize = 8;
/// The most commas: each selects again from what was selected, so that `[0,0][0,0]…` doubles with each pair.
const MAX_COMMAS: usize = 8;

/// A JSON path (RFC 9535), such as `$.state` or `$.conditions[?@.type == 'Ready'].status`, without functions.
///
/// Paths that may select more than the body has are refused: `..` more than once, and `$` in a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Path(String);

impl Path {
    /// All that the path selects in a body.
    ///
    /// # Errors
    /// Fatal if it is no path, or one of those that are refused.
    pub fn select<'a>(&self, body: &'a Value) -> Result<Vec<&'a Value>, Error> {
        Ok(self.parse()?.query(body).all())
    }

    /// Refuses what is no path.
    ///
    /// # Errors
    /// Fatal, and says what is wrong with it.
    pub fn validate(&self) -> Result<(), Error> {
        self.parse().map(|_| ())
    }

    fn parse(&self) -> Result<JsonPath, Error> {
        let refuse = |why: &str| Error::fatal(format!("`path` {self} {why}"));
        // Before parsing, so that no path is too deep for the stack.
        if let Some(why) = excess(&self.0) {
            return Err(refuse(why));
        }
        JsonPath::parse(&self.0).map_err(|error| {
            refuse(&format!(
                "is no JSON path: {}; write one such as \"$.state\" or \"$.jobs[0].state\"",
                error.message()
            ))
        })
    }
}

impl<T: Into<String>> From<T> for Path {
    fn from(path: T) -> Self {
        Self(path.into())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut end = self.0.len().min(100);
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        write!(f, "{:?}", &self.0[..end])
    }
}

/// Why a path may take longer, or select more, than its body accounts for.
fn excess(path: &str) -> Option<&'static str> {
    if path.len() > MAX_BYTES {
        return Some("has more than 512 bytes: shorten it");
    }
    let (mut depth, mut commas, mut descents, mut quote) = (0_usize, 0, 0, None);
    let mut bytes = path.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) => {
                if byte == open {
                    quote = None;
                }
            }
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'[' | b'(') => depth += 1,
            (None, b']' | b')') => depth = depth.saturating_sub(1),
            (None, b',') => commas += 1,
            (None, b'.') if bytes.peek().is_some_and(|(_, next)| *next == b'.') => descents += 1,
            (None, b'$') if at > 0 => return Some("has a `$` within it: select from the current node, with `@`"),
            (None, _) => {}
        }
        if depth > MAX_DEPTH {
            return Some("nests brackets more than 8 deep: simplify it");
        }
        if commas > MAX_COMMAS {
            return Some("has more than 8 commas: split it into several conditions");
        }
        if descents > 1 {
            return Some("has `..` more than once: name what is in between");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn select(path: &str) -> Vec<Value> {
        let body = json!({
            "state": "done",
            "a.b": {"$..": 1},
            "jobs": [{"id": 1, "state": "done"}, {"id": 2, "state": "running"}],
        });
        Path::from(path).select(&body).unwrap().into_iter().cloned().collect()
    }

    #[test]
    fn a_path_selects_names_indexes_all_and_some() {
        assert_eq!(select("$.state"), [json!("done")]);
        assert_eq!(select("$.jobs[-1].id"), [json!(2)]);
        assert_eq!(select("$.jobs[*].state"), [json!("done"), json!("running")]);
        assert_eq!(select("$.jobs[?@.state != 'done'].id"), [json!(2)]);
        assert_eq!(select("$..id"), [json!(1), json!(2)]);
        assert_eq!(select("$['a.b']['$..']"), [json!(1)]);
        assert_eq!(select("$.nothing"), [] as [Value; 0]);
    }

    #[test]
    fn what_is_no_path_is_refused_with_what_to_write() {
        for path in ["", "state", "$.", "$.jobs[", "$[?match(@.a, 'x')]", "$.a b"] {
            let error = Path::from(path).validate().unwrap_err();
            assert!(error.is_fatal());
            assert!(error.to_string().contains("write one such as \"$.state\""), "{path}: {error}");
        }
    }

    #[test]
    fn a_path_that_may_select_more_than_there_is_is_refused() {
        let nested = format!("$[?{}@.a{}]", "(".repeat(200), ")".repeat(200));
        let doubling = format!("${}", "[0,0]".repeat(50));
        for (path, part) in [
            ("$..a..b", "`..` more than once"),
            ("$[?@.a == $.b]", "`$` within it"),
            (&nested, "more than 8 deep"),
            (&doubling, "more than 8 commas"),
            (&format!("$.{}", "é".repeat(300)), "more than 512 bytes"),
        ] {
            let error = Path::from(path).validate().unwrap_err().to_string();
            assert!(error.starts_with("`path` \"$") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_longest_path_that_is_taken_parses_within_a_stack_of_a_thread() {
        let nested = format!("$[?{}@.a{}]", "(".repeat(7), ")".repeat(7));
        Path::from(nested).validate().unwrap();
        let negated = format!("$[?{}(@.a)]", "!".repeat(500));
        assert!(Path::from(negated).validate().is_err());
    }
}
