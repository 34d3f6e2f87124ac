//! Which peers are gone, by my own clock and my own good reads: silent for a lease, each for its own, or without the
//! session that they renew by.
//!
//! A peer is *suspected* when the connection that I look by has shown its session there, and then not there. That a
//! connection has shown both is what makes it safe: it reaches one life of one server, so a server that was restarted or
//! replaced, which has nobody's session, makes nobody suspect. A process that lives and lost its connection renews by
//! another within [`GRACE`]; whoever does not is gone.

use std::{collections::HashMap, time::Duration};

use crate::{
    id::Incarnation,
    store::replica::{Beat, Peer, Session},
};

/// How long a suspect may take to show life. It finds out that its connection is gone at its next look, and renews at
/// once by another.
const GRACE: Duration = Duration::from_secs(1);

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
    /// The last session that was there, by the connection that I look by now: its process and its beginning.
    session: Option<(i32, i64)>,
    /// For how long it has not been there any more, under the same beat.
    suspect_for: Option<Duration>,
}

/// A peer that is to be declared gone, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) beat: Beat,
    pub(super) why: Why,
}

/// What it is gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Silent,
    SessionEnded,
}

impl Watch {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, read_at: None, peers: HashMap::new() }
    }

    /// I look by another connection from now on: it may reach another server, and has shown nobody's session yet.
    pub(super) fn reconnected(&mut self) {
        for seen in self.peers.values_mut() {
            (seen.session, seen.suspect_for) = (None, None);
        }
    }

    /// Takes a good read, made at `now`; answers who is gone by it.
    pub(super) fn saw(&mut self, now: Duration, peers: &[Peer]) -> Vec<Gone> {
        let stretch = self.read_at.replace(now).map_or(Duration::ZERO, |before| now.saturating_sub(before));
        let counted = if stretch <= self.period { stretch } else { Duration::ZERO };
        let mut next = HashMap::with_capacity(peers.len());
        let mut gone = Vec::new();
        for peer in peers {
            let seen = Seen::of(self.peers.get(&peer.beat.incarnation), peer, counted);
            if seen.silent_for >= peer.lease {
                gone.push(Gone { beat: peer.beat, why: Why::Silent });
            } else if seen.suspect_for.is_some_and(|suspect_for| suspect_for >= GRACE) {
                gone.push(Gone { beat: peer.beat, why: Why::SessionEnded });
            }
            next.insert(peer.beat.incarnation, seen);
        }
        self.peers = next;
        gone
    }

    /// How long until a suspect has had its time, if there is one.
    pub(super) fn next_verdict(&self) -> Option<Duration> {
        let left = |seen: &Seen| seen.suspect_for.map(|suspect_for| GRACE.saturating_sub(suspect_for));
        self.peers.values().filter_map(left).min()
    }
}

impl Seen {
    /// What is known of a peer after a read, `counted` after the one before.
    fn of(before: Option<&Self>, peer: &Peer, counted: Duration) -> Self {
        let beat = peer.beat.beat;
        let unchanged = before.filter(|seen| seen.beat == beat);
        let silent_for = unchanged.map_or(Duration::ZERO, |seen| seen.silent_for + counted);
        let was_there = before.and_then(|seen| seen.session);
        let (session, suspect_for) = match peer.session {
            Some(Session { pid, began_at, is_there: true }) => (Some((pid, began_at)), None),
            Some(Session { pid, began_at, is_there: false }) if was_there == Some((pid, began_at)) => {
                let for_how_long = unchanged.and_then(|seen| seen.suspect_for).map(|suspect| suspect + counted);
                (was_there, Some(for_how_long.unwrap_or_default()))
            }
            Some(_) | None => (None, None),
        };
        Self { beat, silent_for, session, suspect_for }
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
        Peer { beat: beat(count), lease: LEASE, session: None }
    }

