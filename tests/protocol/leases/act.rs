//! What can happen, and what comes of it.

use super::{
    Action, Leases, Mutation,
    state::{
        Begun, Broken, CAPACITY, Fences, Finding, GENERATIONS, Holding, LIVES, Loop, Process, REPLICAS, Replica, Row,
        State, TRIGGERS, Wait, What,
    },
};

impl Leases {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// The loop that leases, and compares what it is said to hold with what it runs.
    pub(super) fn leasing(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        let life = replica.life as usize;
        if replica.process == Process::Runs {
            match replica.leasing {
                Loop::Idle => {
                    self.lease(state, me, found);
                    let waits_for = replica.is_leasing(life) && !self.is(Mutation::AskedTooSoon);
                    if may_differ(state, me) && !waits_for && !self.is(Mutation::NeverCompared) {
                        found(Action::Ask(me), with(state, me, |replica| replica.leasing = asked(state, me)));
                    }
                }
                Loop::Leases => lose(state, me, found),
                Loop::Compares { before, mine } => {
                    found(Action::Agree(me), with(state, me, |replica| agree(replica, before, mine)));
                }
            }
        }
        if let Some(begun) = replica.begun {
            found(Action::Commit(me), commit(*state, me, begun));
        }
        if let Some(begun) = replica.orphan {
            found(Action::CommitOrphan(me), commit_orphan(*state, me, begun));
            found(Action::RollBack(me), with(state, me, |replica| replica.orphan = None));
        }
    }

    fn lease(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        let room = CAPACITY.saturating_sub(replica.holdings.iter().flatten().count());
        let may = replica.row() == Row::Live || self.is(Mutation::LeasedThoughGone);
        let asks_first = replica.doubts && !self.is(Mutation::NoDoubt);
        if room == 0 || !may || asks_first {
            return;
        }
        for trigger in (0..TRIGGERS).filter(|trigger| !state.is_locked(*trigger)) {
            let is_free = match state.triggers[trigger].wait {
                Wait::Free => true,
                Wait::Held { replica, life } => {
                    let row = state.replicas[replica as usize].rows[life as usize];
                    row == Row::Gone && !self.is(Mutation::NotTakenOver)
                }
                Wait::Resumed | Wait::Over => false,
            };
            if is_free {
                let leased = |replica: &mut Replica| {
                    replica.leasing = Loop::Leases;
                    replica.begun = Some(Begun { life: replica.life, trigger: trigger as u8 });
                };
                found(Action::Lease(me, trigger), with(state, me, leased));
            }
        }
    }

    /// Checks, and what becomes of what they find.
    pub(super) fn settling(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        if !matches!(replica.process, Process::Runs | Process::Ends) {
            return;
        }
        for t in 0..TRIGGERS {
            if let Some(Holding { generation, is_checked: true }) = replica.holdings[t] {
                let finds = |what| {
                    with(state, me, |replica| {
                        replica.findings[t] = Some(Finding { generation, what });
                        replica.holdings[t] = Some(Holding { generation, is_checked: false });
                        if self.is(Mutation::FreedBeforeSettled) {
                            replica.holdings[t] = None;
                        }
                    })
                };
                if replica.findings[t].is_none() {
                    found(Action::Find(me, t), finds(What::Evidence));
                    found(Action::Refuse(me, t), finds(What::Verdict));
                    if !state.is_locked(t) {
                        // What is to sleep is given back at once; it is only seen if that is not heard of.
                        self.settle(&finds(What::Sleep), me, t, found);
                    }
                }
            }
            if !state.is_locked(t) {
                self.settle(state, me, t, found);
            }
        }
    }

