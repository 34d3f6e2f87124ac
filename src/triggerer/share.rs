//! How much of the work is mine: arithmetic on what a look at the fleet has found.
//!
//! Everybody's share of all that is held and free is in proportion to its capacity. Shares are rounded down, and up once all
//! are used up: whenever something is free and I have no room in mine, somebody else has. Whoever has room for a second and takes nothing, while
//! something is free, is left out of the sharing until it does: so nothing that is free waits for one that hangs, or that
//! cannot read it.

use std::{collections::HashMap, time::Duration};

use crate::id::Incarnation;

/// How long somebody may leave alone what is free.
const PATIENCE: Duration = Duration::from_secs(1);

/// Over how many renewals a surplus moves.
const RENEWALS: usize = 10;

/// The live triggerers that may take all that I may, I among them, and what is free.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Myself.
    pub me: Member,
    /// The others.
    pub peers: Vec<Member>,
    /// How much could be leased now.
    pub free: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Who.
    pub incarnation: Incarnation,
    /// How much it holds at most, and now.
    pub capacity: usize,
    /// How much it holds now.
    pub held: usize,
    /// When it joined, in milliseconds.
    pub joined_at: i64,
}

/// What is mine, by one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// How much I may hold until the next look.
    pub(super) limit: usize,
    /// How much of what I hold is others'.
    surplus: usize,
    /// Somebody is more than a twentieth off its share.
    is_off: bool,
}

/// What is remembered between looks.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Who has room and has taken nothing, while something is free.
    idle: HashMap<Incarnation, Idle>,
    /// How much moves in a renewal, and in how many more; none while nothing does.
    step: usize,
    left: usize,
}

#[derive(Debug)]
struct Idle {
    since: Duration,
    held: usize,
}

impl Share {
    /// Takes a look, made at `now`.
    pub(super) fn saw(&mut self, now: Duration, fleet: &Fleet) -> Part {
        let Fleet { me, peers, free } = fleet;
        self.idle.retain(|who, idle| {
            let held = peers.iter().find(|peer| peer.incarnation == *who).map(|peer| peer.held);
            let still = *free > 0 && held.is_some_and(|held| held <= idle.held);
            idle.held = held.unwrap_or_default();
            still
        });
        let is_left_out =
            |who| self.idle.get(&who).is_some_and(|idle: &Idle| now.saturating_sub(idle.since) >= PATIENCE);
        let sharing: Vec<Member> =
            peers.iter().copied().filter(|peer| !is_left_out(peer.incarnation)).chain([*me]).collect();
        let capacity: usize = sharing.iter().map(|member| member.capacity).sum();
        let all = free + sharing.iter().map(|member| member.held).sum::<usize>();
        let floor = |member: &Member| all * member.capacity / capacity;
        // What is left over goes to whoever comes first, once everybody has the rest.
        let is_short = sharing.iter().any(|member| member.held < floor(member).min(member.capacity));
        let share = |member: &Member| if is_short { floor(member) } else { (all * member.capacity).div_ceil(capacity) };
        let fair = |member: &Member| share(member).min(member.capacity);
        if *free > 0 {
            for member in sharing.iter().filter(|member| member.incarnation != me.incarnation) {
                if member.held < fair(member) {
                    self.idle.entry(member.incarnation).or_insert(Idle { since: now, held: member.held });
                } else {
                    self.idle.remove(&member.incarnation);
                }
            }
        }
        let is_off = sharing.iter().any(|member| 20 * member.held.abs_diff(fair(member)) > fair(member));
        // What comes now and then is taken without a look. All of this together is a fortieth of the smallest share.
        let smallest = sharing.iter().map(fair).min().unwrap_or_default();
        let margin = if is_off { 0 } else { smallest / (40 * sharing.len()) };
        Part { limit: (fair(me) + margin).max(1), surplus: me.held.saturating_sub(fair(me)), is_off }
    }

