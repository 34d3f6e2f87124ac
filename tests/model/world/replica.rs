//! Replicas and queues.

use std::collections::BTreeSet;

use reveille::{
    clock::millis,
    id::Incarnation,
    store::replica::{Beat, Card, GONE_KEPT},
};

use super::{Gone, Replica, State, World};

impl World {
    /// Adds a replica; whether its incarnation was new.
    pub(crate) fn join(&mut self, card: &Card) -> bool {
        let replica = Replica {
            role: card.role,
            label: card.label.clone(),
            kinds: card.kinds.join(","),
            queues: card.queues.as_ref().map_or("*".to_owned(), |queues| queues.join(",")),
            capacity: card.capacity,
            lease: millis(card.lease),
            running: 0,
            joined_at: self.now,
            seen_at: self.now,
            beat: 0,
            gone: None,
        };
        let is_new = !self.replicas.contains_key(&card.incarnation);
        self.replicas.entry(card.incarnation).or_insert(replica);
        is_new
    }

    /// Shows life; none if it is gone, and can never come back.
    pub(crate) fn renew(&mut self, me: Incarnation, running: i32) -> Option<i64> {
        let now = self.now;
        let replica = self.replicas.get_mut(&me).filter(|replica| replica.gone.is_none())?;
        replica.beat += 1;
        replica.running = running;
        replica.seen_at = now;
        Some(replica.beat)
    }

    /// The signs of life of the others.
    pub(crate) fn peers(&self, me: Incarnation) -> BTreeSet<(Incarnation, i64, i64)> {
        let live = self.replicas.iter().filter(|(id, replica)| **id != me && replica.gone.is_none());
        live.map(|(id, replica)| (*id, replica.beat, replica.lease)).collect()
    }

    /// The longest that any of them may be silent.
    pub(crate) fn longest_lease(&self) -> i64 {
        let live = self.replicas.values().filter(|replica| replica.gone.is_none());
        live.map(|replica| replica.lease).max().unwrap_or(0)
    }

    /// Declares a peer gone, if it has not shown life since that beat.
    pub(crate) fn declare_gone(&mut self, peer: Beat) -> bool {
        let now = self.now;
        let Some(replica) = self.replicas.get_mut(&peer.incarnation) else { return false };
        let silent = replica.gone.is_none() && replica.beat == peer.beat;
        if silent {
            replica.gone = Some(Gone { at: now, lost: true });
        }
        silent
    }

    /// Hands over whatever it held.
    pub(crate) fn leave(&mut self, me: Incarnation) {
        let now = self.now;
        if let Some(replica) = self.replicas.get_mut(&me) {
            replica.gone.get_or_insert(Gone { at: now, lost: false });
        }
    }

    /// Forgets those that are long gone and that nothing names.
    pub(crate) fn forget(&mut self) {
        let before = self.now - millis(GONE_KEPT);
        let named: Vec<Incarnation> = self
            .tasks
            .values()
            .filter_map(|task| match &task.state {
                State::Ready => None,
                State::Running(holder) => Some(*holder),
                State::Deferred(wait) => wait.holder,
            })
            .chain(self.undo.values().filter_map(|undo| undo.holder))
            .collect();
        self.replicas.retain(|id, replica| replica.gone.is_none_or(|gone| gone.at >= before) || named.contains(id));
    }

    /// Stops claiming from a queue, or goes on; whether there is such a queue. Pausing twice is pausing once.
    pub(crate) fn set_paused(&mut self, queue: &str, paused: bool) -> bool {
        let now = self.now;
        let Some(paused_at) = self.queues.get_mut(queue) else { return false };
        *paused_at = paused.then(|| paused_at.unwrap_or(now));
        true
    }
}
