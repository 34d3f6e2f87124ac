//! What people are told, as the JSON that programs get.

use std::collections::HashSet;

use reveille::{
    id::{Incarnation, TaskId},
    store::{replica::Role, report::Filter},
    task::EndState,
};
use serde_json::{Value, json};

use super::{Card, Finished, Replica, State, Task, Wait, World};

impl World {
    /// Everything about one task.
    pub(crate) fn show(&self, id: TaskId) -> Option<Value> {
        let (mut whole, rest) = match (self.tasks.get(&id), self.finished.get(&id)) {
            (Some(task), _) => (brief_of(id, task), whole_of(task)),
            (None, Some(finished)) => (brief_of_finished(id, finished), whole_of_finished(finished)),
            (None, None) => return None,
        };
        let Value::Object(rest) = rest else { unreachable!("it is written as an object") };
        whole.as_object_mut().expect("so is this").extend(rest);
        let limit =
            self.tasks.get(&id).map(|task| &task.card).or(self.finished.get(&id).map(|finished| &finished.card));
        whole["slot"] = match limit.and_then(|card| card.limit.as_ref()) {
            Some((key, limit)) => json!({ "key": key, "limit": limit, "number": self.slot_of(id) }),
            None => Value::Null,
        };
        whole["history"] = json!(self.history.get(&id).map_or(&[][..], Vec::as_slice));
        Some(whole)
    }

    /// The latest tasks that match, unfinished and finished.
    pub(crate) fn list(&self, filter: &Filter) -> Value {
        let unfinished = self.tasks.iter().map(|(id, task)| (*id, brief_of(*id, task)));
        let finished = self.finished.iter().map(|(id, finished)| (*id, brief_of_finished(*id, finished)));
        let is = |brief: &Value, field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| brief[field] == json!(wanted))
        };
        let matches = |brief: &Value| {
            is(brief, "state", &filter.state) && is(brief, "name", &filter.name) && is(brief, "queue", &filter.queue)
        };
        let mut all: Vec<_> = unfinished.chain(finished).filter(|(_, brief)| matches(brief)).collect();
        all.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        all.into_iter().take(limit).map(|(_, brief)| brief).collect()
    }

    /// How many unfinished tasks are where, of one batch or of all.
    pub(crate) fn census(&self, batch: Option<uuid::Uuid>) -> Value {
        let of: Vec<&Task> = self.tasks.values().filter(|task| batch.is_none() || task.card.batch == batch).collect();
        let count = |word: &str| of.iter().filter(|task| task.state.word() == word).count();
        let held = of.iter().filter(|task| task.wait().is_some_and(|wait| wait.holder.is_some())).count();
        json!({ "ready": count("ready"), "running": count("running"), "deferred": count("deferred"), "held": held })
    }

    /// Every queue, and how much in it is ready.
    pub(crate) fn queue_list(&self) -> Value {
        let ready = |name: &String| {
            self.tasks.values().filter(|task| task.card.queue == *name && task.state == State::Ready).count()
        };
        let queue = |(name, paused_at): (&String, &Option<i64>)| json!({ "name": name, "paused_at": paused_at, "ready": ready(name) });
        self.queues.iter().map(queue).collect()
    }

    /// Every replica, by its incarnation.
    pub(crate) fn replica_list(&self) -> Value {
        let replica = |(id, replica): (&Incarnation, &Replica)| {
            json!({
                "incarnation": id, "role": replica.role.word(), "label": replica.label,
                "version": env!("CARGO_PKG_VERSION"), "capacity": replica.capacity, "running": replica.running,
                "kinds": replica.kinds, "queues": replica.queues, "joined_at": replica.joined_at,
                "seen_at": replica.seen_at, "beat": replica.beat, "gone_at": replica.gone.map(|gone| gone.at),
                "gone_why": replica.gone.map(|gone| if gone.lost { "lost" } else { "left" }),
            })
        };
        self.replicas.iter().map(replica).collect()
    }

    /// How many things do not move by themselves: roles that nobody has, what no live replica on its queue can take, paused
    /// queues with work, and what waits for a person.
    pub(crate) fn findings(&self) -> usize {
        let live =
            |role: Role| self.replicas.values().filter(move |replica| replica.role == role && replica.gone.is_none());
        let takes = |role: Role, word: &str, queue: &str| {
            live(role).any(|replica| {
                (replica.queues == "*" || replica.queues.split(',').any(|served| served == queue))
                    && replica.kinds.split(',').any(|known| known == word)
            })
        };
        let idle = [Role::Worker, Role::Triggerer].into_iter().filter(|role| live(*role).next().is_none());
        let stuck = self.tasks.values().filter_map(|task| match &task.state {
            State::Ready => Some((Role::Worker, &task.card.name, &task.card.queue)),
            State::Deferred(wait) if !wait.is_passive() && wait.holder.is_none_or(|holder| self.is_gone(holder)) => {
                Some((Role::Triggerer, &wait.kind, &task.card.queue))
            }
            State::Running(_) | State::Deferred(_) => None,
        });
        let stuck: HashSet<_> = stuck.filter(|(role, word, queue)| !takes(*role, word, queue)).collect();
        let has_ready =
            |queue: &String| self.tasks.values().any(|task| task.card.queue == *queue && task.state == State::Ready);
        let paused = self.queues.iter().filter(|(queue, paused_at)| paused_at.is_some() && has_ready(queue));
        let not_undone = self.undo.values().any(|undo| undo.dead_at.is_some());
        let dead_letters = self.finished.values().any(|finished| finished.end.state == EndState::Failed);
        let to_undo = self.undo.values().filter(|undo| undo.dead_at.is_none());
        let not_to_undo: HashSet<_> = to_undo
            .map(|undo| (&undo.kind, &undo.queue))
            .filter(|(kind, queue)| !takes(Role::Triggerer, kind, queue))
            .collect();
        idle.count()
            + stuck.len()
            + paused.count()
            + not_to_undo.len()
            + [not_undone, dead_letters, self.waits_for_nobody(), self.is_full()].map(usize::from).iter().sum::<usize>()
    }

    /// Whether anything waits for the end of a task that is not there.
    fn waits_for_nobody(&self) -> bool {
        let keys = self.tasks.values().filter_map(|task| task.wait()?.key.as_deref()?.strip_prefix("task:"));
        keys.map(|id| id.parse().expect("it names a task")).any(|id| !self.is_known(id))
    }

    /// Whether triggers are overdue while every triggerer is full.
    fn is_full(&self) -> bool {
        let live = || {
            let triggerers = self.replicas.values().filter(|replica| replica.role == Role::Triggerer);
            triggerers.filter(|replica| replica.gone.is_none())
        };
        let is_overdue = |wait: &Wait| {
            !wait.is_passive() && wait.holder.is_none() && wait.wake_at.is_some_and(|at| at <= self.now - 10_000)
        };
        live().next().is_some()
            && live().all(|replica| replica.running >= replica.capacity)
            && self.tasks.values().filter_map(Task::wait).any(is_overdue)
    }

    /// When the next deadline is.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        let deadlines = self.tasks.values().filter_map(|task| task.wait()?.deadline_at);
        deadlines.filter(|at| *at > self.now).min()
    }

    /// When the next passive wait is due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        let passive = self.tasks.values().filter_map(|task| task.wait().filter(|wait| wait.is_passive()));
        passive.filter_map(|wait| wait.wake_at).min()
    }
}

