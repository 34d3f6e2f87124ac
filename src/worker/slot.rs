//! Waiting in the worker's own slot, for tasks or workers that do not defer.
//!
//! The wait holds its slot, and costs what a waiting thread costs elsewhere; but what it ends with, and the step that
//! follows, are stored before that step runs, as after a deferral.

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use reveille_trigger::{
    self as trigger, Answer, Context, Error, Key, Memory, Outcome as Fired, Receipt, Timestamp, Trigger, Wait,
    pace::{back_off, jittered},
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    attempt::Attempts,
    handler::{AnyStep, Claimed},
    settling::Outcome,
};
use crate::{
    clock::timestamp,
    error::Result,
    id::TaskId,
    outage::Outage,
    store::{
        advance::Arrival,
        history::Why,
        wait::{Wait as Stored, key_text},
        within,
    },
    task::{Deferral, End, Step, TaskError, WaitFailed, WaitFailure, Woken},
    upkeep::{POLL, past_deadline},
    vault::Purpose,
};

/// How long one call of a trigger's other hooks may take.
const HOOK: Duration = Duration::from_secs(5);

/// How soon undoing is tried again; the third attempt is the last.
const UNDO_AGAIN: Duration = Duration::from_secs(1);

/// How a wait in the slot ended.
pub(super) enum Waited {
    /// The next step, to be run in the same slot.
    Over(AnyStep),
    /// The task's fate without another step here.
    Ended(Outcome),
    /// It is no longer mine.
    Lost,
}

/// Waits, stores what the wait ended with, and decodes the step that follows.
pub(super) async fn wait(
    attempts: &Attempts,
    claimed: &mut Claimed,
    cancelled: &CancellationToken,
    deferral: &Deferral,
    step: &Step,
) -> Waited {
    let armed = attempts.store.arm(deferral);
    let stored = match armed {
        Ok(stored) => stored,
        Err(error) => return Waited::Ended(Outcome::End(End::failed(error.chain()), Why::Failed)),
    };
    let mut look = Look::new(attempts, claimed.fence.task, deferral, stored.since());
    let over = tokio::select! {
        over = watch(attempts, claimed, deferral, &stored, step, &mut look) => over,
        () = cancelled.cancelled() => {
            look.undo(claimed).await;
            Err(Box::new(Outcome::End(End::cancelled("cancelled while it waited"), Why::Cancelled)))
        }
    };
    drop(look);
    let woken = match over {
        Ok(Some(woken)) => woken,
        Ok(None) => return Waited::Lost,
        Err(outcome) => return Waited::Ended(*outcome),
    };
    (claimed.turn, claimed.attempt) = (claimed.turn + 1, 1);
    let decoded = attempts.tasks.decode(claimed, step, woken.as_ref());
    claimed.woken = woken;
    match decoded {
        Ok(next) => Waited::Over(next),
        Err(error) => Waited::Ended(Outcome::End(End::failed(error.chain()), Why::Failed)),
    }
}

/// Looks until the wait is over and stored. `None`: the task is not mine; an outcome: it ends, or is tried again.
async fn watch(
    attempts: &Attempts,
    claimed: &Claimed,
    deferral: &Deferral,
    stored: &Stored,
    step: &Step,
    look: &mut Look<'_>,
) -> Result<Option<Option<Woken>>, Box<Outcome>> {
    let clock = attempts.store.clock();
    let wait = deferral.trigger.wait(timestamp(stored.since()));
    loop {
        let (arrival, pause) = match look.once(&wait, stored).await {
            Seen::Arrived(arrival) => (Some(arrival), jittered(POLL)),
            Seen::Ends(end) => return Err(Box::new(Outcome::End(end, Why::Event))),
            Seen::Failed(failed) => (Some(bad_end(attempts, claimed, deferral, failed)?), jittered(POLL)),
            Seen::Nothing(pause) => (None, pause),
        };
        if let Some(arrival) = arrival {
            let advanced = advance(attempts, claimed, step, &arrival).await?;
            look.settle(&advanced).await;
            match advanced {
                Advanced::Moved(woken) => return Ok(Some(woken)),
                Advanced::NotMine => return Ok(None),
                Advanced::NotYet => {}
            }
        }
        // The last look is at the deadline.
        let left = stored.deadline_at().map(|deadline_at| deadline_at - clock.now_ms());
        if left.is_some_and(|left| left <= 0) {
            let late = bad_end(attempts, claimed, deferral, past_deadline())?;
            return Ok(match advance(attempts, claimed, step, &late).await? {
                Advanced::Moved(woken) => Some(woken),
                Advanced::NotMine | Advanced::NotYet => None,
            });
        }
        let left = left.map_or(Duration::MAX, |left| Duration::from_millis(left.cast_unsigned()));
        clock.sleep(pause.min(left)).await;
    }
}

