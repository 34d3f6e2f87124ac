//! Who holds what: leasing, taking over, comparing what is held with what runs, firing, leaving, coming back, forgetting.
//!
//! There is no time in it: a replica may be declared gone at any moment, however well it is, and a process may stand still
//! for as long as it likes between any two steps. So a pause, a partition and a late renewal need no steps of their own, and
//! what holds here holds whatever clocks do.
//!
//! A statement is one step where it commits with its own answer. Leasing is two: it looks whether its replica is gone and
//! locks a row, and later commits, with or without anybody who still waits for it. What a lease has locked is passed over
//! by other leases and waited for by everything else.

mod act;
mod shown;
mod state;

use std::fmt;

use self::state::{Broken, LIVES, REPLICAS, State, TRIGGERS};
use crate::checker::Model;

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// An event ends the wait of its task, whichever that is.
    NoGenerationCheck,
    /// A verdict is taken from anybody.
    NoHolderCheck,
    /// A lease does not look whether its replica is gone.
    LeasedThoughGone,
    /// A gone row is deleted though something names it.
    ForgottenThoughNamed,
    /// A gone row that nothing names is deleted though a lease of its is under way.
    ForgottenTooSoon,
    /// A slot is free as soon as something was found.
    FreedBeforeSettled,
    /// After a lost answer a replica leases on, and compares later.
    NoDoubt,
    /// A replica never compares what it is said to hold with what it runs.
    NeverCompared,
    /// Asking what is held does not wait for leases that are under way.
    AskedTooSoon,
    /// What a gone replica held is left to it.
    NotTakenOver,
}

pub(super) struct Leases {
    /// How many things go wrong in all.
    pub(super) faults: u8,
    pub(super) mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Lease(usize, usize),
    Commit(usize),
    CommitOrphan(usize),
    LoseLeaseReply(usize),
    GiveUp(usize),
    RollBack(usize),
    Ask(usize),
    Agree(usize),
    Find(usize, usize),
    Refuse(usize, usize),
    Settle(usize, usize),
    LoseSettleReply(usize, usize),
    DeferAgain(usize),
    Suspect(usize),
    DeclareGone(usize),
    LearnGone(usize),
    Rejoin(usize),
    Leave(usize),
    Crash(usize),
    Forget(usize, usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(me, t) => write!(f, "{me} leases or takes over trigger {t}, and has not committed"),
            Self::Commit(me) => write!(f, "the lease of {me} commits, and it hears of it"),
            Self::CommitOrphan(me) => write!(f, "the lease that {me} has given up commits"),
            Self::LoseLeaseReply(me) => write!(f, "the lease of {me} commits, and it does not hear of it"),
            Self::GiveUp(me) => write!(f, "{me} gives up its lease, which is under way"),
            Self::RollBack(me) => write!(f, "the lease that {me} has given up rolls back"),
            Self::Ask(me) => write!(f, "{me} asks what it is said to hold"),
            Self::Agree(me) => write!(f, "{me} adopts the missing and drops the surplus"),
            Self::Find(me, t) => write!(f, "{me} sees that what trigger {t} waits for has happened"),
            Self::Refuse(me, t) => write!(f, "{me} finds that trigger {t} must fail"),
            Self::Settle(me, t) => write!(f, "{me} stores what it found of trigger {t}, and hears of it"),
            Self::LoseSettleReply(me, t) => {
                write!(f, "{me} stores what it found of trigger {t}, and does not hear of it")
            }
            Self::DeferAgain(t) => write!(f, "the task of trigger {t} goes on, and waits again"),
            Self::Suspect(me) => write!(f, "{me} is declared gone though it lives"),
            Self::DeclareGone(me) => write!(f, "{me} is declared gone"),
            Self::LearnGone(me) => write!(f, "{me} learns that it is gone"),
            Self::Rejoin(me) => write!(f, "{me} takes a new life"),
            Self::Leave(me) => write!(f, "{me} leaves"),
            Self::Crash(me) => write!(f, "{me} crashes"),
            Self::Forget(me, life) => write!(f, "the row of life {life} of {me} is forgotten"),
        }
    }
}

pub(super) const OVER_CAPACITY: &str = "a live replica holds more than its capacity";
pub(super) const OTHER_WAIT: &str = "an event ended a wait that it was not seen for";
pub(super) const ZOMBIE: &str = "a verdict was taken from one that is gone or does not hold the trigger";

impl Model for Leases {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State::new(self.faults)
    }

    fn each_next(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        for me in 0..REPLICAS {
            self.leasing(state, me, found);
            self.settling(state, me, found);
            self.living(state, me, found);
        }
        self.upkeep(state, found);
    }

    fn canonical(&self, state: &State) -> State {
        match self.mutation {
            Some(Mutation::NoGenerationCheck) => state.least(),
            _ => state.without_late().least(),
        }
    }

    fn is_fault(action: Action) -> bool {
        match action {
            Action::LoseLeaseReply(_)
            | Action::GiveUp(_)
            | Action::LoseSettleReply(..)
            | Action::Suspect(_)
            | Action::Leave(_)
            | Action::Crash(_) => true,
            Action::Lease(..)
            | Action::Commit(_)
            | Action::CommitOrphan(_)
            | Action::RollBack(_)
            | Action::Ask(_)
            | Action::Agree(_)
            | Action::Find(..)
            | Action::Refuse(..)
            | Action::Settle(..)
            | Action::DeferAgain(_)
            | Action::DeclareGone(_)
            | Action::LearnGone(_)
            | Action::Rejoin(_)
            | Action::Forget(..) => false,
        }
    }

    fn breach(&self, state: &State) -> Option<&'static str> {
        match state.broken {
            Some(Broken::OtherWait) => Some(OTHER_WAIT),
            Some(Broken::Zombie) => Some(ZOMBIE),
            None => (0..REPLICAS)
                .flat_map(|me| (0..LIVES).map(move |life| (me, life)))
                .any(|(me, life)| state.exceeds(me, life))
                .then_some(OVER_CAPACITY),
        }
    }

    /// All tasks are over, and nobody runs or is said to hold anything.
    fn is_settled(&self, state: &State) -> bool {
        (0..TRIGGERS).all(|t| state.is_over(t)) && state.replicas.iter().all(state::Replica::is_idle)
    }
}
