//! What was tried, and how often it was accepted and refused: a test that never does a thing says nothing about it.

use std::{collections::BTreeMap, fmt};

use reveille::{
    clock::millis,
    id::TaskId,
    store::{replica::GONE_KEPT, task::Cancelled},
    task::{EndState, TaskState},
    trigger::{Outcome, Receipt},
};

use crate::{
    answer::Answer,
    op::{Adds, Arrives, Cast, Ending, Limit, On, Op, Question, Settled, Shot, Starts, Then},
    world::{Advanced, State, World},
};

/// How often each thing was accepted and refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, (u32, u32)>);

/// What an operation did, and between which two worlds.
pub(crate) struct Noted<'a> {
    pub(crate) cast: &'a Cast,
    pub(crate) before: &'a World,
    pub(crate) after: &'a World,
}

/// What must have been accepted and refused, then what has no other outcome.
const BOTH: &str = "\
    enqueue, enqueue by id, enqueue under a key, enqueue under a key for a time, claim, defer to a time, defer to a signal, \
    defer to an end, defer to checks, retry, snooze, end a ready task, end a running task, end a deferred task, \
    end a trigger that is held, progress, advance, advance under a key, put back, rescue, expire, lease, release, fire resume, \
    fire succeed, fire skip, fire fail, fail a wait, fail a wait of a holder, fire due, strike, send, match, \
    match again, match slots, take a slot, enqueue under a limit, ended, join, renew, declare gone, leave, forget, pause, go on, lease undo, undone, undo again, undo unread, \
    undo dead, drop old, show";
