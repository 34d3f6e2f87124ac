//! `reveille queue`

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    output::{argument, plain, table},
    time,
};
use crate::{clock::timestamp, store::queue};

/// List queues, pause and resume them
#[derive(Debug, clap::Subcommand)]
pub(super) enum Queue {
    /// List the queues, which are known from their first task on
    List,
    /// Stop claiming the tasks of a queue; what runs goes on, and waits go on
    Pause {
        /// The queue
        name: String,
    },
    /// Claim the tasks of a paused queue again
    Resume {
        /// The queue
        name: String,
    },
}

impl Queue {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        match self {
            Self::List => list(app).await,
            Self::Pause { name } => set_paused(app, name, true).await,
            Self::Resume { name } => set_paused(app, name, false).await,
        }
    }
}

async fn list(app: &App) -> Result<Exit, Failure> {
    let store = app.open().await?;
    let queues = store.reading("listing queues", queue::list).await?;
    let now_ms = store.clock().now_ms();
    app.close(store).await;
    app.output.print(&Queues { queues, now_ms })?;
    Ok(Exit::Fine)
}

struct Queues {
    queues: Vec<queue::Queue>,
    now_ms: i64,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    paused_at: Option<Timestamp>,
    ready: i64,
}

impl Serialize for Queues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.queues.iter().map(|queue| Line {
            name: &queue.name,
            paused_at: queue.paused_at.map(timestamp),
            ready: queue.ready,
        }))
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.queues.is_empty() {
            return writeln!(f, "no queues yet: one is known from its first task on");
        }
        let mut table = table(["queue", "ready", "claiming"]);
        for queue in &self.queues {
            let claiming = match queue.paused_at {
                Some(at) => format!("paused {}", time::relative(at, self.now_ms)),
                None => "yes".to_owned(),
            };
            // The count stops there.
            let ready = if queue.ready >= 10_000 { "10000 or more".to_owned() } else { queue.ready.to_string() };
            table.add_row([queue.name.clone(), ready, claiming]);
        }
        writeln!(f, "{}", table.trim_fmt())
    }
}

async fn set_paused(app: &App, name: String, paused: bool) -> Result<Exit, Failure> {
    let store = app.open().await?;
    let paused_at = paused.then(|| store.clock().now_ms());
    let found = store.set_paused(&name, paused_at).await?;
    app.close(store).await;
    if !found {
        return Err(Failure::wrong(format!("there is no queue {name:?}"))
            .help("a queue is known from its first task on; `reveille queue list` shows those that are"));
    }
    app.output.print(&Set { name, paused, again: &app.again })?;
    Ok(Exit::Fine)
}

#[derive(Serialize)]
struct Set<'a> {
    name: String,
    paused: bool,
    #[serde(skip)]
    again: &'a str,
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = plain(&self.name);
        if self.paused {
            let (again, argument) = (self.again, argument(&self.name));
            writeln!(f, "paused {name}: its tasks are not claimed until `{again} queue resume {argument}`")
        } else {
            writeln!(f, "resumed {name}: its tasks are claimed again")
        }
    }
}
