//! Who is there, who is silent, and who is gone: renewals, watching, parking and the compare-and-set on a beat.
//!
//! Time goes by in ticks, each as long as a renewal period, on all hosts alike: what clocks show does not matter, only how
//! fast they go. A replica that is well takes a turn each tick; a turn is to renew, to look at the others, and to declare
//! those gone that have been silent for a lease. What is slow, paused or cut off takes none, and time goes on without it.
//! A beat is not a number here: all that matters is whether a peer has seen the present one.
//!
//! One trigger stands for all that a replica holds, to tell whether two ever run it at once.

mod act;
mod shown;

use std::fmt;

use crate::checker::Model;

pub(super) const REPLICAS: usize = 3;

/// A lease, in ticks.
pub(super) const LEASE: u8 = 3;

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Time counts between any two good reads, however far apart.
    CountedAcrossAFailedRead,
    /// A renewal counts from its reply.
    CountedFromTheReply,
    /// Who was seen silent is declared gone, whatever its beat is by then.
    DeclaredWithoutTheBeat,
    /// Who was seen silent is not declared gone: what it holds is taken if its beat is still the same.
    TakenWithoutTheWrite,
    /// Who is gone may renew.
    RenewedThoughGone,
    /// A silent holder goes on.
    NotParked,
}

pub(super) struct Liveness {
    /// How many faults there are in all.
    pub(super) faults: u8,
    pub(super) mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Process {
    Runs,
    Paused,
    Crashed,
}

/// How far a replica's turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Turn {
    Due,
    /// A renewal was sent so long ago, and its reply is not here. It may not have taken effect either.
    Waits {
        since: u8,
        is_stored: bool,
    },
    Renewed,
    Done,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all go together")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Replica {
    pub(super) process: Process,
    pub(super) is_cut: bool,
    /// By the database.
    pub(super) is_gone: bool,
    /// Since it sent its last good renewal.
    pub(super) age: u8,
    /// Since a renewal of its was stored.
    pub(super) silence: u8,
    pub(super) turn: Turn,
    /// Since its last good read.
    pub(super) read: u8,
    /// For how long it has seen the present beat of each; none if it has not seen that.
    pub(super) seen: [Option<u8>; REPLICAS],
    /// Whom it found silent as it last looked.
    pub(super) silent: [bool; REPLICAS],
    /// A renewal that it has given up is under way.
    pub(super) orphan: bool,
    pub(super) runs: bool,
    /// Whether anything ever went wrong with this life of it.
    pub(super) was_ill: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) replicas: [Replica; REPLICAS],
    /// Who holds the trigger, by the database. Nobody, too, if that one is gone.
    pub(super) holder: Option<u8>,
    pub(super) is_down: bool,
    pub(super) outage_left: bool,
    pub(super) faults: u8,
    pub(super) broken: Option<Broken>,
}

/// What is seen to be wrong as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Broken {
    DeclaredTooSoon,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Tick,
    Renew(usize),
    /// The reply is late, or never comes; the renewal may be under way for as long.
    SendSlowly(usize, bool),
    Store(usize),
    Reply(usize),
    GiveUp(usize),
    StoreOrphan(usize),
    LoseOrphan(usize),
    Read(usize),
    Declare(usize, usize),
    Take(usize),
    Crash(usize),
    Pause(usize),
    Continue(usize),
    Cut(usize),
    Heal(usize),
    Fail,
    Recover,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "a renewal period goes by"),
            Self::Renew(me) => write!(f, "{me} renews, or learns that it is gone"),
            Self::SendSlowly(me, true) => write!(f, "{me} sends a renewal, which is stored; the reply is slow"),
            Self::SendSlowly(me, false) => write!(f, "{me} sends a renewal, which is slow"),
            Self::Store(me) => write!(f, "the renewal of {me} is stored"),
            Self::Reply(me) => write!(f, "{me} hears of its renewal"),
            Self::GiveUp(me) => write!(f, "{me} gives its renewal up"),
            Self::StoreOrphan(me) => write!(f, "the renewal that {me} had given up is stored"),
            Self::LoseOrphan(me) => write!(f, "the renewal that {me} had given up is lost"),
            Self::Read(me) => write!(f, "{me} looks at the others"),
            Self::Declare(me, peer) => write!(f, "{me} acts on the silence of {peer}"),
            Self::Take(me) => write!(f, "{me} takes the trigger"),
            Self::Crash(me) => write!(f, "{me} crashes"),
            Self::Pause(me) => write!(f, "{me} is paused"),
            Self::Continue(me) => write!(f, "{me} continues"),
            Self::Cut(me) => write!(f, "{me} is cut off"),
            Self::Heal(me) => write!(f, "{me} is connected again"),
            Self::Fail => write!(f, "the database goes away"),
            Self::Recover => write!(f, "the database is back"),
        }
    }
}

