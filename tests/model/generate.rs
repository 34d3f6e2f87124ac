//! What is done next: by weight and by seed, with an eye on what there is, and wrong on purpose now and then.

mod fleet;
mod known;
mod tasks;
mod waits;

use std::collections::{HashMap, VecDeque};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use reveille::{id::Incarnation, id::TaskId, store::replica::Role};

use crate::{
    op::{At, Cast, On, Op, Question, R, Shot, T, Wanted},
    world::{State, World},
};

/// One operation, and whether its transaction is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) dropped: bool,
}

/// A name that nothing ever had.
const NOBODY: u32 = 1_000_000;

pub(crate) struct Generator {
    dice: StdRng,
    /// How many names have been given out.
    pub(crate) tasks: u32,
    pub(crate) replicas: u32,
    pub(crate) events: u32,
    /// Who was fired with what, to be fired again.
    fired: Vec<Shot>,
    /// What follows one another to get far at all.
    script: VecDeque<Op>,
}

/// What there is, by name.
#[derive(Default)]
struct View {
    ready: Vec<T>,
    running: Vec<(T, R)>,
    deferred: Vec<T>,
    /// Active triggers that somebody holds.
    held: Vec<(T, R)>,
    finished: Vec<T>,
    undo: Vec<(T, Option<R>)>,
    workers: Vec<R>,
    triggerers: Vec<R>,
    gone: Vec<R>,
    /// Gone, and holding something.
    left_behind: bool,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self { dice, tasks: 0, replicas: 0, events: 0, fired: Vec::new(), script: VecDeque::new() }
    }

    pub(crate) fn next(&mut self, world: &World, cast: &Cast) -> Step {
        let view = self.view(world, cast);
        let op = match self.script.pop_front() {
            Some(op) => op,
            None => std::iter::repeat_with(|| self.op(&view)).find(|op| !known::goes_wrong(op)).expect("it goes on"),
        };
        let dropped = op.is_one_transaction() && self.one_in(25) && !op.is_chosen_unseen();
        if let Op::Claim { by, .. } = &op
            && !dropped
            && self.maybe(30)
        {
            self.script.push_back(Op::Match { keys: vec![On::Slot("p"), On::Slot("q")], who: Some(*by) });
        }
        if !dropped && self.maybe(70) {
            self.script.extend(follow_up(&op));
        }
        Step { op, dropped }
    }

    fn op(&mut self, view: &View) -> Op {
        if view.workers.is_empty() {
            return self.join(Role::Worker);
        }
        if view.triggerers.is_empty() {
            return self.join(Role::Triggerer);
        }
        let unfinished = view.ready.len() + view.running.len() + view.deferred.len();
        // Rarely without anything to do it to: that must be refused, too.
        let with = |any: bool, weight: usize| if any { weight } else { 1 };
        let (running, deferred, held) = (!view.running.is_empty(), !view.deferred.is_empty(), !view.held.is_empty());
        let weights = [
            (28, Self::turn as fn(&mut Self, &View) -> Op),
            (if unfinished < 12 { 26 } else { 30_usize.saturating_sub(unfinished) }, Self::enqueue),
            (with(!view.ready.is_empty(), 20), Self::claim),
            (with(running, 22), Self::defer),
            (if running { 14 } else { 3 }, Self::end),
            (with(running, 4), Self::progress),
            (with(running, 6), Self::advance),
            (with(running, 4), Self::put_back),
            (5, Self::cancel),
            (with(view.left_behind, 6), Self::rescue),
            (4, Self::expire),
            (with(deferred, 14), Self::lease),
            (with(held, 5), Self::release),
            (with(deferred, if held { 18 } else { 8 }), Self::fire),
            (with(deferred, if held { 8 } else { 3 }), Self::fail_waits),
            (with(deferred, 9), Self::fire_due),
            (with(deferred, 7), Self::strike),
            (9, Self::send),
            (3, Self::match_keys),
            (3, Self::match_again),
            (1, Self::ended),
            (4, Self::grow),
            (5, Self::renew),
            (3, Self::declare),
            (2, Self::leave),
            (2, Self::forget),
            (4, Self::pause),
            (with(!view.undo.is_empty(), 8), Self::lease_undo),
            (with(!view.undo.is_empty(), 8), Self::settle_undo),
            (2, Self::drop_old),
            (10, Self::ask),
            (1, Self::crash_loop),
            (1, Self::cancel_and_crash),
        ];
        let mut roll = self.dice.random_range(0..weights.iter().map(|(weight, _)| weight).sum());
        for (weight, make) in weights {
            if roll < weight {
                return make(self, view);
            }
            roll -= weight;
        }
        unreachable!("the roll is below the sum")
    }

    fn view(&self, world: &World, cast: &Cast) -> View {
        let named: HashMap<Incarnation, R> = (0..self.replicas).map(|number| (R(number).id(), R(number))).collect();
        let name = |id: &Incarnation| named.get(id).copied().unwrap_or(R(NOBODY));
        let mut view = View::default();
        for (id, replica) in &world.replicas {
            match (replica.gone, replica.role) {
                (Some(_), _) => view.gone.push(name(id)),
                (None, Role::Worker) => view.workers.push(name(id)),
                (None, Role::Triggerer) => view.triggerers.push(name(id)),
            }
        }
        for task in (0..self.tasks).map(T) {
            let id: TaskId = cast.task(task);
            if let Some(undo) = world.undo.iter().find(|(fence, _)| fence.task == id).map(|(_, undo)| undo) {
                view.undo.push((task, undo.holder.as_ref().map(name)));
            }
            match world.tasks.get(&id).map(|task| &task.state) {
                Some(State::Ready) => view.ready.push(task),
                Some(State::Running(holder)) => {
                    view.left_behind |= view.gone.contains(&name(holder));
                    view.running.push((task, name(holder)));
                }
                Some(State::Deferred(wait)) => {
                    view.deferred.push(task);
                    if let Some(holder) = &wait.holder {
                        view.left_behind |= view.gone.contains(&name(holder));
                        view.held.push((task, name(holder)));
                    }
                }
                None if world.finished.contains_key(&id) => view.finished.push(task),
                None => {}
            }
        }
        view
    }

    fn turn(&mut self, _: &View) -> Op {
        let ms = match self.roll(100) {
            0..50 => self.between(1, 20),
            50..75 => self.between(1_000, 60_000),
            75..91 => self.between(600_000, 7_200_000),
            91..97 => self.between(40_000_000, 90_000_000),
            97..99 => 7 * 86_400_000,
            _ => 20 * 86_400_000,
        };
        Op::Turn { ms }
    }

    fn ask(&mut self, view: &View) -> Op {
        let states = ["ready", "running", "deferred", "succeeded", "failed", "skipped", "cancelled"];
        Op::Ask(match self.roll(17) {
            0..4 => Question::Show(self.any_task(view)),
            4 => Question::List(Wanted {
                state: self.maybe(50).then(|| self.one_of(&states)),
                name: self.maybe(40).then(|| self.one_of(&["work", "toil"])),
                queue: self.maybe(40).then(|| self.one_of(&["default", "bulk"])),
                limit: self.between(0, 60),
            }),
            5 => Question::Census(self.maybe(50).then(|| self.roll(3))),
            6 => Question::Queues,
            7 => Question::Replicas,
            8 => Question::Peers(self.any_replica()),
            9 => Question::NextDue,
            10 => Question::Kinds,
            11 => Question::Claims(self.any_replica()),
            12 => Question::NextDeadline,
            13 => Question::LongestLease,
            14..16 => Question::Findings,
            _ => Question::Leases(self.any_replica()),
        })
    }

    fn roll(&mut self, sides: u32) -> u32 {
        self.dice.random_range(0..sides)
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        self.dice.random_range(low..=high)
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.roll(times) == 0
    }

    fn maybe(&mut self, percent: u32) -> bool {
        self.roll(100) < percent
    }

    fn one_of<V: Copy>(&mut self, all: &[V]) -> V {
        all[self.dice.random_range(0..all.len())]
    }

    /// One of these, or now and then, or if there are none, any task or none at all.
    fn task_of(&mut self, rather: &[T], view: &View) -> T {
        if rather.is_empty() || self.one_in(12) { self.any_task(view) } else { self.one_of(rather) }
    }

    fn any_task(&mut self, view: &View) -> T {
        let known: Vec<T> = (view.ready.iter().chain(&view.deferred).chain(&view.finished).copied())
            .chain(view.running.iter().map(|(task, _)| *task))
            .collect();
        if known.is_empty() || self.one_in(15) { T(NOBODY) } else { self.one_of(&known) }
    }

    /// One of these, or now and then, or if there are none, one that is gone or none at all.
    fn one_who(&mut self, live: &[R], view: &View) -> R {
        if !live.is_empty() && !self.one_in(12) {
            return self.one_of(live);
        }
        if view.gone.is_empty() || self.one_in(4) { R(NOBODY) } else { self.one_of(&view.gone) }
    }

    /// One of these, or now and then, or if there are none, any replica that ever was or none at all.
    fn replica_of(&mut self, rather: &[R]) -> R {
        if rather.is_empty() || self.one_in(12) { self.any_replica() } else { self.one_of(rather) }
    }

    fn any_replica(&mut self) -> R {
        if self.replicas == 0 || self.one_in(8) { R(NOBODY) } else { R(self.roll(self.replicas)) }
    }

    /// A task as it is, or now and then as it was.
    fn at(&mut self, task: T) -> At {
        let ago = if self.one_in(10) { self.one_of(&[1, 1, 2]) } else { 0 };
        At(task, ago)
    }

    /// Up to three of these, with some that are wrong; none twice at one generation.
    fn some_at(&mut self, rather: &[T], view: &View) -> Vec<At> {
        let count = self.one_of(&[1, 1, 1, 2, 3]);
        let mut batch: Vec<At> = Vec::new();
        for _ in 0..count {
            let task = self.task_of(rather, view);
            let at = self.at(task);
            if !batch.iter().any(|other| other.0 == at.0 && other.1 == at.1) {
                batch.push(at);
            }
        }
        batch
    }
}

/// What a replica does after a commit, unless it is lost in between.
fn follow_up(op: &Op) -> Option<Op> {
    match op {
        Op::End { batch } => Some(Op::Ended { tasks: batch.iter().map(|ending| ending.at.0).collect() }),
        Op::Send { key, alone: false, .. } if !key.is_empty() => {
            Some(Op::Match { keys: vec![On::Signal(key)], who: None })
        }
        Op::Defer { by, batch } => {
            let keys = batch.iter().filter_map(|(_, then)| then.key()).collect::<Vec<_>>();
            (!keys.is_empty()).then_some(Op::Match { keys, who: Some(*by) })
        }
        _ => None,
    }
}
