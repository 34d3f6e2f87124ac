//! `reveille task show`

use std::fmt;

use comfy_table::Cell;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    super::{
        app::App,
        failure::{Exit, Failure},
        fleet::Fleet,
        output::{FAINT, STRONG, plain, state, table},
        replica, time,
    },
    list::{Line, priority},
    why::{Facts, Why},
};
use crate::{
    clock::timestamp,
    id::TaskId,
    store::{
        Store,
        check::{Check, Report},
        queue,
        report::{Slot, Waiting, Whole},
    },
    task::{End, Woken},
};

/// The longest value that is shown in one line.
const LONGEST: usize = 400;

/// Show why a task is not moving, and everything else about it
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    /// The task
    #[arg(value_parser = super::id::<TaskId>)]
    id: TaskId,
}

impl Show {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let store = app.open().await?;
        let Some(task) = store.show(self.id).await? else { return Err(super::unknown(self.id)) };
        let fleet = replica::fleet(&store).await?;
        let paused_at = paused_at(&store, &task.brief.queue).await?;
        let now_ms = store.clock().now_ms();
        app.close(store).await;
        let why = Facts { task: &task, fleet: &fleet, paused_at, now_ms, again: &app.again }.why();
        app.output.print(&Sheet { task, fleet, now_ms, why })?;
        Ok(Exit::Fine)
    }
}

async fn paused_at(store: &Store, name: &str) -> Result<Option<i64>, Failure> {
    let mut tx = store.read().await?;
    let queues = queue::list(&mut tx.db()).await?;
    tx.commit().await?;
    Ok(queues.into_iter().find(|queue| queue.name == name).and_then(|queue| queue.paused_at))
}

/// All about one task.
struct Sheet {
    task: Whole,
    fleet: Fleet,
    now_ms: i64,
    why: Why,
}

#[derive(Serialize)]
struct Form<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    why: &'a str,
    advice: Option<&'a str>,
    origin: &'a str,
    crashes: i32,
    max_attempts: i32,
    holder: Option<Uuid>,
    cancel_requested_at: Option<Timestamp>,
    step: Option<&'a Value>,
    progress: Option<&'a Value>,
    event: Option<&'a Woken>,
    wait: Option<Wait<'a>>,
    slot: Option<&'a Slot>,
    end: Option<&'a End>,
    history: Vec<Move<'a>>,
}

#[derive(Serialize)]
struct Wait<'a> {
    kind: &'a str,
    passive: bool,
    since: Timestamp,
    wake_at: Option<Timestamp>,
    deadline_at: Option<Timestamp>,
    or_resume: bool,
    error_budget: Option<i32>,
    holder: Option<Uuid>,
    deaths: i32,
    keys: &'a [String],
    arrived: &'a [String],
    checks: Option<Checks<'a>>,
}

/// What its checks have come to, as its holder last told.
#[derive(Serialize)]
struct Checks<'a> {
    count: u64,
    failures: u32,
    last_at: Timestamp,
    took_ms: i64,
    said: Option<&'a str>,
    next_at: Timestamp,
}

impl<'a> Checks<'a> {
    fn of(report: &'a Report) -> Self {
        let Check { failures, at, took_ms, next_at, said } = &report.last;
        Self {
            count: report.checks,
            failures: *failures,
            last_at: timestamp(*at),
            took_ms: *took_ms,
            said: said.as_deref(),
            next_at: timestamp(*next_at),
        }
    }
}

impl<'a> Wait<'a> {
    fn of(wait: &'a Waiting) -> Self {
        Self {
            kind: &wait.kind,
            passive: wait.passive,
            since: timestamp(wait.since),
            wake_at: wait.wake_at.map(timestamp),
            deadline_at: wait.deadline_at.map(timestamp),
            or_resume: wait.or_resume,
            error_budget: wait.error_budget,
            holder: wait.holder,
            deaths: wait.deaths,
            keys: &wait.keys,
            arrived: &wait.arrived,
            checks: wait.checked.as_ref().map(Checks::of),
        }
    }
}

#[derive(Serialize)]
struct Move<'a> {
    at: Timestamp,
    was: Option<&'a str>,
    became: &'a str,
    why: &'a str,
    turn: i32,
    attempt: i32,
    event: Option<Uuid>,
    who: Option<Uuid>,
}

