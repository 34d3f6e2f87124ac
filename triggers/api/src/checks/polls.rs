//! Checks, poll by poll: that one may be dropped wherever it waits, and that none holds up its thread.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    task::{Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::{Answer, Context, Error, Outcome, Trigger};

/// How long an answer may take. What a check that was dropped has kept for itself, the next one waits for in vain.
const LONG: Duration = Duration::from_secs(10);

/// How long one poll may take; a busy machine holds up a thread for less.
const SHORT: Duration = Duration::from_millis(250);

/// How often a check has to hold up its thread: a very busy machine does so once.
const TIMES: usize = 3;

/// A check that waits more often is one that lasts.
const MOST_WAITS: usize = 1_000;

/// Makes sure that a check may be dropped wherever it waits. Checks are begun, and dropped when they wait for the first
/// time, for the second time, and so on, until one ends; after each, another must answer as one does that nothing went
/// before. Answers with the number of places at which one was dropped.
///
/// Each check gets a context of its own. It runs where it is awaited, such as in a `#[tokio::test]`.
///
/// # Panics
/// If an answer is of another sort than the first, or there is none.
pub async fn may_be_dropped(trigger: &dyn Trigger, context: impl Fn() -> Context) -> usize {
    let first = sort(&answer(trigger, &context()).await.expect("an answer of a check that nothing went before"));
    for waits in 1..=MOST_WAITS {
        let cx = context();
        if up_to(waits, trigger.check(&cx)).await.is_some() {
            return waits - 1;
        }
        let place = format!("after a check was dropped while it waited for the {waits}. time");
        let next = answer(trigger, &context()).await.unwrap_or_else(|| panic!("{place}, none answers any more"));
        assert_eq!(sort(&next), first, "{place}, the next one answered {next:?}");
    }
    panic!("the check has waited {MOST_WAITS} times, and has not ended");
}

/// Makes sure that a check never holds up its thread, on which thousands of others wait; and answers as it does. What it
/// looks at should keep it waiting for a second: what answers at once holds up nobody.
///
/// # Panics
/// If a single poll takes longer than a quarter of a second, three times in a row.
///
/// # Errors
/// The check's own.
pub async fn never_blocks(trigger: &dyn Trigger, context: impl Fn() -> Context) -> Result<Answer, Error> {
    let mut longest = Duration::ZERO;
    for _ in 0..TIMES {
        let cx = context();
        let answer;
        (answer, longest) = timed(trigger.check(&cx)).await;
        if longest < SHORT {
            return answer;
        }
    }
    panic!("the check has held up its thread for {longest:?}: what must block goes to a thread of its own");
}

/// What an answer does, whatever is in it: a payload may have a time in it.
fn sort(answer: &Result<Answer, Error>) -> &'static str {
    match answer {
        Ok(Answer::NotYet) => "not yet",
        Ok(Answer::Fire(event)) => match event.outcome {
            Outcome::Resume(_) => "resumes",
            Outcome::Succeed(_) => "succeeds",
            Outcome::Fail(_) => "fails",
            Outcome::Skip(_) => "skips",
        },
        Err(error) if error.is_fatal() => "a fatal error",
        Err(_) => "an error that may be tried again",
    }
}

/// Polls until it has waited so often; `None` if it has not ended by then, and is dropped.
async fn up_to<T>(waits: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = waits;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// What a future answers, and how long its longest poll took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let mut future = pin!(future);
    let mut longest = Duration::ZERO;
    let output = poll_fn(|cx| {
        let begun = now();
        let polled = future.as_mut().poll(cx);
        longest = longest.max(begun.elapsed());
        polled
    });
    let output = output.await;
    (output, longest)
}

#[expect(clippy::disallowed_methods, reason = "it times a poll, in tests, where there is no clock of ours")]
fn now() -> Instant {
    Instant::now()
}

/// `None` if there is no answer in time.
async fn answer(trigger: &dyn Trigger, cx: &Context) -> Option<Result<Answer, Error>> {
    let mut check = trigger.check(cx);
    let mut alarm = None;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = check.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        let alarm = alarm.get_or_insert_with(|| Alarm::set(cx.waker().clone()));
        if alarm.has_rung.load(Ordering::Acquire) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Wakes a task after a while, unless it is dropped before. A thread, as there is no telling which runtime runs it.
struct Alarm {
    has_rung: Arc<AtomicBool>,
    _is_wanted: Sender<()>,
}

impl Alarm {
    fn set(waker: Waker) -> Self {
        let has_rung = Arc::new(AtomicBool::new(false));
        let (is_wanted, dropped) = mpsc::channel();
        let rings = Arc::clone(&has_rung);
        thread::spawn(move || {
            if dropped.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                rings.store(true, Ordering::Release);
                waker.wake();
            }
        });
        Self { has_rung, _is_wanted: is_wanted }
    }
}
