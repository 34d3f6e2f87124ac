//! What operations answer, in plain values that the database and the model share.

use std::collections::BTreeSet;

use reveille::{
    id::{Fence, Incarnation, TaskId},
    store::task::{Cancelled, Held},
    trigger::Receipt,
};
use serde_json::Value;

use crate::world::{Advanced, Claimed, Leased, Struck, TurnedAway, Undoes};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Yes(bool),
    /// What was asked for can never be.
    Invalid,
    /// The database refused, which is never expected.
    Failed(String),
    Count(usize),
    Beat(Option<i64>),
    At(Option<i64>),
    /// In the order asked for.
    Added(Vec<TaskId>),
    /// In no order.
    Tasks(BTreeSet<TaskId>),
    /// What is claimed, and what waits for a slot instead.
    Claimed(Vec<Claimed>, TurnedAway),
    Leased(BTreeSet<Leased>),
    Undoes(BTreeSet<Undoes>),
    /// In the order fired, and what ended.
    Fired(Vec<Receipt>, BTreeSet<TaskId>),
    /// Which were past their deadline, and what became of them.
    Struck(Vec<Fence>, Struck),
    /// How many, and which of them ended.
    Moved(usize, BTreeSet<TaskId>),
    Cancelled(Cancelled),
    Held(Vec<Held>),
    Peers(BTreeSet<(Incarnation, i64, i64)>),
    Advanced(Advanced),
    Told(Value),
}

impl Answer {
    /// The tasks that the database chose, as far as the answer tells.
    pub(crate) fn chosen(&self) -> Vec<TaskId> {
        match self {
            Self::Claimed(claims, turned_away) => {
                claims.iter().map(|claim| claim.fence.task).chain(turned_away.tasks.iter().copied()).collect()
            }
            Self::Leased(leases) => leases.iter().map(|lease| lease.fence.task).collect(),
            Self::Moved(_, ended) => ended.iter().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// The waits that it chose.
    pub(crate) fn chosen_fences(&self) -> Vec<Fence> {
        match self {
            Self::Undoes(undoes) => undoes.iter().map(|undo| undo.fence).collect(),
            Self::Struck(looked_at, _) => looked_at.clone(),
            _ => Vec::new(),
        }
    }
}
