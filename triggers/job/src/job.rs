//! Fires when a job on another system has ended.

use std::{collections::BTreeMap, time::Duration};

use reveille_http::{Answered, Call, Mark, Method};
use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::{
    Api, Param,
    api::{State, shortened},
    fill::{self, Params},
    known::{known, names},
};

/// How much longer than the request a check may take: our own time-out says what was asked.
const ROOM: Duration = Duration::from_secs(5);
/// How many bytes of an answer are read. A job that says more of itself is asked about elsewhere.
const MAX_BODY: usize = 4 * 1024 * 1024;
const REDIRECTS: u8 = 10;

/// Polls the state of a job on another system until it has ended, and cancels the job when its task is cancelled. The
/// payload is [`Ended`]; a job that has failed ends the wait badly, with its state and what its API says of it.
///
/// # Spec
/// ```json
/// {"job": {"api": "databricks", "connection": "workspace", "params": {"run_id": 455644833}}}
/// ```
/// ```json
/// {"job": {
///   "api": {
///     "url": "/exports/{id}",
///     "states": [{"path": "$.state", "done": ["done"], "failed": ["failed"], "not_yet": ["queued", "running"]}],
///     "message": "$.error",
///     "cancel": {"method": "POST", "url": "/exports/{id}/cancel"}
///   },
///   "connection": "warehouse",
///   "params": {"id": 7},
///   "every": "10s"
/// }}
/// ```
///
/// - `api`: the name of one that is ready-made (`airbyte`, `databricks`, `dbt_cloud`, `github_actions`, `livy`), or how
///   a job is asked for: a [`url`](Api); `headers`; its `states`; the path of a `message` that says why it failed; and
///   how to `cancel` it.
/// - `params`: texts and integers, which take the places of `{name}` in URLs, escaped, and in the body of `cancel`.
/// - `connection`: the name of one in `reveille.toml`, with its base URL and credentials.
/// - `every`: how far apart the looks are; `"10s"` unless given.
/// - `time_out`: how long a look, or the cancelling, may take; `"30s"` unless given.
/// - `leave_running`: if true, the job goes on when its task is cancelled.
///
/// # What an answer means
/// | what comes | what it means |
/// |---|---|
/// | 2xx, in a state of `done` | it fires |
/// | 2xx, in a state of `failed` | failed for good |
/// | 2xx, in a state of `not_yet` | not yet |
/// | 2xx, in another state, or no JSON, or more than 4 MiB | an error |
/// | 404 | an error: the job is gone, or is not known yet |
/// | all else | as for [`Http`](reveille_http::Http#what-an-answer-means) |
///
/// # Cancelling
/// | what comes | what it means |
/// |---|---|
/// | 2xx | it is cancelled, or is about to be |
/// | 401, 403, 408, 421, 425, 429, 5xx, no answer | an error: it is tried again |
/// | another 4xx | the job is looked at: if it has ended, or there is none, all is well. If not, 409 is tried again, and any other is given up and reported |
///
/// Two tasks that wait for one job are looked at together, and the first that is cancelled cancels it for both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    api: Which,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    params: Params,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(default = "default_every")]
    every: Spacing,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    leave_running: bool,
}

/// What a task resumes with: a job that has done what it was for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The state it ended in, as its API spells it.
    pub state: Value,
    /// What the API says of the job. Null if it was left out.
    pub job: Value,
    /// Why it was left out, if it was: it has more than 512 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

/// A ready-made API by its name, or one of the spec's own.
#[derive(Clone, Debug, PartialEq)]
enum Which {
    Known(String),
    Own(Box<Api>),
}

impl Job {
    fn new(api: Which) -> Self {
        Self {
            api,
            params: Params::new(),
            connection: None,
            every: default_every(),
            time_out: default_time_out(),
            leave_running: false,
        }
    }

    /// A job of an API of one's own.
    pub fn on(api: Api) -> Self {
        Self::new(Which::Own(Box::new(api)))
    }

    /// A job of an API that is ready-made.
    pub fn of(name: impl Into<String>) -> Self {
        Self::new(Which::Known(name.into()))
    }

