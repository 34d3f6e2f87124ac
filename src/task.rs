//! Tasks as their authors write them, and the words for what becomes of them. Pure: no I/O.
//!
//! A task is a serializable enum whose variants are its steps. Running a step answers with what comes [`Next`]:
//! done, skipped, deferred to another step, or the same step again later.

mod awaited;
mod context;
mod deferral;
mod retry;
mod state;

pub use awaited::{Awaited, WaitFailed, WaitFailure, Woken};
pub(crate) use context::Progress;
pub use context::TaskContext;
pub(crate) use deferral::Deadline;
pub use deferral::{Deferral, defer};
pub use retry::Retry;
pub use state::{End, EndState, Origin, Priority, TaskState};
pub(crate) use state::{cut, words};

pub(crate) use awaited::{Step, Undecodable, misfit_message};

use std::{fmt, future::Future, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A unit of work whose steps are the variants of an enum.
///
/// ```
/// use reveille::{Next, Task, TaskContext, TaskError, defer, done};
/// use reveille::wait::Timer;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Serialize, Deserialize)]
/// enum Reminder { Start { text: String }, Remind { text: String } }
///
/// impl Task for Reminder {
///     const NAME: &'static str = "reminder";
///
///     async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
///         match self {
///             Self::Start { text } => {
///                 Ok(defer(Timer::after(Duration::from_secs(3600))).then(Self::Remind { text }))
///             }
///             Self::Remind { text } => {
///                 println!("{text}");
///                 Ok(done())
///             }
///         }
///     }
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + Sized + 'static {
    /// The name that tasks of this type are stored under. Changing it orphans those that wait.
    const NAME: &'static str;

    /// How many steps a worker may hand to one call of [`run_many`](Self::run_many).
    const TOGETHER: usize = 1;

    /// Whether a deferral leaves the worker. If not, the worker waits in its own slot.
    const DEFERRABLE: bool = true;

    /// How often a step, or a wait, is tried, and how far apart.
    fn retry() -> Retry {
        Retry::default()
    }

    /// How long one attempt at a step may run. The attempt is dropped then, and counts as failed.
    fn time_out() -> Option<Duration> {
        None
    }

    /// Runs one step. It may run more than once: side effects are keyed by [`TaskContext::idempotency_key`].
    fn run(self, cx: &TaskContext) -> impl Future<Output = Result<Next<Self>, TaskError>> + Send;

    /// Runs up to [`TOGETHER`](Self::TOGETHER) steps in one call, and answers for each in the order given.
    fn run_many(steps: Vec<(Self, TaskContext)>) -> impl Future<Output = Vec<Result<Next<Self>, TaskError>>> + Send {
        async move {
            let runs = steps.into_iter().map(|(step, cx)| async move { step.run(&cx).await });
            futures::future::join_all(runs).await
        }
    }
}

/// What comes after a step.
#[derive(Debug)]
pub struct Next<T> {
    pub(crate) then: Then,
    task: PhantomData<fn() -> T>,
}

#[derive(Debug)]
pub(crate) enum Then {
    Done(Result<Value, serde_json::Error>),
    Skip(String),
    Defer(Box<Deferral>, Result<Step, serde_json::Error>),
    Snooze(Duration),
}

impl<T> From<Then> for Next<T> {
    fn from(then: Then) -> Self {
        Self { then, task: PhantomData }
    }
}

/// The task has succeeded, with nothing to say.
pub fn done<T>() -> Next<T> {
    Then::Done(Ok(Value::Null)).into()
}

/// The task has succeeded, with a result that is kept for whoever waits for it or asks.
pub fn done_with<T>(result: impl Serialize) -> Next<T> {
    Then::Done(serde_json::to_value(result)).into()
}

/// There was nothing to do, for this reason.
pub fn skip<T>(reason: impl Into<String>) -> Next<T> {
    Then::Skip(reason.into()).into()
}

/// The same step again after a while, at no cost of attempts.
pub fn snooze<T>(how_long: Duration) -> Next<T> {
    Then::Snooze(how_long).into()
}

/// Why a step failed. Any standard error becomes one that may be retried, by `?`.
#[derive(Debug)]
pub struct TaskError {
    pub(crate) message: String,
    pub(crate) fatal: bool,
    pub(crate) after: Option<Duration>,
}

impl TaskError {
    /// This attempt failed; the task's [`Retry`] says whether and when another is made.
    pub fn retry(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), fatal: false, after: None }
    }

    /// No attempt can succeed: the task fails for good.
    pub fn fatal(error: impl fmt::Display) -> Self {
        Self { message: error.to_string(), fatal: true, after: None }
    }

    /// The next attempt is due after this long, whatever the back-off: a server's retry-after, say.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.after = Some(wait);
        self
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Not a `std::error::Error` itself: that would collide with this conversion, which `?` needs.
impl<E: std::error::Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            message.push_str(": ");
            message.push_str(&error.to_string());
            cause = error.source();
        }
        Self::retry(message)
    }
}
