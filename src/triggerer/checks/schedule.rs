//! What is to be checked when, and what may begin.
//!
//! A heap of what is not due yet; and lanes, one for each destination, so that checks of a slow one wait for one another
//! and for nobody else.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    sync::Arc,
};

use crate::id::Fence;

/// Where checks go to.
pub(super) type Destination = Option<Arc<str>>;

#[derive(Debug)]
pub(super) struct Schedule {
    /// By when they are due, in milliseconds of the monotonic clock.
    due: BinaryHeap<Reverse<(i64, Fence)>>,
    /// What is due and has a place in its lane.
    ready: VecDeque<(Fence, Destination)>,
    lanes: HashMap<Arc<str>, Lane>,
    /// How many of one lane may run at once.
    width: usize,
}

#[derive(Debug, Default)]
struct Lane {
    running: usize,
    waiting: VecDeque<Fence>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This may begin; its lane counts it until it has [left](Schedule::left).
    Begin(Fence, Destination),
    /// Nothing before this time.
    At(i64),
    /// Nothing is scheduled.
    Nothing,
}

impl Schedule {
    pub(super) fn new(width: usize) -> Self {
        Self { due: BinaryHeap::new(), ready: VecDeque::new(), lanes: HashMap::new(), width }
    }

    pub(super) fn push(&mut self, at: i64, fence: Fence) {
        self.due.push(Reverse((at, fence)));
    }

    /// What may begin now. One that nobody holds any more has no destination to tell, and begins at once.
    pub(super) fn next(&mut self, now: i64, destination_of: impl Fn(Fence) -> Destination) -> Next {
        loop {
            if let Some((fence, destination)) = self.ready.pop_front() {
                return Next::Begin(fence, destination);
            }
            match self.due.peek() {
                None => return Next::Nothing,
                Some(Reverse((at, _))) if *at > now => return Next::At(*at),
                Some(Reverse((_, fence))) => {
                    let fence = *fence;
                    self.due.pop();
                    self.enter(fence, destination_of(fence));
                }
            }
        }
    }

    fn enter(&mut self, fence: Fence, destination: Destination) {
        if let Some(name) = &destination {
            let lane = self.lanes.entry(Arc::clone(name)).or_default();
            if lane.running >= self.width {
                return lane.waiting.push_back(fence);
            }
            lane.running += 1;
        }
        self.ready.push_back((fence, destination));
    }

    /// A check is over, however it ended: the next in its lane takes its place.
    pub(super) fn left(&mut self, destination: &Destination) {
        let Some(name) = destination else { return };
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if let Some(next) = lane.waiting.pop_front() {
            self.ready.push_back((next, destination.clone()));
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
    use crate::id::TaskId;

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
        assert_eq!(schedule.next(0, |_| None), Next::Nothing);
        schedule.push(20, second);
        schedule.push(10, first);
        assert_eq!(schedule.next(9, |_| None), Next::At(10));
        assert_eq!(schedule.next(20, |_| None), Next::Begin(first, None));
        assert_eq!(schedule.next(20, |_| None), Next::Begin(second, None));
    }

    #[test]
    fn a_full_lane_holds_up_its_own_and_nobody_else() {
        let all = fences(5);
        let mut schedule = Schedule::new(2);
        for (at, fence) in all.iter().enumerate() {
            schedule.push(at as i64, *fence);
        }
        // The last goes elsewhere.
        let destination = |fence| if fence == all[4] { None } else { Some(slow()) };
        let begun: Vec<Next> = (0..4).map(|_| schedule.next(9, destination)).collect();
        let begin = |at: usize| Next::Begin(all[at], destination(all[at]));
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
