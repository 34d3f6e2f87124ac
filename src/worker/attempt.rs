//! One attempt at a step, or at several together: bounded in time, its panic caught, dropped when it is called off.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt as _, stream::FuturesUnordered};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    handler::{AnyStep, Claimed, Handler, Misfit, Tasks},
    running::Running,
    settling::{Ended, Outcome},
    slot,
};
use crate::{
    error::{self, Error, Result},
    id::{Fence, Incarnation},
    store::{Store, history::Why, wait::Wait},
    task::{Deferral, End, Step, TaskContext, TaskError, Then},
    vault::Purpose,
};

/// How long a step that is called off may take to notice.
const GRACE: Duration = Duration::from_secs(5);

/// What attempts need.
#[derive(Clone)]
pub(super) struct Attempts {
    pub(super) store: Store,
    pub(super) me: Incarnation,
    pub(super) tasks: Arc<Tasks>,
    pub(super) running: Arc<Running>,
    pub(super) ended: mpsc::Sender<Ended>,
    /// The worker's own setting; a task's can only be stricter.
    pub(super) deferrable: bool,
    /// What triggers may read that wait in a slot.
    pub(super) config: reveille_trigger::Config,
}

impl Attempts {
    /// Starts what was claimed, together where its task likes that.
    pub(super) fn start(&self, claims: Vec<(AnyStep, Claimed)>) {
        let mut groups: Vec<Vec<(AnyStep, Claimed)>> = Vec::new();
        for (step, claimed) in claims {
            let together = self.tasks.handler(&claimed.name).map_or(1, |handler| handler.together());
            let fits = |group: &&mut Vec<(AnyStep, Claimed)>| group.len() < together && group[0].1.name == claimed.name;
            match groups.iter_mut().find(fits).filter(|_| together > 1) {
                Some(group) => group.push((step, claimed)),
                None => groups.push(vec![(step, claimed)]),
            }
        }
        for group in groups {
            let fences: Vec<Fence> = group.iter().map(|(_, claimed)| claimed.fence).collect();
            let held =
                group.into_iter().map(|(step, claimed)| (step, self.running.hold(claimed.fence), claimed)).collect();
            let (attempts, left) = (self.clone(), fences.clone());
            let attempt = tokio::spawn(async move {
                // Steps' panics are caught within. After one of our own the database still says that we hold these, and
                // the next agreement puts them back.
                if AssertUnwindSafe(attempts.run(held)).catch_unwind().await.is_err() {
                    attempts.running.free(left);
                }
            });
            let attempt = attempt.abort_handle();
            for fence in fences {
                self.running.spawned(fence, attempt.clone());
            }
        }
    }

    async fn run(&self, group: Vec<(AnyStep, CancellationToken, Claimed)>) {
        let (mut steps, mut runs) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for (step, cancelled, claimed) in group {
            match step.downcast::<Misfit>() {
                Ok(misfit) => self.end(&claimed, Outcome::End(End::failed(misfit.0), Why::WaitFailed)).await,
                Err(step) => {
                    steps.push((step, self.context(&claimed, &cancelled)));
                    runs.push((cancelled, claimed));
                }
            }
        }
        let Some(handler) = runs.first().and_then(|(_, claimed)| self.tasks.handler(&claimed.name)).map(Arc::clone)
        else {
            return;
        };
        let tokens: Vec<_> = runs.iter().map(|(cancelled, _)| cancelled.clone()).collect();
        let answers = self.answers(&*handler, steps, &tokens).await;
        // Side by side, as one may wait here.
        let mut settling: FuturesUnordered<_> = runs
            .into_iter()
            .zip(answers)
            .map(|((cancelled, claimed), answer)| self.settle(&*handler, claimed, cancelled, answer))
            .collect();
        while settling.next().await.is_some() {}
    }

    fn context(&self, claimed: &Claimed, cancelled: &CancellationToken) -> TaskContext {
        TaskContext {
            task: claimed.fence.task,
            queue: claimed.queue.clone(),
            turn: claimed.turn,
            attempt: claimed.attempt,
            woken: claimed.woken.clone(),
            cancelled: cancelled.clone(),
            progress: self.running.progress(claimed.fence),
            clock: self.store.clock().clone(),
        }
    }

    /// Hands on what a step answered. One that may not leave its worker waits here, and its next step runs here too.
    async fn settle(
        &self,
        handler: &dyn Handler,
        mut claimed: Claimed,
        cancelled: CancellationToken,
        mut answer: Answer,
    ) {
        loop {
            let (deferral, step) = match answer {
                Answer::Came(Ok(Then::Defer(deferral, Ok(step)))) if !(self.deferrable && handler.deferrable()) => {
                    (deferral, step)
                }
                answer => {
                    let outcome = self.caught_outcome(&claimed, &cancelled, answer);
                    return self.end(&claimed, outcome).await;
                }
            };
            // On the heap: most attempts never wait here.
            match Box::pin(slot::wait(self, &mut claimed, &cancelled, &deferral, &step)).await {
                slot::Waited::Over(next) => {
                    let cx = self.context(&claimed, &cancelled);
                    answer = self.answers(handler, vec![(next, cx)], std::slice::from_ref(&cancelled)).await.remove(0);
                }
                slot::Waited::Ended(outcome) => return self.end(&claimed, outcome).await,
                slot::Waited::Lost => return self.running.free([claimed.fence]),
            }
        }
    }

