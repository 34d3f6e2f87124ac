//! Concurrency keys: who is at work under one, and who waits to be.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use reveille::{
    id::{Incarnation, TaskId},
    store::{BATCH, Scope, history::Why},
};

use super::{Cause, State, Task, Wait, World};

/// Who was claimed and waits for a slot instead, and under which keys somebody does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TurnedAway {
    pub(crate) tasks: Vec<TaskId>,
    pub(crate) keys: Vec<String>,
}

impl World {
    /// Gives slots to tasks that were just claimed and have none, in their order; the rest waits, and with it what would be
    /// claimed next under a key that is full. Nobody passes those who wait already.
    pub(super) fn admit(&mut self, me: Incarnation, scope: &Scope, claimed: &[TaskId]) -> TurnedAway {
        let (mut turned_away, mut full) = (Vec::new(), BTreeSet::new());
        let busy: BTreeSet<String> = self.tasks.values().filter_map(|task| task.wait()?.key.clone()).collect();
        for id in claimed {
            let Some((key, limit)) = self.tasks[id].card.limit.clone() else { continue };
            if self.slot_of(*id).is_some() {
                continue;
            }
            let number = Some(self.lowest(&key)).filter(|n| *n <= limit && !busy.contains(&line(&key)));
            if let Some(n) = number {
                self.slots.insert((key, n), *id);
                // Only now has it begun.
                self.task(*id).expires_at = None;
            } else {
                turned_away.push(*id);
                full.insert(key);
            }
        }
        for id in &turned_away {
            self.await_slot(me, *id);
        }
        for id in self.next(scope, &full) {
            self.await_slot(me, id);
        }
        TurnedAway { tasks: turned_away, keys: full.iter().map(|key| line(key)).collect() }
    }

    /// Lets in those who wait, in the order in which they would be claimed, until one finds no slot; answers how many.
    pub(super) fn match_slots(&mut self, key: &str, who: Option<Incarnation>) -> usize {
        let mut count = 0;
        loop {
            let waiting = self
                .tasks
                .iter()
                .filter(|(_, task)| task.wait().is_some_and(|wait| wait.key.as_deref() == Some(&*line(key))));
            let Some((id, task)) = waiting.min_by_key(|(id, task)| (order(task), **id)) else { return count };
            let (id, n) = (*id, self.lowest(key));
            if task.card.limit.as_ref().is_none_or(|(_, limit)| n > *limit) {
                return count;
            }
            self.slots.insert((key.to_owned(), n), id);
            self.change(id, State::Ready, Cause::of(Why::Slot, who));
            count += 1;
        }
    }

    /// The number that a task has taken.
    pub(super) fn slot_of(&self, id: TaskId) -> Option<i32> {
        self.slots.iter().find(|(_, taken)| **taken == id).map(|((_, n), _)| *n)
    }

    /// The concurrency key of a task, as far as it is known.
    pub(crate) fn key_of(&self, id: TaskId) -> Option<String> {
        let unfinished = self.tasks.get(&id).map(|task| &task.card);
        let card = unfinished.or_else(|| self.finished.get(&id).map(|finished| &finished.card))?;
        card.limit.as_ref().map(|(key, _)| key.clone())
    }

    fn lowest(&self, key: &str) -> i32 {
        (1..=i32::MAX).find(|n| !self.slots.contains_key(&(key.to_owned(), *n))).expect("there are not that many tasks")
    }

    fn await_slot(&mut self, me: Incarnation, id: TaskId) {
        let task = &self.tasks[&id];
        let (key, _) = task.card.limit.as_ref().expect("it has a concurrency key");
        let wait = Wait {
            kind: "slot".to_owned(),
            spec: None,
            since: task.ready_at.expect("it was ready"),
            wake_at: None,
            deadline_at: None,
            deadline_is_fixed: false,
            or_resume: false,
            key: Some(line(key)),
            holder: None,
            deaths: 0,
            slack: 0,
        };
        self.change(id, State::Deferred(wait), Cause::of(Why::Full, Some(me)));
    }

    /// What a worker would claim next under keys that are full, up to a batch.
    fn next(&self, scope: &Scope, full: &BTreeSet<String>) -> Vec<TaskId> {
        let next = self.tasks.iter().filter(|(id, task)| {
            task.state == State::Ready
                && task.card.limit.as_ref().is_some_and(|(key, _)| full.contains(key))
                && self.slot_of(**id).is_none()
                && self.is_within(scope, **id, task)
        });
        let next: BTreeMap<_, _> = next.map(|(id, task)| ((order(task), *id), *id)).collect();
        next.into_values().take(BATCH).collect()
    }
}

fn order(task: &Task) -> (Reverse<reveille::Priority>, Option<i64>) {
    (Reverse(task.card.priority), task.ready_at)
}

/// What those wait for who find a key full.
fn line(key: &str) -> String {
    format!("slot:{key}")
}
