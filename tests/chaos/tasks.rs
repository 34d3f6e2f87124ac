//! The tasks of a run: one type, whose steps are what tasks of every shape do, and how a planned task is added.

use std::{path::PathBuf, time::Duration};

use reveille::{
    Awaited, NewTask, Next, Priority, Retry, Task, TaskContext, TaskError,
    clock::Clock,
    defer, done, done_with,
    file::{File, Found},
    http::Http,
    id::TaskId,
    snooze,
    trigger::Trigger,
    wait::{Absent, All, Any, Ended, Otherwise, Signal, TaskEnd, Timer},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    door::DOOR,
    plan::{Planned, Shape},
    record::Asked,
};

/// How far apart the looks of polls are.
const SPACING: Duration = Duration::from_millis(300);

/// How far apart the looks are of triggers that end their task: far enough for whoever comes back from the dead with such
/// an end to find that another has the trigger and has not looked yet.
const SELDOM: Duration = Duration::from_secs(6);

/// How many tasks poll for the same file.
const SHARING: usize = 5;

/// How many tasks may be at work under one key, and how many keys there are.
const AT_ONCE: u32 = 3;
const KEYS: usize = 20;

/// How long a step works at most: longer than a lease, and short enough to end between two faults.
const LONGEST_WORK: Duration = Duration::from_secs(3);

/// Longer than any run, with all that the clock may jump.
const EVER: Duration = Duration::from_hours(20 * 24);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Doing {
    Sleep { wait: Duration },
    Hop { left: u32, wait: Duration },
    Work { time: Duration, sleeps: bool },
    Fly { left: u32, path: PathBuf, wait: Duration },
    Land { left: u32, path: PathBuf, wait: Duration, first: Awaited<Value> },
    Ask { at: usize },
    HearTwice { key: String },
    HearAgain { key: String, word: Awaited<String> },
    HearBoth { first: String, word: Awaited<String> },
    Listen { key: String },
    Hear { word: Awaited<String> },
    Repeat,
    Poll { path: PathBuf },
    Collect { found: Awaited<Found> },
    Race { key: String, wait: Duration },
    Win { first: Awaited<Value> },
    Gather { path: PathBuf, key: String },
    Use { both: Awaited<Both> },
    Try,
    Snooze { until: PathBuf },
    Overstay { key: String, deadline: Duration, go_on: bool },
    Excuse { word: Awaited<String> },
    Follow { task: TaskId },
    Tell { ended: Awaited<Ended> },
    Kill { once: PathBuf },
    Finish,
    Never,
}

/// What came, each under its name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Both {
    file: Found,
    word: String,
}

impl Task for Doing {
    const NAME: &'static str = "doing";

