//! `reveille task list`

use std::fmt;

use clap::builder::PossibleValuesParser;
use comfy_table::Cell;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::super::{
    app::App,
    failure::{Exit, Failure},
    output::{FAINT, state, table},
    time,
};
use crate::{
    clock::timestamp,
    id::BatchId,
    store::report::{self, Brief, Filter},
    task::Priority,
};

const STATES: [&str; 7] = ["ready", "running", "deferred", "succeeded", "failed", "skipped", "cancelled"];

/// List tasks, the latest first
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those in this state
    #[arg(long, value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,

    /// Only those of this name
    #[arg(long)]
    name: Option<String>,

    /// Only those of this queue
    #[arg(long)]
    queue: Option<String>,

    /// Only those of this batch
    #[arg(long, value_name = "UUID", value_parser = super::id::<BatchId>)]
    batch: Option<BatchId>,

    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl List {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let is_filtered = self.state.is_some() || self.name.is_some() || self.queue.is_some() || self.batch.is_some();
        let limit = self.limit as usize;
        let filter = Filter {
            state: self.state,
            name: self.name,
            queue: self.queue,
            batch: self.batch.map(|batch| batch.0),
            // One more shows that there are more.
            limit: i64::from(self.limit) + 1,
        };
        let store = app.open().await?;
        let mut tasks = store.reading("listing tasks", async |db| report::list(db, &filter).await).await?;
        let now_ms = store.clock().now_ms();
        app.close(store).await;
        let has_more = tasks.len() > limit;
        tasks.truncate(limit);
        app.output.print(&Listing { tasks, has_more, is_filtered, now_ms, again: &app.again })?;
        Ok(Exit::Fine)
    }
}

struct Listing<'a> {
    tasks: Vec<Brief>,
    has_more: bool,
    is_filtered: bool,
    now_ms: i64,
    again: &'a str,
}

impl Serialize for Listing<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.tasks.iter().map(Line::of))
    }
}

/// A task in brief, as programs read it.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    id: Uuid,
    name: &'a str,
    queue: &'a str,
    state: &'a str,
    priority: &'a str,
    turn: i32,
    attempt: i32,
    enqueued_at: Timestamp,
    finished_at: Option<Timestamp>,
    waits_for: Option<&'a str>,
    wake_at: Option<Timestamp>,
}

impl<'a> Line<'a> {
    pub(super) fn of(task: &'a Brief) -> Self {
        Self {
            id: task.id,
            name: &task.name,
            queue: &task.queue,
            state: &task.state,
            priority: priority(task),
            turn: task.turn,
            attempt: task.attempt,
            enqueued_at: timestamp(task.enqueued_at),
            finished_at: task.finished_at.map(timestamp),
            waits_for: task.waits_for.as_deref(),
            wake_at: task.wake_at.map(timestamp),
        }
    }
}

/// A task's priority, in its word.
pub(super) fn priority(task: &Brief) -> &'static str {
    Priority::from_rank(task.priority).map_or("unknown", Priority::word)
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tasks.is_empty() {
            return if self.is_filtered {
                writeln!(f, "no such tasks")
            } else {
                writeln!(f, "no tasks yet: `{} task add --help` tells how to add one", self.again)
            };
        }
        let mut table = table(["task", "name", "queue", "state", "turn", "attempt", "added", "waits for"]);
        for task in &self.tasks {
            table.add_row([
                Cell::new(task.id),
                Cell::new(&task.name),
                Cell::new(&task.queue),
                state(&task.state),
                Cell::new(task.turn),
                Cell::new(task.attempt),
                Cell::new(time::coarse(task.enqueued_at, self.now_ms)),
                Cell::new(self.waits_for(task)),
            ]);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        if self.has_more {
            let count = self.tasks.len();
            writeln!(
                f,
                "{FAINT}the latest {count}; --limit shows more, --state, --name, --queue and --batch fewer{FAINT:#}"
            )?;
        }
        Ok(())
    }
}

impl Listing<'_> {
    fn waits_for(&self, task: &Brief) -> String {
        match (&task.waits_for, task.wake_at) {
            (Some(kind), Some(at)) if kind == "timer" => format!("timer, {}", time::relative(at, self.now_ms)),
            (Some(kind), _) => kind.replace('+', ", "),
            (None, _) => String::new(),
        }
    }
}
