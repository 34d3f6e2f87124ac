//! Fires when a URL answers as it should.

use std::{collections::BTreeMap, time::Duration};

use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Answered, Call, Condition, Conditions, Mark, Method, Path, Response, StatusRange, Test};

/// How much longer than the request a check may take: room for parsing, and for our own time-out to be the one that is
/// reported, since it says what was asked.
const ROOM: Duration = Duration::from_secs(5);

/// Polls a URL until a condition on the status, a header or a field of the JSON body holds. The payload is
/// [`Response`].
///
/// # Spec
/// ```json
/// {"http": {
///   "url": "https://api.example.com/jobs/7",
///   "until": {"json": {"path": "$.state", "equals": "done"}},
///   "fail": {"json": {"path": "$.state", "one_of": ["failed", "cancelled"]}},
///   "every": "10s"
/// }}
/// ```
///
/// - `url`: absolute; or, with a connection, relative, and then appended to the connection's.
/// - `method`: `"GET"` unless given.
/// - `headers`: by name. `authorization` and `cookie` are refused: secrets belong to a connection.
/// - `body`: a text is sent as it is, anything else as JSON.
/// - `connection`: the name of one in `reveille.toml`, with its credentials.
/// - `until`: a [condition](Condition), or a list of which one must hold: a status of 2xx unless given.
/// - `fail`: the same, for what means that it has failed for good. It is looked at before `until`.
/// - `not_yet`: the same, for answers that the table below has as something worse.
/// - `every`: how far apart the looks are; `"5s"` unless given.
/// - `time_out`: how long a look may take, redirects and body included; `"30s"` unless given, 10 minutes at most. For a
///   server that holds a request until something happens (long polling), longer than it holds.
/// - `redirects`: how many are followed; 10 unless given. With 0, an answer that redirects is one like any other.
/// - `max_body`: how many bytes of a body are read; 1 MiB unless given, 16 MiB at most.
///
/// # What an answer means
/// | what comes | what it means |
/// |---|---|
/// | an answer for which `fail` holds | failed for good |
/// | one for which `until` holds | it fires |
/// | one for which `not_yet` holds | not yet |
/// | 1xx, 2xx, 3xx that is not followed | not yet |
/// | 404, 409, 425 | not yet: it may still come |
/// | 400, 405, 406, 410, 411, 413, 414, 415, 417, 422, 426, 428, 431, 451, 501, 505 | failed for good: the same request is never answered otherwise |
/// | 401, 403, 407, 408, 421, 429, any other 4xx, any other 5xx | an error: somebody, or time, can mend it |
/// | `Retry-After`, in seconds or as a date | with a status above that is an error, or not yet: no further look before, up to an hour |
/// | no answer in time, or none in full: a server that hangs, or sends a byte a second | an error |
/// | no address, refused, closed early, chunks that are none | an error |
/// | a certificate that is not trusted, for another host, or out of date | an error |
/// | a body that is not JSON, where a condition is about JSON | an error |
/// | a body of more than `max_body`, endless or not | an error where a condition is about JSON; else the answer counts, and `body` is left out. What is left of it is not read: the connection is dropped |
/// | more than `redirects`; from https to http; to what is no URL of HTTP; with a body, to another server | an error |
/// | a connection that is not configured on this replica | an error |
/// | a `url` that is of another server than its connection | failed for good |
///
/// After an error the runtime looks again, later and later, until the deadline.
///
/// # Secrets
/// What a connection has is sent to the scheme, host and port of its `url` alone, and once a redirect has left those,
/// not again. The same holds for the `headers` of a spec, but for `accept` and `accept-language`. Certificates are
/// verified. Proxies are taken from `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
///
/// # What is remembered
/// If a `GET` is answered with an `ETag` and that was not it, the next look on this replica asks for something else
/// (`If-None-Match`), and 304 is not yet: unless a condition is about a header or 304, or a redirect was followed.
///
/// Equal specs with `GET` or `HEAD` are looked at once for all tasks that wait for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    until: Conditions,
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    fail: Conditions,
    #[serde(default, skip_serializing_if = "Conditions::is_empty")]
    not_yet: Conditions,
    #[serde(default)]
    every: Spacing,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
    #[serde(default = "default_redirects")]
    redirects: u8,
    #[serde(default = "default_max_body")]
    max_body: usize,
}