    /// Stores what was found, and gives the slot back if that is heard of.
    fn settle(&self, state: &State, me: usize, t: usize, found: &mut impl FnMut(Action, State)) {
        let Some(finding) = state.replicas[me].findings[t] else { return };
        let stored = self.store(*state, me, t, finding);
        let heard = with(&stored, me, |replica| {
            replica.findings[t] = None;
            if replica.holdings[t].is_some_and(|holding| holding.generation == finding.generation) {
                replica.holdings[t] = None;
            }
        });
        found(Action::Settle(me, t), heard);
        if stored.faults > 0 {
            found(Action::LoseSettleReply(me, t), State { faults: stored.faults - 1, ..stored });
        }
    }

    /// What the database makes of it.
    fn store(&self, mut state: State, me: usize, t: usize, finding: Finding) -> State {
        let replica = &state.replicas[me];
        let trigger = state.triggers[t];
        let (holder, waits) = match trigger.wait {
            Wait::Free => (None, true),
            Wait::Held { replica, life } => (Some((replica as usize, life)), true),
            Wait::Resumed | Wait::Over => (None, false),
        };
        let is_same = trigger.generation == finding.generation || self.is(Mutation::NoGenerationCheck);
        let holds = holder == Some((me, replica.life)) && replica.row() == Row::Live;
        if !waits || !is_same {
            return state;
        }
        let is_other = trigger.generation != finding.generation;
        let ended = match finding.what {
            What::Evidence if trigger.generation < GENERATIONS => Wait::Resumed,
            What::Evidence => Wait::Over,
            What::Verdict if holds || self.is(Mutation::NoHolderCheck) => Wait::Over,
            // It goes dormant, and is free when it wakes.
            What::Sleep if holder == Some((me, replica.life)) => Wait::Free,
            What::Verdict | What::Sleep => return state,
        };
        if is_other {
            state.broken = Some(Broken::OtherWait);
        } else if finding.what == What::Verdict && !holds {
            state.broken = Some(Broken::Zombie);
        }
        state.triggers[t].wait = ended;
        state
    }

    /// Being declared gone, learning of it, coming back, leaving and crashing.
    pub(super) fn living(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let replica = &state.replicas[me];
        let life = replica.life as usize;
        let gone = || with(state, me, |replica| replica.rows[life] = Row::Gone);
        let is_faulty = state.faults > 0;
        match replica.process {
            Process::Runs => {
                if replica.row() == Row::Live && is_faulty && life + 1 < LIVES {
                    found(Action::Suspect(me), State { faults: state.faults - 1, ..gone() });
                }
                if matches!(replica.row(), Row::Gone | Row::Forgotten) {
                    found(Action::LearnGone(me), with(state, me, learn_gone));
                }
                let others = state.replicas.iter().filter(|peer| peer.process != Process::Stopped);
                if is_faulty && others.count() > 1 {
                    let crashed = with(state, me, stop);
                    found(Action::Crash(me), State { faults: state.faults - 1, ..crashed });
                    // What was found is settled before.
                    if replica.row() == Row::Live && replica.findings == [None; TRIGGERS] {
                        let left = with(&gone(), me, stop);
                        found(Action::Leave(me), State { faults: state.faults - 1, ..left });
                    }
                }
            }
            Process::Ends => {
                if replica.findings == [None; TRIGGERS] {
                    found(Action::Rejoin(me), with(state, me, rejoin));
                }
            }
            Process::Stopped => {
                if replica.row() == Row::Live {
                    found(Action::DeclareGone(me), gone());
                }
            }
        }
    }

    /// What goes on beside the replicas: tasks that wait again, rows that are forgotten.
    pub(super) fn upkeep(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        for t in 0..TRIGGERS {
            if state.triggers[t].wait == Wait::Resumed {
                let mut next = *state;
                next.triggers[t].generation += 1;
                next.triggers[t].wait = Wait::Free;
                found(Action::DeferAgain(t), next);
            }
        }
        for me in 0..REPLICAS {
            for life in 0..LIVES {
                let replica = &state.replicas[me];
                // In truth a time: longer than any statement takes that is still under way.
                let is_under_way = replica.is_leasing(life) && !self.is(Mutation::ForgottenTooSoon);
                let is_named = state.is_named(me, life) && !self.is(Mutation::ForgottenThoughNamed);
                if replica.rows[life] == Row::Gone && !is_under_way && !is_named {
                    found(Action::Forget(me, life), with(state, me, |replica| replica.rows[life] = Row::Forgotten));
                }
            }
        }
    }
}

