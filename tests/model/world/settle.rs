//! What the specification leaves open, and the database has decided: taken over from what was read.

use super::{State, World, fire::MINTED};

impl World {
    /// Takes over the jitter of retries, as far as it is allowed, and the ids of events that the store minted.
    pub(crate) fn settle(&mut self, seen: &World) {
        for (id, task) in &mut self.tasks {
            let State::Deferred(wait) = &mut task.state else { continue };
            let read = seen.tasks.get(id).and_then(|task| task.wait());
            let early = read.map_or(0, |read| wait.since.saturating_sub(read.since));
            if (0..=wait.slack).contains(&early) {
                wait.since -= early;
                wait.wake_at = wait.wake_at.map(|at| at - early);
                if !wait.deadline_is_fixed {
                    wait.deadline_at = wait.deadline_at.map(|at| at - early);
                }
            }
            wait.slack = 0;
        }
        for (id, history) in &mut self.history {
            let Some(read) = seen.history.get(id) else { continue };
            for told in history.iter_mut().filter(|told| told.event == Some(MINTED)) {
                let read = read.iter().find(|read| read.generation == told.generation && read.event.is_some());
                told.event = read.map_or(told.event, |read| read.event);
            }
        }
    }
}
