//! `reveille task add`

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::super::{
    app::App,
    failure::{Exit, Failure},
    fleet::{Fleet, knows, listed, serves},
    output::{FAINT, plain},
    replica,
    time::{self, Moment},
};
use crate::{
    error::Error,
    id::{BatchId, TaskId},
    kind,
    store::{NewTask, Store, replica::Role},
    task::{Deferral, Origin, Priority, Retry},
};

/// Add a task, by its name and the JSON of its first step
///
/// Where the task is a Rust enum, a step is written as its variant: '{"Submit": {"day": "2026-01-01"}}', or '"Submit"'
/// if it has no fields. Answers with the task's id, or that of the task which --dedupe found.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Add {
    /// The task's name, as its code has it
    name: String,

    /// The first step, in JSON; - reads it from stdin
    #[arg(long, value_name = "JSON", default_value = "null")]
    step: String,

    /// The task's id, minted by you: adding it again changes nothing
    #[arg(long, value_name = "UUID", value_parser = super::id::<TaskId>)]
    id: Option<TaskId>,

    /// The queue to put it on
    #[arg(long, default_value = "default")]
    queue: String,

    /// Which of the ready tasks goes first
    #[arg(long, default_value = "normal", value_parser = priorities())]
    priority: Priority,

    /// Only if no unfinished task of this name has this key; else answer with that one
    #[arg(long, value_name = "KEY")]
    dedupe: Option<String>,

    /// Only if none was added with this key for this long, finished or not
    #[arg(long, value_name = "DURATION", requires = "dedupe", value_parser = time::duration)]
    dedupe_within: Option<Duration>,

    /// At most so many tasks with this key at work at once, from their first step to their end: 'api=3'
    #[arg(long, value_name = "KEY=N", value_parser = limit)]
    limit: Option<(String, u32)>,

    /// Not before this time
    #[arg(long, value_name = "TIME", group = "start", value_parser = time::time)]
    at: Option<Timestamp>,

    /// Not before this much time has passed
    #[arg(long, value_name = "DURATION", group = "start", value_parser = time::duration)]
    after: Option<Duration>,

    /// Not before this trigger has fired: its kind with its fields, such as '{"file": {"path": "/data/in.csv"}}'
    #[arg(long, value_name = "JSON", group = "start")]
    when: Option<String>,

    /// The wait ends badly if nothing has fired by this time, or within this duration
    #[arg(long, value_name = "TIME|DURATION", requires = "when", value_parser = time::moment)]
    deadline: Option<Moment>,

    /// The wait ends badly once so many checks in a row could not tell
    #[arg(long, value_name = "CHECKS", requires = "when")]
    error_budget: Option<NonZeroU32>,

    /// Start the task even if its wait ends badly, rather than fail it: it sees the reason
    #[arg(long, requires = "when")]
    or_resume: bool,

    /// Skip it if it has not begun by this time, or within this duration
    #[arg(long, value_name = "TIME|DURATION", value_parser = time::moment)]
    expires: Option<Moment>,

    /// How often a step is tried [default: 3]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    max_attempts: Option<i32>,

    /// The id that tasks added together share
    #[arg(long, value_name = "UUID", value_parser = super::id::<BatchId>)]
    batch: Option<BatchId>,

    /// Where it comes from
    #[arg(long, default_value = "manual", value_parser = origins())]
    origin: Origin,
}

fn priorities() -> impl clap::builder::TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(["low", "normal", "high", "urgent"]).try_map(|word| word.parse::<Priority>())
}

fn origins() -> impl clap::builder::TypedValueParser<Value = Origin> {
    PossibleValuesParser::new(["manual", "schedule", "child", "redrive"]).try_map(|word| word.parse::<Origin>())
}

fn limit(text: &str) -> Result<(String, u32), String> {
    let (key, n) = text.rsplit_once('=').ok_or("write it as KEY=N, such as api=3")?;
    let n = n
        .parse()
        .map_err(|error| format!("{n:?} is no number of tasks ({error}): write it as KEY=N, such as api=3"))?;
    Ok((key.to_owned(), n))
}

