//! What came back.

use std::{sync::OnceLock, time::Duration};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reveille_trigger::{Error, Timestamp};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{Response, StatusRange, retry_after::retry_after};

/// The largest body that is looked into where it arrives. A larger one may take milliseconds, and goes to a thread.
const SMALL_BODY: usize = 16 * 1024;

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

    /// When the server wants to be asked again, if it says so: up to an hour.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(&self.headers, now)
    }

    /// What a task resumes with.
    pub fn to_response(&self) -> Response {
        Response::new(self)
    }

    /// Looks into it, on a thread of its own if its body is large, so that no other check has to wait. An error that may
    /// be tried again is put off for as long as the server says.
    ///
    /// # Errors
    /// Those of the look.
    pub async fn weigh<T: Send + 'static>(
        self,
        now: Timestamp,
        look: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let delay = self.retry_after(now);
        let weighed = match &self.body {
            Body::Whole(bytes) if bytes.len() > SMALL_BODY => spawn_blocking(move || look(&self)).await?,
            Body::Whole(_) | Body::TooLong(_) => look(&self),
        };
        weighed.map_err(|error| match delay {
            Some(delay) if !error.is_fatal() => error.after(delay),
            _ => error,
        })
    }

    /// Refuses every answer that is none of success.
    ///
    /// # Errors
    /// Fatal if the same request will get no other; else it may be tried again.
    pub fn require_success(&self) -> Result<(), Error> {
        if StatusRange::SUCCESS.contains(self.status) {
            return Ok(());
        }
        self.require_no_worse_than_not_yet()?;
        Err(Error::again(format!("the answer is {}", self.status)))
    }

    /// Refuses an answer by a status that says more than that it is too early.
    pub(crate) fn require_no_worse_than_not_yet(&self) -> Result<(), Error> {
        let status = self.status;
        match status {
            ..400 | 404 | 409 | 425 => Ok(()),
            400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 417 | 422 | 426 | 428 | 431 | 451 | 501 | 505 => {
                Err(Error::fatal(format!("the answer is {status}, and the same request will get no other")))
            }
            401 | 403 => Err(Error::again(format!(
                "the answer is {status}: the credentials are missing, wrong or not enough; a `connection` holds them"
            ))),
            _ => Err(Error::again(format!("the answer is {status}"))),
        }
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
