//! Which peers have been silent for a lease, each for its own, by my own clock and my own good reads.

use std::{collections::HashMap, time::Duration};

use crate::{
    id::Incarnation,
    store::replica::{Beat, Peer},
};

/// What I have seen of the others. Pure: it is told the time and the reads.
#[derive(Debug)]
pub(super) struct Watch {
    /// The longest stretch between two reads that counts.
    period: Duration,
    read_at: Option<Duration>,
    peers: HashMap<Incarnation, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    beat: i64,
    silent_for: Duration,
}

impl Watch {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, read_at: None, peers: HashMap::new() }
    }

    /// Takes a good read, made at `now`; answers the peers that have shown the same beat for a lease.
    pub(super) fn saw(&mut self, now: Duration, peers: &[Peer]) -> Vec<Beat> {
        let stretch = self.read_at.replace(now).map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let counted = if stretch <= self.period { stretch } else { Duration::ZERO };
        let mut next = HashMap::with_capacity(peers.len());
        let mut silent = Vec::new();
        for Peer { beat: peer, lease } in peers {
            let silent_for = match self.peers.get(&peer.incarnation) {
                Some(seen) if seen.beat == peer.beat => seen.silent_for + counted,
                Some(_) | None => Duration::ZERO,
            };
            if silent_for >= *lease {
                silent.push(*peer);
            }
            next.insert(peer.incarnation, Seen { beat: peer.beat, silent_for });
        }
        self.peers = next;
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(9);
    const PERIOD: Duration = Duration::from_secs(3);

    fn beat(beat: i64) -> Beat {
        Beat { incarnation: Incarnation(uuid::Uuid::from_u128(1)), beat }
    }

    fn peer(count: i64) -> Peer {
        Peer { beat: beat(count), lease: LEASE }
    }

    #[test]
    fn a_peer_with_a_longer_lease_than_mine_is_given_its_time() {
        let mut watch = Watch::new(PERIOD);
        let patient = Peer { lease: 3 * LEASE, ..peer(7) };
        for second in (0..27).step_by(3) {
            assert_eq!(watch.saw(secs(second), &[patient]), [], "at {second}");
        }
        assert_eq!(watch.saw(secs(27), &[patient]), [beat(7)]);
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_peer_is_gone_after_one_lease_of_the_same_beat() {
        let mut watch = Watch::new(PERIOD);
        for second in [0, 3, 6] {
            assert_eq!(watch.saw(secs(second), &[peer(7)]), []);
        }
        assert_eq!(watch.saw(secs(9), &[peer(7)]), [beat(7)]);
    }

    #[test]
    fn a_beat_begins_the_count_anew() {
        let mut watch = Watch::new(PERIOD);
        for (second, count) in [(0, 7), (3, 7), (6, 7), (8, 8), (11, 8), (14, 8)] {
            assert_eq!(watch.saw(secs(second), &[peer(count)]), [], "at {second}");
        }
    }

    #[test]
    fn an_outage_of_mine_ages_nobody() {
        let mut watch = Watch::new(PERIOD);
        for second in [0, 3, 6, 600, 602] {
            assert_eq!(watch.saw(secs(second), &[peer(7)]), [], "at {second}");
        }
        assert_eq!(watch.saw(secs(604), &[peer(7)]), [beat(7)]);
    }
}