    /// How much to give back at a renewal: once somebody is off its share, a tenth of the surplus each time until there is none.
    pub(super) fn gives_back(&mut self, part: Part) -> usize {
        if part.surplus == 0 || self.left == 0 {
            self.step = 0;
        }
        let tenth = part.surplus.div_ceil(RENEWALS);
        if part.is_off && tenth > self.step {
            (self.step, self.left) = (tenth, RENEWALS);
        }
        self.left = self.left.saturating_sub(1);
        self.step.min(part.surplus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn member(number: usize, capacity: usize, held: usize) -> Member {
        Member { incarnation: uuid::Uuid::from_u128(number as u128).into(), capacity, held, joined_at: 0 }
    }

    /// The fleet as number `me` of those with these capacities, holding this much, sees it.
    fn fleet(me: usize, members: &[(usize, usize)], free: usize) -> Fleet {
        let member = |number: usize| member(number, members[number].0, members[number].1);
        let peers = (0..members.len()).filter(|number| *number != me).map(member).collect();
        Fleet { me: member(me), peers, free }
    }

    fn limits(members: &[(usize, usize)], free: usize) -> Vec<usize> {
        let limit = |me| Share::default().saw(ms(0), &fleet(me, members, free)).limit;
        (0..members.len()).map(limit).collect()
    }

    #[test]
    fn shares_are_in_proportion_to_capacity() {
        assert_eq!(limits(&[(100, 0), (200, 0), (300, 0)], 60), [10, 20, 30]);
        assert_eq!(limits(&[(100, 5), (200, 40), (300, 0)], 15), [10, 20, 30]);
        // Nobody holds more than its capacity, whatever there is.
        assert_eq!(limits(&[(100, 0), (200, 0)], 1_000), [100, 200]);
        // What is left over goes to whoever comes first, and late.
        assert_eq!(limits(&[(100, 0), (100, 1), (100, 1)], 3), [1, 1, 1]);
        assert_eq!(limits(&[(100, 1), (100, 1), (100, 1)], 2), [2, 2, 2]);
        // And the first trigger of all is taken without a look.
        assert_eq!(limits(&[(100, 0), (100, 0)], 0), [1, 1]);
    }

    #[test]
    fn some_more_is_taken_where_everybody_has_its_share() {
        assert_eq!(limits(&[(20_000, 8_000), (20_000, 8_000)], 0), [8_100, 8_100]);
        assert_eq!(limits(&[(20_000, 8_000), (20_000, 7_000)], 1_000), [8_000, 8_000]);
    }

    #[test]
    fn whenever_something_is_free_somebody_has_room_in_its_share() {
        for _ in 0..1_000 {
            let members: Vec<(usize, usize)> = (0..rand::random_range(1..9))
                .map(|_| rand::random_range(1..50))
                .map(|capacity| (capacity, rand::random_range(0..=capacity)))
                .collect();
            let is_full = members.iter().all(|(capacity, held)| held == capacity);
            let limits = limits(&members, 1);
            let has_room = members.iter().zip(limits).any(|((_, held), limit)| limit > *held);
            assert!(has_room || is_full, "{members:?}");
        }
    }

    #[test]
    fn whoever_takes_nothing_for_a_second_is_left_out_until_it_does() {
        let mut share = Share::default();
        let mut limit = |at, held, free| share.saw(ms(at), &fleet(0, &[(100, 10), (100, held)], free)).limit;
        assert_eq!(limit(0, 0, 10), 10);
        assert_eq!(limit(999, 0, 10), 10);
        assert_eq!(limit(1_000, 0, 10), 20);
        assert_eq!(limit(1_500, 0, 10), 20);
        assert_eq!(limit(1_600, 2, 8), 10, "it has taken something");
        assert_eq!(limit(2_500, 2, 8), 10);
        assert_eq!(limit(2_600, 2, 8), 18);
        assert_eq!(limit(2_700, 2, 0), 6, "nothing is free: it may be as it will");
        assert_eq!(limit(2_800, 2, 8), 10, "and is given its time anew");
    }

    #[test]
    fn a_surplus_moves_by_tenths_and_then_nothing_does() {
        let mut share = Share::default();
        let mut holds = 100;
        let mut moved = Vec::new();
        for renewal in 0..20 {
            let part = share.saw(ms(3_000 * renewal), &fleet(0, &[(200, holds), (200, 100 - holds)], 0));
            moved.push(share.gives_back(part));
            holds -= moved.last().unwrap();
        }
        assert_eq!(moved, [[5; 10], [0; 10]].concat());
    }

    #[test]
    fn what_was_taken_since_a_surplus_has_moved_stays() {
        let mut share = Share::default();
        let mut gives_back = |held, others| {
            let part = share.saw(ms(0), &fleet(0, &[(20_000, held), (20_000, others)], 0));
            share.gives_back(part)
        };
        assert_eq!(gives_back(9_000, 7_000), 100);
        assert_eq!(gives_back(9_500, 6_500), 150, "there is more, and it begins anew");
        let moved: Vec<usize> =
            (1..12).map(|renewal| gives_back(9_500 - 150 * renewal, 6_500 + 150 * renewal)).collect();
        assert_eq!(moved, [[150; 9].as_slice(), &[0; 2]].concat());
        assert_eq!(gives_back(8_050, 7_950), 0);
    }

    #[test]
    fn nothing_moves_while_everybody_is_near_its_share() {
        let gives_back = |members: &[(usize, usize)]| {
            let mut share = Share::default();
            let part = share.saw(ms(0), &fleet(0, members, 0));
            share.gives_back(part)
        };
        assert_eq!(gives_back(&[(200, 105), (200, 95)]), 0);
        assert_eq!(gives_back(&[(200, 106), (200, 94)]), 1);
        // A small part of many shares is the whole of one.
        assert_eq!(gives_back(&[(200, 104), (200, 104), (200, 104), (200, 96), (8, 0)]), 1);
        assert_eq!(gives_back(&[(200, 2), (200, 2), (200, 0)]), 1);
        assert_eq!(gives_back(&[(200, 2), (200, 1), (200, 1)]), 0, "it would only be off the other way");
    }
}
