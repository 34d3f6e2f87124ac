//! What holds in every state of a database, whatever was done to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::rows::{HistoryRow, Rows, TaskRow, TriggerRow};

/// How far history reaches where it is a ring, in milliseconds.
const RING: i64 = 31 * 86_400_000;

/// Generation and turn of each task when it was last seen: neither ever falls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(HashMap<Uuid, (i32, i32)>);

impl Rows {
    /// What is broken, in one line each.
    pub(crate) fn broken(&self, marks: &mut Marks) -> Vec<String> {
        let mut broken = Vec::new();
        self.tasks_and_waits(&mut broken);
        self.keys_of_waits(&mut broken);
        self.slots_of_tasks(&mut broken);
        self.holders(&mut broken);
        self.the_finished(&mut broken);
        self.one_outcome_a_deferral(&mut broken);
        self.nothing_falls(&mut broken, marks);
        broken
    }

    fn task(&self, id: Uuid) -> Option<&TaskRow> {
        self.tasks.iter().find(|task| task.id == id)
    }

    fn trigger(&self, task: Uuid) -> Option<&TriggerRow> {
        self.triggers.iter().find(|trigger| trigger.task_id == task)
    }

    /// A task has a wait if and only if it is deferred, at that generation, and the wait can come to an end.
    fn tasks_and_waits(&self, broken: &mut Vec<String>) {
        for task in &self.tasks {
            let is = |state: &str| task.state == state;
            let mut claim = |holds: bool, what: &str| {
                if !holds {
                    broken.push(format!("{what}: {task:?}, {:?}", self.trigger(task.id)));
                }
            };
            claim(is("running") == task.holder.is_some(), "a task has a holder if and only if it runs");
            claim(!is("ready") || task.ready_at.is_some(), "what is ready has been so since some time");
            claim(is("deferred") == self.trigger(task.id).is_some(), "a task waits if and only if it is deferred");
            let Some(wait) = self.trigger(task.id) else { continue };
            claim(wait.generation == task.generation, "a wait is of its task's generation");
            claim(wait.queue == task.queue && wait.priority == task.priority, "a wait lies where its task does");
            claim(wait.passive == wait.spec.is_none(), "a wait has a spec if and only if it is active");
            claim(!wait.passive || wait.holder.is_none(), "nobody holds a passive wait");
            let has_key = self.keys.iter().any(|key| key.task_id == task.id);
            claim(wait.wake_at.is_some() || has_key, "whatever waits has a next time or a key");
        }
        for trigger in &self.triggers {
            if self.task(trigger.task_id).is_none() {
                broken.push(format!("a wait has no task: {trigger:?}"));
            }
        }
    }

    fn keys_of_waits(&self, broken: &mut Vec<String>) {
        let mut waits = HashSet::new();
        for key in &self.keys {
            let wait = self.trigger(key.task_id).filter(|wait| wait.generation == key.generation && wait.passive);
            if wait.is_none() {
                broken.push(format!("a key has no wait: {key:?}, {:?}", self.trigger(key.task_id)));
            }
            if !waits.insert(key.task_id) {
                broken.push(format!("a wait has two keys: {key:?}"));
            }
        }
        for dedupe in self.dedupe.iter().filter(|dedupe| dedupe.until.is_none()) {
            let task = self.task(dedupe.task_id).filter(|task| task.name == dedupe.name);
            if task.and_then(|task| task.dedupe.as_ref()) != Some(&dedupe.key) {
                broken.push(format!("a dedupe key is taken by no unfinished task: {dedupe:?}"));
            }
        }
    }

    /// A slot is of an unfinished task that asked for one, up to its limit. Nothing runs without its slot, and nothing waits
    /// that has it.
    fn slots_of_tasks(&self, broken: &mut Vec<String>) {
        for (key, n, id) in &self.slots {
            let task = self.task(*id).filter(|task| task.slot_key.as_ref() == Some(key));
            if task.and_then(|task| task.slot_limit).is_none_or(|limit| !(1..=limit).contains(n)) {
                broken.push(format!("slot {n} of {key} is taken by none of its tasks: {id}, {task:?}"));
            }
        }
        for task in self.tasks.iter().filter(|task| task.slot_key.is_some()) {
            let has_slot = self.slots.iter().any(|(.., id)| *id == task.id);
            let waits = self.trigger(task.id).is_some_and(|wait| wait.kind == "slot");
            if (task.state == "running" && !has_slot) || (waits && has_slot) {
                broken.push(format!("its slot is taken {has_slot} and waited for {waits}: {task:?}"));
            }
        }
    }