fn brief_of(id: TaskId, task: &Task) -> Value {
    let wait = task.wait();
    let waits_for = wait.map(|wait| wait.kind.clone());
    let wake_at = wait.and_then(|wait| wait.wake_at);
    brief(id, &task.card, task.state.word(), (task.turn, task.attempt), &json!([null, waits_for, wake_at]))
}

fn brief_of_finished(id: TaskId, finished: &Finished) -> Value {
    let counts = (finished.turn, finished.attempt);
    brief(id, &finished.card, finished.end.state.word(), counts, &json!([finished.at, null, null]))
}

fn brief(id: TaskId, card: &Card, state: &str, (turn, attempt): (i32, i32), times: &Value) -> Value {
    json!({
        "id": id, "name": card.name, "queue": card.queue, "state": state, "priority": card.priority.rank(),
        "turn": turn, "attempt": attempt, "enqueued_at": card.enqueued_at,
        "finished_at": times[0], "waits_for": times[1], "wake_at": times[2],
    })
}

fn whole_of(task: &Task) -> Value {
    let holder = match task.state {
        State::Running(holder) => Some(holder),
        State::Ready | State::Deferred(_) => None,
    };
    json!({
        "origin": task.card.origin, "crashes": task.crashes, "max_attempts": task.card.retry.max_attempts,
        "generation": task.generation, "holder": holder, "cancel_requested_at": task.cancel_requested_at,
        "step": task.step["step"], "event": task.event, "progress": task.progress, "wait": task.wait().map(|wait| wait_of(wait, task.generation)), "end": null,
    })
}

fn whole_of_finished(finished: &Finished) -> Value {
    json!({
        "origin": finished.card.origin, "crashes": finished.crashes, "max_attempts": finished.card.retry.max_attempts,
        "generation": finished.generation, "holder": null, "cancel_requested_at": null,
        "step": finished.step.as_ref().map(|step| &step["step"]), "event": finished.event, "progress": null,
        "wait": null,
        "end": finished.end,
    })
}

fn wait_of(wait: &Wait, generation: i32) -> Value {
    json!({
        "kind": wait.kind, "passive": wait.is_passive(), "since": wait.since, "wake_at": wait.wake_at,
        "deadline_at": wait.deadline_at, "or_resume": wait.or_resume, "holder": wait.holder, "deaths": wait.deaths,
        "keys": wait.key.iter().collect::<Vec<_>>(), "arrived": [], "checked": null, "error_budget": null,
        "generation": generation,
    })
}
