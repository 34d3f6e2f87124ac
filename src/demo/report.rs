//! What happened to each task, from what the database has kept.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::{act::Act, tasks};
use crate::{
    error::Result,
    lag::Lag,
    store::{
        Store,
        history::Transition,
        replica,
        report::{Census, Whole},
    },
};

/// What the demo came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// The featured tasks.
    pub acts: Vec<Line>,
    /// How many tasks slept on timers.
    pub sleepers: usize,
    /// How many of them woke and ended well.
    pub awake: usize,
    /// The most tasks that waited at one look.
    pub peak_waiting: i64,
    /// The most active triggers held at one look.
    pub peak_held: i64,
    /// From due to the resumed step running, over the sleepers, in milliseconds.
    pub lag_ms: Lag,
    /// From the first task added to the last one ended.
    pub seconds: f64,
}

/// One featured task.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What it does.
    pub title: String,
    /// Its id.
    pub id: Uuid,
    /// How it ended.
    pub state: String,
    /// How many times it moved to a next step.
    pub turns: i32,
    /// At which attempt of its last turn it ended.
    pub attempts: i32,
    /// How long it waited, in milliseconds.
    pub waited_ms: i64,
    /// From added to ended, in milliseconds.
    pub took_ms: i64,
    /// Who ran its steps and who ended its waits, in order.
    pub held_by: Vec<String>,
    /// What is otherwise than it should be.
    pub wrong: Option<String>,
}

impl Report {
    /// Whether every task ended as it should.
    pub fn is_right(&self) -> bool {
        self.awake == self.sleepers && self.acts.iter().all(|line| line.wrong.is_none())
    }
}

pub(super) async fn gather(
    store: &Store,
    acts: Vec<Act>,
    sleepers: usize,
    awake: usize,
    peak: Census,
    started: i64,
) -> Result<Report> {
    let roles: HashMap<Uuid, String> = {
        let mut tx = store.read().await?;
        let replicas = replica::list(&mut tx.db()).await?;
        tx.commit().await?;
        replicas.into_iter().map(|replica| (replica.incarnation, replica.role)).collect()
    };
    let mut lines = Vec::with_capacity(acts.len());
    for act in acts {
        if let Some(whole) = store.show(act.id).await? {
            lines.push(line(&act, &whole, &roles));
        }
    }
    lines.sort_by(|a, b| a.title.cmp(&b.title));
    Ok(Report {
        backend: store.url().backend(),
        acts: lines,
        sleepers,
        awake,
        peak_waiting: peak.deferred,
        peak_held: peak.held,
        lag_ms: tasks::LAGS.told(),
        seconds: (store.clock().now_ms() - started) as f64 / 1_000.0,
    })
}

fn line(act: &Act, whole: &Whole, roles: &HashMap<Uuid, String>) -> Line {
    let mut held_by: Vec<String> = Vec::new();
    for transition in &whole.history {
        let word = hand(transition, roles);
        if let Some(word) = word.filter(|word| held_by.last() != Some(word)) {
            held_by.push(word);
        }
    }
    Line {
        title: act.title.to_owned(),
        id: act.id.0,
        state: whole.brief.state.clone(),
        turns: whole.brief.turn,
        attempts: whole.brief.attempt,
        waited_ms: waited(&whole.history),
        took_ms: whole.brief.finished_at.unwrap_or_default() - whole.brief.enqueued_at,
        held_by,
        wrong: act.expected.differs(whole),
    }
}

/// In whose hands a transition put the task: a worker that runs it, the triggerer that ended its wait, or a row.
fn hand(transition: &Transition, roles: &HashMap<Uuid, String>) -> Option<String> {
    let role = transition.who.and_then(|who| roles.get(&who)).cloned();
    match (transition.became.as_str(), transition.why.as_str()) {
        ("running", _) | (_, "event" | "wait_failed") => role,
        ("deferred", _) => Some("row".to_owned()),
        _ => None,
    }
}

fn waited(history: &[Transition]) -> i64 {
    let mut waited = 0;
    let mut since = None;
    for transition in history {
        if transition.was.as_deref() == Some("deferred")
            && let Some(since) = since.take()
        {
            waited += transition.at - since;
        }
        if transition.became == "deferred" {
            since = Some(transition.at);
        }
    }
    waited
}
