//! What can happen, and what comes of it.

use super::{Action, Broken, LEASE, Liveness, Mutation, Process, REPLICAS, Replica, State, Turn};

impl Replica {
    /// Whether it can run, and reach the database while that is there.
    fn is_well(&self) -> bool {
        self.process == Process::Runs && !self.is_cut
    }
}

impl Liveness {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// How far back a read need be remembered: two ticks are as good as any more, unless they count.
    pub(super) fn longest_read(&self) -> u8 {
        if self.is(Mutation::CountedAcrossAFailedRead) { LEASE } else { 2 }
    }

    /// Parks by the time that a lease has gone by. In truth later than that, as whoever counts begins later than the
    /// renewal was sent; here all that happens within a tick happens at once.
    pub(super) fn is_parked(&self, replica: &Replica) -> bool {
        replica.age >= LEASE && !self.is(Mutation::NotParked)
    }

    pub(super) fn each(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        if self.may_tick(state) {
            found(Action::Tick, self.tick(*state));
        }
        for me in 0..REPLICAS {
            let replica = &state.replicas[me];
            let reaches = replica.is_well() && !state.is_down;
            if reaches {
                self.turn(state, me, found);
            }
            if replica.process == Process::Runs
                && let Turn::Waits { since: 1.., is_stored } = replica.turn
            {
                let mut next = *state;
                next.replicas[me].turn = Turn::Due;
                next.replicas[me].orphan |= !is_stored;
                found(Action::GiveUp(me), next);
            }
            if !state.is_down {
                self.under_way(state, me, found);
            }
            faults(state, me, found);
        }
        if state.is_down {
            found(Action::Recover, State { is_down: false, ..*state });
        } else if state.outage_left && state.faults > 0 {
            let outage = State { is_down: true, outage_left: false, faults: state.faults - 1, ..*state };
            found(Action::Fail, outage);
        }
    }

    /// Whoever is well has taken its turn before a period has gone by, unless the database is slow with it.
    fn may_tick(&self, state: &State) -> bool {
        state.replicas.iter().all(|replica| match replica.turn {
            Turn::Done => true,
            Turn::Waits { since, .. } => since == 0 || replica.process != Process::Runs,
            Turn::Due | Turn::Renewed => state.is_down || !replica.is_well(),
        })
    }

    fn tick(&self, mut state: State) -> State {
        let is_down = state.is_down;
        for replica in &mut state.replicas {
            replica.silence = (replica.silence + 1).min(LEASE);
            if replica.process == Process::Crashed {
                // What its clock would show matters to nobody.
                continue;
            }
            let runs = replica.process == Process::Runs;
            replica.age = (replica.age + 1).min(LEASE);
            replica.read = (replica.read + 1).min(self.longest_read());
            replica.turn = match replica.turn {
                Turn::Waits { since, is_stored } => Turn::Waits { since: (since + 1).min(LEASE), is_stored },
                Turn::Done => Turn::Due,
                // A call that cannot be made is given up, and the turn with it.
                Turn::Renewed if runs && (is_down || replica.is_cut) => Turn::Due,
                turn @ (Turn::Due | Turn::Renewed) => turn,
            };
            if replica.turn == Turn::Due && runs {
                replica.silent = [false; REPLICAS];
            }
        }
        state
    }

    fn turn(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        match replica.turn {
            Turn::Due => {
                found(Action::Renew(me), self.renewed(*state, me, 0));
                if state.faults > 0 && !replica.orphan {
                    let slow = faulty(*state, me);
                    for is_stored in [true, false] {
                        let mut next = if is_stored { self.stored(slow, me) } else { slow };
                        next.replicas[me].turn = Turn::Waits { since: 0, is_stored };
                        found(Action::SendSlowly(me, is_stored), next);
                    }
                }
            }
            Turn::Waits { since, is_stored: true } => {
                let counted = if self.is(Mutation::CountedFromTheReply) { 0 } else { since };
                found(Action::Reply(me), self.answered(*state, me, counted));
            }
            Turn::Waits { is_stored: false, .. } | Turn::Done => {}
            Turn::Renewed if replica.silent == [false; REPLICAS] => found(Action::Read(me), self.read(*state, me)),
            Turn::Renewed => {
                for peer in (0..REPLICAS).filter(|peer| replica.silent[*peer]) {
                    found(Action::Declare(me, peer), self.act_on(*state, me, peer));
                }
            }
        }
        let may_hold = !replica.is_gone && !self.is_parked(replica);
        if may_hold && state.holder.is_none() {
            let mut next = *state;
            next.holder = Some(me as u8);
            next.replicas[me].runs = true;
            found(Action::Take(me), next);
        }
    }

    /// A renewal takes effect: nobody has seen the new beat.
    fn stored(&self, mut state: State, me: usize) -> State {
        if !state.replicas[me].is_gone || self.is(Mutation::RenewedThoughGone) {
            state.replicas[me].silence = 0;
            for peer in &mut state.replicas {
                peer.seen[me] = None;
            }
        }
        state
    }

