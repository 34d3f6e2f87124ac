//! Waiting in a worker's own slot: a running task moves on to its next step without a change of hands.

use reveille::{
    id::{Fence, Incarnation, TaskId},
    store::history::{Transition, Why},
    task::Woken,
};
use serde_json::Value;
use uuid::Uuid;

use super::{State, World};

/// What such a wait ends with: this, or whatever has come under a key.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Woken(Option<Woken>, Uuid, Why),
    Key(String),
}

/// Where the task is then.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Advanced {
    To(Option<Woken>),
    NotYet,
    NotMine,
}

impl World {
    /// The turn that a task is at; of one that is not there, none that there is.
    pub(crate) fn turn(&self, task: TaskId) -> i32 {
        self.tasks.get(&task).map_or(0, |task| task.turn)
    }

    /// A live worker moves a task of its own on from a turn to the next, unless it is there already. What comes under a key is taken
    /// only for a task that can have it.
    pub(crate) fn advance(
        &mut self,
        me: Incarnation,
        fence: Fence,
        turn: i32,
        step: &Value,
        arrival: Arrival,
    ) -> Advanced {
        let is_mine = self.at(fence).is_some_and(|task| task.state == State::Running(me)) && self.is_live(me);
        if !is_mine {
            return Advanced::NotMine;
        }
        match self.turn(fence.task) - turn {
            0 => {}
            1 => return Advanced::To(self.tasks[&fence.task].event.clone()),
            _ => return Advanced::NotMine,
        }
        let (woken, event, why) = match arrival {
            Arrival::Woken(woken, event, why) => (woken, event, why),
            Arrival::Key(key) => match self.take(&key) {
                Some((woken, event, why)) => (Some(woken), event, why),
                None => return Advanced::NotYet,
            },
        };
        let now = self.now;
        let task = self.task(fence.task);
        task.step = step.clone();
        task.event.clone_from(&woken);
        task.progress = None;
        task.turn += 1;
        task.attempt = 1;
        task.crashes = 0;
        let told = Transition {
            at: now,
            generation: task.generation,
            turn: task.turn,
            attempt: task.attempt,
            was: Some(task.state.word().to_owned()),
            became: task.state.word().to_owned(),
            why: why.word().to_owned(),
            event: Some(event),
            who: Some(me.0),
        };
        self.history.entry(fence.task).or_default().push(told);
        Advanced::To(woken)
    }
}
