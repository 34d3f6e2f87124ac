//! That what authors check of their triggers finds what is wrong with one.

use std::{
    fs,
    sync::{Arc, mpsc},
    time::Duration,
};

use reveille_trigger::{
    Answer, Context, Error, Event, Memory, Timestamp, Trigger, async_trait,
    checks::{golden_specs, may_be_dropped, never_blocks, refuses_unknown_fields, round_trips},
    typetag,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;

fn context() -> Context {
    Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default())
}

/// Nothing is wrong with it. It waits twice.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Good {
    say: String,
}

#[typetag::serde(name = "good")]
#[async_trait]
impl Trigger for Good {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        tokio::task::yield_now().await;
        tokio::task::spawn_blocking(wait).await?;
        Ok(Answer::Fire(Event::resume(&self.say)?))
    }

    fn validate(&self) -> Result<(), Error> {
        if self.say.is_empty() { Err(Error::fatal("`say` is empty")) } else { Ok(()) }
    }
}

/// Holds up a thread for longer than a check may.
fn wait() {
    let (_sender, receiver) = mpsc::channel::<()>();
    assert!(receiver.recv_timeout(Duration::from_millis(500)).is_err());
}

/// Takes fields that it has not, and is not written as it was.
#[derive(Debug, Serialize, Deserialize)]
struct Careless {
    #[serde(default, rename(serialize = "spoken"))]
    said: u8,
}

#[typetag::serde(name = "careless")]
#[async_trait]
impl Trigger for Careless {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        wait();
        Ok(Answer::NotYet)
    }
}

/// Leaves behind what it has taken, when it is dropped.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Greedy {
    waits: bool,
    #[serde(skip)]
    taken: Arc<Mutex<bool>>,
}

#[typetag::serde(name = "greedy")]
#[async_trait]
impl Trigger for Greedy {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        if std::mem::replace(&mut *self.taken.lock().await, true) {
            if self.waits {
                std::future::pending::<()>().await;
            }
            return Err(Error::again("it is taken"));
        }
        tokio::task::yield_now().await;
        *self.taken.lock().await = false;
        Ok(Answer::NotYet)
    }
}

#[test]
fn a_good_trigger_has_nothing_to_fear() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = json!({"good": {"say": "hello"}});
    fs::write(folder.path().join("good.json"), spec.to_string()).expect("a golden spec");
    assert_eq!(golden_specs(folder.path()), ["good"]);
    round_trips(&Good { say: "hello".to_owned() });
    refuses_unknown_fields(&spec);
}

#[tokio::test]
async fn a_good_check_has_nothing_to_fear() {
    let good = Good { say: "hello".to_owned() };
    assert_eq!(may_be_dropped(&good, context).await, 2);
    assert!(matches!(never_blocks(&good, context).await, Ok(Answer::Fire(_))));
}

fn golden(spec: &Value) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("golden.json"), spec.to_string()).expect("a golden spec");
    golden_specs(folder.path());
}

#[test]
#[should_panic(expected = "golden.json: `say` is empty")]
fn a_golden_spec_that_can_never_work_is_found() {
    golden(&json!({"good": {"say": ""}}));
}

#[test]
#[should_panic(expected = "golden.json")]
fn a_golden_spec_that_is_written_otherwise_is_found() {
    golden(&json!({"careless": {"said": 1}}));
}

#[test]
#[should_panic(expected = "golden.json: an unknown field is taken: add #[serde(deny_unknown_fields)]")]
fn a_golden_spec_that_takes_unknown_fields_is_found() {
    golden(&json!({"careless": {"spoken": 0}}));
}

#[test]
#[should_panic(expected = "careless")]
fn a_trigger_that_is_another_once_stored_is_found() {
    round_trips(&Careless { said: 1 });
}

#[test]
#[should_panic(expected = "an unknown field is taken")]
fn a_spec_that_takes_unknown_fields_is_found() {
    refuses_unknown_fields(&json!({"careless": {}}));
}

#[tokio::test]
#[should_panic(expected = "dropped while it waited for the 1. time, the next one answered Err")]
async fn a_check_that_leaves_something_behind_is_found() {
    may_be_dropped(&Greedy::default(), context).await;
}

#[tokio::test]
#[should_panic(expected = "dropped while it waited for the 1. time, none answers any more")]
async fn a_check_that_the_next_one_waits_for_in_vain_is_found() {
    may_be_dropped(&Greedy { waits: true, ..Greedy::default() }, context).await;
}

#[tokio::test]
#[should_panic(expected = "the check has held up its thread for ")]
async fn a_check_that_holds_up_its_thread_is_found() {
    never_blocks(&Careless { said: 0 }, context).await.expect("an answer");
}
