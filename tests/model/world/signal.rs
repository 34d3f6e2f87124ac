//! Signals, and the ends of tasks: what arrives under a key, before or after somebody waits for it.

use std::collections::BTreeSet;

use reveille::{
    id::{Incarnation, TaskId},
    store::history::Why,
    task::Woken,
    wait::Ended,
};
use serde_json::Value;
use uuid::Uuid;

use super::{Cause, Signal, World};

impl World {
    /// Stores a signal; sending it twice is sending it once. Whether the key is valid.
    pub(crate) fn send(&mut self, id: Uuid, name: &str, payload: &Value, kept: i64) -> bool {
        if name.is_empty() {
            return false;
        }
        let (sent_at, expires_at) = (self.now, self.now.saturating_add(kept));
        let event = Woken::Payload(payload.clone());
        self.signals.entry(id).or_insert(Signal {
            key: format!("signal:{name}"),
            event,
            sent_at,
            expires_at,
            taken_at: None,
        });
        true
    }

    /// Brings together what waits and what came; answers how many tasks were resumed.
    pub(crate) fn match_keys(&mut self, keys: &[String], who: Option<Incarnation>) -> usize {
        keys.iter().map(|key| self.match_key(key, who)).sum()
    }

    /// What has come goes to all who wait; if nobody does, it is kept.
    fn match_key(&mut self, key: &str, who: Option<Incarnation>) -> usize {
        if let Some(key) = key.strip_prefix("slot:") {
            return self.match_slots(key, who);
        }
        let waiting = self.waiting(key);
        if waiting.is_empty() {
            return 0;
        }
        let Some((woken, event, why)) = self.take(key) else { return 0 };
        for id in &waiting {
            self.resume(*id, Some(woken.clone()), Cause { why, event: Some(event), who });
        }
        waiting.len()
    }

    /// What has come under a key, if anything has: the oldest signal that is neither taken nor expired, which is taken by
    /// this; or the end of a task, which stays for whoever else comes, as long as it is kept.
    pub(super) fn take(&mut self, key: &str) -> Option<(Woken, Uuid, Why)> {
        let now = self.now;
        if let Some(task) = key.strip_prefix("task:") {
            let id: TaskId = task.parse().expect("the key names a task");
            let end = self.finished.get(&id)?.end.clone();
            let ended = Ended { task: id.0, state: end.state.into(), result: end.result, error: end.error };
            return Some((Woken::Payload(serde_json::to_value(ended).expect("it is JSON")), id.0, Why::Task));
        }
        let is_fresh = |signal: &Signal| signal.key == key && signal.taken_at.is_none() && signal.expires_at > now;
        let fresh = self.signals.iter_mut().filter(|(_, signal)| is_fresh(signal));
        let (id, oldest) = fresh.min_by_key(|(id, signal)| (signal.sent_at, **id))?;
        oldest.taken_at = Some(now);
        Some((oldest.event.clone(), *id, Why::Signal))
    }

    fn waiting(&self, key: &str) -> Vec<TaskId> {
        let waits =
            self.tasks.iter().filter(|(_, task)| task.wait().is_some_and(|wait| wait.key.as_deref() == Some(key)));
        waits.map(|(id, _)| *id).collect()
    }

    /// What follows the end of tasks: those that wait for it are resumed, and those that wait for their slots.
    pub(crate) fn ended(&mut self, tasks: &[TaskId]) {
        let slots: BTreeSet<String> = tasks.iter().filter_map(|task| self.key_of(*task)).collect();
        let slots = slots.iter().map(|key| format!("slot:{key}"));
        let keys: Vec<String> = tasks.iter().map(|task| format!("task:{task}")).chain(slots).collect();
        self.match_keys(&keys, None);
    }

    /// Every key that somebody waits for is matched again.
    pub(crate) fn match_again(&mut self, who: Incarnation) {
        let keys = self.tasks.values().filter_map(|task| task.wait()?.key.clone());
        let keys: BTreeSet<String> = keys.collect();
        self.match_keys(&keys.into_iter().collect::<Vec<_>>(), Some(who));
    }
}
