//! What the task resumes with.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Answered, answered::Body};

/// The most bytes of headers that are kept, by names and values.
const MAX_HEADERS: usize = 16 * 1024;
/// The most bytes of a body that are kept, as JSON: a payload is stored, and the store takes 1 MiB unless told otherwise.
const MAX_BODY: usize = 512 * 1024;

/// The answer for which a condition held: the payload a task resumes with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, by their names in lower case, up to 16 KiB; those with several values have them joined by commas.
    /// `set-cookie` is left out.
    pub headers: BTreeMap<String, String>,
    /// Its body: parsed, if it is JSON by its type or a condition was about it; else its text. Null if there is none, or
    /// if it was left out.
    pub body: Value,
    /// Why the body was left out, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl Response {
    pub(crate) fn new(answered: &Answered) -> Self {
        let (body, left_out) = match body(answered) {
            Ok(body) => (body, None),
            Err(why) => (Value::Null, Some(why)),
        };
        Self { status: answered.status(), headers: headers(answered), body, left_out }
    }
}

fn headers(answered: &Answered) -> BTreeMap<String, String> {
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    let mut size = 0;
    for (name, value) in answered.headers() {
        let Ok(value) = value.to_str() else { continue };
        size += name.as_str().len() + value.len();
        if size > MAX_HEADERS {
            break;
        }
        // A secret of the session that the server would open.
        if name.as_str() == "set-cookie" {
            continue;
        }
        kept.entry(name.as_str().to_owned())
            .and_modify(|values| {
                values.push_str(", ");
                values.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    kept
}

/// The body, or why it is left out.
fn body(answered: &Answered) -> Result<Value, String> {
    let bytes = match answered.body() {
        Body::Whole(bytes) => bytes,
        Body::TooLong(limit) => return Err(format!("it has more than {limit} bytes")),
    };
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let parsed = if answered.says_json() || answered.is_parsed() { answered.json().ok().cloned() } else { None };
    let body = match (parsed, std::str::from_utf8(bytes)) {
        (Some(json), _) => json,
        (None, Ok(text)) => Value::String(text.to_owned()),
        (None, Err(_)) => return Err(format!("its {} bytes are not UTF-8", bytes.len())),
    };
    // A character can take six bytes as JSON, so that a short body need not be measured.
    if bytes.len() > MAX_BODY / 6 && written_len(&body).is_none_or(|length| length > MAX_BODY) {
        return Err(format!("it has more than {MAX_BODY} bytes, as JSON"));
    }
    Ok(body)
}

fn written_len(value: &Value) -> Option<usize> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).ok()?;
    Some(count.0)
}
