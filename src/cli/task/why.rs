//! Why a task is not moving, in a sentence, and what would move it.

#[cfg(test)]
mod tests;

use super::super::{
    fleet::{Fleet, has, is_full, knows, listed, serves},
    output::{argument, plain},
    time,
};
use crate::store::{
    history::Why as Cause,
    replica::{Replica, Role},
    report::{Waiting, Whole},
};

/// A ready task that nobody has taken for this long, though there is room, is not just next in line.
const LONG_MS: i64 = 10_000;

/// What is due later than this is not due by itself.
const A_LIFETIME_MS: i64 = 100 * 365 * 86_400_000;

/// What is known when the question is asked.
pub(super) struct Facts<'a> {
    pub(super) task: &'a Whole,
    pub(super) fleet: &'a Fleet,
    /// Since when its queue is paused.
    pub(super) paused_at: Option<i64>,
    pub(super) now_ms: i64,
    /// How to call this binary.
    pub(super) again: &'a str,
}

/// An answer for people.
#[derive(Debug, PartialEq)]
pub(super) struct Why {
    /// It goes on from "The task …".
    pub(super) sentence: String,
    pub(super) advice: Option<String>,
}

fn because(sentence: impl Into<String>) -> Why {
    Why { sentence: sentence.into(), advice: None }
}

impl Why {
    fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

impl Facts<'_> {
    pub(super) fn why(&self) -> Why {
        match (self.task.brief.state.as_str(), &self.task.wait) {
            ("ready", _) => self.ready(),
            ("running", _) => self.running(),
            ("deferred", Some(wait)) if wait.passive => self.passive(wait),
            ("deferred", Some(wait)) => self.active(wait),
            ("deferred", None) => because("waits, and what it waits for has just moved: ask again"),
            _ => self.finished(),
        }
    }

    fn ready(&self) -> Why {
        let (name, queue) = (&self.task.brief.name, &self.task.brief.queue);
        let workers = self.fleet.live(Role::Worker);
        let knowing: Vec<&Replica> = workers.iter().filter(|worker| knows(worker, name)).copied().collect();
        let serving: Vec<&Replica> = knowing.iter().filter(|worker| serves(worker, queue)).copied().collect();
        let waited_ms = self.now_ms - self.last_moved();
        if let Some(paused_at) = self.paused_at {
            return because(format!("is ready, and its queue {queue} was paused {}", self.relative(paused_at)))
                .advice(format!("`{} queue resume {}` lets its tasks be claimed again", self.again, argument(queue)));
        }
        if workers.is_empty() {
            return because(format!("is ready, and no worker is live{}", self.silent(Role::Worker)))
                .advice("start one whose binary has this task, with `worker`");
        }
        if knowing.is_empty() {
            return because(format!("is ready, and no live worker knows its name: they know {}", listed(&workers)))
                .advice("start a worker whose binary has it, or cancel this task and add it by its right name");
        }
        if serving.is_empty() {
            return because(format!("is ready, and no live worker that knows its name takes from the queue {queue}"))
                .advice("start a worker with this queue among its --queues, or without --queues for all");
        }
        if serving.iter().all(|worker| is_full(worker)) {
            let held: i32 = serving.iter().map(|worker| worker.running).sum();
            return because(format!("is ready, and every worker that could run it is full, with {held} steps in all"))
                .advice("start another worker, or raise --concurrency");
        }
        if waited_ms < LONG_MS {
            return because("is ready, and next in line for a worker");
        }
        let ready =
            because(format!("has been ready for {}, although workers have room for it", time::brief(waited_ms)));
        match self.put_back_by() {
            Some(worker) => {
                ready.advice(format!("{worker} put it back, as it could not read its step: its log tells why"))
            }
            None => ready.advice("its step may be one that they cannot read: look for its id in their logs"),
        }
    }

