//! One list of operations, driven through the model and a database, and compared after each.

use std::{collections::BTreeMap, fmt::Debug};

use crate::{
    act::act,
    answer::Answer,
    coverage::{Coverage, Noted},
    expect::expect,
    generate::{Generator, Step},
    invariants::Marks,
    op::{Cast, Op},
    reading::{self, Opened},
    rows::Rows,
    stage::Stage,
    world::World,
};

/// Where a database and the model part.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    /// The operation after which they do.
    pub(crate) step: Step,
    /// What is different, in lines.
    pub(crate) difference: Vec<String>,
}

/// A run that is under way.
pub(crate) struct Run {
    stage: Stage,
    pub(crate) world: World,
    pub(crate) cast: Cast,
    marks: Marks,
    opened: Opened,
    pub(crate) coverage: Coverage,
}

impl Run {
    pub(crate) fn on(stage: Stage) -> Self {
        let world = World { now: stage.clock.now_ms(), ..World::default() };
        Self {
            stage,
            world,
            cast: Cast::default(),
            marks: Marks::default(),
            opened: Opened::default(),
            coverage: Coverage::default(),
        }
    }

    /// Does what the generator says, that many times; answers what was done, and where it went wrong, if it did.
    pub(crate) async fn generated(&mut self, generator: &mut Generator, steps: usize) -> (Vec<Step>, Option<Mismatch>) {
        let mut done = Vec::with_capacity(steps);
        // The last turn of the clock is for looking at all that has happened.
        let last = Step { op: Op::Turn { ms: 1 }, dropped: false };
        for left in (0..steps).rev() {
            let step = if left == 0 { last.clone() } else { generator.next(&self.world, &self.cast) };
            done.push(step.clone());
            if let Some(mismatch) = self.step(&step).await {
                return (done, Some(mismatch));
            }
        }
        (done, None)
    }

    /// Does it all again.
    pub(crate) async fn replayed(&mut self, steps: &[Step]) -> Option<Mismatch> {
        for step in steps {
            let mismatch = self.step(step).await;
            if mismatch.is_some() {
                return mismatch;
            }
        }
        None
    }

    async fn step(&mut self, step: &Step) -> Option<Mismatch> {
        let Step { op, dropped } = step;
        let op = &self.within_capacity(op);
        let before = self.world.clone();
        let answer = act(&self.stage.store, &self.cast, &self.world, op, *dropped).await;
        // What ended or happened before the clock last moved is read again when it moves, and when what is old is dropped.
        let is_whole = matches!(op, Op::Turn { .. } | Op::DropOld { .. });
        let rows = Rows::read(&self.stage.store, is_whole).await;
        let mut difference = rows.broken(&mut self.marks);
        if difference.is_empty() {
            let seen = reading::world(&rows, &self.stage.store, &mut self.opened);
            difference = self.compare(op, *dropped, &answer, &seen);
            difference.extend(if is_whole {
                differences(&self.world, &seen)
            } else {
                differences(&self.world.since(self.world.now), &seen)
            });
        }
        if difference.is_empty() {
            if *dropped {
                self.coverage.dropped();
            } else {
                let noted = Noted { cast: &self.cast, before: &before, after: &self.world };
                self.coverage.note(op, &answer, &noted);
            }
            return None;
        }
        let difference = difference.iter().map(|line| self.cast.named(line)).collect();
        Some(Mismatch { step: step.clone(), difference })
    }

    /// Compares an answer and what was seen after it with what the model says, and goes on with that.
    fn compare(&mut self, op: &Op, dropped: bool, answer: &Answer, seen: &World) -> Vec<String> {
        if let (Op::Enqueue { batch, .. }, Answer::Added(ids)) = (op, answer) {
            self.cast.learn(&self.world, batch, ids);
        }
        let mut after = self.world.clone();
        let expected = match expect(&mut after, &self.cast, op, answer, seen) {
            Ok(expected) => expected,
            Err(illegal) => return vec![illegal.0, format!("it answered {answer:?}")],
        };
        let mut difference = Vec::new();
        if expected != *answer {
            difference.push(format!("expected the answer {expected:?}"));
            difference.push(format!("           it answered {answer:?}"));
        }
        if !dropped {
            after.settle(seen);
            self.world = after;
        }
        difference
    }

    /// Nobody takes more than it has room for.
    fn within_capacity(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Op::Claim { by, limit, .. } | Op::Lease { by, limit, .. } = &mut op {
            *limit = (*limit).min(self.world.room(by.id()));
        }
        op
    }
}

fn differences(model: &World, seen: &World) -> Vec<String> {
    let mut lines = Vec::new();
    between("task", &model.tasks, &seen.tasks, &mut lines);
    between("finished", &model.finished, &seen.finished, &mut lines);
    between("history", &model.history, &seen.history, &mut lines);
    between("signal", &model.signals, &seen.signals, &mut lines);
    between("dedupe", &model.dedupe, &seen.dedupe, &mut lines);
    between("slot", &model.slots, &seen.slots, &mut lines);
    between("undo", &model.undo, &seen.undo, &mut lines);
    between("replica", &model.replicas, &seen.replicas, &mut lines);
    between("queue", &model.queues, &seen.queues, &mut lines);
    if model.kinds != seen.kinds {
        lines.push(format!("kinds: expected {:?}, found {:?}", model.kinds, seen.kinds));
    }
    lines
}

fn between<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    model: &BTreeMap<K, V>,
    seen: &BTreeMap<K, V>,
    lines: &mut Vec<String>,
) {
    if model == seen {
        return;
    }
    for (key, expected) in model {
        if seen.get(key) != Some(expected) {
            lines.push(format!("{what} {key:?}: expected {expected:?}"));
            lines.push(format!("{what} {key:?}:    found {:?}", seen.get(key)));
        }
    }
    for (key, found) in seen.iter().filter(|(key, _)| !model.contains_key(key)) {
        lines.push(format!("{what} {key:?}: expected none, found {found:?}"));
    }
}
