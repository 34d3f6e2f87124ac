//! What can happen, and what comes of it.

use super::{Action, Broken, Mutation, Page, SIGNALS, Signal, Signals, Stage, State, TASKS, Task, WAITS, Who};

impl Signals {
    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn each(&self, state: &State, found: &mut impl FnMut(Action, State)) {
        for task in 0..TASKS {
            self.go_on(state, Who::Task(task), found);
            // Such as its deadline.
            if state.tasks[task].waits && state.others > 0 {
                let mut ended = State { others: state.others - 1, ..*state };
                ended.tasks[task].waits = false;
                found(Action::EndOtherwise(task), ended);
            }
        }
        for signal in 0..SIGNALS {
            self.go_on(state, Who::Sender(signal), found);
        }
        let is_awaited = state.tasks.iter().any(|task| task.waits);
        let is_there = state.signals.iter().any(Signal::is_open);
        let sweeps = self.losses > 0 && !self.is(Mutation::NeverMatchedAgain);
        if state.sweep == Stage::Idle && sweeps && is_awaited && is_there {
            found(Action::Sweep, State { sweep: Stage::Matches(None), ..*state });
        }
        self.go_on(state, Who::Sweep, found);
    }

    fn go_on(&self, state: &State, who: Who, found: &mut impl FnMut(Action, State)) {
        let looks_first = self.is(Mutation::LooksBeforeTheInsert) || self.is(Mutation::StoredOnlyIfAwaited);
        match stage(state, who) {
            Stage::Idle if who == Who::Sweep => {}
            Stage::Idle if looks_first => {
                found(Action::Look(who), staged(*state, who, Stage::Looked(meets(state, who))));
            }
            Stage::Idle => found(Action::Store(who), staged(*state, who, Stage::Uncommitted)),
            Stage::Looked(_) | Stage::Uncommitted => found(Action::Commit(who), self.committed(*state, who)),
            Stage::Matches(None) => self.page(state, who, found),
            Stage::Matches(Some(page)) => found(Action::Deliver(who), self.delivered(*state, who, page)),
            // A task that was resumed may wait again.
            Stage::Over => {
                if let Who::Task(task) = who
                    && !state.tasks[task].waits
                    && state.tasks[task].generation < WAITS
                {
                    found(Action::Store(who), staged(*state, who, Stage::Uncommitted));
                }
            }
        }
        if matches!(stage(state, who), Stage::Matches(_)) && who != Who::Sweep && state.losses > 0 {
            let lost = State { losses: state.losses - 1, ..*state };
            found(Action::Lose(who), staged(lost, who, over(who)));
        }
    }

    /// What is stored is there for all, and only now is it matched.
    fn committed(&self, mut state: State, who: Who) -> State {
        let looked = match stage(&state, who) {
            Stage::Looked(met) => Some(met),
            Stage::Idle | Stage::Uncommitted | Stage::Matches(_) | Stage::Over => None,
        };
        if looked == Some(false) && self.is(Mutation::StoredOnlyIfAwaited) && matches!(who, Who::Sender(_)) {
            state.broken = Some(Broken::Dropped);
        }
        let matches = looked.is_none_or(|met| met || self.is(Mutation::StoredOnlyIfAwaited));
        let next = if matches { Stage::Matches(None) } else { over(who) };
        staged(stored(state, who), who, next)
    }

    /// Locks the oldest signal that is not through, and looks at the first who waits after those whom it has reached.
    fn page(&self, state: &State, who: Who, found: &mut impl FnMut(Action, State)) {
        let Some(signal) = state.signals.iter().position(Signal::is_open) else {
            return found(Action::Page(who), staged(*state, who, over(who)));
        };
        if is_locked(state, signal) && !self.is(Mutation::NotLocked) {
            // It waits for whoever has it.
            return;
        }
        let after = state.signals[signal].delivered_to;
        let waits = |task: &usize| state.tasks[*task].waits && after.is_none_or(|after| *task > after as usize);
        let seen = (0..TASKS).find(waits).map(|task| (task as u8, state.tasks[task].generation));
        let page = Page { signal: signal as u8, seen };
        let mut next = staged(*state, who, Stage::Matches(Some(page)));
        if after.is_none() && !next.signals[signal].is_taken {
            next.signals[signal].meant = state.tasks.map(|task| task.waits.then_some(task.generation));
        }
        found(Action::Page(who), next);
    }

    /// Resumes whom it has seen, if that one still waits, and notes how far the signal has come.
    fn delivered(&self, mut state: State, who: Who, page: Page) -> State {
        let mut resumed = false;
        if let Some((task, generation)) = page.seen {
            let task = &mut state.tasks[task as usize];
            if task.waits && task.generation == generation {
                resumed = true;
                task.waits = false;
                if std::mem::replace(&mut task.given[page.signal as usize], true) {
                    state.broken = Some(Broken::GivenTwice);
                }
            }
        }
        let signal = &mut state.signals[page.signal as usize];
        signal.is_taken |= resumed && !self.is(Mutation::NotMarked);
        // A full page may be followed by another.
        let next = page.seen.map(|(task, _)| task);
        signal.delivered_to = next.filter(|_| !self.is(Mutation::NoCursor));
        if !signal.is_open() {
            let meant = std::mem::replace(&mut signal.meant, [None; TASKS]);
            let missed = |(task, meant): (&Task, Option<u8>)| task.waits && meant == Some(task.generation);
            if state.tasks.iter().zip(meant).any(missed) {
                state.broken = Some(Broken::Missed);
            }
        }
        let is_last = next.is_none() && !state.signals[page.signal as usize].is_taken;
        let next = if is_last { over(who) } else { Stage::Matches(None) };
        staged(state, who, next)
    }
}

fn stage(state: &State, who: Who) -> Stage {
    match who {
        Who::Task(task) => state.tasks[task].stage,
        Who::Sender(signal) => state.signals[signal].stage,
        Who::Sweep => state.sweep,
    }
}

fn staged(mut state: State, who: Who, stage: Stage) -> State {
    match who {
        Who::Task(task) => state.tasks[task].stage = stage,
        Who::Sender(signal) => state.signals[signal].stage = stage,
        Who::Sweep => state.sweep = stage,
    }
    state
}

/// What follows a match: the next sweep begins anew.
fn over(who: Who) -> Stage {
    match who {
        Who::Task(_) | Who::Sender(_) => Stage::Over,
        Who::Sweep => Stage::Idle,
    }
}

fn stored(mut state: State, who: Who) -> State {
    match who {
        Who::Task(task) => {
            state.tasks[task].waits = true;
            state.tasks[task].generation += 1;
        }
        Who::Sender(signal) => state.signals[signal].is_stored = true,
        Who::Sweep => {}
    }
    state
}

/// Whether what others have committed meets what this one brings.
fn meets(state: &State, who: Who) -> bool {
    match who {
        Who::Task(_) => state.signals.iter().any(Signal::is_open),
        Who::Sender(_) | Who::Sweep => state.tasks.iter().any(|task| task.waits),
    }
}

/// Whether a match that is under way has locked a signal.
fn is_locked(state: &State, signal: usize) -> bool {
    let tasks = state.tasks.iter().map(|task| task.stage);
    let senders = state.signals.iter().map(|signal| signal.stage);
    tasks.chain(senders).chain([state.sweep]).any(|stage| match stage {
        Stage::Matches(Some(page)) => page.signal as usize == signal,
        Stage::Matches(None) | Stage::Idle | Stage::Looked(_) | Stage::Uncommitted | Stage::Over => false,
    })
}
