//! What can happen, and what comes of it.

use super::{
    Action, Mutation, Outcomes,
    state::{At, Broken, Kind, Meant, State, TRIGGERERS, Triggerer, WORKERS, What, Worker},
};

impl Outcomes {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn each(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        for me in 0..WORKERS {
            self.work(state, me, found);
        }
        for me in 0..TRIGGERERS {
            self.watch(state, me, found);
        }
        self.upkeep(state, found);
        end_lives(state, found);
    }

    fn work(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let worker = &state.workers[me];
        let with = |state: &State, change: &dyn Fn(&mut Worker)| {
            let mut next = *state;
            change(&mut next.workers[me]);
            next
        };
        if let Some((meant, kind)) = worker.sent {
            let stored = self.answered(*state, me, meant, kind);
            if !worker.is_crashed {
                found(Action::StoreAnswer(me), with(&stored, &|worker| worker.sent = None));
            }
            found(Action::StoreAnswerUnheard(me), stored);
        }
        if worker.is_crashed || worker.sent.is_some() {
            return;
        }
        let is_mine = state.at == At::Runs { worker: me as u8 };
        match worker.runs {
            Some(meant) => {
                let answer = |kind| with(state, &|worker| (worker.runs, worker.sent) = (None, Some((meant, kind))));
                found(Action::Answer(me, Kind::Finish), answer(Kind::Finish));
                found(Action::Answer(me, Kind::Defer), answer(Kind::Defer));
                if !is_mine || meant.generation != state.generation {
                    found(Action::DropStep(me), with(state, &|worker| worker.runs = None));
                }
            }
            None if is_mine => {
                // It is said to have it, and does not run it.
                let back = Some((state.this_claim(), Kind::PutBack));
                found(Action::Answer(me, Kind::PutBack), with(state, &|worker| worker.sent = back));
            }
            None if state.at == At::Ready && !worker.is_gone => {
                let claimed = State {
                    at: At::Runs { worker: me as u8 },
                    generation: state.generation + 1,
                    claims: state.claims + 1,
                    ..*state
                };
                let meant = claimed.this_claim();
                found(Action::Claim(me), with(&claimed, &|worker| worker.runs = Some(meant)));
                if state.faults > 0 {
                    found(Action::ClaimUnheard(me), State { faults: state.faults - 1, ..claimed });
                }
            }
            None => {}
        }
    }

    /// What the database makes of a worker's answer.
    fn answered(&self, mut state: State, me: usize, meant: Meant, kind: Kind) -> State {
        let is_gone = state.workers[me].is_gone;
        let holds = state.at == At::Runs { worker: me as u8 } && state.generation == meant.generation;
        // Giving back needs no live holder: what it gave back, others would have taken.
        let may = !is_gone || kind == Kind::PutBack || self.is(Mutation::AnswerOfTheGone);
        if !holds || !may {
            return state;
        }
        if (is_gone && kind != Kind::PutBack) || meant.number != state.claims {
            state.broken = Some(Broken::ZombieAnswer);
        }
        state.generation += 1;
        match kind {
            Kind::Finish => state.at = At::Over,
            Kind::PutBack if state.is_cancelled => state.at = At::Over,
            Kind::PutBack => state.at = At::Ready,
            Kind::Defer if state.is_cancelled && !self.is(Mutation::DeferredThoughCancelled) => state.at = At::Over,
            Kind::Defer if state.deferrals_left == 0 || state.waits_left == 0 => state.at = At::Over,
            Kind::Defer => {
                state.deferrals_left -= 1;
                arm(&mut state);
            }
        }
        state
    }

