//! `reveille task`

mod add;
mod cancel;
mod list;
mod show;
mod signal;
mod why;

use serde_json::Value;
use uuid::Uuid;

use super::{
    app::App,
    failure::{Exit, Failure},
};
use crate::{id::TaskId, store::report::no_such_task};

/// Add tasks, see what they do, and steer them
#[derive(Debug, clap::Subcommand)]
pub(super) enum Task {
    Add(Box<add::Add>),
    List(list::List),
    Show(show::Show),
    Cancel(cancel::Cancel),
    Signal(signal::Signal),
}

impl Task {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        match self {
            Self::Add(command) => command.run(app).await,
            Self::List(command) => command.run(app).await,
            Self::Show(command) => command.run(app).await,
            Self::Cancel(command) => command.run(app).await,
            Self::Signal(command) => command.run(app).await,
        }
    }
}

/// Reads JSON from the command line, or from stdin if it says `-`.
fn json(flag: &str, text: &str) -> Result<Value, Failure> {
    let read;
    let text = if text == "-" {
        read = std::io::read_to_string(std::io::stdin())?;
        &read
    } else {
        text
    };
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("{flag} is not JSON: {error}"))
            .help(format!("quote it for the shell, such as {flag} '{{\"name\": \"value\"}}', or {flag} '\"text\"'"))
    })
}

/// Reads an id, of a task or of something else.
fn id<T: From<Uuid>>(text: &str) -> Result<T, String> {
    let id: Result<Uuid, _> = text.parse();
    id.map(T::from)
        .map_err(|_| "an id is a UUID such as 01997d3e-8f00-7000-8000-000000000000, as `task list` shows".to_owned())
}

fn unknown(task: TaskId) -> Failure {
    Failure::new(Exit::Wrong, no_such_task(task))
}
