//! What an operation names, as the store takes it and as the model does.

use std::time::Duration;

use reveille::{
    Deferral, NewTask, WaitFailed,
    clock::timestamp,
    defer,
    id::{BatchId, Fence},
    store::{Scope, Verdict, event::Firing, history::Why},
    task::{End, WaitFailure, Woken},
    trigger::Event,
    wait::{Signal, TaskEnd, Timer},
};
use serde_json::{Value, json};

use crate::{
    op::{Adds, Arrives, At, Cast, Charge, Ending, Limit, On, R, Reach, Shot, Starts, Then, Waits, batch_id},
    stage::{Fake, OtherFake},
    world::{self, Defers, Ends, New, Start, WaitFor, World},
};

impl Cast {
    /// As the model takes a task to be added. One whose id the store mints has a name of its own until that is known.
    pub(crate) fn new_one(&self, now: i64, adds: &Adds) -> New {
        New {
            id: self.task(adds.task),
            name: adds.name.to_owned(),
            queue: adds.queue.to_owned(),
            origin: reveille::Origin::Manual,
            batch: adds.batch.map(batch_id),
            priority: adds.priority,
            start: match &adds.start {
                Starts::Now => Start::Now,
                Starts::At(offset) => Start::At(now + offset),
                Starts::After(delay) => Start::After(*delay),
                Starts::When(waits) => Start::When(self.wait_for(now, waits)),
            },
            expires_at: adds.expires.map(|after| now + after),
            retry: adds.retry,
            dedupe: adds.dedupe.map(|(key, window)| (key.to_owned(), window)),
            limit: adds.limit.map(|(key, n)| (key.to_owned(), n.cast_signed())),
            step: first_step(adds),
        }
    }

    /// As the store takes it.
    pub(crate) fn new_task(&self, now: i64, adds: &Adds) -> NewTask {
        let mut task =
            NewTask::named(adds.name, first_step(adds)).queue(adds.queue).priority(adds.priority).retry(adds.retry);
        if adds.minted {
            task = task.id(self.task(adds.task));
        }
        if let Some(batch) = adds.batch {
            task = task.batch(BatchId(batch_id(batch)));
        }
        if let Some(after) = adds.expires {
            task = task.expires(timestamp(now + after));
        }
        task = match adds.dedupe {
            None => task,
            Some((key, None)) => task.dedupe(key),
            Some((key, Some(window))) => task.dedupe_within(key, duration(window)),
        };
        if let Some((key, n)) = adds.limit {
            task = task.limit(key, n);
        }
        match &adds.start {
            Starts::Now => task,
            Starts::At(offset) => task.at(timestamp(now + offset)),
            Starts::After(delay) => task.after(duration(*delay)),
            Starts::When(waits) => task.when(self.deferral(now, waits)),
        }
    }

    pub(crate) fn wait_for(&self, now: i64, waits: &Waits) -> WaitFor {
        WaitFor {
            on: match &waits.on {
                On::After(offset) | On::At(offset) => world::On::Time(now + offset),
                On::Signal(name) => world::On::Signal((*name).to_owned()),
                On::End(task) => world::On::End(self.task(*task)),
                On::Fake(marker) => world::On::Checks("fake", json!({ "marker": marker.to_string() })),
                On::OtherFake => world::On::Checks("other_fake", json!({})),
                On::Slot(key) => unreachable!("nobody defers to a slot of {key}"),
            },
            deadline_at: waits.deadline.map(|limit| match limit {
                Limit::After(offset) | Limit::At(offset) => now + offset,
                Limit::Never => world::LATEST,
            }),
            deadline_is_fixed: matches!(waits.deadline, Some(Limit::At(_))),
            or_resume: waits.or_resume,
        }
    }

    pub(crate) fn deferral(&self, now: i64, waits: &Waits) -> Deferral {
        let deferral = match &waits.on {
            On::After(delay) => defer(Timer::after(duration(*delay))),
            On::At(offset) => defer(Timer::at(timestamp(now + offset))),
            On::Signal(name) => defer(Signal::new(*name)),
            On::End(task) => defer(TaskEnd::of(self.task(*task).0)),
            On::Fake(marker) => defer(Fake { marker: marker.to_string() }),
            On::OtherFake => defer(OtherFake {}),
            On::Slot(key) => unreachable!("nobody defers to a slot of {key}"),
        };
        let deferral = match waits.deadline {
            None => deferral,
            Some(Limit::After(offset)) => deferral.deadline(duration(offset)),
            Some(Limit::At(offset)) => deferral.deadline_at(timestamp(now + offset)),
            Some(Limit::Never) => deferral.deadline(Duration::MAX),
        };
        if waits.or_resume { deferral.or_resume() } else { deferral.or_fail() }
    }