const ONE: &str = "\
    turn, dropped, enqueue now, enqueue at, enqueue after, enqueue when, enqueue expiring, enqueue in a batch, \
    enqueue within a transaction, wait for ever, cancel ready, cancel running, cancel deferred, cancel finished, \
    cancel unknown, turn away what is next, rescue what was lost, rescue what was left, rescue what was cancelled, rescue what crashes, take over, \
    fire again, fire to arm again, wait resumed, wait armed again, wait failed, end succeeded, end failed, end skipped, end cancelled, \
    send again, drop an end, drop history, drop a signal, drop a key, forget one, list, census, queues, replicas, peers, \
    longest lease, findings, next due, next deadline, kinds, claims, leases";

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        for (what, (accepted, refused)) in &other.0 {
            let counts = self.0.entry(what.clone()).or_default();
            counts.0 += accepted;
            counts.1 += refused;
        }
    }

    /// What should have happened and has not.
    pub(crate) fn lacking(&self) -> Vec<&'static str> {
        let counts = |what: &str| self.0.get(what).copied().unwrap_or_default();
        let both = BOTH.split(", ").filter(|what| counts(what).0 == 0 || counts(what).1 == 0);
        both.chain(ONE.split(", ").filter(|what| counts(what).0 == 0)).collect()
    }

    fn count(&mut self, what: impl Into<String>, accepted: bool) {
        let counts = self.0.entry(what.into()).or_default();
        if accepted { counts.0 += 1 } else { counts.1 += 1 }
    }

    pub(crate) fn dropped(&mut self) {
        self.count("dropped", true);
    }

    pub(crate) fn note(&mut self, op: &Op, answer: &Answer, noted: &Noted<'_>) {
        let changed = noted.before != noted.after;
        match (op, answer) {
            (Op::Turn { .. }, _) => self.count("turn", true),
            (Op::Enqueue { batch, alone }, answer) => self.enqueued(batch, *alone, answer, noted),
            (Op::Claim { .. }, Answer::Claimed(claims, turned_away)) => {
                self.count("claim", !claims.is_empty());
                self.admitted(&turned_away.tasks, noted);
            }
            (Op::Defer { batch, .. }, _) => {
                batch.iter().for_each(|(at, then)| self.deferred(then, noted.moved(noted.cast.task(at.0))));
            }
            (Op::End { batch }, _) => {
                batch.iter().for_each(|ending| self.ended(ending, noted.moved(noted.cast.task(ending.at.0))));
            }
            (Op::Progress { .. }, _) => self.count("progress", changed),
            (Op::Advance { arrival, .. }, Answer::Advanced(advanced)) => {
                let moved = changed && matches!(advanced, Advanced::To(_));
                self.count(if let Arrives::Under(_) = arrival { "advance under a key" } else { "advance" }, moved);
            }
            (Op::PutBack { .. }, _) => self.count("put back", changed),
            (Op::Cancel { task }, Answer::Cancelled(cancelled)) => {
                let was = noted.before.tasks.get(&noted.cast.task(*task)).map(|task| task.state.word());
                let was = was.unwrap_or(if *cancelled == Cancelled::Ended { "finished" } else { "unknown" });
                self.count(format!("cancel {was}"), true);
            }
            (Op::Rescue { .. }, _) => self.rescued(noted),
            (Op::Expire { .. }, Answer::Moved(count, _)) => self.count("expire", *count > 0),
            (Op::Lease { .. }, Answer::Leased(leases)) => {
                self.count("lease", !leases.is_empty());
                let held = |id: TaskId| noted.before.tasks[&id].wait().is_some_and(|wait| wait.holder.is_some());
                leases.iter().filter(|lease| held(lease.fence.task)).for_each(|_| self.count("take over", true));
            }
            (Op::Release { .. }, _) => self.count("release", changed),
            (Op::Fire { batch, .. }, Answer::Fired(receipts, _)) => self.fired(batch, receipts, noted),
            (Op::FailWaits { batch, .. }, Answer::Struck(_, struck)) => {
                for charge in batch {
                    let task = noted.cast.task(charge.at.0);
                    let what = if charge.holder.is_some() { "fail a wait of a holder" } else { "fail a wait" };
                    self.count(what, struck.accepted.contains(&task));
                    self.failed(task, noted);
                }
            }
            (Op::FireDue { .. }, Answer::Count(count)) => self.count("fire due", *count > 0),
            (Op::Strike { .. }, Answer::Struck(_, struck)) => self.count("strike", !struck.accepted.is_empty()),
            (op, answer) => self.rest(op, answer, changed, noted),
        }
    }

    fn rest(&mut self, op: &Op, answer: &Answer, changed: bool, noted: &Noted<'_>) {
        match (op, answer) {
            (Op::Send { signal, .. }, answer) => {
                let known = noted.before.signals.contains_key(&signal.id());
                self.count(if known { "send again" } else { "send" }, *answer != Answer::Invalid);
            }
            (Op::Match { keys, .. }, Answer::Count(count)) => {
                self.count("match", *count > 0);
                if keys.iter().any(|key| matches!(key, On::Slot(_))) {
                    self.count("match slots", noted.before.slots != noted.after.slots);
                }
            }
            (Op::MatchAgain { .. }, _) => self.count("match again", changed),
            (Op::Ended { .. }, _) => self.count("ended", changed),
            (Op::Join { .. }, Answer::Yes(yes)) => self.count("join", *yes),
            (Op::Renew { .. }, Answer::Beat(beat)) => self.count("renew", beat.is_some()),
            (Op::Declare { .. }, Answer::Yes(yes)) => self.count("declare gone", *yes),
            (Op::Leave { .. }, _) => self.count("leave", changed),
            (Op::Forget, _) => {
                self.count("forget", changed);
                let kept = |gone: i64| noted.before.now - gone > millis(GONE_KEPT);
                let named = noted.after.replicas.values().filter_map(|replica| replica.gone).any(|gone| kept(gone.at));
                self.count("forget one", changed && !named);
            }
            (Op::Pause { paused, .. }, Answer::Yes(yes)) => self.count(if *paused { "pause" } else { "go on" }, *yes),
            (Op::LeaseUndo { .. }, Answer::Undoes(undoes)) => self.count("lease undo", !undoes.is_empty()),
            (Op::SettleUndo { undone, .. }, _) => {
                let what = match undone {
                    Settled::Done => "undone",
                    Settled::Again(_) => "undo again",
                    Settled::Unread(_) => "undo unread",
                    Settled::Dead => "undo dead",
                };
                self.count(what, changed);
            }
            (Op::DropOld { .. }, answer) => {
                self.count("drop old", *answer != Answer::Invalid);
                let (before, after) = (noted.before, noted.after);
                self.count("drop an end", before.finished.len() > after.finished.len());
                self.count("drop history", before.history.len() > after.history.len());
                self.count("drop a signal", before.signals.len() > after.signals.len());
                self.count("drop a key", before.dedupe.len() > after.dedupe.len());
            }
            (Op::Ask(Question::Show(_)), answer) => {
                self.count("show", *answer != Answer::Told(serde_json::Value::Null));
            }
            (Op::Ask(question), _) => self.count(question.name(), true),
            (op, answer) => self.count(format!("{op:?}: {answer:?}"), true),
        }
    }

    fn enqueued(&mut self, batch: &[Adds], alone: bool, answer: &Answer, noted: &Noted<'_>) {
        self.count("enqueue", *answer != Answer::Invalid);
        let Answer::Added(_) = answer else { return };
        if !alone {
            self.count("enqueue within a transaction", true);
        }
        for adds in batch {
            let id = noted.cast.task(adds.task);
            let added = noted.after.is_known(id) && !noted.before.is_known(id);
            if adds.minted {
                self.count("enqueue by id", added);
            }
            if let Some((_, window)) = adds.dedupe {
                let what = if window.is_some() { "enqueue under a key for a time" } else { "enqueue under a key" };
                self.count(what, added);
            }
            if adds.limit.is_some() {
                self.count("enqueue under a limit", added);
            }
            if !added {
                continue;
            }
            let what = match &adds.start {
                Starts::Now => "enqueue now",
                Starts::At(_) => "enqueue at",
                Starts::After(_) => "enqueue after",
                Starts::When(waits) => {
                    if let Some(Limit::Never) = waits.deadline {
                        self.count("wait for ever", true);
                    }
                    "enqueue when"
                }
            };
            self.count(what, true);
            if adds.expires.is_some() {
                self.count("enqueue expiring", true);
            }
            if adds.batch.is_some() {
                self.count("enqueue in a batch", true);
            }
        }
    }

    fn admitted(&mut self, turned_away: &[TaskId], noted: &Noted<'_>) {
        turned_away.iter().for_each(|_| self.count("take a slot", false));
        for _ in noted.before.slots.len()..noted.after.slots.len() {
            self.count("take a slot", true);
        }
        let was_ready = noted.before.tasks.iter().filter(|(_, task)| task.state == State::Ready);
        let next = was_ready.filter(|(id, _)| !turned_away.contains(id) && noted.after.tasks[id].wait().is_some());
        for _ in next {
            self.count("turn away what is next", true);
        }
    }

    fn deferred(&mut self, then: &Then, moved: bool) {
        let what = match then {
            Then::Wait(_, waits) => match &waits.on {
                On::After(_) | On::At(_) => "defer to a time",
                On::Signal(_) => "defer to a signal",
                On::End(_) => "defer to an end",
                On::Fake(_) | On::OtherFake => "defer to checks",
                On::Slot(_) => unreachable!("nobody defers to a slot"),
            },
            Then::Retry(_) => "retry",
            Then::Snooze(_) => "snooze",
        };
        self.count(what, moved);
    }

    fn ended(&mut self, ending: &Ending, moved: bool) {
        let what = match (ending.was, ending.by) {
            (TaskState::Ready, _) => "end a ready task",
            (TaskState::Running, _) => "end a running task",
            (TaskState::Deferred, None) => "end a deferred task",
            (TaskState::Deferred, Some(_)) => "end a trigger that is held",
        };
        self.count(what, moved);
        if moved {
            self.count(format!("end {}", ending.state), true);
        }
    }

    fn rescued(&mut self, noted: &Noted<'_>) {
        self.count("rescue", noted.before.tasks != noted.after.tasks);
        for (id, task) in noted.before.tasks.iter().filter(|(id, _)| noted.moved(**id)) {
            let State::Running(holder) = task.state else { continue };
            let lost = noted.before.replicas[&holder].gone.is_some_and(|gone| gone.lost);
            let what = match noted.after.finished.get(id).map(|finished| finished.end.state) {
                Some(EndState::Cancelled) => "rescue what was cancelled",
                Some(_) => "rescue what crashes",
                None if lost => "rescue what was lost",
                None => "rescue what was left",
            };
            self.count(what, true);
        }
    }

    fn fired(&mut self, batch: &[Shot], receipts: &[Receipt], noted: &Noted<'_>) {
        for (shot, receipt) in batch.iter().zip(receipts) {
            let task = noted.cast.task(shot.at.0);
            let accepted = *receipt == Receipt::Accepted;
            let before = noted.before.history.get(&task);
            let again = before.is_some_and(|told| told.iter().any(|told| told.event == Some(shot.event.id())));
            let what = match &shot.outcome {
                _ if again => "fire again",
                Outcome::Resume(_) => "fire resume",
                Outcome::Succeed(_) => "fire succeed",
                Outcome::Skip(_) => "fire skip",
                Outcome::Fail(_) => "fire fail",
            };
            self.count(what, accepted);
            if what == "fire fail" && accepted {
                self.count("fire to arm again", noted.after.tasks.contains_key(&task));
            }
        }
    }

    fn failed(&mut self, task: TaskId, noted: &Noted<'_>) {
        if !noted.moved(task) {
            return;
        }
        let what = match noted.after.tasks.get(&task).map(|task| &task.state) {
            Some(State::Ready) => "wait resumed",
            Some(State::Deferred(_)) => "wait armed again",
            Some(State::Running(_)) | None => "wait failed",
        };
        self.count(what, true);
    }
}

impl Noted<'_> {
    fn moved(&self, task: TaskId) -> bool {
        let generation = |world: &World| world.tasks.get(&task).map(|task| task.generation);
        generation(self.before) != generation(self.after)
    }
}

impl Question {
    fn name(&self) -> &'static str {
        match self {
            Self::Show(_) => "show",
            Self::List(_) => "list",
            Self::Census(_) => "census",
            Self::Queues => "queues",
            Self::Replicas => "replicas",
            Self::Peers(_) => "peers",
            Self::LongestLease => "longest lease",
            Self::Findings => "findings",
            Self::NextDue => "next due",
            Self::NextDeadline => "next deadline",
            Self::Kinds => "kinds",
            Self::Claims(_) => "claims",
            Self::Leases(_) => "leases",
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>8} {:>8}", "", "accepted", "refused")?;
        for (what, (accepted, refused)) in &self.0 {
            writeln!(f, "{what:<32} {accepted:>8} {refused:>8}")?;
        }
        Ok(())
    }
}
