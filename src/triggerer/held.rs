//! One of the triggers that this replica holds.

use std::sync::Arc;

use reveille_trigger::{Arrived, Memory, Trigger};
use tokio::task::AbortHandle;

use super::{
    home::{Leased, Spec},
    record::Record,
};
use crate::id::Fence;

/// What has just begun to wait stays where it is for so long, in milliseconds: of a wait that is due later than that after it
/// began it can be told that it was given back. The two times are stored a little apart.
pub(super) const STAYS: i64 = 1_000;

/// One lease of one of them. It may be given back and leased again under the same fence, and is another then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    pub(super) fence: Fence,
    pub(super) number: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) fence: Fence,
    pub(super) number: u64,
    /// Something was found that ends this lease: whoever stores it lets go of the trigger.
    pub(super) is_found: bool,
    /// It was taken over from a holder that is gone.
    pub(super) inherited: bool,
    /// When its task deferred, in milliseconds.
    pub(super) since: i64,
    /// When it was due for a look as it was leased, in milliseconds.
    pub(super) wake_at: i64,
    /// Its checks go on until something happens.
    lasts: bool,
    pub(super) deadline_at: Option<i64>,
    /// How many checks in a row may fail to tell.
    pub(super) error_budget: Option<u32>,
    /// The spec of one that shares its checks with its equals.
    pub(super) shared: Option<Spec>,
    /// What it is checked with, unless it has joined its equals.
    pub(super) alone: Option<Box<Alone>>,
    /// How its checks have gone.
    pub(super) record: Record,
}

/// What a trigger is checked with, by itself.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) trigger: Arc<dyn Trigger>,
    /// Where its checks go to.
    pub(super) destination: Option<Arc<str>>,
    /// What has come under its keys.
    pub(super) arrived: Arrived,
    /// Something has come since the last check began.
    pub(super) has_news: bool,
    /// When it is to be checked, in milliseconds of the monotonic clock; none while it is, or is about to be.
    pub(super) next: Option<i64>,
    /// What the last check left; taken while one runs.
    pub(super) memory: Memory,
    /// The running check, to be dropped with the holding.
    pub(super) check: Option<AbortHandle>,
}

impl Holding {
    /// One that was just leased.
    pub(super) fn new(leased: Leased, number: u64, lasts: bool, destination: Option<Arc<str>>) -> Self {
        Self {
            fence: leased.fence,
            number,
            is_found: false,
            inherited: leased.inherited,
            since: leased.since,
            wake_at: leased.wake_at,
            lasts,
            deadline_at: leased.deadline_at,
            error_budget: leased.error_budget,
            shared: leased.shared,
            alone: Some(Box::new(Alone {
                trigger: Arc::from(leased.trigger),
                destination,
                arrived: leased.arrived,
                has_news: false,
                next: None,
                memory: Memory::default(),
                check: None,
            })),
            record: Record::default(),
        }
    }

    pub(super) fn hold(&self) -> Hold {
        Hold { fence: self.fence, number: self.number }
    }

    /// One that is given back to others is due as of then.
    pub(super) fn may_move(&self, joined_at: i64, now: i64) -> bool {
        let settled_at = self.since + STAYS;
        let has_moved = self.wake_at > settled_at && self.wake_at >= joined_at;
        // What has been found is on its way: whoever took the trigger now would look once more.
        let is_checked = self.alone.as_ref().is_some_and(|alone| alone.check.is_some());
        !self.is_found && (!is_checked || self.lasts) && now > settled_at && !has_moved
    }

    /// What the last check left, the checks that its equals make for it, its count of failures; or it is about to be checked.
    pub(super) fn loses_by_moving(&self) -> bool {
        let has_more = |alone: &Alone| alone.next.is_none() || !alone.memory.is_empty();
        self.alone.as_deref().is_none_or(has_more) || self.record.failures() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_million_takes_little() {
        assert!(size_of::<Holding>() <= 152, "{}", size_of::<Holding>());
    }
}