    fn running(&self) -> Why {
        let task = self.task;
        let since = time::since(self.last_moved(), self.now_ms);
        let holder = task.holder.map_or_else(|| "somebody".to_owned(), |holder| self.fleet.name(holder));
        if !self.is_live(task.holder) {
            return because(format!("was running at {holder}, which is gone or shows no life"))
                .advice(format!("any live replica puts it back to ready within moments{}", self.if_nobody_is_there()));
        }
        match task.cancel_requested_at {
            Some(asked_at) => because(format!(
                "has been running at {holder} for {since}, and was called off {}: its worker lets go of it soon",
                self.relative(asked_at)
            )),
            None => because(format!("is running, for {since} now, at {holder}")),
        }
    }

    fn passive(&self, wait: &Waiting) -> Why {
        let since = time::since(wait.since, self.now_ms);
        let deadline = self.deadline(wait);
        if let Some(wake_at) = wait.wake_at {
            let (at, when) = (time::stamp(wake_at), self.relative(wake_at));
            if wake_at + LONG_MS < self.now_ms {
                return because(format!("waited until {at}, which was {when}, and nobody has woken it"))
                    .advice(format!("any live triggerer or worker does that{}", self.if_nobody_is_there()));
            }
            let (attempt, most) = (self.task.brief.attempt, self.task.max_attempts);
            return because(match self.last_cause() {
                Some(Cause::Retry) => format!("has failed, and attempt {attempt} of {most} is due {when}, at {at}"),
                Some(Cause::Rearmed) => {
                    format!(
                        "waits again after its wait ended badly (attempt {attempt} of {most}), until {at}, {when}{deadline}"
                    )
                }
                Some(Cause::Snooze) => format!("asked to run again later, {when}, at {at}"),
                _ => format!("sleeps until {at} ({when}){deadline}"),
            });
        }
        let keys: Vec<(&str, &str)> = wait.keys.iter().filter_map(|key| key.split_once(':')).collect();
        let [(form, key)] = keys[..] else {
            return because(format!("has waited for {since} for {}{deadline}", plain(&wait.keys.join(" and "))));
        };
        let (key, argument) = (plain(key), argument(key));
        if let ("slot", Some(slot)) = (form, &self.task.slot) {
            let sentence =
                format!("has waited for {since} for a free slot of {key} ({} at once){deadline}", slot.limit);
            return because(sentence).advice("it is next when those before it and one of those at work have ended");
        }
        if form == "task" {
            return because(format!("has waited for {since} for the end of task {key}{deadline}"))
                .advice(format!("`{} task show {key}` tells why that one is not moving", self.again));
        }
        because(format!("has waited for {since} for the signal {key}{deadline}"))
            .advice(format!("`{} task signal {argument}` sends it", self.again))
    }

    fn active(&self, wait: &Waiting) -> Why {
        let since = time::since(wait.since, self.now_ms);
        let (trigger, deadline) = (trigger(&wait.kind), self.deadline(wait));
        if let Some(holder) = wait.holder {
            let name = self.fleet.name(holder);
            if self.is_live(wait.holder) {
                return because(format!("has waited for {since} for its {trigger}, which {name} checks{deadline}"));
            }
            return because(format!(
                "waits for its {trigger}, whose holder, {name}, is gone or shows no life{deadline}"
            ))
            .advice(format!("a live triggerer takes it over{}", self.if_no_triggerer()));
        }
        let triggerers = self.fleet.live(Role::Triggerer);
        let having: Vec<&Replica> = triggerers
            .iter()
            .filter(|triggerer| has(triggerer, &wait.kind) && serves(triggerer, &self.task.brief.queue))
            .copied()
            .collect();
        let waits = format!("has waited for {since} for its {trigger}");
        if triggerers.is_empty() {
            return because(format!(
                "{waits}, and no triggerer is live to check it{}{deadline}",
                self.silent(Role::Triggerer)
            ))
            .advice("start one with `triggerer`");
        }
        if having.is_empty() {
            let queue = &self.task.brief.queue;
            return because(format!(
                "{waits}, and no live triggerer has that kind and takes from the queue {queue}{deadline}"
            ))
            .advice(
                "start a triggerer whose binary links the crate that brings it, without --queues or with this one",
            );
        }
        let wake_at = wait.wake_at.unwrap_or(i64::MAX);
        if wake_at - self.now_ms > A_LIFETIME_MS {
            let missing: Vec<&str> =
                wait.keys.iter().filter(|key| !wait.arrived.contains(key)).map(String::as_str).collect();
            return because(format!(
                "{waits}, which is looked at when something comes for it: {}{deadline}",
                plain(&missing.join(", "))
            ));
        }
        if wake_at > self.now_ms {
            return because(format!("{waits}, which is looked at next {}{deadline}", self.relative(wake_at)));
        }
        if having.iter().all(|triggerer| is_full(triggerer)) {
            return because(format!("{waits}, and every triggerer that could check it is full{deadline}"))
                .advice("start another triggerer, or raise --capacity");
        }
        because(format!("{waits}, which a triggerer is about to take{deadline}"))
    }