    /// A run of a job of Databricks, below `https://WORKSPACE.cloud.databricks.com`.
    pub fn databricks(connection: impl Into<String>, run_id: u64) -> Self {
        Self::of("databricks").connection(connection).param("run_id", run_id)
    }

    /// A run of a job of dbt Cloud, below `https://cloud.getdbt.com` or the account's own host.
    pub fn dbt_cloud(connection: impl Into<String>, account_id: u64, run_id: u64) -> Self {
        Self::of("dbt_cloud").connection(connection).param("account_id", account_id).param("run_id", run_id)
    }

    /// A job of Airbyte, below `https://api.airbyte.com/v1`, or `/api/public/v1` of one's own server.
    pub fn airbyte(connection: impl Into<String>, job_id: u64) -> Self {
        Self::of("airbyte").connection(connection).param("job_id", job_id)
    }

    /// A batch of Apache Livy, below `http://HOST:8998`.
    pub fn livy(connection: impl Into<String>, batch_id: u64) -> Self {
        Self::of("livy").connection(connection).param("batch_id", batch_id)
    }

    /// A run of a workflow of GitHub Actions, below `https://api.github.com`.
    pub fn github_actions(connection: impl Into<String>, owner: &str, repo: &str, run_id: u64) -> Self {
        Self::of("github_actions")
            .connection(connection)
            .param("owner", owner)
            .param("repo", repo)
            .param("run_id", run_id)
    }

    /// Puts a value in the places of `{name}`.
    #[must_use]
    pub fn param(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.params.insert(name.into(), value.into());
        self
    }

    /// Asks a configured server, with its credentials.
    #[must_use]
    pub fn connection(self, name: impl Into<String>) -> Self {
        Self { connection: Some(name.into()), ..self }
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

    /// Sets how long a look, or the cancelling, may take.
    #[must_use]
    pub fn time_out(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }

    /// Lets the job go on when its task is cancelled.
    #[must_use]
    pub fn leave_running(self) -> Self {
        Self { leave_running: true, ..self }
    }

    fn api(&self) -> Result<&Api, Error> {
        match &self.api {
            Which::Own(api) => Ok(api),
            Which::Known(name) => known(name).ok_or_else(|| {
                Error::fatal(format!(
                    "`api` {name:?} is not ready-made ({} are): write one of these, or its own",
                    names()
                ))
            }),
        }
    }

    fn call<'a>(&'a self, api: &'a Api, method: Method, url: &'a str, body: Option<&'a Value>) -> Call<'a> {
        Call {
            url,
            method,
            headers: &api.headers,
            body,
            connection: self.connection.as_deref(),
            time_out: self.time_out,
            redirects: REDIRECTS,
            max_body: MAX_BODY,
        }
    }

    fn verdict(&self, answered: &Answered) -> Result<Verdict, Error> {
        answered.require_success()?;
        let (api, body) = (self.api()?, answered.json()?);
        Ok(match api.state(body)? {
            State::NotYet => Verdict::NotYet,
            State::Done(state) => {
                let response = answered.to_response();
                Verdict::Done(Ended { state, job: response.body, left_out: response.left_out })
            }
            State::Failed(state) => {
                let state = shortened(&state.to_string());
                let reason = api.reason(body).map(|reason| format!(": {reason}")).unwrap_or_default();
                Verdict::Failed(format!("the job ended as {state}{reason}"))
            }
        })
    }

    /// Whether there is nothing left to cancel.
    async fn is_over(&self, cx: &Context, api: &Api) -> Result<bool, Error> {
        let url = fill::url(&api.url, &self.params)?;
        let answered = self.call(api, Method::Get, &url, None).send(cx, None).await?;
        if matches!(answered.status(), 404 | 410) {
            return Ok(true);
        }
        let trigger = self.clone();
        let verdict = answered.weigh(cx.now(), move |answered| trigger.verdict(answered)).await?;
        Ok(!matches!(verdict, Verdict::NotYet))
    }

    fn validate_params(&self, api: &Api) -> Result<(), Error> {
        for (name, value) in &self.params {
            let refuse = |what: &str| Err(Error::fatal(format!("`params` has {name:?}, which {what}")));
            match api.params.get(name) {
                Some(Param::Integer) if !is_integer(value) => return refuse("must be an integer, with no quotes"),
                None if !api.params.is_empty() => return refuse("is none that the API takes"),
                _ => {}
            }
            match value.as_str() {
                // Nothing escapes a dot: such a segment would lead to another path.
                Some("" | "." | "..") => return refuse("can be no part of a path: write its name or number"),
                None if !is_integer(value) => return refuse("must be a text or an integer"),
                _ => {}
            }
        }
        Ok(())
    }
}

#[typetag::serde(name = "job")]
#[async_trait]
impl Trigger for Job {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let api = self.api()?;
        let url = fill::url(&api.url, &self.params)?;
        let Some(answered) = self.call(api, Method::Get, &url, None).look(cx).await? else {
            return Ok(Answer::NotYet);
        };
        let now = cx.now();
        let (mark, trigger) = (Mark::of(&answered, true, now), self.clone());
        match answered.weigh(now, move |answered| trigger.verdict(answered)).await? {
            Verdict::Done(ended) => Ok(Answer::Fire(Event::resume(ended)?)),
            Verdict::Failed(reason) => Ok(Answer::Fire(Event::fail(reason))),
            Verdict::NotYet => {
                cx.say("the job has not ended");
                mark.leave(cx);
                Ok(Answer::NotYet)
            }
        }
    }

