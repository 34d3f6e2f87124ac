//! `reveille replica`

use std::fmt;

use comfy_table::{Attribute, Cell, Color};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    app::App,
    failure::{Exit, Failure},
    fleet::{Fleet, Life},
    output::{plain, table},
    time,
};
use crate::{
    clock::timestamp,
    store::{Store, replica},
};

/// List the triggerers and workers
#[derive(Debug, clap::Subcommand)]
pub(super) enum Replica {
    /// List the triggerers and workers that are there, and those that were until a while ago
    List,
}

impl Replica {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let Self::List = self;
        let store = app.open().await?;
        let fleet = fleet(&store).await?;
        let now_ms = store.clock().now_ms();
        app.close(store).await;
        app.output.print(&Replicas { fleet, now_ms, again: &app.again })?;
        Ok(Exit::Fine)
    }
}

/// Every replica that the database remembers.
pub(super) async fn fleet(store: &Store) -> Result<Fleet, Failure> {
    let replicas = store.reading("listing replicas", replica::list).await?;
    Ok(Fleet::new(replicas, store.clock().now_ms()))
}

struct Replicas<'a> {
    fleet: Fleet,
    now_ms: i64,
    again: &'a str,
}

#[derive(Serialize)]
struct Line<'a> {
    incarnation: Uuid,
    role: &'a str,
    label: &'a str,
    life: &'static str,
    version: &'a str,
    capacity: i32,
    running: i32,
    kinds: Vec<&'a str>,
    /// Null means all.
    queues: Option<Vec<&'a str>>,
    joined_at: Timestamp,
    seen_at: Timestamp,
    gone_at: Option<Timestamp>,
}

impl Serialize for Replicas<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.fleet.all().iter().map(|replica| Line {
            incarnation: replica.incarnation,
            role: &replica.role,
            label: &replica.label,
            life: self.fleet.life(replica).word(),
            version: &replica.version,
            capacity: replica.capacity,
            running: replica.running,
            kinds: replica.kinds.split(',').filter(|kind| !kind.is_empty()).collect(),
            queues: (replica.queues != "*").then(|| replica.queues.split(',').collect()),
            joined_at: timestamp(replica.joined_at),
            seen_at: timestamp(replica.seen_at),
            gone_at: replica.gone_at.map(timestamp),
        }))
    }
}

impl fmt::Display for Replicas<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fleet.all().is_empty() {
            let again = self.again;
            return writeln!(
                f,
                "no replicas yet: start `{again} triggerer` and `{again} worker`, or try `{again} dev`"
            );
        }
        let mut table = table(["replica", "role", "label", "life", "holds", "joined", "queues", "has"]);
        for replica in self.fleet.all() {
            let life = self.fleet.life(replica);
            let words = match (life, replica.gone_at) {
                (Life::Silent, _) => format!("silent for {}", self.fleet.silence(replica)),
                (_, Some(at)) => format!("{} {}", life.word(), time::coarse(at, self.now_ms)),
                (_, None) => life.word().to_owned(),
            };
            let life = match life {
                Life::Live => Cell::new(words).fg(Color::DarkGreen),
                Life::Silent | Life::Lost => Cell::new(words).fg(Color::DarkYellow),
                Life::Left => Cell::new(words).add_attribute(Attribute::Dim),
            };
            table.add_row([
                Cell::new(replica.incarnation),
                Cell::new(&replica.role),
                Cell::new(plain(&replica.label)),
                life,
                Cell::new(format!("{} of {}", replica.running, replica.capacity)),
                Cell::new(time::coarse(replica.joined_at, self.now_ms)),
                Cell::new(if replica.queues == "*" { "all".to_owned() } else { replica.queues.replace(',', ", ") }),
                Cell::new(replica.kinds.replace(',', ", ")),
            ]);
        }
        writeln!(f, "{}", table.trim_fmt())
    }
}
