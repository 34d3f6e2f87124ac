//! The trait that every trigger implements.

use std::{
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Answer, Context, Error, Receipt, Spacing};

/// Knows how to tell whether something has happened.
///
/// The runtime owns the loop: it spaces the checks, bounds their time, catches their panics and backs off after
/// their errors. A trigger only answers one question, once, and leaves nothing behind.
#[typetag::serde]
#[async_trait::async_trait]
pub trait Trigger: fmt::Debug + Send + Sync {
    /// Looks once. Dropping the returned future must be safe at every await.
    ///
    /// # Errors
    /// [`Error::again`] when the look failed and another may succeed, [`Error::fatal`] when none can.
    async fn check(&self, cx: &Context) -> Result<Answer, Error>;

    /// Refuses a spec that can never work, when the task defers and before anything is stored.
    ///
    /// # Errors
    /// A message that says which field is wrong and what it should be.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }

    /// What kind of wait this is. Anything but [`Wait::Active`] is a row that no triggerer ever runs.
    fn wait(&self, since: Timestamp) -> Wait {
        let _ = since;
        Wait::Active
    }

    /// How far apart the checks are.
    fn spacing(&self) -> Spacing {
        Spacing::default()
    }

    /// What the checks go to: a host and port, say. At most so many checks (16 unless configured) go to one destination
    /// at a time, so that a slow one delays no other. `None`: they are only bounded all together.
    fn destination(&self) -> Option<String> {
        None
    }

    /// How long one check may take; `None` for a check that lasts, such as one that listens on a connection.
    fn time_out(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    /// Whether equal triggers on one replica are checked once for all of them: every task that had deferred before the
    /// check began is given what it fires. For a check that asks the same for everybody, depends on nothing but the spec
    /// (not on [`Context::since`], which in a shared check tells nothing of any one task), and neither lasts nor consumes.
    fn share(&self) -> bool {
        false
    }

    /// Whether a check that fires takes something away from its source, such as a message from a queue. Such a trigger
    /// gives back in [`settled`](Self::settled) what it is refused.
    fn consumes(&self) -> bool {
        false
    }

    /// The triggers inside this one, whose kinds a replica needs to run it.
    fn inside(&self) -> Vec<&dyn Trigger> {
        Vec::new()
    }

    /// Learns what became of the event that the last check on this replica fired, after that is stored. If the process
    /// dies in between, nobody is told: an unacknowledged message comes again, and is seen again.
    async fn settled(&self, cx: &Context, receipt: Receipt) {
        let _ = (cx, receipt);
    }

    /// Lets go of what this replica holds for the trigger, whatever the reason. Touches nothing that is shared.
    async fn cleanup(&self, cx: &Context) {
        let _ = cx;
    }

    /// Undoes what the wait was for, because its task was cancelled: ends the remote job, say. Runs at least once,
    /// possibly on another replica than the one that checked, and is tried again when it fails.
    ///
    /// # Errors
    /// [`Error::again`] to be tried again, [`Error::fatal`] to give up and be reported.
    async fn on_cancel(&self, cx: &Context) -> Result<(), Error> {
        let _ = cx;
        Ok(())
    }
}

/// What a trigger waits for, as far as the database needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// Checks must be made: a triggerer leases the trigger and runs it.
    Active,
    /// Over at this time. A row, fired by any live replica.
    Until(Timestamp),
    /// Over when something arrives under this key. A row, fired by any live replica.
    On(Key),
    /// Checks must be made: the first at `from`, if there is one, and one more whenever something has
    /// [arrived](Context::arrived) under one of these keys.
    Mixed {
        /// When the first check is due; none if only what arrives is a reason to look.
        from: Option<Timestamp>,
        /// What may arrive.
        keys: Vec<Key>,
    },
}

/// Looks at a trigger once: bounded in time, and with its panic caught. What the runtime does, and triggers do with those
/// inside them.
///
/// # Errors
/// What the check answers, or that it panicked or did not answer in time: both may be tried again.
pub async fn look(trigger: &dyn Trigger, cx: &Context) -> Result<Answer, Error> {
    let mut bounded = pin!(async {
        let limit = trigger.time_out().unwrap_or(Duration::MAX);
        let late = |_| Err(Error::again(format!("the check had not answered after {} s", limit.as_secs_f64())));
        tokio::time::timeout(limit, trigger.check(cx)).await.unwrap_or_else(late)
    });
    poll_fn(|waker| {
        catch_unwind(AssertUnwindSafe(|| bounded.as_mut().poll(waker)))
            .unwrap_or_else(|panic| Poll::Ready(Err(Error::panicked(&*panic))))
    })
    .await
}

/// What a passive wait can be woken by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Key {
    /// A signal sent under this name.
    Signal(String),
    /// The end of the task with this id.
    Task(Uuid),
}
