//! What a deferral comes to: events, verdicts, deadlines and cancellations race, and workers run what is before and after.
//!
//! One task, as tasks share no rows but those of replicas, which `leases` explores. A statement that was sent may take
//! effect at once, much later, or again and again until its sender has heard of it; its sender may be gone or dead by then.
//! So a lost reply, a message that comes late, a pause and a zombie are all the same: a statement that is still there. Who is
//! live and who is gone may change at any time.
//!
//! Beside the generation, which is the fence, each wait and each claim has a number here that no statement looks at: it tells
//! whether what was done was done to what it was meant for.

mod act;
mod shown;
mod state;

use std::fmt;

use self::state::{At, Broken, State};
use crate::checker::Model;

/// A rule that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// An event ends the wait of its task, whichever that is.
    EventWithoutGeneration,
    /// An event moves its task, whatever that does by then.
    EventWithoutCompare,
    /// A deadline strikes whatever waits by then.
    DeadlineWithoutGeneration,
    /// Arming a wait again leaves its generation.
    RearmedInPlace,
    /// A verdict is taken from anybody.
    VerdictWithoutHolder,
    /// A verdict is taken from a holder that is gone.
    VerdictOfTheGone,
    /// An answer is taken from a worker that is gone.
    AnswerOfTheGone,
    /// An event that is not taken now is refused, without a look whether it was taken before.
    NoLookForItsId,
    /// A task that was cancelled as it ran may wait all the same.
    DeferredThoughCancelled,
    /// What a lost worker ran is left to it.
    NotRescued,
}

pub(super) struct Outcomes {
    /// How many things go wrong in all: crashes, lives that end, claims and leases that are not heard of.
    pub(super) faults: u8,
    pub(super) mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Claim(usize),
    ClaimUnheard(usize),
    Answer(usize, state::Kind),
    StoreAnswer(usize),
    StoreAnswerUnheard(usize),
    DropStep(usize),
    Rescue,
    Lease(usize),
    LeaseUnheard(usize),
    Adopt(usize),
    DropCheck(usize),
    Find(usize, state::What),
    Fire(usize),
    FireUnheard(usize),
    SeeDeadline,
    Strike,
    Cancel,
    WorkerGone(usize),
    WorkerSuspected(usize),
    WorkerCrash(usize),
    TriggererGone(usize),
    TriggererSuspected(usize),
    TriggererCrash(usize),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(me) => write!(f, "worker {me} claims the task"),
            Self::ClaimUnheard(me) => write!(f, "worker {me} claims the task, and does not hear of it"),
            Self::Answer(me, kind) => write!(f, "worker {me} sends its answer: {kind:?}"),
            Self::StoreAnswer(me) => write!(f, "the answer of worker {me} is stored or refused, and it hears of it"),
            Self::StoreAnswerUnheard(me) => write!(f, "the answer of worker {me} is stored or refused, unheard"),
            Self::DropStep(me) => write!(f, "worker {me} drops a step that is not its own any more"),
            Self::Rescue => write!(f, "the task is taken from a worker that is gone"),
            Self::Lease(me) => write!(f, "triggerer {me} leases the trigger, or takes it over"),
            Self::LeaseUnheard(me) => write!(f, "triggerer {me} leases the trigger, and does not hear of it"),
            Self::Adopt(me) => write!(f, "triggerer {me} adopts what it is said to hold"),
            Self::DropCheck(me) => write!(f, "triggerer {me} drops a trigger that is not its own any more"),
            Self::Find(me, what) => write!(f, "triggerer {me} finds, and sends: {what:?}"),
            Self::Fire(me) => write!(f, "what triggerer {me} found is stored or refused, and it hears of it"),
            Self::FireUnheard(me) => write!(f, "what triggerer {me} found is stored or refused, unheard"),
            Self::SeeDeadline => write!(f, "somebody sees that the deadline has passed"),
            Self::Strike => write!(f, "the deadline is struck"),
            Self::Cancel => write!(f, "the task is cancelled"),
            Self::WorkerGone(me) => write!(f, "worker {me} is declared gone"),
            Self::WorkerSuspected(me) => write!(f, "worker {me} is declared gone though it lives"),
            Self::WorkerCrash(me) => write!(f, "worker {me} crashes"),
            Self::TriggererGone(me) => write!(f, "triggerer {me} is declared gone"),
            Self::TriggererSuspected(me) => write!(f, "triggerer {me} is declared gone though it lives"),
            Self::TriggererCrash(me) => write!(f, "triggerer {me} crashes"),
        }
    }
}

pub(super) const OTHER_WAIT: &str = "a wait was ended by what was meant for another";
pub(super) const TWO_OUTCOMES: &str = "a deferral has had two outcomes";
pub(super) const ZOMBIE_VERDICT: &str = "a verdict was taken from one that is gone or does not hold the trigger";
pub(super) const ZOMBIE_ANSWER: &str = "an answer was taken from a worker that is gone or has lost the task";
pub(super) const FALSE_RECEIPT: &str = "an event that is stored was refused";
pub(super) const WENT_ON: &str = "a cancelled task goes on";

impl Model for Outcomes {
    type State = State;
    type Action = Action;

    fn start(&self) -> State {
        State::new(self.faults)
    }

    fn each_next(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        self.each(state, found);
    }

    fn canonical(&self, state: &State) -> State {
        match self.mutation {
            Some(Mutation::EventWithoutGeneration | Mutation::EventWithoutCompare) => state.ordered(),
            _ => state.without_late().ordered(),
        }
    }

    fn is_fault(action: Action) -> bool {
        match action {
            Action::ClaimUnheard(_)
            | Action::StoreAnswerUnheard(_)
            | Action::LeaseUnheard(_)
            | Action::FireUnheard(_)
            | Action::Cancel
            | Action::SeeDeadline
            | Action::WorkerSuspected(_)
            | Action::WorkerCrash(_)
            | Action::TriggererSuspected(_)
            | Action::TriggererCrash(_) => true,
            Action::WorkerGone(_)
            | Action::TriggererGone(_)
            | Action::Claim(_)
            | Action::Answer(..)
            | Action::StoreAnswer(_)
            | Action::DropStep(_)
            | Action::Rescue
            | Action::Lease(_)
            | Action::Adopt(_)
            | Action::DropCheck(_)
            | Action::Find(..)
            | Action::Fire(_)
            | Action::Strike => false,
        }
    }

    fn breach(&self, state: &State) -> Option<&'static str> {
        match state.broken {
            Some(Broken::OtherWait) => Some(OTHER_WAIT),
            Some(Broken::TwoOutcomes) => Some(TWO_OUTCOMES),
            Some(Broken::ZombieVerdict) => Some(ZOMBIE_VERDICT),
            Some(Broken::ZombieAnswer) => Some(ZOMBIE_ANSWER),
            Some(Broken::FalseReceipt) => Some(FALSE_RECEIPT),
            None if state.is_cancelled && matches!(state.at, At::Ready | At::Waits { .. }) => Some(WENT_ON),
            None => None,
        }
    }

    /// The task is over, and nobody has anything to do with it.
    fn is_settled(&self, state: &State) -> bool {
        state.at == At::Over
            && state.workers.iter().all(|worker| worker.is_crashed || (worker.runs.is_none() && worker.sent.is_none()))
            && state.triggerers.iter().all(|one| one.is_crashed || (one.checks.is_none() && one.sent.is_none()))
    }
}
