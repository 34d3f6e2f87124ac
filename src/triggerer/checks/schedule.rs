//! What is to be checked when, and what may begin.
//!
//! A heap of what is not due yet; and lanes, one for each destination, so that checks of a slow one wait for one another
//! and for nobody else.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

/// Where checks go to.
pub(super) type Destination = Option<Arc<str>>;

/// Its entries are never taken out: one that no longer says the truth is passed over when its time comes.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    /// By when they are due, in milliseconds of the monotonic clock.
    due: BinaryHeap<Reverse<(i64, K)>>,
    /// What is due and has a place in its lane.
    ready: VecDeque<Begin<K>>,
    lanes: HashMap<Arc<str>, Lane<K>>,
    /// How many of one lane may run at once.
    width: usize,
}

#[derive(Debug)]
struct Lane<K> {
    running: usize,
    /// What is due, and since when.
    waiting: VecDeque<(K, i64)>,
}

impl<K> Default for Lane<K> {
    fn default() -> Self {
        Self { running: 0, waiting: VecDeque::new() }
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<K> {
    /// This may begin.
    Begin(Begin<K>),
    /// Nothing before this time.
    At(i64),
    /// Nothing is scheduled.
    Nothing,
}

/// What may begin; its lane counts it until it has [left](Schedule::left).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begin<K> {
    pub(super) what: K,
    pub(super) destination: Destination,
    /// Since when it is due, in milliseconds of the monotonic clock.
    pub(super) due_at: i64,
}

impl<K: Copy + Ord> Schedule<K> {
    pub(super) fn new(width: usize) -> Self {
        Self { due: BinaryHeap::new(), ready: VecDeque::new(), lanes: HashMap::new(), width }
    }

    pub(super) fn push(&mut self, at: i64, what: K) {
        self.due.push(Reverse((at, what)));
    }

    /// What may begin now. `claim` is asked of each that falls due where its check goes to, and may answer that it is not
    /// due after all.
    pub(super) fn next(&mut self, now: i64, mut claim: impl FnMut(K, i64) -> Option<Destination>) -> Next<K> {
        loop {
            if let Some(begin) = self.ready.pop_front() {
                return Next::Begin(begin);
            }
            match self.due.peek() {
                None => return Next::Nothing,
                Some(Reverse((at, _))) if *at > now => return Next::At(*at),
                Some(Reverse((at, what))) => {
                    let (at, what) = (*at, *what);
                    self.due.pop();
                    if let Some(destination) = claim(what, at) {
                        self.enter(what, destination, at);
                    }
                }
            }
        }
    }

    fn enter(&mut self, what: K, destination: Destination, due_at: i64) {
        if let Some(name) = &destination {
            let lane = self.lanes.entry(Arc::clone(name)).or_default();
            if lane.running >= self.width {
                return lane.waiting.push_back((what, due_at));
            }
            lane.running += 1;
        }
        self.ready.push_back(Begin { what, destination, due_at });
    }

    /// A check is over, however it ended: the next in its lane takes its place.
    pub(super) fn left(&mut self, destination: &Destination) {
        let Some(name) = destination else { return };
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if let Some((what, due_at)) = lane.waiting.pop_front() {
            self.ready.push_back(Begin { what, destination: destination.clone(), due_at });
        } else {
            lane.running -= 1;
            if lane.running == 0 {
                self.lanes.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Fence, TaskId};

    fn fences(count: usize) -> Vec<Fence> {
        (0..count).map(|_| Fence { task: TaskId::mint(), generation: 0 }).collect()
    }

    fn slow() -> Arc<str> {
        Arc::from("slow:80")
    }

    #[test]
    fn what_is_due_first_begins_first_and_nothing_before_its_time() {
        let [first, second] = fences(2)[..] else { unreachable!() };
        let mut schedule = Schedule::new(1);
        let nowhere = |_, _| Some(None);
        let begin = |what, due_at| Next::Begin(Begin { what, destination: None, due_at });
        assert_eq!(schedule.next(0, nowhere), Next::Nothing);
        schedule.push(20, second);
        schedule.push(10, first);
        assert_eq!(schedule.next(9, nowhere), Next::At(10));
        assert_eq!(schedule.next(20, nowhere), begin(first, 10));
        assert_eq!(schedule.next(20, nowhere), begin(second, 20));
    }

    #[test]
    fn what_is_not_due_after_all_is_passed_over() {
        let [first, second] = fences(2)[..] else { unreachable!() };
        let mut schedule = Schedule::new(1);
        schedule.push(10, first);
        schedule.push(10, second);
        schedule.push(20, first);
        let is_true = |what, at| (what != first || at == 20).then_some(None);
        let begin = |what, due_at| Next::Begin(Begin { what, destination: None, due_at });
        assert_eq!(schedule.next(15, is_true), begin(second, 10));
        assert_eq!(schedule.next(15, is_true), Next::At(20));
        assert_eq!(schedule.next(20, is_true), begin(first, 20));
    }

    #[test]
    fn a_full_lane_holds_up_its_own_and_nobody_else() {
        let all = fences(5);
        let mut schedule = Schedule::new(2);
        for (at, fence) in all.iter().enumerate() {
            schedule.push(at as i64, *fence);
        }
        // The last goes elsewhere.
        let destination = |fence, _| Some(if fence == all[4] { None } else { Some(slow()) });
        let begun: Vec<Next<Fence>> = (0..4).map(|_| schedule.next(9, destination)).collect();
        let begin = |at: usize| {
            let destination = destination(all[at], 0).unwrap();
            Next::Begin(Begin { what: all[at], destination, due_at: at as i64 })
        };
        assert_eq!(begun, [begin(0), begin(1), begin(4), Next::Nothing]);
        schedule.left(&Some(slow()));
        assert_eq!((schedule.next(9, destination), schedule.next(9, destination)), (begin(2), Next::Nothing));
        schedule.left(&Some(slow()));
        schedule.left(&Some(slow()));
        assert_eq!(schedule.next(9, destination), begin(3));
        schedule.left(&Some(slow()));
        assert!(schedule.lanes.is_empty(), "a lane goes with its last");
    }
}