    /// What takes effect without its sender.
    fn under_way(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        if let Turn::Waits { since, is_stored: false } = replica.turn {
            let mut next = self.stored(*state, me);
            next.replicas[me].turn = Turn::Waits { since, is_stored: true };
            found(Action::Store(me), next);
        }
        if replica.orphan {
            let mut lost = *state;
            lost.replicas[me].orphan = false;
            found(Action::StoreOrphan(me), self.stored(lost, me));
            found(Action::LoseOrphan(me), lost);
        }
    }

    fn renewed(&self, state: State, me: usize, since: u8) -> State {
        self.answered(self.stored(state, me), me, since)
    }

    /// The reply is here: so long ago it was sent, or this life is over and the next begins.
    fn answered(&self, mut state: State, me: usize, since: u8) -> State {
        let longest_read = self.longest_read();
        let replica = &mut state.replicas[me];
        if replica.is_gone && !self.is(Mutation::RenewedThoughGone) {
            *replica = Replica {
                is_gone: false,
                age: 0,
                silence: 0,
                turn: Turn::Due,
                read: longest_read,
                seen: [None; REPLICAS],
                silent: [false; REPLICAS],
                orphan: false,
                runs: false,
                was_ill: false,
                ..*replica
            };
        } else {
            replica.age = since;
            replica.turn = Turn::Renewed;
        }
        state
    }

    /// As the watch does: only short stretches between good reads count.
    fn read(&self, mut state: State, me: usize) -> State {
        let gone = state.replicas.map(|peer| peer.is_gone);
        let counts_all = self.is(Mutation::CountedAcrossAFailedRead);
        let replica = &mut state.replicas[me];
        let counted = if replica.read <= 1 || counts_all { replica.read } else { 0 };
        for peer in (0..REPLICAS).filter(|peer| *peer != me) {
            replica.seen[peer] = match replica.seen[peer] {
                _ if gone[peer] => None,
                Some(silent) => Some((silent + counted).min(LEASE)),
                None => Some(0),
            };
            replica.silent[peer] = replica.seen[peer] == Some(LEASE);
        }
        replica.read = 0;
        if replica.silent == [false; REPLICAS] {
            replica.turn = Turn::Done;
        }
        state
    }

    fn act_on(&self, mut state: State, me: usize, peer: usize) -> State {
        let is_same_beat = state.replicas[me].seen[peer].is_some();
        if self.is(Mutation::TakenWithoutTheWrite) {
            if is_same_beat && state.holder == Some(peer as u8) {
                state.holder = Some(me as u8);
                state.replicas[me].runs = true;
            }
        } else if (is_same_beat || self.is(Mutation::DeclaredWithoutTheBeat)) && !state.replicas[peer].is_gone {
            let gone = &mut state.replicas[peer];
            gone.is_gone = true;
            if gone.silence < LEASE {
                state.broken = Some(Broken::DeclaredTooSoon);
            }
            if state.holder == Some(peer as u8) {
                state.holder = None;
            }
            for watcher in &mut state.replicas {
                (watcher.seen[peer], watcher.silent[peer]) = (None, false);
                end_if_all_are_told(watcher);
            }
        }
        state.replicas[me].silent[peer] = false;
        end_if_all_are_told(&mut state.replicas[me]);
        state
    }
}

/// The last of those found silent ends the turn.
fn end_if_all_are_told(replica: &mut Replica) {
    if replica.turn == Turn::Renewed && replica.read == 0 && replica.silent == [false; REPLICAS] {
        replica.turn = Turn::Done;
    }
}

/// One more thing is wrong with a replica.
fn faulty(mut state: State, me: usize) -> State {
    state.faults -= 1;
    state.replicas[me].was_ill = true;
    state
}

fn faults(state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
    let replica = &state.replicas[me];
    let with = |change: &dyn Fn(&mut Replica)| {
        let mut next = *state;
        change(&mut next.replicas[me]);
        next
    };
    match replica.process {
        Process::Crashed => return,
        Process::Paused => found(Action::Continue(me), with(&|replica| replica.process = Process::Runs)),
        Process::Runs => {}
    }
    if replica.is_cut {
        found(Action::Heal(me), with(&|replica| replica.is_cut = false));
    }
    if state.faults == 0 {
        return;
    }
    if replica.process == Process::Runs {
        found(Action::Pause(me), faulty(with(&|replica| replica.process = Process::Paused), me));
    }
    if !replica.is_cut {
        found(Action::Cut(me), faulty(with(&|replica| replica.is_cut = true), me));
    }
    let others = state.replicas.iter().filter(|peer| peer.process != Process::Crashed).count();
    if others > 1 {
        found(Action::Crash(me), crash(faulty(*state, me), me));
    }
}

/// Nothing is left of it but its row, what it holds, and what is under way.
fn crash(mut state: State, me: usize) -> State {
    let replica = &mut state.replicas[me];
    replica.orphan |= matches!(replica.turn, Turn::Waits { is_stored: false, .. });
    *replica = Replica {
        process: Process::Crashed,
        is_cut: false,
        age: LEASE,
        turn: Turn::Done,
        read: 0,
        seen: [None; REPLICAS],
        silent: [false; REPLICAS],
        runs: false,
        ..*replica
    };
    state
}