fn with(state: &State, me: usize, change: impl FnOnce(&mut Replica)) -> State {
    let mut next = *state;
    change(&mut next.replicas[me]);
    next
}

/// The row names its holder, and the holder knows.
fn commit(state: State, me: usize, begun: Begun) -> State {
    let t = begun.trigger as usize;
    let mut next = named(state, me, begun);
    let generation = next.triggers[t].generation;
    let replica = &mut next.replicas[me];
    replica.begun = None;
    replica.leasing = Loop::Idle;
    replica.holdings[t] = Some(Holding { generation, is_checked: true });
    next
}

/// The row names its holder, who does not know.
fn commit_orphan(state: State, me: usize, begun: Begun) -> State {
    with(&named(state, me, begun), me, |replica| replica.orphan = None)
}

fn named(mut state: State, me: usize, begun: Begun) -> State {
    state.triggers[begun.trigger as usize].wait = Wait::Held { replica: me as u8, life: begun.life };
    state
}

/// The answer to a lease does not come, whether that commits now or later.
fn lose(state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
    let replica = &state.replicas[me];
    let Some(begun) = replica.begun.filter(|_| state.faults > 0 && replica.orphan.is_none()) else { return };
    let mut given_up = with(state, me, |replica| {
        replica.leasing = Loop::Idle;
        replica.doubts = true;
        (replica.begun, replica.orphan) = (None, Some(begun));
    });
    given_up.faults -= 1;
    found(Action::LoseLeaseReply(me), commit_orphan(given_up, me, begun));
    found(Action::GiveUp(me), given_up);
}

/// What it runs as it asks, and what it is said to hold. In truth the answer is later; but what it no longer runs by then
/// was stored, and is not said to be its own either.
fn asked(state: &State, me: usize) -> Loop {
    Loop::Compares { before: state.replicas[me].runs(), mine: state.held(me) }
}

/// Whether it asks what is held: after a lost answer, and if the database counts another number.
fn may_differ(state: &State, me: usize) -> bool {
    let replica = &state.replicas[me];
    let count = |fences: Fences| fences.iter().filter(|generation| **generation != 0).count();
    replica.doubts || count(replica.runs()) != count(state.held(me))
}

/// Drops what the database does not say is ours, and adopts what we did not have as we asked, and have not now.
fn agree(replica: &mut Replica, before: [u8; TRIGGERS], mine: [u8; TRIGGERS]) {
    for t in 0..TRIGGERS {
        let has =
            |holding: Option<Holding>, generation| holding.is_some_and(|holding| holding.generation == generation);
        if !has(replica.holdings[t], mine[t]) {
            replica.holdings[t] = None;
            if mine[t] != 0 && before[t] != mine[t] {
                replica.holdings[t] = Some(Holding { generation: mine[t], is_checked: true });
            }
        }
    }
    replica.doubts = false;
    replica.leasing = Loop::Idle;
}

/// What it runs is dropped, and of what it has found the evidence is kept until it is stored; then it takes a new life.
fn learn_gone(replica: &mut Replica) {
    replica.clear();
    replica.process = Process::Ends;
    for finding in &mut replica.findings {
        *finding = finding.filter(|finding| finding.what == What::Evidence);
    }
    if replica.findings == [None; TRIGGERS] {
        rejoin(replica);
    }
}

fn rejoin(replica: &mut Replica) {
    replica.process = Process::Runs;
    replica.life += 1;
    replica.rows[replica.life as usize] = Row::Live;
}

fn stop(replica: &mut Replica) {
    replica.clear();
    replica.findings = [None; TRIGGERS];
    replica.process = Process::Stopped;
}
