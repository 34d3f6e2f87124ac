//! Undoing what cancelled waits were for.

use std::collections::BTreeSet;

use reveille::{
    id::{Fence, Incarnation},
    store::{Scope, undo::Undone},
};

use super::{Illegal, World, choose};

/// What a triggerer is told of what it is to undo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Undoes {
    pub(crate) fence: Fence,
    pub(crate) kinds: String,
    pub(crate) since: i64,
    pub(crate) attempt: i32,
}

impl World {
    /// Gives what is due to be undone to a live triggerer, the earliest first: what is free, what holders that are gone
    /// left behind, and what it holds already, as an answer may have been lost.
    pub(crate) fn lease_undo(
        &mut self,
        me: Incarnation,
        scope: &Scope,
        limit: usize,
        chosen: &[Fence],
    ) -> Result<BTreeSet<Undoes>, Illegal> {
        let due = self.undo.iter().filter(|(_, undo)| {
            self.is_live(me)
                && undo.dead_at.is_none()
                && undo.wake_at <= self.now
                && scope.kinds.contains(&undo.kind)
                && scope.queues.as_ref().is_none_or(|queues| queues.contains(&undo.queue))
                && undo.holder.is_none_or(|holder| holder == me || self.is_gone(holder))
        });
        choose(&due.map(|(fence, undo)| (undo.wake_at, *fence)).collect::<Vec<_>>(), limit, chosen)?;
        let told = chosen.iter().map(|fence| {
            let undo = self.undo.get_mut(fence).expect("it is among the candidates");
            undo.holder = Some(me);
            Undoes { fence: *fence, kinds: undo.kind.clone(), since: undo.since, attempt: undo.attempt }
        });
        Ok(told.collect())
    }

    /// What became of an attempt, if it is mine.
    pub(crate) fn settle_undo(&mut self, me: Incarnation, fence: Fence, undone: Undone) {
        let now = self.now;
        let Some(undo) = self.undo.get_mut(&fence).filter(|undo| undo.holder == Some(me)) else { return };
        undo.holder = None;
        match undone {
            Undone::Done => drop(self.undo.remove(&fence)),
            Undone::Again(at) => {
                undo.attempt += 1;
                undo.wake_at = at;
            }
            Undone::Unread(at) => undo.wake_at = at,
            Undone::Dead => undo.dead_at = Some(now),
        }
    }
}