    /// Nobody who is not gone holds more than its capacity, and whoever holds something is remembered.
    fn holders(&self, broken: &mut Vec<String>) {
        let mut held: BTreeMap<Uuid, i32> = BTreeMap::new();
        let of_tasks = self.tasks.iter().filter_map(|task| task.holder);
        for holder in of_tasks.chain(self.triggers.iter().filter_map(|trigger| trigger.holder)) {
            *held.entry(holder).or_default() += 1;
        }
        for holder in self.undo.iter().filter_map(|undo| undo.holder) {
            held.entry(holder).or_default();
        }
        for (holder, count) in held {
            match self.replicas.iter().find(|replica| replica.incarnation == holder) {
                None => broken.push(format!("{holder} holds {count} and is forgotten")),
                Some(replica) if replica.gone_at.is_none() && count > replica.capacity => {
                    broken.push(format!("{count} are held by {replica:?}"));
                }
                Some(_) => {}
            }
        }
    }

    fn the_finished(&self, broken: &mut Vec<String>) {
        let mut ids: BTreeSet<Uuid> = self.tasks.iter().map(|task| task.id).collect();
        for finished in &self.finished {
            if !ids.insert(finished.id) {
                broken.push(format!("a task is there twice, or finished and unfinished: {finished:?}"));
            }
            if (finished.day == -1) != (finished.state == "failed") {
                broken.push(format!("what failed, and nothing else, is kept for ever: {finished:?}"));
            }
        }
    }

    /// History is one chain a task, in which each generation is reached once: so each deferral has one outcome. Only a wait
    /// in a worker's slot is over without a change of hands.
    fn one_outcome_a_deferral(&self, broken: &mut Vec<String>) {
        let mut last: BTreeMap<Uuid, &HistoryRow> = BTreeMap::new();
        for told in &self.history {
            // Where history is a ring, what is older than it may outlive what came after.
            if let Some(before) = last.insert(told.task_id, told).filter(|before| before.at > self.now - RING)
                && !(told.generation == before.generation + 1 && told.was.as_ref() == Some(&before.became))
                && !(told.generation == before.generation && told.turn == before.turn + 1 && told.became == "running")
            {
                broken.push(format!("history has a gap or a fork: {before:?}, {told:?}"));
            }
        }
        let unfinished = self.tasks.iter().map(|task| (task.id, &task.state, task.generation));
        let finished = self.finished.iter().map(|finished| (finished.id, &finished.state, finished.generation));
        for (id, state, generation) in unfinished.chain(finished) {
            let as_told = |told: &&HistoryRow| told.became == *state && told.generation == generation;
            let told = last.get(&id).map(as_told);
            // What was read of it may begin later.
            if told == Some(false) || (told.is_none() && self.is_whole) {
                broken.push(format!("history ends elsewhere than its task: {id} {state} {generation}"));
            }
        }
    }

    fn nothing_falls(&self, broken: &mut Vec<String>, marks: &mut Marks) {
        let unfinished = self.tasks.iter().map(|task| (task.id, task.generation, task.turn));
        let finished = self.finished.iter().map(|finished| (finished.id, finished.generation, finished.turn));
        let now: HashMap<Uuid, (i32, i32)> =
            unfinished.chain(finished).map(|(id, generation, turn)| (id, (generation, turn))).collect();
        for (id, (generation, turn)) in &now {
            if marks.0.get(id).is_some_and(|(before, turned)| generation < before || turn < turned) {
                broken.push(format!("a generation or turn has fallen: {id}"));
            }
        }
        // What is gone may be added again, and begins anew.
        marks.0 = now;
    }
}
