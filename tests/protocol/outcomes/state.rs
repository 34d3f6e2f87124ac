//! What there is to know: the task's row with its wait, and each replica with what it runs and has sent.

pub(super) const WORKERS: usize = 2;
pub(super) const TRIGGERERS: usize = 3;

/// How often the task may wait, arming a wait again included.
pub(super) const WAITS: u8 = 3;

/// How often a step lets it wait.
pub(super) const DEFERRALS: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum At {
    Ready,
    Runs { worker: u8 },
    Waits { holder: Option<u8> },
    Over,
}

/// What a statement names, and what it is meant for, which it does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Meant {
    pub(super) generation: u8,
    /// The number of the wait, or of the claim.
    pub(super) number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Finish,
    Defer,
    /// It was given the task and does not run it.
    PutBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum What {
    /// Evidence, upon which the task goes on.
    Resume,
    /// Evidence, which ends it.
    Succeed,
    /// A verdict.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Worker {
    pub(super) is_gone: bool,
    pub(super) is_crashed: bool,
    pub(super) runs: Option<Meant>,
    pub(super) sent: Option<(Meant, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Triggerer {
    pub(super) is_gone: bool,
    pub(super) is_crashed: bool,
    pub(super) checks: Option<Meant>,
    pub(super) sent: Option<(Meant, What)>,
    /// Whether the event that was sent is in the history.
    pub(super) is_stored: bool,
}

/// What is seen to be wrong as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Broken {
    OtherWait,
    TwoOutcomes,
    ZombieVerdict,
    ZombieAnswer,
    FalseReceipt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct State {
    pub(super) at: At,
    pub(super) generation: u8,
    pub(super) is_cancelled: bool,
    /// The numbers of the present claim and wait.
    pub(super) claims: u8,
    pub(super) waits: u8,
    /// How often it may still be deferred by a step, and wait in all.
    pub(super) deferrals_left: u8,
    pub(super) waits_left: u8,
    /// Whether the present wait, or the last, has had its outcome.
    pub(super) is_decided: bool,
    pub(super) workers: [Worker; WORKERS],
    pub(super) triggerers: [Triggerer; TRIGGERERS],
    /// A deadline that somebody has seen to have passed.
    pub(super) strike: Option<Meant>,
    pub(super) may_cancel: bool,
    pub(super) faults: u8,
    pub(super) broken: Option<Broken>,
}

impl State {
    pub(super) fn new(faults: u8) -> Self {
        let worker = Worker { is_gone: false, is_crashed: false, runs: None, sent: None };
        let triggerer = Triggerer { is_gone: false, is_crashed: false, checks: None, sent: None, is_stored: false };
        Self {
            at: At::Ready,
            generation: 0,
            is_cancelled: false,
            claims: 0,
            waits: 0,
            deferrals_left: DEFERRALS,
            waits_left: WAITS,
            is_decided: false,
            workers: [worker; WORKERS],
            triggerers: [triggerer; TRIGGERERS],
            strike: None,
            may_cancel: true,
            faults,
            broken: None,
        }
    }

    /// The present wait, as a statement that is meant for it names it.
    pub(super) fn this_wait(&self) -> Meant {
        Meant { generation: self.generation, number: self.waits }
    }

    /// The present claim.
    pub(super) fn this_claim(&self) -> Meant {
        Meant { generation: self.generation, number: self.claims }
    }

    /// With workers and triggerers in their order, whatever their names, and with no more of a number than whether it is
    /// the present one: what is past stays past.
    pub(super) fn ordered(&self) -> Self {
        self.numbered().sorted()
    }

    fn numbered(&self) -> Self {
        let mut numbered = *self;
        let anew = |meant: &mut Meant, number: u8| {
            meant.generation = u8::from(meant.generation == self.generation);
            meant.number = u8::from(meant.number == number);
        };
        for worker in &mut numbered.workers {
            let sent = worker.sent.as_mut().map(|(meant, _)| meant);
            worker.runs.iter_mut().chain(sent).for_each(|meant| anew(meant, self.claims));
        }
        for triggerer in &mut numbered.triggerers {
            let sent = triggerer.sent.as_mut().map(|(meant, _)| meant);
            triggerer.checks.iter_mut().chain(sent).for_each(|meant| anew(meant, self.waits));
        }
        numbered.strike.iter_mut().for_each(|meant| anew(meant, self.waits));
        (numbered.generation, numbered.claims, numbered.waits) = (1, 1, 1);
        numbered
    }

    /// With what comes too late all the same, as long as all of it is refused.
    pub(super) fn without_late(&self) -> Self {
        let mut without = *self;
        let is_late = |meant: &Meant| meant.generation != self.generation;
        for (_, kind) in
            without.workers.iter_mut().filter_map(|worker| worker.sent.as_mut()).filter(|(meant, _)| is_late(meant))
        {
            *kind = Kind::Finish;
        }
        for (_, what) in
            without.triggerers.iter_mut().filter_map(|one| one.sent.as_mut()).filter(|(meant, _)| is_late(meant))
        {
            *what = What::Resume;
        }
        without
    }

    fn sorted(&self) -> Self {
        let mut ordered = *self;
        let runs = |me: usize| self.at == At::Runs { worker: me as u8 };
        let mut workers = [0, 1];
        workers.sort_unstable_by_key(|me| (self.workers[*me], runs(*me)));
        ordered.workers = workers.map(|me| self.workers[me]);
        let holds = |me: usize| self.at == At::Waits { holder: Some(me as u8) };
        let mut triggerers = [0, 1, 2];
        triggerers.sort_unstable_by_key(|me| (self.triggerers[*me], holds(*me)));
        ordered.triggerers = triggerers.map(|me| self.triggerers[me]);
        if let Some(worker) = workers.iter().position(|me| runs(*me)) {
            ordered.at = At::Runs { worker: worker as u8 };
        }
        if let Some(holder) = triggerers.iter().position(|me| holds(*me)) {
            ordered.at = At::Waits { holder: Some(holder as u8) };
        }
        ordered
    }
}