impl Add {
    pub(super) async fn run(self: Box<Self>, app: &App) -> Result<Exit, Failure> {
        let step = super::json("--step", &self.step)?;
        let deferral = self.deferral()?;
        let store = app.open().await?;
        // Minted here, so that another one in the answer tells that the task was there.
        let id = self.id.unwrap_or_else(TaskId::mint);
        let was_there = self.id.is_some() && store.show(id).await?.is_some();
        let task = self.task(&store, id, step, deferral);
        let added = store.enqueue(task).await.map_err(|error| again_with(error, id))?;

        app.output.print(&Answer {
            id: added,
            added: added == id && !was_there,
            name: &self.name,
            queue: &self.queue,
            again: &app.again,
        })?;
        // It is added, whatever comes of looking for somebody to run it.
        match replica::fleet(&store).await {
            Ok(fleet) => self.warn_if_nobody_takes_it(app, &fleet),
            Err(failure) => tracing::warn!("cannot tell whether somebody will run it: {failure}"),
        }
        app.close(store).await;
        Ok(Exit::Fine)
    }

    /// The wait that it begins with.
    fn deferral(&self) -> Result<Option<Deferral>, Failure> {
        let Some(when) = &self.when else { return Ok(None) };
        let trigger = kind::parse(super::json("--when", when)?)?;
        let mut deferral = Deferral::on(Arc::from(trigger));
        deferral = match self.deadline {
            None => deferral,
            Some(Moment::After(duration)) => deferral.deadline(duration),
            Some(Moment::At(at)) => deferral.deadline_at(at),
        };
        if let Some(checks) = self.error_budget {
            deferral = deferral.error_budget(checks);
        }
        Ok(Some(if self.or_resume { deferral.or_resume() } else { deferral }))
    }

    fn task(&self, store: &Store, id: TaskId, step: Value, deferral: Option<Deferral>) -> NewTask {
        let mut task =
            NewTask::named(&self.name, step).id(id).queue(&self.queue).priority(self.priority).origin(self.origin);
        task = match (&self.dedupe, self.dedupe_within) {
            (None, _) => task,
            (Some(key), None) => task.dedupe(key),
            (Some(key), Some(window)) => task.dedupe_within(key, window),
        };
        task = match (self.at, self.after, deferral) {
            (Some(at), _, _) => task.at(at),
            (_, Some(delay), _) => task.after(delay),
            (_, _, Some(deferral)) => task.when(deferral),
            (None, None, None) => task,
        };
        if let Some((key, n)) = &self.limit {
            task = task.limit(key, *n);
        }
        if let Some(moment) = self.expires {
            task = task.expires(match moment {
                Moment::At(at) => at,
                Moment::After(duration) => store.clock().now().checked_add(duration).unwrap_or(Timestamp::MAX),
            });
        }
        if let Some(max_attempts) = self.max_attempts {
            task = task.retry(Retry { max_attempts, ..Retry::default() });
        }
        match self.batch {
            Some(batch) => task.batch(batch),
            None => task,
        }
    }

    fn warn_if_nobody_takes_it(&self, app: &App, fleet: &Fleet) {
        if let Some((warning, help)) = self.nobody_takes_it(fleet) {
            app.output.warn(&warning, help);
        }
    }

    /// Why the task would lie where it is, as things stand.
    fn nobody_takes_it(&self, fleet: &Fleet) -> Option<(String, &'static str)> {
        let name = &self.name;
        let workers = fleet.live(Role::Worker);
        let knowing: Vec<_> = workers.iter().filter(|worker| knows(worker, name)).copied().collect();
        if workers.is_empty() {
            Some((
                "no worker is live, so nothing will run it".to_owned(),
                "start one whose binary has this task: `worker`, or `dev` to try things out",
            ))
        } else if knowing.is_empty() {
            Some((
                format!("no live worker knows a task named {name:?}: they know {}", listed(&workers)),
                "start a worker whose binary has it (`kinds` lists what a binary has), or cancel this task and mend the name",
            ))
        } else if !knowing.iter().any(|worker| serves(worker, &self.queue)) {
            Some((
                format!("no live worker that knows {name:?} takes tasks from the queue {:?}", self.queue),
                "start a worker with this queue among its --queues, or without --queues for all",
            ))
        } else {
            None
        }
    }
}

/// Where the answer was lost, the task may have been added: only its id makes it safe to try again.
fn again_with(error: Error, id: TaskId) -> Failure {
    match error {
        Error::Outage { .. } => Failure::from(error)
            .help(format!("it may have been added: try again with --id {id}, which cannot add it twice")),
        error => error.into(),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    id: TaskId,
    added: bool,
    name: &'a str,
    queue: &'a str,
    #[serde(skip)]
    again: &'a str,
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, again, .. } = self;
        let (name, queue) = (plain(self.name), plain(self.queue));
        if self.added {
            writeln!(f, "added {name} to the queue {queue}: {id}")?;
        } else {
            writeln!(f, "{name} was there, and nothing was added: {id}")?;
        }
        writeln!(f, "{FAINT}see what becomes of it: {again} task show {id}{FAINT:#}")
    }
}