    fn validate(&self) -> Result<(), Error> {
        let api = self.api()?;
        api.validate().map_err(|why| Error::fatal(format!("`api`: {why}")))?;
        self.validate_params(api)?;
        self.call(api, Method::Get, &fill::url(&api.url, &self.params)?, None).validate()?;
        if let Some(cancel) = &api.cancel {
            let body = cancel.body.as_ref().map(|body| fill::body(body, &self.params)).transpose()?;
            let url = fill::url(&cancel.url, &self.params)?;
            let call = self.call(api, cancel.method, &url, body.as_ref());
            call.validate().map_err(|why| Error::fatal(format!("`cancel`: {why}")))?;
        }
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the looks are, such as \"10s\""));
        }
        Ok(())
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    fn destination(&self) -> Option<String> {
        let api = self.api().ok()?;
        self.call(api, Method::Get, &fill::url(&api.url, &self.params).ok()?, None).destination()
    }

    fn time_out(&self) -> Option<Duration> {
        Some(self.time_out + ROOM)
    }

    /// Each look is the same for everybody who waits for this.
    fn share(&self) -> bool {
        true
    }

    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        let api = self.api()?;
        let Some(cancel) = api.cancel.as_ref().filter(|_| !self.leave_running) else { return Ok(()) };
        let body = cancel.body.as_ref().map(|body| fill::body(body, &self.params)).transpose()?;
        let url = fill::url(&cancel.url, &self.params)?;
        let answered = self.call(api, cancel.method, &url, body.as_ref()).send(cx, None).await?;
        let status = answered.status();
        match status {
            200..=299 => Ok(()),
            ..=199 | 300..=399 | 401 | 403 | 408 | 421 | 425 | 429 | 500.. => {
                let error = Error::again(format!("the job is not cancelled: the answer is {status}"));
                Err(match answered.retry_after(cx.now()) {
                    Some(delay) => error.after(delay),
                    None => error,
                })
            }
            // A job that has ended cannot be cancelled, and each API has its own way to say so.
            _ if self.is_over(cx, api).await? => Ok(()),
            409 => Err(Error::again("the job is not cancelled: the answer is 409, and it has not ended")),
            _ => Err(Error::fatal(format!("the job is not cancelled: the answer is {status}, and it has not ended"))),
        }
    }
}

enum Verdict {
    Done(Ended),
    Failed(String),
    NotYet,
}

impl Serialize for Which {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(name) => serializer.serialize_str(name),
            Self::Own(api) => api.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Which {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(name) => Ok(Self::Known(name)),
            own => Api::deserialize(own).map(|api| Self::Own(Box::new(api))).map_err(de::Error::custom),
        }
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

const fn default_every() -> Spacing {
    Spacing::every(Duration::from_secs(10))
}

const fn default_time_out() -> Duration {
    Duration::from_secs(30)
}
