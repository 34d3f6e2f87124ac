//! Deferring: a running task is swapped for a wait.

use reveille::{
    id::{Fence, Incarnation, TaskId},
    store::history::Why,
};
use serde_json::{Value, json};

use super::{Cause, LATEST, State, Wait, World};

/// What a task is to wait for, for how long, and what a bad end means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WaitFor {
    pub(crate) on: On,
    pub(crate) deadline_at: Option<i64>,
    pub(crate) deadline_is_fixed: bool,
    /// Whether a wait that ends badly resumes the task, which then sees why.
    pub(crate) or_resume: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum On {
    /// A time.
    Time(i64),
    /// A signal, by its name.
    Signal(String),
    /// The end of a task.
    End(TaskId),
    /// Checks that a triggerer makes: a kind, and the fields of its spec.
    Checks(&'static str, Value),
}

impl WaitFor {
    pub(crate) fn time(at: i64) -> Self {
        Self { on: On::Time(at.min(LATEST)), deadline_at: None, deadline_is_fixed: false, or_resume: false }
    }

    /// The key under which its end arrives.
    pub(crate) fn key(&self) -> Option<String> {
        match &self.on {
            On::Signal(name) => Some(format!("signal:{name}")),
            On::End(task) => Some(format!("task:{task}")),
            On::Time(_) | On::Checks(..) => None,
        }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.on != On::Signal(String::new())
    }
}

/// A running task to be swapped for a wait.
#[derive(Clone, Debug)]
pub(crate) struct Defers {
    pub(crate) fence: Fence,
    /// The step after the wait; none if it is the same again, with the same event.
    pub(crate) step: Option<Value>,
    pub(crate) attempt: i32,
    pub(crate) why: Why,
    pub(crate) wait: WaitFor,
}

impl World {
    /// A wait that begins now.
    pub(super) fn begin(&mut self, wait: &WaitFor) -> Wait {
        let (kind, spec, wake_at) = match &wait.on {
            On::Time(at) => ("timer", None, Some(*at)),
            On::Signal(_) => ("signal", None, None),
            On::End(_) => ("task", None, None),
            // An active trigger is due for its first look at once.
            On::Checks(kind, fields) => (*kind, Some(json!({ *kind: fields })), Some(self.now)),
        };
        self.kinds.insert(kind.to_owned());
        Wait {
            kind: kind.to_owned(),
            spec,
            since: self.now,
            wake_at,
            deadline_at: wait.deadline_at,
            deadline_is_fixed: wait.deadline_is_fixed,
            or_resume: wait.or_resume,
            key: wait.key(),
            holder: None,
            deaths: 0,
            slack: 0,
        }
    }

    /// Swaps tasks that a live worker holds for waits; answers which. One that was cancelled meanwhile does not defer.
    ///
    /// A next step is a new turn, without event, progress and crashes; the same step again keeps them.
    pub(crate) fn defer(&mut self, me: Incarnation, batch: &[Defers]) -> Vec<TaskId> {
        let mut deferred = Vec::new();
        for d in batch {
            let wait = self.begin(&d.wait);
            let may = self.is_live(me)
                && self
                    .at(d.fence)
                    .is_some_and(|task| task.state == State::Running(me) && task.cancel_requested_at.is_none());
            if !may {
                continue;
            }
            let task = self.task(d.fence.task);
            task.attempt = d.attempt;
            if let Some(step) = &d.step {
                task.step = step.clone();
                task.event = None;
                task.progress = None;
                task.turn += 1;
                task.crashes = 0;
            }
            self.change(d.fence.task, State::Deferred(wait), Cause::of(d.why, Some(me)));
            deferred.push(d.fence.task);
        }
        deferred
    }
}
