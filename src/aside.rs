//! What this replica was given and cannot read: left alone for a while, so that others find it, and held up by nothing.
//!
//! Remembered in memory only. A row that nobody here can read is never failed, changed or dropped for it.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use crate::{clock::Clock, id::TaskId};

/// How long it is left to others.
const LEFT: Duration = Duration::from_mins(5);

/// The most rows that are remembered one by one. Beyond it all rows of the kind that has most of them are left alone: a
/// batch of leases would consist of nothing else.
const MOST: usize = 1_000;

/// The rows that are set aside, by the kind of trigger or the name of task that they have.
#[derive(Debug)]
pub struct Aside {
    clock: Clock,
    left: Mutex<Left>,
}

#[derive(Debug, Default)]
struct Left {
    rows: HashMap<TaskId, (String, Duration)>,
    kinds: HashMap<String, Duration>,
}

impl Aside {
    /// Nothing is set aside, as this clock's time goes.
    pub fn new(clock: Clock) -> Self {
        Self { clock, left: Mutex::default() }
    }

    /// Sets a row aside, or all of a kind.
    pub fn set(&self, task: TaskId, kind: &str) {
        let until = self.clock.monotonic() + LEFT;
        let mut left = self.left();
        left.rows.insert(task, (kind.to_owned(), until));
        if left.rows.len() <= MOST {
            return;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        left.rows.values().for_each(|(kind, _)| *counts.entry(kind).or_default() += 1);
        if let Some((most, count)) =
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(kind, count)| (kind.to_owned(), count))
        {
            tracing::error!(
                "more than {count} rows of {most} cannot be read here: all of {most} is left to others for {} minutes",
                LEFT.as_secs() / 60
            );
            left.rows.retain(|_, (kind, _)| *kind != most);
            left.kinds.insert(most, until);
        }
    }

    /// The rows that are left alone at present.
    pub fn rows(&self) -> Vec<TaskId> {
        self.left().rows.keys().copied().collect()
    }

    /// Whether all of a kind is left alone at present.
    pub fn leaves(&self, kind: &str) -> bool {
        self.left().kinds.contains_key(kind)
    }

    /// Without what is tried again.
    fn left(&self) -> std::sync::MutexGuard<'_, Left> {
        let now = self.clock.monotonic();
        let mut left = self.left.lock().expect("nothing panics while it is held");
        left.rows.retain(|_, (_, until)| *until > now);
        left.kinds.retain(|_, until| *until > now);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: usize) -> Vec<TaskId> {
        (0..count).map(|_| TaskId::mint()).collect()
    }

    #[test]
    fn a_row_is_left_alone_for_a_while() {
        let clock = Clock::turned(jiff::Timestamp::UNIX_EPOCH);
        let aside = Aside::new(clock.clone());
        let [row] = tasks(1)[..] else { unreachable!() };
        aside.set(row, "http");
        clock.turn(LEFT - Duration::from_millis(1));
        assert_eq!(aside.rows(), [row]);
        clock.turn(Duration::from_millis(1));
        assert_eq!(aside.rows(), []);
    }

    #[test]
    fn a_kind_that_fills_it_is_left_alone_and_the_others_are_not() {
        let clock = Clock::turned(jiff::Timestamp::UNIX_EPOCH);
        let aside = Aside::new(clock.clone());
        let [other] = tasks(1)[..] else { unreachable!() };
        aside.set(other, "file");
        tasks(MOST - 1).into_iter().for_each(|row| aside.set(row, "http"));
        assert_eq!((aside.rows().len(), aside.leaves("http")), (MOST, false));
        aside.set(tasks(1)[0], "http");
        assert_eq!((aside.rows(), aside.leaves("http"), aside.leaves("file")), (vec![other], true, false));
        clock.turn(LEFT);
        assert!(!aside.leaves("http"), "it is tried again");
    }
}
