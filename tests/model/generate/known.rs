//! What the store is known to get wrong. It is left out until it is mended, and its line here goes with the mending.

use std::collections::HashSet;

use crate::op::{Op, Question, T};

pub(super) fn goes_wrong(op: &Op) -> bool {
    match op {
        // The second of two with one id answers with that, also where the first gave way to the holder of a key.
        Op::Enqueue { batch, .. } => is_twice(batch.iter().map(|adds| adds.task)),
        // On PostgreSQL, the keys of a stale deferral are stored with the right one of the same task.
        Op::Defer { batch, .. } => is_twice(batch.iter().map(|(at, _)| at.0)),
        // The census of one batch counts what is held of all.
        Op::Ask(Question::Census(batch)) => batch.is_some(),
        _ => false,
    }
}

fn is_twice(tasks: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    !tasks.into_iter().all(|task| seen.insert(task))
}