    fn retry() -> Retry {
        Retry { max_attempts: 3, backoff: Duration::from_millis(200), cap: Duration::from_secs(1) }
    }

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        Ok(match self {
            Self::Sleep { wait } => defer(Timer::after(wait)).then(Self::Finish),
            Self::Hop { left: 0, .. } | Self::Finish => done(),
            Self::Hop { left, wait } => defer(Timer::after(wait / 4)).then(Self::Hop { left: left - 1, wait }),
            Self::Work { time, sleeps } => {
                Clock::system().sleep(time).await;
                if sleeps { defer(Timer::after(time / 4)).then(Self::Finish) } else { done() }
            }
            Self::Fly { left, path, wait } => fly(left, path, wait),
            Self::Land { left, path, wait, first } => {
                let first = first.get()?;
                if first != json!({ leg(left): null }) {
                    return Err(TaskError::fatal(format!("{first} is of another wait than {}", leg(left))));
                }
                if left == 0 { done() } else { fly(left - 1, path, wait) }
            }
            Self::Ask { at } => {
                let yes = Http::get(format!("/{at}")).connection(DOOR).until(200).every(SPACING);
                defer(yes).then(Self::Finish)
            }
            Self::HearTwice { key } => defer(Signal::new(key.clone())).then_with(|word| Self::HearAgain { key, word }),
            Self::HearAgain { key, word } => {
                let first = word.get()?;
                defer(Signal::new(key)).then_with(|word| Self::HearBoth { first, word })
            }
            Self::HearBoth { first, word } => {
                let mut both = [first, word.get()?];
                both.sort();
                done_with(both)
            }
            Self::Listen { key } => defer(Signal::new(key)).then_with(|word| Self::Hear { word }),
            Self::Hear { word } => done_with(word.get()?),
            Self::Repeat => done_with(cx.event::<String>()?),
            Self::Poll { path } => defer(file(&path)).then_with(|found| Self::Collect { found }),
            Self::Collect { found } => done_with(found.get()?.files.len()),
            Self::Race { key, wait } => {
                let first = Any::default().or("said", Signal::new(key)).or("late", Timer::after(wait));
                defer(first).then_with(|first| Self::Win { first })
            }
            Self::Win { first } => done_with(first.get()?),
            Self::Gather { path, key } => {
                let both = All::default().and("file", file(&path)).and("word", Signal::new(key));
                defer(both).then_with(|both| Self::Use { both })
            }
            Self::Use { both } => done_with(both.get().map(|Both { file, word }| (file.files.len(), word))?),
            Self::Try if cx.attempt() < 3 => return Err(TaskError::retry("not yet")),
            Self::Try => done_with(cx.attempt()),
            Self::Snooze { until } if until.exists() => done(),
            Self::Snooze { .. } => snooze(SPACING),
            Self::Overstay { key, deadline, go_on } => {
                let wait = defer(Signal::new(key)).deadline(deadline);
                let wait = if go_on { wait.or_resume() } else { wait };
                wait.then_with(|word| Self::Excuse { word })
            }
            Self::Excuse { word } => done_with(word.get().unwrap_or_else(|_| "late".to_owned())),
            Self::Follow { task } => defer(TaskEnd::of(task.0)).then_with(|ended| Self::Tell { ended }),
            Self::Tell { ended } => done_with(ended.get()?.task),
            Self::Kill { once } => {
                if !once.exists() {
                    std::fs::write(&once, "")?;
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
                }
                done()
            }
            Self::Never => return Err(TaskError::fatal("this step is never reached")),
        })
    }
}

fn file(path: &std::path::Path) -> File {
    File::at(path.to_str().expect("a folder of ours has a name in letters")).settle(Duration::ZERO).every(SPACING)
}

/// Waits for a time or a file that never is there.
fn fly(left: u32, path: PathBuf, wait: Duration) -> Next<Doing> {
    let first = Any::default().or(leg(left), Timer::after(wait / 4)).or("never", file(&path));
    defer(first).then_with(|first| Doing::Land { left, path, wait, first })
}

fn seldom(path: &std::path::Path) -> File {
    file(path).every(SELDOM)
}

/// The name of one of several waits, one after the other.
fn leg(left: u32) -> String {
    format!("leg {left}")
}

/// A task as it is added, and what is done to it from outside afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Adding {
    pub(crate) new: NewTask,
    pub(crate) asked: Asked,
    pub(crate) deeds: Vec<Deed>,
    pub(crate) after: Duration,
}

/// What is done from outside.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Signals are sent, one after the other.
    Signal { key: String, words: Vec<String> },
    /// The run's own server says yes from now on.
    Open(String),
    /// A file is made.
    Write(PathBuf),
    /// A task is called off.
    Cancel,
}

