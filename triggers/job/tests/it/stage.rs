//! A configuration with one connection, and one trigger's memory.

use std::collections::BTreeMap;

use reveille_job::{Ended, Job};
use reveille_trigger::{Answer, Config, Context, Error, Memory, Outcome, Timestamp, Trigger};
use serde_json::{Value, json};

/// What a check came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Seen {
    NotYet,
    Done(Ended),
    Failed(String),
}

pub(crate) struct Stage {
    config: Config,
    memory: Option<Memory>,
}

impl Stage {
    /// With the connection `"api"`.
    pub(crate) fn new(url: &str) -> Self {
        let table = json!({"url": url, "bearer": "t0ken"});
        Self { config: Config::new([("api".to_owned(), table)].into(), BTreeMap::new()), memory: None }
    }

    fn context(&mut self) -> Context {
        let memory = self.memory.take().unwrap_or_default();
        Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, memory).with_config(self.config.clone())
    }

    pub(crate) async fn check(&mut self, job: &Job) -> Seen {
        self.try_check(job).await.expect("an answer")
    }

    pub(crate) async fn try_check(&mut self, job: &Job) -> Result<Seen, Error> {
        job.validate().expect("a spec that can work");
        let cx = self.context();
        let answer = job.check(&cx).await;
        self.memory = Some(cx.into_memory());
        Ok(match answer? {
            Answer::NotYet => Seen::NotYet,
            Answer::Fire(event) => match event.outcome {
                Outcome::Resume(payload) => Seen::Done(serde_json::from_value(payload).expect("an end")),
                Outcome::Fail(reason) => Seen::Failed(reason),
                other => panic!("it resumes a task or fails: {other:?}"),
            },
        })
    }

    /// Cancels, as any replica may: with nothing remembered.
    pub(crate) async fn cancel(&mut self, job: &Job) -> Result<(), Error> {
        self.memory = None;
        job.on_cancel(&self.context()).await
    }
}

/// The state that a job ended in.
pub(crate) fn state_of(seen: &Seen) -> &Value {
    match seen {
        Seen::Done(ended) => &ended.state,
        other => panic!("it has not done what it was for: {other:?}"),
    }
}
