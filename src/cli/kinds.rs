//! `reveille kinds`

use std::fmt;

use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    output::{FAINT, STRONG},
};
use crate::{kind, worker::Tasks};

/// List the kinds of triggers and the names of tasks in this binary
#[derive(Debug, clap::Args)]
pub(super) struct Kinds {}

impl Kinds {
    pub(super) fn run(self, app: &App) -> Result<Exit, Failure> {
        let Self {} = self;
        let tasks = Tasks::linked();
        tasks.validate()?;
        app.output.print(&Linked { triggers: kind::kinds()?, tasks: tasks.names().collect() })?;
        Ok(Exit::Fine)
    }
}

#[derive(Serialize)]
struct Linked {
    triggers: &'static [&'static str],
    tasks: Vec<&'static str>,
}

impl fmt::Display for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "Triggers", self.triggers, "none: link a crate that brings some, with reveille::link!")?;
        writeln!(f)?;
        list(f, "Tasks", &self.tasks, "none: a binary of your own has those that you link, with reveille::main!")
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, words: &[&str], none: &str) -> fmt::Result {
    writeln!(f, "{STRONG}{title}{STRONG:#}")?;
    if words.is_empty() {
        return writeln!(f, "  {FAINT}{none}{FAINT:#}");
    }
    words.iter().try_for_each(|word| writeln!(f, "  {word}"))
}