    fn watch(&self, state: &State, me: usize, found: &mut impl FnMut(Action, State)) {
        let triggerer = &state.triggerers[me];
        let with = |state: &State, change: &dyn Fn(&mut Triggerer)| {
            let mut next = *state;
            change(&mut next.triggerers[me]);
            next
        };
        if let Some((meant, what)) = triggerer.sent {
            let (mut stored, is_taken) = self.fired(*state, me, meant, what);
            if is_taken {
                stored.triggerers[me].is_stored = true;
            }
            if !triggerer.is_crashed {
                let accepted = is_taken || (triggerer.is_stored && !self.is(Mutation::NoLookForItsId));
                let mut heard = with(&stored, &|triggerer| (triggerer.sent, triggerer.is_stored) = (None, false));
                if stored.triggerers[me].is_stored && !accepted {
                    heard.broken = Some(Broken::FalseReceipt);
                }
                found(Action::Fire(me), heard);
            }
            found(Action::FireUnheard(me), stored);
        }
        if triggerer.is_crashed {
            return;
        }
        let wait = state.this_wait();
        let holds = state.at == At::Waits { holder: Some(me as u8) };
        if let Some(meant) = triggerer.checks {
            if triggerer.sent.is_none() {
                for what in [What::Resume, What::Succeed, What::Fail] {
                    let sent =
                        |triggerer: &mut Triggerer| (triggerer.checks, triggerer.sent) = (None, Some((meant, what)));
                    found(Action::Find(me, what), with(state, &sent));
                }
            }
            if !holds || meant.generation != wait.generation {
                found(Action::DropCheck(me), with(state, &|triggerer| triggerer.checks = None));
            }
        } else if holds && triggerer.sent.is_none_or(|(meant, _)| meant.generation != wait.generation) {
            found(Action::Adopt(me), with(state, &|triggerer| triggerer.checks = Some(wait)));
        }
        let is_free = match state.at {
            At::Waits { holder } => holder.is_none_or(|holder| state.triggerers[holder as usize].is_gone),
            At::Ready | At::Runs { .. } | At::Over => false,
        };
        if is_free && !triggerer.is_gone {
            let leased = State { at: At::Waits { holder: Some(me as u8) }, ..*state };
            found(Action::Lease(me), with(&leased, &|triggerer| triggerer.checks = Some(wait)));
            if state.faults > 0 {
                let unheard = State { faults: state.faults - 1, ..leased };
                found(Action::LeaseUnheard(me), with(&unheard, &|triggerer| triggerer.checks = None));
            }
        }
    }

    /// What the database makes of what a triggerer found, and whether that decided.
    fn fired(&self, state: State, me: usize, meant: Meant, what: What) -> (State, bool) {
        let holder = match state.at {
            At::Waits { holder } => holder,
            At::Ready | At::Runs { .. } if self.is(Mutation::EventWithoutCompare) => None,
            At::Ready | At::Runs { .. } | At::Over => return (state, false),
        };
        let is_same = state.generation == meant.generation
            || self.is(Mutation::EventWithoutGeneration)
            || self.is(Mutation::EventWithoutCompare);
        let (holds, is_live) = (holder == Some(me as u8), !state.triggerers[me].is_gone);
        let may = what != What::Fail
            || ((holds || self.is(Mutation::VerdictWithoutHolder))
                && (is_live || self.is(Mutation::VerdictOfTheGone) || self.is(Mutation::VerdictWithoutHolder)));
        if !is_same || !may {
            return (state, false);
        }
        let mut next = match what {
            What::Resume => decide(state, meant, At::Ready),
            What::Succeed => decide(state, meant, At::Over),
            What::Fail => self.failed(state, meant),
        };
        if what == What::Fail && !(holds && is_live) {
            next.broken = Some(Broken::ZombieVerdict);
        }
        (next, true)
    }

    /// A wait that ends badly is armed again while there are attempts, and then fails its task.
    fn failed(&self, state: State, meant: Meant) -> State {
        let mut next = decide(state, meant, At::Over);
        if state.waits_left == 0 {
            return next;
        }
        arm(&mut next);
        if self.is(Mutation::RearmedInPlace) {
            next.generation = state.generation;
        }
        next
    }

