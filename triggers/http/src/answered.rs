//! What came back.

use std::sync::OnceLock;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reveille_trigger::Error;
use serde_json::Value;

/// An answer, with as much of its body as its [`Call`](crate::Call) takes.
#[derive(Debug)]
pub struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Body,
    /// Whether the first server that was asked gave it, and no redirect led to it.
    direct: bool,
    json: OnceLock<Value>,
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// It has more than this many bytes. What of it was read is dropped, and its connection with it.
    TooLong(usize),
}

impl Answered {
    pub(crate) fn new(status: u16, headers: HeaderMap, body: Body, direct: bool) -> Self {
        Self { status, headers, body, direct, json: OnceLock::new() }
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) const fn body(&self) -> &Body {
        &self.body
    }

    pub(crate) const fn is_direct(&self) -> bool {
        self.direct
    }

    /// How many bytes of the body there are to look into.
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Whole(bytes) => bytes.len(),
            Body::TooLong(_) => 0,
        }
    }

    /// Whether there is nothing of a body to look into.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The body as JSON, parsed once.
    ///
    /// # Errors
    /// That may be tried again: it is no JSON, or too long. Nothing of it is in the message.
    pub fn json(&self) -> Result<&Value, Error> {
        if let Some(json) = self.json.get() {
            return Ok(json);
        }
        let bytes = match &self.body {
            Body::Whole(bytes) => bytes,
            Body::TooLong(limit) => {
                return Err(Error::again(format!(
                    "the answer {} has a body of more than {limit} bytes: raise `max_body`, or ask for less",
                    self.status
                )));
            }
        };
        let json = serde_json::from_slice(bytes).map_err(|error| {
            Error::again(format!(
                "the answer {} has a body that is no JSON ({}, {} bytes, line {} column {})",
                self.status,
                self.content_type().unwrap_or("of no type"),
                bytes.len(),
                error.line(),
                error.column(),
            ))
        })?;
        Ok(self.json.get_or_init(|| json))
    }

    /// Whether something has asked for its body as JSON, and got it.
    pub(crate) fn is_parsed(&self) -> bool {
        self.json.get().is_some()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// Whether it says of itself that its body is JSON: `application/json`, `application/problem+json` and such.
    pub(crate) fn says_json(&self) -> bool {
        let essence = self.content_type().and_then(|it| it.split(';').next()).unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
    }
}