pub(super) const GONE_UNPARKED: &str = "one that is gone is not parked";
pub(super) const TWICE: &str = "two run one trigger, and neither is parked";
pub(super) const TOO_SOON: &str = "one is declared gone that has shown life within a lease";
pub(super) const WELL: &str = "one is gone with which nothing was ever wrong";

impl Model for Liveness {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let replica = Replica {
            process: Process::Runs,
            is_cut: false,
            is_gone: false,
            age: 0,
            silence: 0,
            turn: Turn::Due,
            read: self.longest_read(),
            seen: [None; REPLICAS],
            silent: [false; REPLICAS],
            orphan: false,
            runs: false,
            was_ill: false,
        };
        State {
            replicas: [replica; REPLICAS],
            holder: None,
            is_down: false,
            outage_left: true,
            faults: self.faults,
            broken: None,
        }
    }

    fn each_next(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        self.each(state, found);
    }

    /// The least under all names of the replicas.
    fn canonical(&self, state: &State) -> State {
        const ORDERS: [[usize; REPLICAS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        // By what each is without regard to the others, and of those that are equal in this, by the rest.
        let keys = [0, 1, 2].map(|me| {
            let replica = &state.replicas[me];
            (state.holder == Some(me as u8), Replica { seen: [None; REPLICAS], silent: [false; REPLICAS], ..*replica })
        });
        let in_order = ORDERS.iter().filter(|order| order.is_sorted_by_key(|me| keys[*me]));
        in_order.map(|order| renamed(state, order)).min().expect("some order sorts them")
    }

    fn is_fault(action: Action) -> bool {
        match action {
            Action::SendSlowly(..) | Action::Crash(_) | Action::Pause(_) | Action::Cut(_) | Action::Fail => true,
            Action::Tick
            | Action::Renew(_)
            | Action::Store(_)
            | Action::Reply(_)
            | Action::GiveUp(_)
            | Action::StoreOrphan(_)
            | Action::LoseOrphan(_)
            | Action::Read(_)
            | Action::Declare(..)
            | Action::Take(_)
            | Action::Continue(_)
            | Action::Heal(_)
            | Action::Recover => false,
        }
    }

    fn breach(&self, state: &State) -> Option<&'static str> {
        let replicas = || state.replicas.iter();
        if state.broken.is_some() {
            Some(TOO_SOON)
        } else if replicas().any(|replica| replica.is_gone && !replica.was_ill) {
            Some(WELL)
        } else if replicas().any(|replica| replica.is_gone && !self.is_parked(replica)) {
            Some(GONE_UNPARKED)
        } else if replicas().filter(|replica| replica.runs && !self.is_parked(replica)).count() > 1 {
            Some(TWICE)
        } else {
            None
        }
    }

    /// All that have not crashed are there and well, and one of them holds the trigger and runs it.
    fn is_settled(&self, state: &State) -> bool {
        let is_well = |replica: &Replica| {
            replica.process == Process::Runs && !replica.is_cut && !replica.is_gone && !self.is_parked(replica)
        };
        !state.is_down
            && state.holder.is_some()
            && state.replicas.iter().enumerate().all(|(me, replica)| {
                let holds = state.holder == Some(me as u8);
                replica.runs == holds && (is_well(replica) || (replica.process == Process::Crashed && !holds))
            })
    }
}

fn renamed(state: &State, order: &[usize; REPLICAS]) -> State {
    let mut renamed = *state;
    for (to, from) in order.iter().enumerate() {
        renamed.replicas[to] = state.replicas[*from];
        renamed.replicas[to].seen = order.map(|peer| state.replicas[*from].seen[peer]);
        renamed.replicas[to].silent = order.map(|peer| state.replicas[*from].silent[peer]);
    }
    renamed.holder =
        state.holder.and_then(|holder| order.iter().position(|from| *from == holder as usize)).map(|to| to as u8);
    renamed
}