    fn finished(&self) -> Why {
        let (brief, end) = (&self.task.brief, self.task.end.as_ref());
        let when = brief.finished_at.map_or_else(String::new, |at| format!(" {}", self.relative(at)));
        let error =
            end.and_then(|end| end.error.as_deref()).map_or_else(String::new, |error| format!(": {}", plain(error)));
        let took = brief
            .finished_at
            .map_or_else(String::new, |at| format!(", {} after it was added", time::brief(at - brief.enqueued_at)));
        match brief.state.as_str() {
            "failed" => because(format!(
                "failed for good{when}, at attempt {} of {}{error}",
                brief.attempt, self.task.max_attempts
            )),
            "succeeded" => because(format!("succeeded{when}{took}")),
            "skipped" => because(format!("was skipped{when}{error}")),
            "cancelled" => because(format!("was cancelled{when}{error}")),
            other => because(format!("is {other}")),
        }
    }

    fn relative(&self, ms: i64) -> String {
        time::relative(ms, self.now_ms)
    }

    fn last_moved(&self) -> i64 {
        self.task.history.last().map_or(self.task.brief.enqueued_at, |transition| transition.at)
    }

    /// The live worker that claimed it and gave it back.
    fn put_back_by(&self) -> Option<String> {
        let last = self.task.history.last().filter(|_| self.last_cause() == Some(Cause::Released))?;
        let who = last.who?;
        self.is_live(Some(who)).then(|| self.fleet.name(who))
    }

    fn last_cause(&self) -> Option<Cause> {
        self.task.history.last()?.why.parse().ok()
    }

    fn is_live(&self, holder: Option<uuid::Uuid>) -> bool {
        let live = |role| self.fleet.live(role).iter().any(|replica| Some(replica.incarnation) == holder);
        live(Role::Worker) || live(Role::Triggerer)
    }

    fn deadline(&self, wait: &Waiting) -> String {
        let Some(at) = wait.deadline_at else { return String::new() };
        let then = if wait.or_resume { "the task goes on without it" } else { "the task fails" };
        format!("; its deadline is {}, and then {then}", self.relative(at))
    }

    /// That there are replicas which only seem to be there.
    fn silent(&self, role: Role) -> String {
        match self.fleet.silent(role).first() {
            Some(replica) => {
                format!(
                    " ({} has shown no life for {})",
                    self.fleet.name(replica.incarnation),
                    self.fleet.silence(replica)
                )
            }
            None => String::new(),
        }
    }

    fn if_nobody_is_there(&self) -> &'static str {
        if self.fleet.live(Role::Worker).is_empty() && self.fleet.live(Role::Triggerer).is_empty() {
            ", and none is there: start one"
        } else {
            ""
        }
    }

    fn if_no_triggerer(&self) -> &'static str {
        if self.fleet.live(Role::Triggerer).is_empty() { ", and none is there: start one" } else { "" }
    }
}

/// A trigger by its kinds: with others inside it has several.
fn trigger(kinds: &str) -> String {
    match kinds.rsplit_once('+') {
        None => format!("{kinds} trigger"),
        Some((first, last)) => format!("trigger of {} and {last}", first.replace('+', ", ")),
    }
}
