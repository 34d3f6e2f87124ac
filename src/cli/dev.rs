//! `reveille dev`

mod hello;

use std::fmt;

use serde::Serialize;
use tracing::error_span;

use self::hello::Hello;
use super::{
    app::App,
    failure::{Exit, Failure},
    migrate::{self, Prepared},
    output::{FAINT, STRONG},
    serve,
};
use crate::{Task as _, kind, life, triggerer, worker, worker::Tasks};

/// Try things out: triggerer and worker in one process, on a database made here
///
/// Makes ./reveille.db and its key file if they are not there, and migrates by itself. Beside the tasks of this binary
/// it runs one of its own, hello.
#[derive(Debug, clap::Args)]
pub(super) struct Dev {}

impl Dev {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let triggerer = app.config.triggerer_settings(serve::host())?;
        let worker = app.config.worker_settings(serve::host())?;
        let tasks = tasks()?;
        let prepared = migrate::prepare(app).await?;
        let store = app.open_to_serve().await?;
        app.output.print(&Welcome {
            prepared,
            triggers: kind::kinds()?,
            tasks: tasks.names().collect(),
            again: &app.again,
        })?;
        serve::serve(app, store.clone(), app.config.worker.drain, async |stop| {
            let checking = triggerer::run(store.clone(), triggerer, stop.clone());
            let working = worker::run(store, tasks, worker, stop.clone());
            let checking = (error_span!("triggerer"), Box::pin(checking) as _);
            let working = (error_span!("worker"), Box::pin(working) as _);
            life::together(&stop, [checking, working]).await
        })
        .await
    }
}

/// What is linked, and `hello`, unless somebody else has that name.
fn tasks() -> Result<Tasks, Failure> {
    let linked = Tasks::linked();
    linked.validate()?;
    let is_taken = linked.names().any(|name| name == Hello::NAME);
    Ok(if is_taken { linked } else { linked.with::<Hello>() })
}

/// What there is, and what to try with it.
#[derive(Serialize)]
struct Welcome<'a> {
    #[serde(flatten)]
    prepared: Prepared,
    triggers: &'static [&'static str],
    tasks: Vec<&'static str>,
    #[serde(skip)]
    again: &'a str,
}

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prepared, triggers, tasks, again } = self;
        writeln!(f, "{STRONG}A triggerer and a worker are starting; Ctrl-C stops them.{STRONG:#}\n")?;
        writeln!(f, "  database  {}{}", prepared.database, if prepared.is_new() { " (new)" } else { "" })?;
        write!(f, "  key file  {}", prepared.key_file.display())?;
        writeln!(
            f,
            "{}",
            if prepared.key_is_new { " (new: keep a copy, the database cannot be read without it)" } else { "" }
        )?;
        writeln!(f, "  triggers  {}", triggers.join(", "))?;
        writeln!(f, "  tasks     {}", tasks.join(", "))?;
        writeln!(f, "\n{STRONG}Try, in another terminal:{STRONG:#}\n")?;
        let mut step = |what: &str, command: &str| writeln!(f, "  {FAINT}# {what}{FAINT:#}\n  {again} {command}\n");
        step(
            "a task that greets you, and then waits to be answered",
            r#"task add hello --step '{"greet": {"whom": "you"}}'"#,
        )?;
        step("what it waits for", "task list")?;
        step("answer it", r#"task signal hello/you --payload '"good morning"'"#)?;
        step(
            "a task that first waits for a file: `touch /tmp/reveille-try` lets it go",
            r#"task add hello --step '{"greet": {"whom": "me"}}' --when '{"file": {"path": "/tmp/reveille-try"}}'"#,
        )?;
        step("why a task does not move, and what happened to it", "task show ID")?;
        step("whether all is well", "doctor")
    }
}