    async fn end(&self, claimed: &Claimed, outcome: Outcome) {
        self.running.settling(claimed.fence);
        let ended = Ended { fence: claimed.fence, attempt: claimed.attempt, outcome };
        // Settling outlives every attempt.
        if self.ended.send(ended).await.is_err() {
            let task = claimed.fence.task;
            tracing::error!(task.id = %task, "task {task} ended after its worker had left: another will run it again");
        }
    }

    /// A trigger's own code is called where a task defers on it, and may panic: that is a failed attempt.
    fn caught_outcome(&self, claimed: &Claimed, cancelled: &CancellationToken, answer: Answer) -> Outcome {
        std::panic::catch_unwind(AssertUnwindSafe(|| self.outcome(claimed, cancelled, answer))).unwrap_or_else(
            |panic| self.failed(claimed, TaskError::retry(format!("the trigger panicked: {}", error::said(&*panic)))),
        )
    }

    fn outcome(&self, claimed: &Claimed, cancelled: &CancellationToken, answer: Answer) -> Outcome {
        match answer {
            Answer::Came(Ok(then)) => self.next(then).unwrap_or_else(|error| {
                Outcome::End(End::failed(format!("what comes next cannot be stored: {}", error.chain())), Why::Failed)
            }),
            Answer::Dropped => Outcome::End(End::cancelled("cancelled while it ran"), Why::Cancelled),
            Answer::Came(Err(_)) if cancelled.is_cancelled() => {
                Outcome::End(End::cancelled("cancelled while it ran"), Why::Cancelled)
            }
            Answer::Came(Err(error)) => self.failed(claimed, error),
        }
    }

    fn next(&self, then: Then) -> Result<Outcome> {
        Ok(match then {
            Then::Done(result) => {
                let result = result.map_err(|error| Error::json("the result", &error))?;
                Outcome::End(End::succeeded(result), Why::Finished)
            }
            Then::Skip(reason) => Outcome::End(End::skipped(reason), Why::Finished),
            Then::Snooze(how_long) => {
                let until = self.store.clock().now_ms().saturating_add(crate::clock::millis(how_long));
                Outcome::Snooze(Wait::until(until))
            }
            Then::Defer(deferral, step) => {
                let step = step.map_err(|error| Error::json("the next step", &error))?;
                self.defer(&deferral, &step)?
            }
        })
    }

    fn defer(&self, deferral: &Deferral, step: &Step) -> Result<Outcome> {
        Ok(Outcome::Defer { step: self.store.seal(Purpose::Step, "step", step)?, wait: self.store.arm(deferral)? })
    }

    /// A failed attempt is made again if the policy has another, and is the task's end if not.
    pub(super) fn failed(&self, claimed: &Claimed, error: TaskError) -> Outcome {
        let delay = if error.fatal { None } else { claimed.retry.delay_ms(claimed.attempt, rand::random()) };
        match delay {
            None => Outcome::End(End::failed(error.message), Why::Failed),
            Some(delay) => {
                let task = claimed.fence.task;
                tracing::warn!(task.id = %task, task.attempt = claimed.attempt, "attempt {} at task {task} failed: {error}", claimed.attempt);
                let delay = error.after.map_or(delay, crate::clock::millis);
                Outcome::Retry(Wait::until(self.store.clock().now_ms().saturating_add(delay)))
            }
        }
    }

    /// Runs steps of one task type; an answer each, in order.
    async fn answers(
        &self,
        handler: &dyn Handler,
        steps: Vec<(AnyStep, TaskContext)>,
        tokens: &[CancellationToken],
    ) -> Vec<Answer> {
        let count = steps.len();
        let all_called_off = async {
            for token in tokens {
                token.cancelled().await;
            }
            self.store.clock().sleep(GRACE).await;
        };
        let limit = handler.time_out().unwrap_or(Duration::MAX);
        let run = tokio::time::timeout(limit, AssertUnwindSafe(handler.run(steps)).catch_unwind());
        let everyone = |error: &dyn Fn() -> TaskError| (0..count).map(|_| Answer::Came(Err(error()))).collect();
        tokio::select! {
            ran = run => match ran {
                Ok(Ok(answers)) if answers.len() == count => answers.into_iter().map(Answer::Came).collect(),
                Ok(Ok(answers)) => everyone(&|| {
                    TaskError::fatal(format!("run_many was given {count} steps and answered for {}", answers.len()))
                }),
                Ok(Err(panic)) => everyone(&|| TaskError::retry(format!("the step panicked: {}", error::said(&*panic)))),
                Err(_) => everyone(&|| {
                    TaskError::retry(format!("the step had not ended after its time-out of {} s", limit.as_secs_f64()))
                }),
            },
            () = all_called_off => (0..count).map(|_| Answer::Dropped).collect(),
        }
    }
}

/// What came of running a step.
pub(super) enum Answer {
    /// It answered.
    Came(Result<Then, TaskError>),
    /// It was called off, and had not noticed in time.
    Dropped,
}