/// A bad end resumes the next step, if it asked to see, and is a failed attempt at the whole wait if not.
fn bad_end(
    attempts: &Attempts,
    claimed: &Claimed,
    deferral: &Deferral,
    failed: WaitFailed,
) -> Result<Arrival, Box<Outcome>> {
    if !deferral.or_resume {
        return Err(Box::new(attempts.failed(claimed, TaskError::retry(failed))));
    }
    let woken = Some(Woken::Failed(failed));
    Ok(Arrival::Woken { woken, event: Uuid::now_v7(), why: Why::WaitFailed, taking: Vec::new() })
}

enum Advanced {
    Moved(Option<Woken>),
    /// Nothing has come under the key.
    NotYet,
    NotMine,
}

/// Stores what has arrived, through any outage: it is not looked for again.
async fn advance(
    attempts: &Attempts,
    claimed: &Claimed,
    step: &Step,
    arrival: &Arrival,
) -> Result<Advanced, Box<Outcome>> {
    let mut outage = Outage::of("waiting in a slot", attempts.store.clock());
    loop {
        let advanced = try_to_advance(attempts, claimed, step, arrival).await;
        let backoff = outage.note(&advanced);
        match advanced {
            Ok(advanced) => return Ok(advanced),
            Err(error) if error.is_outage() => attempts.store.clock().sleep(backoff.unwrap_or(POLL)).await,
            Err(error) => return Err(Box::new(Outcome::End(End::failed(error.chain()), Why::Failed))),
        }
    }
}

async fn try_to_advance(attempts: &Attempts, claimed: &Claimed, step: &Step, arrival: &Arrival) -> Result<Advanced> {
    let store = &attempts.store;
    let sealed = store.seal(Purpose::Step, "step", step)?;
    let moved = within("storing the next step", async {
        let mut tx = store.begin().await?;
        let moved = store.advance(&mut tx.db(), attempts.me, claimed.fence, claimed.turn, &sealed, arrival).await?;
        tx.commit().await?;
        Ok(moved)
    })
    .await?;
    Ok(match moved {
        None => Advanced::NotYet,
        Some(crate::store::advance::Moved::NotMine) => Advanced::NotMine,
        Some(crate::store::advance::Moved::To(woken)) => Advanced::Moved(woken),
    })
}

/// Looks at one trigger, again and again, and tells it what became of that.
struct Look<'a> {
    attempts: &'a Attempts,
    task: TaskId,
    trigger: &'a Arc<dyn Trigger>,
    since: i64,
    error_budget: Option<NonZeroU32>,
    memory: Memory,
    failures: u32,
    /// How much had come at the last check, and when the next is due by itself.
    arrived: usize,
    next: Option<Duration>,
    /// It was looked at: there may be something to let go of, or to undo.
    checked: bool,
    /// The last look found an event.
    fired: bool,
}

enum Seen {
    Arrived(Arrival),
    Ends(End),
    Failed(WaitFailed),
    Nothing(Duration),
}

impl<'a> Look<'a> {
    fn new(attempts: &'a Attempts, task: TaskId, deferral: &'a Deferral, since: i64) -> Self {
        Self {
            attempts,
            task,
            trigger: &deferral.trigger,
            since,
            error_budget: deferral.error_budget,
            memory: Memory::default(),
            failures: 0,
            arrived: 0,
            next: None,
            checked: false,
            fired: false,
        }
    }