    fn silent(count: i64) -> Gone {
        Gone { beat: beat(count), why: Why::Silent }
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A peer that has renewed so often, last by a session of this process, which is there or not.
    fn by(count: i64, pid: i32, is_there: bool) -> Peer {
        Peer { session: Some(Session { pid, began_at: 7_000, is_there }), ..peer(count) }
    }

    #[test]
    fn a_peer_with_a_longer_lease_than_mine_is_given_its_time() {
        let mut watch = Watch::new(PERIOD);
        let patient = Peer { lease: 3 * LEASE, ..peer(7) };
        for second in (0..27).step_by(3) {
            assert_eq!(watch.saw(secs(second), &[patient]), [], "at {second}");
        }
        assert_eq!(watch.saw(secs(27), &[patient]), [silent(7)]);
    }

    #[test]
    fn a_peer_is_gone_after_one_lease_of_the_same_beat() {
        let mut watch = Watch::new(PERIOD);
        for second in [0, 3, 6] {
            assert_eq!(watch.saw(secs(second), &[peer(7)]), []);
        }
        assert_eq!(watch.saw(secs(9), &[peer(7)]), [silent(7)]);
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
        assert_eq!(watch.saw(secs(604), &[peer(7)]), [silent(7)]);
    }

    #[test]
    fn a_peer_whose_session_ends_has_a_second_to_show_life() {
        let mut watch = Watch::new(PERIOD);
        assert_eq!(watch.saw(ms(0), &[by(7, 1, true)]), []);
        assert_eq!(watch.next_verdict(), None);
        assert_eq!(watch.saw(ms(500), &[by(7, 1, false)]), []);
        assert_eq!(watch.next_verdict(), Some(GRACE));
        assert_eq!(watch.saw(ms(1_499), &[by(7, 1, false)]), []);
        assert_eq!(watch.next_verdict(), Some(ms(1)));
        assert_eq!(watch.saw(ms(1_500), &[by(7, 1, false)]), [Gone { beat: beat(7), why: Why::SessionEnded }]);
    }

    #[test]
    fn a_renewal_before_the_death_does_not_hide_it() {
        let mut watch = Watch::new(PERIOD);
        for (at, seen) in [(0, by(7, 1, true)), (500, by(8, 1, false)), (1_499, by(8, 1, false))] {
            assert_eq!(watch.saw(ms(at), &[seen]), [], "at {at}");
        }
        assert_eq!(watch.saw(ms(1_500), &[by(8, 1, false)]), [Gone { beat: beat(8), why: Why::SessionEnded }]);
    }

    #[test]
    fn a_suspect_that_renews_by_another_session_is_none() {
        let mut watch = Watch::new(PERIOD);
        for (at, seen) in
            [(0, by(7, 1, true)), (500, by(7, 1, false)), (1_400, by(8, 2, true)), (1_600, by(8, 2, true))]
        {
            assert_eq!(watch.saw(ms(at), &[seen]), [], "at {at}");
        }
        assert_eq!(watch.next_verdict(), None);
    }

    #[test]
    fn a_beat_gives_a_suspect_its_time_anew() {
        let mut watch = Watch::new(PERIOD);
        for (at, seen) in
            [(0, by(7, 1, true)), (500, by(7, 1, false)), (1_400, by(8, 1, false)), (2_300, by(8, 1, false))]
        {
            assert_eq!(watch.saw(ms(at), &[seen]), [], "at {at}");
        }
    }

    #[test]
    fn a_session_that_was_never_there_makes_nobody_suspect() {
        let mut watch = Watch::new(PERIOD);
        // As behind a server that was replaced, whose rows name sessions of the one before.
        for at in [0, 1_000, 2_000, 3_000] {
            assert_eq!(watch.saw(ms(at), &[by(7, 1, false)]), [], "at {at}");
        }
        // Another process of the same number is another session.
        let other = Peer { session: Some(Session { pid: 1, began_at: 8_000, is_there: true }), ..peer(7) };
        assert_eq!(watch.saw(ms(4_000), &[other]), []);
        assert_eq!(watch.saw(ms(5_000), &[by(7, 1, false)]), []);
        assert_eq!(watch.next_verdict(), None);
    }

    #[test]
    fn what_another_connection_of_mine_has_shown_does_not_count() {
        let mut watch = Watch::new(PERIOD);
        assert_eq!(watch.saw(ms(0), &[by(7, 1, true)]), []);
        assert_eq!(watch.saw(ms(500), &[by(7, 1, false)]), []);
        watch.reconnected();
        for at in [1_000, 1_500, 2_000, 3_000] {
            assert_eq!(watch.saw(ms(at), &[by(7, 1, false)]), [], "at {at}");
        }
    }

    #[test]
    fn nobody_is_suspected_over_a_stretch_that_i_did_not_see() {
        let mut watch = Watch::new(PERIOD);
        for (at, is_there) in [(0, true), (500, false), (600_000, false), (600_900, false)] {
            assert_eq!(watch.saw(ms(at), &[by(7, 1, is_there)]), [], "at {at}");
        }
    }

    #[test]
    fn a_peer_behind_a_pooler_is_given_its_lease() {
        let mut watch = Watch::new(PERIOD);
        for at in [0, 500, 1_500, 3_000, 6_000] {
            assert_eq!(watch.saw(ms(at), &[peer(7)]), [], "at {at}");
            assert_eq!(watch.next_verdict(), None);
        }
        assert_eq!(watch.saw(ms(9_000), &[peer(7)]), [silent(7)]);
    }
}