    /// Deadlines, cancellations, and what lost workers leave behind.
    fn upkeep(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        match (state.strike, state.at) {
            (Some(meant), at) => {
                let is_same = state.generation == meant.generation || self.is(Mutation::DeadlineWithoutGeneration);
                let none = State { strike: None, ..*state };
                let struck = matches!(at, At::Waits { .. }) && is_same;
                found(Action::Strike, if struck { self.failed(none, meant) } else { none });
            }
            (None, At::Waits { .. }) => {
                found(Action::SeeDeadline, State { strike: Some(state.this_wait()), ..*state });
            }
            (None, At::Ready | At::Runs { .. } | At::Over) => {}
        }
        if state.may_cancel {
            let asked = State { may_cancel: false, ..*state };
            match state.at {
                At::Ready => {
                    found(Action::Cancel, State { at: At::Over, generation: state.generation + 1, ..asked });
                }
                At::Runs { .. } => found(Action::Cancel, State { is_cancelled: true, ..asked }),
                At::Waits { .. } => found(Action::Cancel, decide(asked, state.this_wait(), At::Over)),
                At::Over => {}
            }
        }
        if let At::Runs { worker } = state.at
            && state.workers[worker as usize].is_gone
            && !self.is(Mutation::NotRescued)
        {
            let at = if state.is_cancelled { At::Over } else { At::Ready };
            found(Action::Rescue, State { at, generation: state.generation + 1, ..*state });
        }
    }
}

/// The present wait is over, by what was meant for this one or for another.
fn decide(mut state: State, meant: Meant, at: At) -> State {
    if meant.number != state.waits {
        state.broken = Some(Broken::OtherWait);
    }
    if std::mem::replace(&mut state.is_decided, true) {
        state.broken = Some(Broken::TwoOutcomes);
    }
    state.generation += 1;
    state.at = at;
    state
}

fn arm(state: &mut State) {
    state.at = At::Waits { holder: None };
    state.waits += 1;
    state.waits_left -= 1;
    state.is_decided = false;
}

/// Replicas crash and are declared gone, the last of each role excepted.
fn end_lives(state: &State, found: &mut impl FnMut(Action, State)) {
    let is_faulty = state.faults > 0;
    for me in 0..WORKERS {
        let Worker { is_gone, is_crashed, .. } = state.workers[me];
        let others = state.workers.iter().filter(|one| !one.is_gone && !one.is_crashed).count();
        let may = is_faulty && others > 1 && !is_gone && !is_crashed;
        if (is_crashed && !is_gone) || may {
            let mut next = *state;
            next.workers[me].is_gone = true;
            next.faults -= u8::from(!is_crashed);
            found(if is_crashed { Action::WorkerGone(me) } else { Action::WorkerSuspected(me) }, next);
        }
        if may {
            let mut next = State { faults: state.faults - 1, ..*state };
            next.workers[me] = Worker { is_crashed: true, runs: None, ..state.workers[me] };
            found(Action::WorkerCrash(me), next);
        }
    }
    for me in 0..TRIGGERERS {
        let Triggerer { is_gone, is_crashed, .. } = state.triggerers[me];
        let others = state.triggerers.iter().filter(|one| !one.is_gone && !one.is_crashed).count();
        let may = is_faulty && others > 1 && !is_gone && !is_crashed;
        if (is_crashed && !is_gone) || may {
            let mut next = *state;
            next.triggerers[me].is_gone = true;
            next.faults -= u8::from(!is_crashed);
            found(if is_crashed { Action::TriggererGone(me) } else { Action::TriggererSuspected(me) }, next);
        }
        if may {
            let mut next = State { faults: state.faults - 1, ..*state };
            next.triggerers[me] = Triggerer { is_crashed: true, checks: None, ..state.triggerers[me] };
            found(Action::TriggererCrash(me), next);
        }
    }
}
