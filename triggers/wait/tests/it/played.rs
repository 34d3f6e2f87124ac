//! A trigger whose looks are written down in advance, and a clock that is turned.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use reveille_trigger::{
    Answer, Arrived, Context, Error, Event, Key, Memory, Receipt, Spacing, Timestamp, Trigger, async_trait, look,
    typetag,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was seen of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Look,
    Settled(Receipt),
    CleanUp,
    OnCancel,
}

static SEEN: LazyLock<Mutex<HashMap<u64, Vec<Seen>>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How one look goes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Goes {
    NotYet,
    Fires(i32),
    Skips,
    Succeeds,
    Fails,
    NeverCan,
    Panics,
    Hangs,
    /// Fires how often it was looked at by one replica, once that is so often.
    Counts(u32),
}

/// Goes as written, look for look, and then as the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Played {
    id: u64,
    goes: Vec<Goes>,
    every: Duration,
    limit: Option<Duration>,
    consumes: bool,
}

impl Played {
    pub(crate) fn of(goes: impl Into<Vec<Goes>>) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (every, limit) = (Duration::from_secs(1), Some(Duration::from_millis(200)));
        Self { id, goes: goes.into(), every, limit, consumes: false }
    }

    pub(crate) fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    pub(crate) fn lasting(self) -> Self {
        Self { limit: None, ..self }
    }

    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(crate) fn consuming(self) -> Self {
        Self { consumes: true, ..self }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        SEEN.lock().unwrap().get(&self.id).cloned().unwrap_or_default()
    }

    pub(crate) fn looks(&self) -> usize {
        self.seen().iter().filter(|seen| **seen == Seen::Look).count()
    }

    fn note(&self, what: Seen) {
        SEEN.lock().unwrap().entry(self.id).or_default().push(what);
    }
}

#[typetag::serde(name = "played")]
#[async_trait]
impl Trigger for Played {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let at = self.looks();
        self.note(Seen::Look);
        match self.goes[at.min(self.goes.len() - 1)] {
            Goes::NotYet => Ok(Answer::NotYet),
            Goes::Fires(payload) => Ok(Answer::Fire(Event::resume(payload)?)),
            Goes::Skips => Ok(Answer::Fire(Event::skip("not needed"))),
            Goes::Succeeds => Ok(Answer::Fire(Event::succeed("done")?)),
            Goes::Fails => Err(Error::again("no route to it")),
            Goes::NeverCan => Err(Error::fatal("it is gone")),
            Goes::Panics => panic!("a bug in it"),
            Goes::Hangs => std::future::pending().await,
            Goes::Counts(enough) => {
                let count = cx.recall::<u32>().unwrap_or_default() + 1;
                cx.remember(count);
                Ok(if count < enough { Answer::NotYet } else { Answer::Fire(Event::resume(count)?) })
            }
        }
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(self.every)
    }

    fn time_out(&self) -> Option<Duration> {
        self.limit
    }

    fn consumes(&self) -> bool {
        self.consumes
    }

    async fn settled(&self, _: &Context, receipt: Receipt) {
        self.note(Seen::Settled(receipt));
    }

    async fn cleanup(&self, _: &Context) {
        self.note(Seen::CleanUp);
    }

    async fn on_cancel(&self, _: &Context) -> Result<(), Error> {
        self.note(Seen::OnCancel);
        Ok(())
    }
}

/// Its author's mistake is not in the check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Faulty;

#[typetag::serde(name = "faulty")]
#[async_trait]
impl Trigger for Faulty {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }

    fn time_out(&self) -> Option<Duration> {
        panic!("a bug in its time-out")
    }
}

/// A replica that looks, at a time that is turned.
pub(crate) struct Looker {
    now: Arc<AtomicI64>,
    /// By how many milliseconds the clock goes on with each reading.
    tick: i64,
    memory: Memory,
    arrived: Arrived,
}

/// How a look at the whole came out.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) answer: Result<Answer, Error>,
    /// When the next one is to be, in milliseconds from this one.
    pub(crate) next: Option<i64>,
    pub(crate) said: Option<String>,
    pub(crate) remembers: bool,
}

impl Looker {
    /// A wait that has just begun.
    pub(crate) fn new() -> Self {
        Self { now: Arc::default(), tick: 0, memory: Memory::default(), arrived: Arrived::default() }
    }

    /// The clock goes on while it looks.
    pub(crate) fn ticking(self) -> Self {
        Self { tick: 1, ..self }
    }

    pub(crate) fn turn(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn arrives(&mut self, key: Key, payload: impl Into<Value>) {
        let arrived = self.arrived.iter().cloned().chain([(key, payload.into())]);
        self.arrived = arrived.collect::<Vec<_>>().into();
    }

    fn context(&mut self) -> Context {
        let (now, tick) = (Arc::clone(&self.now), self.tick);
        let now = move || Timestamp::from_millisecond(now.fetch_add(tick, Ordering::Relaxed)).unwrap();
        Context::new(now, Timestamp::UNIX_EPOCH, std::mem::take(&mut self.memory))
            .with_arrived(Arc::clone(&self.arrived))
    }

    pub(crate) async fn look(&mut self, trigger: &dyn Trigger) -> Look {
        let cx = self.context();
        let answer = look(trigger, &cx).await;
        let next = cx.next_look().map(|at| at.as_millisecond() - self.now.load(Ordering::Relaxed));
        let look = Look { answer, next, said: cx.said(), remembers: cx.has_memory() };
        self.memory = cx.into_memory();
        look
    }

    /// Tells a trigger that its event was accepted, and lets it go.
    pub(crate) async fn ends(&mut self, trigger: &dyn Trigger) {
        let cx = self.context();
        trigger.settled(&cx, Receipt::Accepted).await;
        trigger.cleanup(&cx).await;
    }

    pub(crate) async fn cancels(&mut self, trigger: &dyn Trigger) -> Result<(), Error> {
        trigger.on_cancel(&self.context()).await
    }
}

impl Look {
    pub(crate) fn is_not_yet(&self) -> bool {
        matches!(self.answer, Ok(Answer::NotYet))
    }

    /// The payload, as JSON.
    pub(crate) fn fired(self) -> Value {
        match self.answer {
            Ok(Answer::Fire(event)) => serde_json::to_value(event.outcome).unwrap(),
            other => panic!("it did not fire: {other:?}"),
        }
    }

    pub(crate) fn error(self) -> Error {
        self.answer.expect_err("an error")
    }

    /// Whether the next look is so many milliseconds away, less the jitter.
    pub(crate) fn next_is_about(&self, ms: i64) -> bool {
        self.next.is_some_and(|next| (ms * 3 / 4..=ms).contains(&next))
    }
}
