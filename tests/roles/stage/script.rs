//! Tasks whose steps are closures of the test that enqueued them.

use std::{
    any::Any,
    collections::HashMap,
    marker::PhantomData,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use reveille::{Next, Retry, Task, TaskContext, TaskError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ms;

type Answer<K> = Result<Next<Script<K>>, TaskError>;
type Run<K> = Arc<dyn Fn(Script<K>, TaskContext) -> BoxFuture<'static, Answer<K>> + Send + Sync>;

static SCRIPTS: LazyLock<Mutex<HashMap<Uuid, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

/// What scripts of one type have in common.
pub(crate) trait Kind: 'static {
    const NAME: &'static str;
    const DEFERRABLE: bool = true;
    const TIME_OUT: Option<Duration> = None;
}

/// Nothing special.
pub(crate) enum Plain {}

impl Kind for Plain {
    const NAME: &'static str = "script";
}

/// Waits in its worker's slot.
pub(crate) enum Anchored {}

impl Kind for Anchored {
    const NAME: &'static str = "anchored";
    const DEFERRABLE: bool = false;
}

/// Has little time for each attempt.
pub(crate) enum Hasty {}

impl Kind for Hasty {
    const NAME: &'static str = "hasty";
    const TIME_OUT: Option<Duration> = Some(ms(100));
}

/// A task that is at this step of a closure.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Script<K = Plain> {
    id: Uuid,
    pub(crate) at: u32,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Script<K> {
    pub(crate) fn of<F>(run: impl Fn(Self, TaskContext) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer<K>> + Send + 'static,
    {
        let id = Uuid::now_v7();
        let run: Run<K> = Arc::new(move |step, cx| Box::pin(run(step, cx)));
        SCRIPTS.lock().unwrap().insert(id, Box::new(run));
        Self { id, at: 0, kind: PhantomData }
    }

    pub(crate) fn next(self) -> Self {
        Self { at: self.at + 1, ..self }
    }
}

impl<K: Kind> Task for Script<K> {
    const NAME: &'static str = K::NAME;
    const DEFERRABLE: bool = K::DEFERRABLE;

    fn retry() -> Retry {
        QUICK
    }

    fn time_out() -> Option<Duration> {
        K::TIME_OUT
    }

    async fn run(self, cx: &TaskContext) -> Answer<K> {
        let run = SCRIPTS.lock().unwrap()[&self.id].downcast_ref::<Run<K>>().expect("stored as this kind").clone();
        run(self, cx.clone()).await
    }
}

/// Three attempts, close together.
pub(crate) const QUICK: Retry = Retry { max_attempts: 3, backoff: ms(50), cap: ms(50) };

/// Up to three of these run in one call, which is noted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Crowd {
    pub(crate) crowd: Uuid,
    pub(crate) number: usize,
}

static CALLS: Mutex<Vec<(Uuid, Vec<usize>)>> = Mutex::new(Vec::new());

impl Crowd {
    /// Who ran together, in this crowd.
    pub(crate) fn calls(crowd: Uuid) -> Vec<Vec<usize>> {
        CALLS.lock().unwrap().iter().filter(|(of, _)| *of == crowd).map(|(_, who)| who.clone()).collect()
    }
}

impl Task for Crowd {
    const NAME: &'static str = "crowd";
    const TOGETHER: usize = 3;

    fn retry() -> Retry {
        Retry::NEVER
    }

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        Self::run_many(vec![(self, cx.clone())]).await.remove(0)
    }

    async fn run_many(steps: Vec<(Self, TaskContext)>) -> Vec<Result<Next<Self>, TaskError>> {
        let call = (steps[0].0.crowd, steps.iter().map(|(step, _)| step.number).collect());
        CALLS.lock().unwrap().push(call);
        let answer = |(step, _): (Self, TaskContext)| match step.number {
            7 => Err(TaskError::fatal("seven is out")),
            number => Ok(reveille::done_with(number)),
        };
        steps.into_iter().map(answer).collect()
    }
}