impl Adding {
    /// The task number `at` of a plan; `before` is the one added before it.
    pub(crate) fn of(planned: &Planned, at: usize, folder: &std::path::Path, before: Option<TaskId>) -> Self {
        let id = TaskId::mint();
        let Planned { shape, wait, acted_after } = *planned;
        let key = format!("key/{at}");
        let word = format!("word {at}");
        let path = folder.join(format!("{at}"));
        let shared = folder.join(format!("shared-{}", at / SHARING));
        let said = Deed::Signal { key: key.clone(), words: vec![word.clone()] };
        let short = Duration::from_secs(1) + wait / 8;

        let start = |step: &Doing| NewTask::of(step).expect("a step is JSON").id(id);
        let plain = |step| (start(&step), "succeeded", None, Vec::new());
        let ends = |trigger: Absent| start(&Doing::Never).when(defer(trigger));
        let (new, end, result, deeds) = match shape {
            Shape::Sleeps => plain(Doing::Sleep { wait }),
            Shape::BeginsLater => (start(&Doing::Finish).after(wait), "succeeded", None, Vec::new()),
            Shape::Hops => plain(Doing::Hop { left: 3, wait }),
            Shape::Works => plain(Doing::Work { time: wait.min(LONGEST_WORK), sleeps: false }),
            Shape::WorksAndSleeps => plain(Doing::Work { time: LONGEST_WORK * 3 / 2, sleeps: true }),
            Shape::FliesInLegs => plain(Doing::Fly { left: 2, path, wait }),
            Shape::Asks => (
                start(&Doing::Ask { at }).priority(Priority::Urgent),
                "succeeded",
                None,
                vec![Deed::Open(at.to_string())],
            ),
            Shape::HearsTwice => {
                let words = vec![format!("{word}, first"), format!("{word}, second")];
                let result = json!(words);
                let said = Deed::Signal { key: key.clone(), words };
                (start(&Doing::HearTwice { key }), "succeeded", Some(result), vec![said])
            }
            Shape::Listens => (start(&Doing::Listen { key }), "succeeded", Some(json!(word)), vec![said]),
            Shape::BeginsListening => {
                let new = start(&Doing::Repeat).when(defer(Signal::new(key)));
                (new, "succeeded", Some(json!(word)), vec![said])
            }
            Shape::Polls => {
                (start(&Doing::Poll { path: shared.clone() }), "succeeded", Some(json!(1)), vec![Deed::Write(shared)])
            }
            Shape::HearsFirst => {
                let result = json!({ "said": word });
                (start(&Doing::Race { key, wait: EVER }), "succeeded", Some(result), vec![said])
            }
            Shape::TimesOut => {
                (start(&Doing::Race { key, wait }), "succeeded", Some(json!({ "late": null })), Vec::new())
            }
            Shape::NeedsBoth => {
                let new = start(&Doing::Gather { path: path.clone(), key });
                (new, "succeeded", Some(json!([1, word])), vec![Deed::Write(path), said])
            }
            Shape::FailsTwice => (start(&Doing::Try), "succeeded", Some(json!(3)), Vec::new()),
            Shape::Snoozes => {
                (start(&Doing::Snooze { until: path.clone() }), "succeeded", None, vec![Deed::Write(path)])
            }
            Shape::FailsLate => {
                let new = start(&Doing::Overstay { key, deadline: short, go_on: false });
                (new.retry(Retry { max_attempts: 2, ..Doing::retry() }), "failed", None, Vec::new())
            }
            Shape::GoesOnLate => {
                let new = start(&Doing::Overstay { key, deadline: short, go_on: true });
                (new, "succeeded", Some(json!("late")), Vec::new())
            }
            // A wait that is never over: one that nobody holds, or one that a triggerer does.
            Shape::IsCancelled => {
                let step = if at.is_multiple_of(2) { Doing::Listen { key } } else { Doing::Poll { path } };
                (start(&step), "cancelled", None, vec![Deed::Cancel])
            }
            Shape::IsEnded => {
                let countdown = Any::of([("countdown", countdown())]);
                (start(&Doing::Never).when(defer(countdown)), "succeeded", Some(json!({ "looks": 3 })), Vec::new())
            }
            Shape::IsSkipped => (ends(Absent::after(EVER, seldom(&path))), "skipped", None, vec![Deed::Write(path)]),
            Shape::IsFailed => {
                let absent = Absent::after(EVER, seldom(&path)).otherwise(Otherwise::Fail);
                (ends(absent).retry(Retry::NEVER), "failed", None, vec![Deed::Write(path)])
            }
            Shape::Follows => {
                let task = before.expect("one that follows is not the first");
                (start(&Doing::Follow { task }), "succeeded", Some(json!(task)), Vec::new())
            }
            Shape::TakesTurns => {
                let new = start(&Doing::Hop { left: 2, wait: Duration::from_millis(400) });
                (new.limit(format!("limit/{}", at % KEYS), AT_ONCE), "succeeded", None, Vec::new())
            }
            Shape::Kills => plain(Doing::Kill { once: path }),
        };
        let max_attempts = match shape {
            Shape::IsFailed => 1,
            Shape::FailsLate => 2,
            _ => 3,
        };
        let asked = Asked {
            task: id.0,
            shape: format!("{shape:?} ({at})"),
            ends: vec![end],
            result,
            max_attempts,
            signals: Vec::new(),
            cancelled: None,
        };
        Self { new, asked, deeds, after: acted_after }
    }
}

/// The demo's trigger that ends its task, from its spec: its code is in the triggerers alone.
fn countdown() -> Box<dyn Trigger> {
    serde_json::from_value(json!({ "demo_countdown": { "looks": 3 } })).expect("the demo has it")
}