impl Http {
    /// Polls with a method.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method,
            headers: BTreeMap::new(),
            body: None,
            connection: None,
            until: Conditions::default(),
            fail: Conditions::default(),
            not_yet: Conditions::default(),
            every: Spacing::default(),
            time_out: default_time_out(),
            redirects: default_redirects(),
            max_body: default_max_body(),
        }
    }

    /// Polls with `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// Polls with `HEAD`: for status and headers alone.
    pub fn head(url: impl Into<String>) -> Self {
        Self::new(Method::Head, url)
    }

    /// Polls with `POST`. A look may be made more than once: what it sends must change nothing.
    pub fn post(url: impl Into<String>, body: impl Into<Value>) -> Self {
        Self { body: Some(body.into()), ..Self::new(Method::Post, url) }
    }

    /// Sends a header. Not for secrets: those belong to a [connection](Self::connection).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Asks a configured server, with its credentials.
    #[must_use]
    pub fn connection(self, name: impl Into<String>) -> Self {
        Self { connection: Some(name.into()), ..self }
    }

    /// Fires when this holds: a status, a range of them, or any [condition](Condition). Called again, it adds another
    /// one that will do.
    #[must_use]
    pub fn until(mut self, condition: impl Into<Condition>) -> Self {
        self.until.push(condition.into());
        self
    }

    /// Fires when what the path selects in the JSON body is as it should be: equal to a value, or what a [`Test`] says.
    #[must_use]
    pub fn until_json(self, path: impl Into<Path>, test: impl Into<Test>) -> Self {
        self.until(Condition::json(path, test))
    }

    /// Ends the wait badly when this holds.
    #[must_use]
    pub fn fail(mut self, condition: impl Into<Condition>) -> Self {
        self.fail.push(condition.into());
        self
    }

    /// Ends the wait badly when this holds for what the path selects in the JSON body.
    #[must_use]
    pub fn fail_json(self, path: impl Into<Path>, test: impl Into<Test>) -> Self {
        self.fail(Condition::json(path, test))
    }

    /// Goes on waiting when this holds, where the answer would be an error or fail for good.
    #[must_use]
    pub fn not_yet(mut self, condition: impl Into<Condition>) -> Self {
        self.not_yet.push(condition.into());
        self
    }

    /// Sets how far apart the looks are.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        self.spaced(Spacing::every(every))
    }

    /// Sets how far apart the looks are, possibly further and further.
    #[must_use]
    pub fn spaced(self, every: Spacing) -> Self {
        Self { every, ..self }
    }

    /// Sets how long a look may take.
    #[must_use]
    pub fn time_out(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }

    /// Sets how many redirects are followed.
    #[must_use]
    pub fn redirects(self, redirects: u8) -> Self {
        Self { redirects, ..self }
    }

    /// Sets how many bytes of a body are read.
    #[must_use]
    pub fn max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    fn call(&self) -> Call<'_> {
        Call {
            url: &self.url,
            method: self.method,
            headers: &self.headers,
            body: self.body.as_ref(),
            connection: self.connection.as_deref(),
            time_out: self.time_out,
            redirects: self.redirects,
            max_body: self.max_body,
        }
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        [&self.until, &self.fail, &self.not_yet].into_iter().flat_map(Conditions::iter)
    }

    /// Whether an answer with the same `ETag` means the same.
    fn goes_by_etag(&self) -> bool {
        self.method == Method::Get
            && !self.headers.keys().any(|name| name.eq_ignore_ascii_case("if-none-match"))
            && !self.conditions().any(|it| it.is_about_header() || it.holds_for_status(304))
    }

    fn verdict(&self, answered: &Answered) -> Result<Verdict, Error> {
        let status = answered.status();
        for condition in self.fail.iter() {
            if condition.holds(answered)? {
                let condition = serde_json::to_string(condition)?;
                return Ok(Verdict::Failed(format!("the answer {status} is one for which `fail` holds: {condition}")));
            }
        }
        let is_done =
            if self.until.is_empty() { StatusRange::SUCCESS.contains(status) } else { self.until.hold(answered)? };
        if is_done {
            return Ok(Verdict::Done(answered.to_response()));
        }
        if !self.not_yet.hold(answered)? {
            answered.require_no_worse_than_not_yet().map_err(|error| {
                if error.is_fatal() {
                    Error::fatal(format!("{error}; where it may, add it to `not_yet`"))
                } else {
                    error
                }
            })?;
        }
        Ok(Verdict::NotYet)
    }
}

#[typetag::serde(name = "http")]
#[async_trait]
impl Trigger for Http {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let Some(answered) = self.call().look(cx).await? else { return Ok(Answer::NotYet) };
        let now = cx.now();
        cx.say(format!("the answer was {}", answered.status()));
        let mark = Mark::of(&answered, self.goes_by_etag(), now);
        let trigger = self.clone();
        match answered.weigh(now, move |answered| trigger.verdict(answered)).await? {
            Verdict::Done(response) => Ok(Answer::Fire(Event::resume(response)?)),
            Verdict::Failed(reason) => Ok(Answer::Fire(Event::fail(reason))),
            Verdict::NotYet => {
                mark.leave(cx);
                Ok(Answer::NotYet)
            }
        }
    }

    fn validate(&self) -> Result<(), Error> {
        self.call().validate()?;
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the looks are, such as \"5s\""));
        }
        self.until.validate("until")?;
        self.fail.validate("fail")?;
        self.not_yet.validate("not_yet")?;
        if self.method == Method::Head && self.conditions().any(Condition::is_about_body) {
            return Err(Error::fatal("`method` HEAD has no body that a `json` could be about: write \"GET\""));
        }
        Ok(())
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    fn destination(&self) -> Option<String> {
        self.call().destination()
    }

    fn time_out(&self) -> Option<Duration> {
        Some(self.time_out + ROOM)
    }

    /// Where a request changes nothing by its method, each look is the same for everybody who waits for this.
    fn share(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head)
    }
}

enum Verdict {
    Done(Response),
    NotYet,
    Failed(String),
}

const fn default_time_out() -> Duration {
    Duration::from_secs(30)
}

const fn default_redirects() -> u8 {
    10
}

const fn default_max_body() -> usize {
    1024 * 1024
}
