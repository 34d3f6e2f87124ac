//! How a job is asked for, what its states mean, and how it is cancelled.

use std::collections::BTreeMap;

use reveille_http::{Method, Path, Test};
use reveille_trigger::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fill::places;

/// An API that has jobs. Where its texts have `{name}`, a parameter of the trigger is put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) params: BTreeMap<String, Param>,
    pub(crate) states: Vec<States>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<Path>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancel: Option<Cancel>,
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Param {
    /// A whole number.
    Integer,
    /// A text.
    Text,
}

/// What the values that a path selects mean. A value in none of the lists leaves it to the next path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct States {
    path: Path,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    done: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    not_yet: Vec<Value>,
}

/// How a job is cancelled: with `POST` unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    #[serde(default = "post", skip_serializing_if = "is_post")]
    pub(crate) method: Method,
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Value>,
}

/// What has become of a job, with the value that says so.
#[derive(Debug, PartialEq)]
pub(crate) enum State {
    Done(Value),
    Failed(Value),
    NotYet,
}

impl States {
    /// Goes by what a path selects.
    pub fn at(path: impl Into<Path>) -> Self {
        Self { path: path.into(), done: Vec::new(), failed: Vec::new(), not_yet: Vec::new() }
    }

    /// The job has done what it was for.
    #[must_use]
    pub fn done<T: Into<Value>>(self, values: impl IntoIterator<Item = T>) -> Self {
        Self { done: values.into_iter().map(Into::into).collect(), ..self }
    }

    /// The job has failed for good, or was cancelled.
    #[must_use]
    pub fn failed<T: Into<Value>>(self, values: impl IntoIterator<Item = T>) -> Self {
        Self { failed: values.into_iter().map(Into::into).collect(), ..self }
    }

    /// The job goes on.
    #[must_use]
    pub fn not_yet<T: Into<Value>>(self, values: impl IntoIterator<Item = T>) -> Self {
        Self { not_yet: values.into_iter().map(Into::into).collect(), ..self }
    }
}

impl Api {
    /// Asks for a job at a URL.
    pub fn poll(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            headers: BTreeMap::new(),
            params: BTreeMap::new(),
            states: Vec::new(),
            message: None,
            cancel: None,
        }
    }

    /// Says what the values at a path mean. Called again, it says what decides if these do not.
    #[must_use]
    pub fn states(mut self, states: States) -> Self {
        self.states.push(states);
        self
    }

    /// Sends a header. Not for secrets: those belong to a connection.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Takes the reason of a failure from the body.
    #[must_use]
    pub fn message(self, path: impl Into<Path>) -> Self {
        Self { message: Some(path.into()), ..self }
    }

    /// Cancels with `POST`, and no body.
    #[must_use]
    pub fn cancel(self, url: impl Into<String>) -> Self {
        self.cancel_by(Method::Post, url, None)
    }

    /// Cancels with a method and a body.
    #[must_use]
    pub fn cancel_by(self, method: Method, url: impl Into<String>, body: Option<Value>) -> Self {
        Self { cancel: Some(Cancel { method, url: url.into(), body }), ..self }
    }

    /// What has become of a job.
    ///
    /// # Errors
    /// That may be tried again: it is in a state that nothing is known of.
    pub(crate) fn state(&self, body: &Value) -> Result<State, Error> {
        let mut seen = Vec::new();
        for states in &self.states {
            let selected = states.path.select(body)?;
            for (values, become_state) in [
                (&states.done, State::Done as fn(Value) -> State),
                (&states.failed, State::Failed),
                (&states.not_yet, |_| State::NotYet),
            ] {
                let one_of = Test::OneOf(values.clone());
                if let Some(value) = selected.iter().find(|value| one_of.holds_for(&[value])) {
                    return Ok(become_state((*value).clone()));
                }
            }
            let value = selected.first().map_or_else(|| "nothing".to_owned(), |value| shortened(&value.to_string()));
            seen.push(format!("{value} at {}", states.path));
        }
        Err(Error::again(format!("the job is in no state that is known: {}", seen.join(", "))))
    }

    /// Why a job failed, as far as its API says.
    pub(crate) fn reason(&self, body: &Value) -> Option<String> {
        let selected = self.message.as_ref()?.select(body).ok()?;
        selected.first()?.as_str().filter(|text| !text.is_empty()).map(shortened)
    }

    /// Refuses what can never work.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !self.states.iter().any(|states| !states.done.is_empty()) {
            return Err(Error::fatal("`states` has no `done`: write in which of them a job has done what it was for"));
        }
        for States { path, done, failed, not_yet } in &self.states {
            path.validate()?;
            if done.is_empty() && failed.is_empty() && not_yet.is_empty() {
                return Err(Error::fatal(format!("`states` has {path} with no `done`, `failed` or `not_yet`")));
            }
        }
        if let Some(message) = &self.message {
            message.validate()?;
        }
        let known = |name: &&str| self.params.is_empty() || self.params.contains_key(*name);
        let urls = [Some(&self.url), self.cancel.as_ref().map(|cancel| &cancel.url)];
        if let Some(name) = urls.into_iter().flatten().flat_map(|url| places(url)).find(|name| !known(name)) {
            return Err(Error::fatal(format!("`params` of the API has no {name:?}, which a `url` of it needs")));
        }
        Ok(())
    }
}

/// At most 500 characters: what a log or a table can bear.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(500) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const fn post() -> Method {
    Method::Post
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_post(method: &Method) -> bool {
    *method == Method::Post
}
