//! Signals and waits under one key, whichever comes first, and whoever brings them together.
//!
//! Who stores a signal or a wait commits first and then matches; every replica matches again now and then. A match is a row
//! of transactions: each locks the oldest signal that is not through, looks at one page of those who wait, resumes them, and
//! notes how far it has come. Here a page is one wait, a task may wait twice, and a wait may end by something else.

mod act;
mod shown;

use std::fmt;

use crate::checker::Model;

pub(super) const TASKS: usize = 2;
pub(super) const SIGNALS: usize = 2;

/// How often each task waits.
pub(super) const WAITS: u8 = 2;

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Who defers looks for signals before it stores its wait, and who signals looks for waits before it stores that. To look
    /// after the insert and before the commit is the same: nobody else sees it yet.
    LooksBeforeTheInsert,
    /// A signal is stored only if somebody waits for it.
    StoredOnlyIfAwaited,
    /// Nobody matches again.
    NeverMatchedAgain,
    /// That a signal was taken is not noted.
    NotMarked,
    /// How far a signal has come is not noted.
    NoCursor,
    /// A match does not lock its signal.
    NotLocked,
}

pub(super) struct Signals {
    /// How many are lost between their commit and the end of their match. Only if some are does anybody match again.
    pub(super) losses: u8,
    /// How many waits end by something else.
    pub(super) others: u8,
    pub(super) mutation: Option<Mutation>,
}

/// A transaction of a match: the signal that it has locked, and whose wait it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Page {
    pub(super) signal: u8,
    pub(super) seen: Option<(u8, u8)>,
}

/// How far somebody has come with what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Stage {
    Idle,
    /// It has looked before storing anything, and seen whether there is something to match; only mutations do so.
    Looked(bool),
    Uncommitted,
    /// The wait or signal is stored, and nothing is left to be done but to match.
    Matches(Option<Page>),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Task {
    /// The generation of its present wait; what waits has a key.
    pub(super) generation: u8,
    pub(super) waits: bool,
    pub(super) stage: Stage,
    /// Which signals resumed it.
    pub(super) given: [bool; SIGNALS],
}

/// A signal's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Signal {
    pub(super) is_stored: bool,
    pub(super) is_taken: bool,
    pub(super) delivered_to: Option<u8>,
    /// The generations of those who waited as its delivery began: all of them are to have it.
    pub(super) meant: [Option<u8>; TASKS],
    pub(super) stage: Stage,
}

impl Signal {
    /// Whether a match has something to do with it.
    pub(super) fn is_open(&self) -> bool {
        self.is_stored && (!self.is_taken || self.delivered_to.is_some())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct State {
    pub(super) tasks: [Task; TASKS],
    pub(super) signals: [Signal; SIGNALS],
    /// Somebody who matches again.
    pub(super) sweep: Stage,
    pub(super) losses: u8,
    pub(super) others: u8,
    pub(super) broken: Option<Broken>,
}

/// What is seen to be wrong as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Broken {
    GivenTwice,
    Dropped,
    Missed,
}

/// Who matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Task(usize),
    Sender(usize),
    Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Look(Who),
    Store(Who),
    Commit(Who),
    Page(Who),
    Deliver(Who),
    Lose(Who),
    Sweep,
    EndOtherwise(usize),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => write!(f, "who defers task {task}"),
            Self::Sender(signal) => write!(f, "who sends signal {signal}"),
            Self::Sweep => write!(f, "who matches again"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(who) => write!(f, "{who} looks before storing"),
            Self::Store(who) => write!(f, "{who} stores it, uncommitted"),
            Self::Commit(who) => write!(f, "{who} commits"),
            Self::Page(who) => write!(f, "{who} looks for the oldest signal and the next wait"),
            Self::Deliver(who) => write!(f, "{who} delivers what it saw, if it still waits"),
            Self::Lose(who) => write!(f, "{who} is lost before it has matched"),
            Self::Sweep => write!(f, "somebody begins to match again"),
            Self::EndOtherwise(task) => write!(f, "the wait of task {task} ends by something else"),
        }
    }
}

pub(super) const GIVEN_TWICE: &str = "a signal was given twice to one task";
pub(super) const MISSED: &str = "a signal has not come to all who waited";
pub(super) const DROPPED: &str = "a signal was dropped";

impl Model for Signals {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        let task = Task { generation: 0, waits: false, stage: Stage::Idle, given: [false; SIGNALS] };
        let signal =
            Signal { is_stored: false, is_taken: false, delivered_to: None, meant: [None; TASKS], stage: Stage::Idle };
        State {
            tasks: [task; TASKS],
            signals: [signal; SIGNALS],
            sweep: Stage::Idle,
            losses: self.losses,
            others: self.others,
            broken: None,
        }
    }

    fn each_next(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        self.each(state, found);
    }

    /// Ids order those who wait, and times the signals: no two are the same.
    fn canonical(&self, state: &State) -> State {
        *state
    }

    fn is_fault(action: Action) -> bool {
        match action {
            Action::Lose(_) | Action::EndOtherwise(_) => true,
            Action::Look(_)
            | Action::Store(_)
            | Action::Commit(_)
            | Action::Page(_)
            | Action::Deliver(_)
            | Action::Sweep => false,
        }
    }

    fn breach(&self, state: &State) -> Option<&'static str> {
        match state.broken {
            Some(Broken::GivenTwice) => Some(GIVEN_TWICE),
            Some(Broken::Dropped) => Some(DROPPED),
            Some(Broken::Missed) => Some(MISSED),
            None => None,
        }
    }

    /// All is stored, nobody matches any more, and nobody waits for what is there.
    fn is_settled(&self, state: &State) -> bool {
        let is_there = state.signals.iter().any(|signal| signal.is_stored && !signal.is_taken);
        state.signals.iter().all(|signal| signal.stage == Stage::Over)
            && state.tasks.iter().all(|task| task.stage == Stage::Over && !(task.waits && is_there))
            && state.sweep == Stage::Idle
    }
}
