//! An active trigger whose checks are a closure of the test that waits on it, and what became of it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use reveille::trigger::{Answer, Context, Error, Event, Receipt, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ms, until};

static PLAYED: LazyLock<Mutex<HashMap<Uuid, Arc<Played>>>> = LazyLock::new(Mutex::default);

type Check = dyn Fn(usize) -> BoxFuture<'static, Result<Answer, Error>> + Send + Sync;
type Undo = dyn Fn(usize) -> BoxFuture<'static, Result<(), Error>> + Send + Sync;

/// What happened to a trigger, anywhere in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Check,
    Settled(Receipt),
    CleanUp,
    OnCancel,
}

/// The spec: all that is stored of it is which test it belongs to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scripted {
    id: Uuid,
    every: Duration,
    time_out: Option<Duration>,
    destination: Option<String>,
    share: bool,
}

/// Its hooks, and what was seen of it.
pub(crate) struct Played {
    check: Box<Check>,
    undo: Mutex<Box<Undo>>,
    seen: Mutex<Vec<Seen>>,
    pub(crate) settles_in: Mutex<Duration>,
    pub(crate) cleans_up_badly: AtomicBool,
}

impl Scripted {
    /// Each check is told how many there were before it.
    pub(crate) fn of<F>(check: impl Fn(usize) -> F + Send + Sync + 'static) -> (Self, Arc<Played>)
    where
        F: Future<Output = Result<Answer, Error>> + Send + 'static,
    {
        let id = Uuid::now_v7();
        let played = Arc::new(Played {
            check: Box::new(move |before| Box::pin(check(before))),
            undo: Mutex::new(Box::new(|_| Box::pin(async { Ok(()) }))),
            seen: Mutex::default(),
            settles_in: Mutex::default(),
            cleans_up_badly: AtomicBool::new(false),
        });
        PLAYED.lock().unwrap().insert(id, Arc::clone(&played));
        (Self { id, every: ms(20), time_out: Some(Duration::from_secs(30)), destination: None, share: false }, played)
    }

    /// Never fires.
    pub(crate) fn never() -> (Self, Arc<Played>) {
        Self::of(async |_| Ok(Answer::NotYet))
    }

    /// Fires at the first look.
    pub(crate) fn fires(payload: impl Serialize + Clone + Send + Sync + 'static) -> (Self, Arc<Played>) {
        Self::of(move |_| {
            let payload = payload.clone();
            async move { Ok(Answer::Fire(Event::resume(payload)?)) }
        })
    }

    pub(crate) fn every(self, every: Duration) -> Self {
        Self { every, ..self }
    }

    /// How long one check may take; none for one that lasts.
    pub(crate) fn time_out(self, time_out: Option<Duration>) -> Self {
        Self { time_out, ..self }
    }

    /// Where its checks go.
    pub(crate) fn to(self, destination: &str) -> Self {
        Self { destination: Some(destination.to_owned()), ..self }
    }

    /// Equals are checked once for all of them.
    pub(crate) fn shared(self) -> Self {
        Self { share: true, ..self }
    }

    fn played(&self) -> Arc<Played> {
        Arc::clone(&PLAYED.lock().unwrap()[&self.id])
    }
}

impl Played {
    /// What undoing it does, told how often that was tried before.
    pub(crate) fn undoes<F>(&self, undo: impl Fn(usize) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        *self.undo.lock().unwrap() = Box::new(move |before| Box::pin(undo(before)));
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn times(&self, what: Seen) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| **seen == what).count()
    }

    /// Waits until this was seen at least so often.
    pub(crate) async fn until(&self, what: Seen, times: usize) {
        until(&format!("{what:?} {times} times"), async || self.times(what) >= times).await;
    }

    /// Notes it; answers how often it was seen before.
    fn note(&self, what: Seen) -> usize {
        let mut seen = self.seen.lock().unwrap();
        let before = seen.iter().filter(|seen| **seen == what).count();
        seen.push(what);
        before
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scripted").field(&self.id).finish()
    }
}

#[typetag::serde(name = "scripted")]
#[async_trait]
impl Trigger for Scripted {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        let played = self.played();
        let before = played.note(Seen::Check);
        (played.check)(before).await
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(self.every)
    }

    fn time_out(&self) -> Option<Duration> {
        self.time_out
    }

    fn destination(&self) -> Option<String> {
        self.destination.clone()
    }

    fn share(&self) -> bool {
        self.share
    }

    async fn settled(&self, _: &Context, receipt: Receipt) {
        let played = self.played();
        let how_long = *played.settles_in.lock().unwrap();
        reveille::clock::Clock::system().sleep(how_long).await;
        played.note(Seen::Settled(receipt));
    }

    async fn cleanup(&self, _: &Context) {
        let played = self.played();
        played.note(Seen::CleanUp);
        assert!(!played.cleans_up_badly.load(Ordering::SeqCst), "a bug in a trigger");
    }

    async fn on_cancel(&self, _: &Context) -> Result<(), Error> {
        let played = self.played();
        let before = played.note(Seen::OnCancel);
        let undoing = (played.undo.lock().unwrap())(before);
        undoing.await
    }
}