    /// A key as it is stored.
    pub(crate) fn key(&self, on: &On) -> String {
        if let On::Slot(key) = on {
            return format!("slot:{key}");
        }
        self.wait_for(0, &Waits { on: on.clone(), deadline: None, or_resume: false }).key().expect("it is a key")
    }

    pub(crate) fn scope(&self, reach: &Reach) -> Scope {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Scope {
            queues: reach.queues.as_deref().map(owned),
            kinds: owned(&reach.kinds),
            aside: reach.aside.iter().map(|task| self.task(*task)).collect(),
        }
    }

    pub(crate) fn fences(&self, world: &World, batch: &[At]) -> Vec<Fence> {
        batch.iter().map(|at| self.fence(world, *at)).collect()
    }

    /// Tasks that defer. What is tried again is so as the next attempt, as its worker knows it.
    pub(crate) fn defers(&self, world: &World, batch: &[(At, Then)]) -> Vec<Defers> {
        let one = |(at, then): &(At, Then)| {
            let fence = self.fence(world, *at);
            let attempt = world.tasks.get(&fence.task).map_or(1, |task| task.attempt);
            let again = |why, attempt, delay| Defers {
                fence,
                step: None,
                attempt,
                why,
                wait: WaitFor::time(world.now + delay),
            };
            match then {
                Then::Wait(step, waits) => Defers {
                    fence,
                    step: Some(next_step(*step, waits)),
                    attempt: 1,
                    why: Why::Deferred,
                    wait: self.wait_for(world.now, waits),
                },
                Then::Retry(delay) => again(Why::Retry, attempt + 1, *delay),
                Then::Snooze(delay) => again(Why::Snooze, attempt, *delay),
            }
        };
        batch.iter().map(one).collect()
    }

    /// What a wait in a slot ends with.
    pub(crate) fn arrival(&self, arrives: &Arrives) -> world::Arrival {
        let failed = WaitFailed { reason: WaitFailure::Fatal, message: "it cannot be".to_owned() };
        match arrives {
            Arrives::Time(event) => world::Arrival::Woken(None, event.id(), Why::Due),
            Arrives::Payload(event, payload) => {
                world::Arrival::Woken(Some(Woken::Payload(json!(payload))), event.id(), Why::Event)
            }
            Arrives::Failed(event) => world::Arrival::Woken(Some(Woken::Failed(failed)), event.id(), Why::WaitFailed),
            Arrives::Under(on) => world::Arrival::Key(self.key(on)),
        }
    }

    pub(crate) fn ends(&self, world: &World, batch: &[Ending]) -> Vec<Ends> {
        let one = |ending: &Ending| Ends {
            fence: self.fence(world, ending.at),
            was: ending.was,
            holder: ending.by.map(R::id),
            end: match ending.state {
                reveille::task::EndState::Succeeded => End::succeeded(json!({ "of": format!("{:?}", ending.at.0) })),
                reveille::task::EndState::Failed => End::failed("it broke"),
                reveille::task::EndState::Skipped => End::skipped("nothing to do"),
                reveille::task::EndState::Cancelled => End::cancelled("called off"),
            },
            why: ending.why,
            event: None,
            who: ending.by.map(R::id),
        };
        batch.iter().map(one).collect()
    }

    pub(crate) fn firings(&self, world: &World, by: R, batch: &[Shot]) -> Vec<Firing> {
        let one = |shot: &Shot| Firing {
            fence: self.fence(world, shot.at),
            event: Event { id: shot.event.id(), outcome: shot.outcome.clone() }.into(),
            holder: by.id(),
        };
        batch.iter().map(one).collect()
    }

    pub(crate) fn verdicts(&self, world: &World, batch: &[Charge]) -> Vec<Verdict> {
        let one = |charge: &Charge| Verdict {
            fence: self.fence(world, charge.at),
            failed: WaitFailed { reason: charge.reason, message: format!("{:?}", charge.reason) },
            holder: charge.holder.map(R::id),
            event: charge.event.map(crate::op::E::id),
        };
        batch.iter().map(one).collect()
    }
}

fn first_step(adds: &Adds) -> Value {
    json!({ "First": { "of": format!("{:?}", adds.task) } })
}

/// As it is stored: a step says what a bad end of the wait before it means.
fn next_step(step: u32, waits: &Waits) -> Value {
    if waits.or_resume { json!({ "step": step, "or_resume": true }) } else { json!({ "step": step }) }
}

/// Milliseconds that are not negative.
pub(crate) fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).expect("durations are not negative"))
}
