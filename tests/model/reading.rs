//! A database as a world, to be compared with the model.

use std::{cell::RefCell, collections::HashMap, str::FromStr, time::Duration};

use reveille::{
    Priority, Retry,
    id::{Fence, Incarnation, TaskId},
    store::{Store, history::Transition, replica::Role},
    vault::Purpose,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    rows::{FinishedRow, Rows, TaskRow, TriggerRow},
    world::{Card, Finished, Gone, Replica, Signal, State, Taken, Task, Undo, Wait, World},
};

/// What sealed values hold: each is sealed once, and opened once.
#[derive(Debug, Default)]
pub(crate) struct Opened(HashMap<Vec<u8>, Value>);

/// Puts rows together.
pub(crate) fn world(rows: &Rows, store: &Store, opened: &mut Opened) -> World {
    let reading = Reading { rows, store, opened: RefCell::new(opened) };
    let mut world = World { now: store.clock().now_ms(), ..World::default() };
    world.tasks = rows.tasks.iter().map(|row| (TaskId(row.id), reading.task(row))).collect();
    world.finished = rows.finished.iter().map(|row| (TaskId(row.id), reading.finished(row))).collect();
    for told in &rows.history {
        world.history.entry(TaskId(told.task_id)).or_default().push(Transition {
            at: told.at,
            generation: told.generation,
            turn: told.turn,
            attempt: told.attempt,
            was: told.was.clone(),
            became: told.became.clone(),
            why: told.why.clone(),
            event: told.event,
            who: told.who,
        });
    }
    for row in &rows.signals {
        let signal = Signal {
            key: row.key.clone(),
            event: reading.open(Purpose::Event, &row.event),
            sent_at: row.sent_at,
            expires_at: row.expires_at,
            taken_at: row.taken_at,
        };
        world.signals.insert(row.id, signal);
    }
    for row in &rows.dedupe {
        let taken = Taken { task: TaskId(row.task_id), until: row.until };
        world.dedupe.insert((row.name.clone(), row.key.clone()), taken);
    }
    world.slots = rows.slots.iter().map(|(key, n, task)| ((key.clone(), *n), TaskId(*task))).collect();
    for row in &rows.undo {
        let undo = Undo {
            kind: row.kind.clone(),
            queue: row.queue.clone(),
            spec: reading.open(Purpose::Spec, &row.spec),
            since: row.since,
            wake_at: row.wake_at,
            attempt: row.attempt,
            holder: row.holder.map(Incarnation),
            dead_at: row.dead_at,
        };
        world.undo.insert(Fence { task: TaskId(row.task_id), generation: row.generation }, undo);
    }
    for row in &rows.replicas {
        let replica = Replica {
            role: word::<Role>(&row.role),
            label: row.label.clone(),
            kinds: row.kinds.clone(),
            queues: row.queues.clone(),
            capacity: row.capacity,
            running: row.running,
            joined_at: row.joined_at,
            seen_at: row.seen_at,
            lease: row.lease_ms,
            beat: row.beat,
            gone: row.gone_at.map(|at| Gone { at, lost: row.gone_why.as_deref() == Some("lost") }),
        };
        world.replicas.insert(Incarnation(row.incarnation), replica);
    }
    world.queues = rows.queues.iter().cloned().collect();
    world.kinds = rows.kinds.iter().cloned().collect();
    world
}

struct Reading<'a> {
    rows: &'a Rows,
    store: &'a Store,
    opened: RefCell<&'a mut Opened>,
}

impl Reading<'_> {
    fn task(&self, row: &TaskRow) -> Task {
        let state = match (row.state.as_str(), row.holder) {
            ("running", Some(holder)) => State::Running(Incarnation(holder)),
            ("deferred", _) => {
                let wait = self.rows.triggers.iter().find(|trigger| trigger.task_id == row.id);
                State::Deferred(self.wait(wait.expect("the invariants hold")))
            }
            _ => State::Ready,
        };
        Task {
            card: Card {
                name: row.name.clone(),
                queue: row.queue.clone(),
                origin: word(&row.origin),
                batch: row.batch,
                priority: Priority::from_rank(row.priority).expect("it is checked"),
                retry: retry(row.max_attempts, row.backoff_ms, row.backoff_cap_ms),
                dedupe: row.dedupe.clone(),
                limit: row.slot_key.clone().zip(row.slot_limit),
                trace: row.trace.clone(),
                enqueued_at: row.enqueued_at,
            },
            state,
            generation: row.generation,
            turn: row.turn,
            attempt: row.attempt,
            crashes: row.crashes,
            ready_at: row.ready_at,
            expires_at: row.expires_at,
            cancel_requested_at: row.cancel_requested_at,
            step: self.open(Purpose::Step, &row.step),
            event: row.event.as_ref().map(|event| self.open(Purpose::Event, event)),
            progress: row.progress.as_ref().map(|progress| self.open(Purpose::Result, progress)),
        }
    }

    fn wait(&self, row: &TriggerRow) -> Wait {
        Wait {
            kind: row.kind.clone(),
            spec: row.spec.as_ref().map(|spec| self.open(Purpose::Spec, spec)),
            since: row.since,
            wake_at: row.wake_at,
            deadline_at: row.deadline_at,
            deadline_is_fixed: row.deadline_is_fixed,
            or_resume: row.or_resume,
            key: self.rows.keys.iter().find(|key| key.task_id == row.task_id).map(|key| key.key.clone()),
            holder: row.holder.map(Incarnation),
            deaths: row.deaths,
            slack: 0,
        }
    }

    fn finished(&self, row: &FinishedRow) -> Finished {
        let end: reveille::task::End = self.open(Purpose::Result, &row.result);
        assert_eq!(end.state.word(), row.state, "the sealed end is the one in clear");
        Finished {
            card: Card {
                name: row.name.clone(),
                queue: row.queue.clone(),
                origin: word(&row.origin),
                batch: row.batch,
                priority: Priority::from_rank(row.priority).expect("it is as it was"),
                retry: retry(row.max_attempts, row.backoff_ms, row.backoff_cap_ms),
                dedupe: row.dedupe.clone(),
                limit: row.slot_key.clone().zip(row.slot_limit),
                trace: row.trace.clone(),
                enqueued_at: row.enqueued_at,
            },
            generation: row.generation,
            turn: row.turn,
            attempt: row.attempt,
            crashes: row.crashes,
            step: row.step.as_ref().map(|step| self.open(Purpose::Step, step)),
            event: row.event.as_ref().map(|event| self.open(Purpose::Event, event)),
            end,
            at: row.finished_at,
        }
    }

    fn open<V: DeserializeOwned>(&self, purpose: Purpose, sealed: &[u8]) -> V {
        let mut opened = self.opened.borrow_mut();
        let value = opened
            .0
            .entry(sealed.to_vec())
            .or_insert_with_key(|sealed| self.store.open(purpose, sealed.clone()).unwrap());
        V::deserialize(&*value).unwrap()
    }
}

fn word<W: FromStr<Err = reveille::Error>>(word: &str) -> W {
    word.parse().unwrap()
}

fn retry(max_attempts: i32, backoff_ms: i64, cap_ms: i64) -> Retry {
    let duration = |ms: i64| Duration::from_millis(u64::try_from(ms).expect("it is not negative"));
    Retry { max_attempts, backoff: duration(backoff_ms), cap: duration(cap_ms) }
}