impl Serialize for Sheet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = &self.task;
        let history = task.history.iter().map(|moved| Move {
            at: timestamp(moved.at),
            was: moved.was.as_deref(),
            became: &moved.became,
            why: &moved.why,
            turn: moved.turn,
            attempt: moved.attempt,
            event: moved.event,
            who: moved.who,
        });
        Form {
            line: Line::of(&task.brief),
            why: &self.why.sentence,
            advice: self.why.advice.as_deref(),
            origin: &task.origin,
            crashes: task.crashes,
            max_attempts: task.max_attempts,
            holder: task.holder,
            cancel_requested_at: task.cancel_requested_at.map(timestamp),
            step: task.step.as_ref(),
            progress: task.progress.as_ref(),
            event: task.event.as_ref(),
            wait: task.wait.as_ref().map(Wait::of),
            slot: task.slot.as_ref(),
            end: task.end.as_ref(),
            history: history.collect(),
        }
        .serialize(serializer)
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Why { sentence, advice } = &self.why;
        writeln!(f, "{STRONG}The task {sentence}.{STRONG:#}")?;
        if let Some(advice) = advice {
            writeln!(f, "{advice}")?;
        }
        writeln!(f)?;
        for (name, value) in self.details() {
            writeln!(f, "  {FAINT}{name:<10}{FAINT:#}{value}")?;
        }
        writeln!(f, "\n{}", self.history())
    }
}

impl Sheet {
    fn details(&self) -> Vec<(&'static str, String)> {
        let task = &self.task;
        let when = |ms: i64| format!("{} ({})", time::stamp(ms), time::relative(ms, self.now_ms));
        let mut details = vec![
            ("task", task.brief.id.to_string()),
            ("name", task.brief.name.clone()),
            ("state", task.brief.state.clone()),
            ("queue", format!("{}, priority {}", task.brief.queue, priority(&task.brief))),
            ("origin", task.origin.clone()),
            ("added", when(task.brief.enqueued_at)),
        ];
        details.extend(task.brief.finished_at.map(|at| ("ended", when(at))));
        details.push((
            "turn",
            format!("{}, attempt {} of {}{}", task.brief.turn, task.brief.attempt, task.max_attempts, self.crashes()),
        ));
        details.extend(task.slot.as_ref().map(|slot| {
            let number = slot.number.map_or_else(String::new, |number| format!(", of which it has slot {number}"));
            ("key", format!("{}, {} at once{number}", plain(&slot.key), slot.limit))
        }));
        details.extend(task.step.as_ref().map(|step| ("step", value(step))));
        details.extend(task.progress.as_ref().map(|progress| ("progress", value(progress))));
        details.extend(task.event.as_ref().map(|event| {
            (
                "event",
                match event {
                    Woken::Payload(payload) => value(payload),
                    Woken::Failed(failed) => format!("the wait ended badly: {}", plain(&failed.message)),
                },
            )
        }));
        if let Some(wait) = &task.wait {
            details.push(("waits for", format!("{}, since {}", wait.kind, when(wait.since))));
            details.extend(wait.deadline_at.map(|at| ("deadline", when(at))));
            if !wait.arrived.is_empty() {
                details.push(("has come", plain(&wait.arrived.join(", "))));
            }
            details.extend(wait.checked.as_ref().map(|report| ("checks", self.checks(report))));
        }
        let end = task.end.as_ref();
        details.extend(end.and_then(|end| end.result.as_ref()).map(|result| ("result", value(result))));
        details.extend(end.and_then(|end| end.error.as_ref()).map(|error| ("reason", plain(error))));
        details
    }

    /// How the checks have gone, as their holder last told.
    fn checks(&self, report: &Report) -> String {
        let Check { failures, at, took_ms, next_at, said } = &report.last;
        let said = said.as_deref().map_or_else(|| "not yet".to_owned(), plain);
        let outcome = match failures {
            0 => said,
            1 => format!("could not tell: {said}"),
            failures => format!("could not tell, {failures} times in a row: {said}"),
        };
        let next = if *next_at > self.now_ms {
            format!("; the next is due {}", time::relative(*next_at, self.now_ms))
        } else {
            String::new()
        };
        format!(
            "{}, the last told of {}, in {took_ms} ms: {outcome}{next}",
            report.checks,
            time::relative(*at, self.now_ms)
        )
    }

    fn crashes(&self) -> String {
        match self.task.crashes {
            0 => String::new(),
            1 => ", 1 worker lost with it".to_owned(),
            count => format!(", {count} workers lost with it"),
        }
    }

    fn history(&self) -> String {
        let mut table = table(["at", "after", "state", "why", "turn", "attempt", "by"]);
        let mut before = None;
        for moved in &self.task.history {
            let after = before.map_or_else(String::new, |before| time::brief(moved.at - before));
            before = Some(moved.at);
            table.add_row([
                Cell::new(time::exact_stamp(moved.at)),
                Cell::new(after),
                state(&moved.became),
                Cell::new(&moved.why),
                Cell::new(moved.turn),
                Cell::new(moved.attempt),
                Cell::new(moved.who.map_or_else(String::new, |who| self.fleet.name(who))),
            ]);
        }
        table.trim_fmt()
    }
}

/// A value in one line, cut if it is long: `--json` has it whole.
fn value(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}… ({} bytes; --json shows all)", &text[..at], text.len()),
        None => text,
    }
}
