//! Swapping a running task for a wait.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use jiff::Timestamp;
use reveille_trigger::Trigger;
use serde::Serialize;

use super::{Awaited, Next, Step, Task, Then};

/// What a task waits for, for how long, and what happens if that ends badly.
#[derive(Clone, Debug)]
pub struct Deferral {
    pub(crate) trigger: Arc<dyn Trigger>,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) or_resume: bool,
    pub(crate) error_budget: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Deadline {
    After(Duration),
    At(Timestamp),
}

/// Leaves the worker until the trigger fires.
pub fn defer(trigger: impl Trigger + 'static) -> Deferral {
    Deferral::on(Arc::new(trigger))
}

impl Deferral {
    pub(crate) fn on(trigger: Arc<dyn Trigger>) -> Self {
        Self { trigger, deadline: None, or_resume: false, error_budget: None }
    }

    /// The wait ends badly if nothing has fired this long after the deferral.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(Deadline::After(after));
        self
    }

    /// The wait ends badly if nothing has fired by then. Armed again by a retry it keeps this time; past it, it is not.
    #[must_use]
    pub fn deadline_at(mut self, at: Timestamp) -> Self {
        self.deadline = Some(Deadline::At(at));
        self
    }

    /// The wait ends badly once so many checks in a row could not tell, counted by whoever holds the trigger. Without one it
    /// goes on to its deadline, whatever happens to what is asked.
    #[must_use]
    pub fn error_budget(mut self, checks: NonZeroU32) -> Self {
        self.error_budget = Some(checks);
        self
    }

    /// A wait that ends badly fails the task, whose retry policy arms the same wait again. This is the default.
    #[must_use]
    pub fn or_fail(mut self) -> Self {
        self.or_resume = false;
        self
    }

    /// A wait that ends badly resumes the next step, which sees the reason.
    #[must_use]
    pub fn or_resume(mut self) -> Self {
        self.or_resume = true;
        self
    }

    /// The step that runs once the wait is over. What the trigger fired is at [`TaskContext::event`](super::TaskContext::event).
    #[expect(clippy::needless_pass_by_value, reason = "the step is given away: it runs later, and from what is stored")]
    pub fn then<T: Task>(self, next: T) -> Next<T> {
        let step = Step::new(&next, self.or_resume);
        Then::Defer(Box::new(self), step).into()
    }

    /// The step that runs once the wait is over, with a field of type [`Awaited<E>`] for what the trigger fires.
    /// The payload must fit `E`; one that does not is the wait's bad end, and the step does not run on it.
    ///
    /// ```
    /// # use reveille::{Awaited, Next, Task, TaskContext, TaskError, defer, done};
    /// # use reveille::wait::Signal;
    /// # use serde::{Deserialize, Serialize};
    /// #[derive(Serialize, Deserialize)]
    /// enum Order { Place, Ship { paid: Awaited<u32> } }
    ///
    /// impl Task for Order {
    ///     const NAME: &'static str = "order";
    ///     async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
    ///         match self {
    ///             Self::Place => Ok(defer(Signal::new("order-42/paid")).then_with(|paid| Self::Ship { paid })),
    ///             Self::Ship { paid } => { let _cents: u32 = paid.get()?; Ok(done()) }
    ///         }
    ///     }
    /// }
    /// ```
    pub fn then_with<T: Task, E>(self, next: impl FnOnce(Awaited<E>) -> T) -> Next<T>
    where
        Awaited<E>: Serialize,
    {
        self.then(next(Awaited::pending()))
    }
}