    async fn once(&mut self, wait: &Wait, stored: &Stored) -> Seen {
        let clock = self.attempts.store.clock();
        match wait {
            Wait::Until(at) => {
                let left = at.as_millisecond() - clock.now_ms();
                if left <= 0 {
                    let event = Uuid::now_v7();
                    return Seen::Arrived(Arrival::Woken { woken: None, event, why: Why::Due, taking: Vec::new() });
                }
                Seen::Nothing(Duration::from_millis(left.cast_unsigned()))
            }
            Wait::On(key) => match key_text(key) {
                Ok(key) => Seen::Arrived(Arrival::Key(key)),
                Err(error) => Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message: error.chain() }),
            },
            _ => self.check_with(stored).await,
        }
    }

    /// A check, with what has come by now. While it waits for more than the clock, that is looked for in between.
    async fn check_with(&mut self, stored: &Stored) -> Seen {
        let keys = stored.keys();
        if keys.is_empty() {
            return self.check(stored, Vec::new(), Vec::new()).await;
        }
        let (arrived, taking) = match self.attempts.store.peek(keys).await {
            Ok(come) => come,
            Err(error) if error.is_outage() => return Seen::Nothing(jittered(POLL)),
            Err(error) => return Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message: error.chain() }),
        };
        let clock = self.attempts.store.clock();
        let is_news = self.arrived != arrived.len();
        if !is_news && self.next.is_some_and(|next| clock.monotonic() < next) {
            return Seen::Nothing(jittered(POLL));
        }
        self.arrived = arrived.len();
        match self.check(stored, arrived, taking).await {
            Seen::Nothing(pause) => {
                self.next = clock.monotonic().checked_add(pause);
                Seen::Nothing(pause.min(jittered(POLL)))
            }
            seen => seen,
        }
    }

    async fn check(&mut self, stored: &Stored, arrived: Vec<(Key, Value)>, taking: Vec<Uuid>) -> Seen {
        self.checked = true;
        let known = arrived.len();
        let cx = self.context().with_arrived(arrived.into());
        let answer = tokio::select! {
            answer = trigger::look(&**self.trigger, &cx) => answer,
            () = self.until_in_vain(stored, known) => Ok(Answer::NotYet),
        };
        let asked = cx.next_look().map(|at| at.duration_since(cx.now()).try_into().unwrap_or_default());
        let interval = self.trigger.spacing().interval(cx.waited());
        self.memory = cx.into_memory();
        self.fired = matches!(answer, Ok(Answer::Fire(_)));
        match answer {
            Ok(Answer::Fire(event)) => match event.outcome {
                Fired::Resume(payload) => {
                    let woken = Some(Woken::Payload(payload));
                    Seen::Arrived(Arrival::Woken { woken, event: event.id, why: Why::Event, taking })
                }
                Fired::Succeed(result) => Seen::Ends(End::succeeded(result)),
                Fired::Skip(reason) => Seen::Ends(End::skipped(reason)),
                Fired::Fail(message) => Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message }),
            },
            Ok(Answer::NotYet) => {
                self.failures = 0;
                Seen::Nothing(asked.unwrap_or_else(|| jittered(interval)))
            }
            Err(error) if error.is_fatal() => {
                Seen::Failed(WaitFailed { reason: WaitFailure::Fatal, message: error.to_string() })
            }
            Err(error) => self.could_not_tell(&error, interval, asked),
        }
    }

    /// Completes when a check that lasts has lasted long enough: the wait is past its deadline, or more has come than it
    /// knows of. Any other is bounded by itself.
    async fn until_in_vain(&self, stored: &Stored, known: usize) {
        let time_out = catch_unwind(AssertUnwindSafe(|| self.trigger.time_out()));
        if !matches!(time_out, Ok(None)) {
            return std::future::pending().await;
        }
        let store = &self.attempts.store;
        loop {
            let left = stored.deadline_at().map_or(i64::MAX, |deadline_at| deadline_at - store.clock().now_ms());
            if left <= 0 {
                return;
            }
            store.clock().sleep(jittered(POLL).min(Duration::from_millis(left.cast_unsigned()))).await;
            let has_news = !stored.keys().is_empty()
                && store.peek(stored.keys()).await.is_ok_and(|(arrived, _)| arrived.len() > known);
            if has_news {
                return;
            }
        }
    }

    fn could_not_tell(&mut self, error: &Error, interval: Duration, asked: Option<Duration>) -> Seen {
        self.failures = self.failures.saturating_add(1);
        if self.failures.is_power_of_two() {
            let (kind, task, failures) = (self.trigger.typetag_name(), self.task, self.failures);
            tracing::warn!(task.id = %task, trigger.kind = kind, trigger.failures = failures,
                "check {failures} in a row of the {kind} trigger in the slot of task {task} could not tell: {error}");
        }
        if self.error_budget.is_some_and(|budget| self.failures >= budget.get()) {
            return Seen::Failed(WaitFailed::errors(self.failures, error));
        }
        let pause = back_off(interval, self.failures, error.retry_after());
        Seen::Nothing(asked.map_or(pause, |asked| pause.min(asked)))
    }

    /// Tells the trigger what became of its event, once that is known.
    async fn settle(&mut self, advanced: &Advanced) {
        let receipt = match advanced {
            Advanced::Moved(_) => Receipt::Accepted,
            Advanced::NotMine => Receipt::Refused,
            Advanced::NotYet => return,
        };
        if self.fired {
            let cx = self.context();
            bounded("was told what became of its event", self.trigger.settled(&cx, receipt)).await;
            self.memory = cx.into_memory();
        }
    }

    /// Undoes what the wait was for: there is no row that another could do it from.
    async fn undo(&self, claimed: &Claimed) {
        if !self.checked {
            return;
        }
        let task = claimed.fence.task;
        for pause in [Some(UNDO_AGAIN), Some(2 * UNDO_AGAIN), None] {
            let cx = Context::new(self.now(), timestamp(self.since), Memory::default())
                .with_config(self.attempts.config.clone());
            let undone = bounded("was to undo what it was for", self.trigger.on_cancel(&cx)).await;
            let error = match undone {
                Some(Ok(())) => return,
                Some(Err(error)) => error.to_string(),
                None => "it did not come back".to_owned(),
            };
            match pause {
                Some(pause) => self.attempts.store.clock().sleep(pause).await,
                None => {
                    tracing::error!(task.id = %task, "what task {task} waited for in its slot is not undone, see to it by hand: {error}");
                }
            }
        }
    }

    fn context(&mut self) -> Context {
        let memory = std::mem::take(&mut self.memory).unless_set_back(self.attempts.store.clock().now());
        Context::new(self.now(), timestamp(self.since), memory).with_config(self.attempts.config.clone())
    }

    fn now(&self) -> impl Fn() -> Timestamp + Send + Sync + 'static {
        let clock = self.attempts.store.clock().clone();
        move || clock.now()
    }
}

/// Lets go of what the checks held here, on the side, whatever the reason.
impl Drop for Look<'_> {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.checked, Handle::try_current()) {
            let (cx, trigger) = (self.context(), Arc::clone(self.trigger));
            runtime.spawn(async move { bounded("was to clean up", trigger.cleanup(&cx)).await });
        }
    }
}

/// Calls a trigger's hook, bounded in time and with its panic caught.
async fn bounded<T>(what: &str, hook: impl Future<Output = T>) -> Option<T> {
    let outcome = tokio::time::timeout(HOOK, AssertUnwindSafe(hook).catch_unwind()).await;
    if !matches!(outcome, Ok(Ok(_))) {
        tracing::warn!("a trigger that {what} has panicked, or not come back after {} s", HOOK.as_secs());
    }
    outcome.ok()?.ok()
}
