//! A clock, a configuration, and one trigger's memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use reveille_http::{Http, Response};
use reveille_trigger::{Answer, Config, Context, Error, Memory, Outcome, Timestamp, Trigger};
use serde_json::Value;

/// What a check came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    NotYet,
    Fired(Response),
    Failed(String),
}

#[derive(Default)]
pub(crate) struct Stage {
    now_ms: Arc<AtomicI64>,
    config: Config,
    memory: Option<Memory>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_connection(name: &str, table: Value) -> Self {
        Self { config: Config::new([(name.to_owned(), table)].into(), BTreeMap::new()), ..Self::default() }
    }

    pub(crate) fn turn_clock(&self, by: Duration) {
        self.now_ms.fetch_add(i64::try_from(by.as_millis()).expect("a short time"), Ordering::Relaxed);
    }

    pub(crate) async fn check(&mut self, http: &Http) -> Seen {
        self.try_check(http).await.expect("an answer")
    }

    /// What the task resumes with.
    pub(crate) async fn fired(&mut self, http: &Http) -> Response {
        match self.check(http).await {
            Seen::Fired(response) => response,
            other => panic!("it has not fired: {other:?}"),
        }
    }

    /// The message of an error that may be tried again.
    pub(crate) async fn error(&mut self, http: &Http) -> String {
        let error = self.try_check(http).await.expect_err("an error");
        assert!(!error.is_fatal(), "{error}");
        error.to_string()
    }

    /// What a check is given that none went before.
    pub(crate) fn context(&self) -> Context {
        self.context_with(Memory::default())
    }

    fn context_with(&self, memory: Memory) -> Context {
        let now_ms = Arc::clone(&self.now_ms);
        let now = move || Timestamp::from_millisecond(now_ms.load(Ordering::Relaxed)).expect("a time");
        Context::new(now, Timestamp::UNIX_EPOCH, memory).with_config(self.config.clone())
    }

    pub(crate) async fn try_check(&mut self, http: &Http) -> Result<Seen, Error> {
        http.validate().expect("a spec that can work");
        let memory = self.memory.take().unwrap_or_default();
        let cx = self.context_with(memory);
        let answer = http.check(&cx).await;
        self.memory = Some(cx.into_memory());
        Ok(match answer? {
            Answer::NotYet => Seen::NotYet,
            Answer::Fire(event) => match event.outcome {
                Outcome::Resume(payload) => Seen::Fired(serde_json::from_value(payload).expect("a response")),
                Outcome::Fail(reason) => Seen::Failed(reason),
                other => panic!("it resumes a task or fails: {other:?}"),
            },
        })
    }
}
