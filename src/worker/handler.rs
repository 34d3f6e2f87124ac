//! The tasks that a binary has, by name, with their types erased.

use std::{any::Any, collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    error::{Error, Result},
    id::Fence,
    store::{Store, task::Claim, task::unreadable},
    task::{Retry, Step, Task, TaskContext, TaskError, Then, Undecodable, Woken},
    vault::Purpose,
};

/// A step of some task.
pub(super) type AnyStep = Box<dyn Any + Send>;

/// One type of task.
#[async_trait]
pub(super) trait Handler: Send + Sync {
    fn together(&self) -> usize;
    fn deferrable(&self) -> bool;
    fn time_out(&self) -> Option<Duration>;
    fn decode(&self, step: &Step, woken: Option<&Woken>) -> Result<AnyStep, Undecodable>;
    async fn run(&self, steps: Vec<(AnyStep, TaskContext)>) -> Vec<Result<Then, TaskError>>;
}

struct Of<T>(PhantomData<fn() -> T>);

#[async_trait]
impl<T: Task> Handler for Of<T> {
    fn together(&self) -> usize {
        T::TOGETHER.max(1)
    }

    fn deferrable(&self) -> bool {
        T::DEFERRABLE
    }

    fn time_out(&self) -> Option<Duration> {
        T::time_out()
    }

    fn decode(&self, step: &Step, woken: Option<&Woken>) -> Result<AnyStep, Undecodable> {
        step.decode::<T>(woken).map(|step| Box::new(step) as AnyStep)
    }

    async fn run(&self, steps: Vec<(AnyStep, TaskContext)>) -> Vec<Result<Then, TaskError>> {
        let mut steps: Vec<(T, TaskContext)> =
            steps.into_iter().map(|(step, cx)| (*step.downcast::<T>().expect("decoded by this handler"), cx)).collect();
        let answers = if steps.len() == 1 {
            let (step, cx) = steps.remove(0);
            vec![step.run(&cx).await]
        } else {
            T::run_many(steps).await
        };
        answers.into_iter().map(|answer| answer.map(|next| next.then)).collect()
    }
}

/// A task that a crate brings: submitted by [`tasks!`](crate::tasks!), collected by [`Tasks::linked`].
pub struct Registration {
    name: &'static str,
    handler: fn() -> Arc<dyn Handler>,
}

inventory::collect!(Registration);

/// Registers types of tasks, so that a binary that links this crate has them: see [`main!`](crate::main!).
///
/// ```
/// # use reveille::{Next, Task, TaskContext, TaskError, done};
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum Greeting { Say }
/// # impl Task for Greeting {
/// #     const NAME: &'static str = "greeting";
/// #     async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> { Ok(done()) }
/// # }
/// reveille::tasks!(Greeting);
/// ```
#[macro_export]
macro_rules! tasks {
    ($($task:ty),+ $(,)?) => {
        $($crate::inventory::submit! { $crate::worker::Registration::of::<$task>() })+
    };
}

impl Registration {
    /// Of this type of task.
    pub const fn of<T: Task>() -> Self {
        Self { name: T::NAME, handler: || Arc::new(Of::<T>(PhantomData)) }
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registration").field(&self.name).finish()
    }
}

/// The tasks that a worker can run, by name.
#[derive(Clone, Default)]
pub struct Tasks {
    handlers: BTreeMap<&'static str, Arc<dyn Handler>>,
    twice: Option<&'static str>,
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Tasks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that the crates linked into this binary bring.
    pub fn linked() -> Self {
        inventory::iter::<Registration>().fold(Self::new(), Tasks::add)
    }

    /// And this type.
    #[must_use]
    pub fn with<T: Task>(self) -> Self {
        self.add(&Registration::of::<T>())
    }

    fn add(mut self, registration: &Registration) -> Self {
        if self.handlers.insert(registration.name, (registration.handler)()).is_some() {
            self.twice = Some(registration.name);
        }
        self
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.handlers.keys().copied()
    }

    /// Makes sure that no two types share a name.
    ///
    /// # Errors
    /// With the name that is taken twice.
    pub fn validate(&self) -> Result<()> {
        match self.twice {
            Some(name) => Err(Error::Invalid(format!("two tasks are named {name:?}: rename one, or link only one"))),
            None => Ok(()),
        }
    }

    pub(super) fn handler(&self, name: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(name)
    }

    /// Opens and decodes what was claimed; what cannot be read is left to others.
    pub(super) fn read(&self, store: &Store, claim: Claim) -> Result<(AnyStep, Claimed), (Fence, Error)> {
        let fence = claim.fence;
        self.try_read(store, claim).map_err(|error| (fence, error))
    }

    fn try_read(&self, store: &Store, claim: Claim) -> Result<(AnyStep, Claimed)> {
        let step: Step = store.open(Purpose::Step, claim.step)?;
        let claimed = Claimed {
            fence: claim.fence,
            name: claim.name,
            queue: claim.queue,
            turn: claim.turn,
            attempt: claim.attempt,
            retry: claim.retry,
            woken: claim.event.map(|event| store.open(Purpose::Event, event)).transpose()?,
        };
        let step = self.decode(&claimed, &step, claimed.woken.as_ref())?;
        Ok((step, claimed))
    }

    /// Decodes a step with what its wait ended with; a payload that does not fit is a step that fails by itself.
    pub(super) fn decode(&self, of: &Claimed, step: &Step, woken: Option<&Woken>) -> Result<AnyStep> {
        let handler = self
            .handler(&of.name)
            .ok_or_else(|| Error::Invalid(format!("this binary has no task named {:?}", of.name)))?;
        match handler.decode(step, woken) {
            Ok(step) => Ok(step),
            Err(Undecodable::Step(error)) => Err(unreadable(of.fence.task, "step", error)),
            Err(Undecodable::Payload(error)) => Ok(Box::new(Misfit(crate::task::misfit_message(&error)))),
        }
    }
}

/// In the place of a step whose awaited payload does not fit: the wait has ended badly, and the task fails for good, as the
/// same payload would not fit again.
pub(super) struct Misfit(pub(super) String);

/// A claimed task, but for its step.
pub(super) struct Claimed {
    pub(super) fence: Fence,
    pub(super) name: String,
    pub(super) queue: String,
    pub(super) turn: i32,
    pub(super) attempt: i32,
    pub(super) retry: Retry,
    pub(super) woken: Option<Woken>,
}
