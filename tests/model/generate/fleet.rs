//! Operations on replicas and queues, and what befalls workers.

use reveille::store::replica::Role;

use super::{Generator, View};
use crate::op::{Op, R, Reach};

impl Op {
    /// Whether the database chooses what is moved, and its answer does not say which: that can only be seen after.
    pub(super) fn is_chosen_unseen(&self) -> bool {
        matches!(self, Self::Rescue { .. } | Self::FireDue { .. })
    }
}

impl Generator {
    pub(super) fn join(&mut self, role: Role) -> Op {
        self.replicas += 1;
        let capacity = self.one_of(&[1, 2, 4, 8]);
        Op::Join { replica: R(self.replicas - 1), role, capacity }
    }

    pub(super) fn grow(&mut self, view: &View) -> Op {
        if self.one_in(8) {
            let replica = R(self.roll(self.replicas));
            return Op::Join { replica, role: Role::Worker, capacity: 2 };
        }
        if view.workers.len() + view.triggerers.len() > 6 {
            return self.leave(view);
        }
        let role = if view.workers.len() < view.triggerers.len() { Role::Worker } else { Role::Triggerer };
        self.join(role)
    }

    pub(super) fn renew(&mut self, view: &View) -> Op {
        let live: Vec<R> = view.workers.iter().chain(&view.triggerers).copied().collect();
        let replica = if self.one_in(6) { self.replica_of(&view.gone) } else { self.replica_of(&live) };
        Op::Renew { replica, running: self.one_of(&[0, 1, 2]) }
    }

    pub(super) fn declare(&mut self, view: &View) -> Op {
        let live: Vec<R> = view.workers.iter().chain(&view.triggerers).copied().collect();
        Op::Declare { replica: self.replica_of(&live), beats_ago: self.one_of(&[0, 0, 0, 1, -1]) }
    }

    pub(super) fn leave(&mut self, view: &View) -> Op {
        let live: Vec<R> = view.workers.iter().chain(&view.triggerers).copied().collect();
        Op::Leave { replica: self.replica_of(&live) }
    }

    pub(super) fn forget(&mut self, _: &View) -> Op {
        Op::Forget
    }

    pub(super) fn pause(&mut self, _: &View) -> Op {
        Op::Pause { queue: self.one_of(&["default", "bulk", "side", "side", "nowhere"]), paused: self.maybe(35) }
    }

    pub(super) fn drop_old(&mut self, _: &View) -> Op {
        Op::DropOld { days: self.one_of(&[1, 1, 2, 7, 30, 30, 0, 31]) }
    }

    /// A task that its workers do not survive, again and again.
    pub(super) fn crash_loop(&mut self, _: &View) -> Op {
        for _ in 0..5 {
            let join = self.join(Role::Worker);
            let replica = R(self.replicas - 1);
            let reach = Reach { queues: None, kinds: vec!["work", "toil"], aside: Vec::new() };
            let by = replica;
            self.script.extend([join, Op::Claim { by, reach, limit: 2 }, Op::Declare { replica, beats_ago: 0 }]);
            self.script.push_back(Op::Rescue { by, limit: 100 });
        }
        Op::Turn { ms: 1 }
    }

    /// A task that is called off while it runs, and whose worker is then lost.
    pub(super) fn cancel_and_crash(&mut self, view: &View) -> Op {
        if let Some((task, by)) = view.running.first().copied() {
            self.script.push_back(Op::Declare { replica: by, beats_ago: 0 });
            self.script.push_back(Op::Rescue { by, limit: 100 });
            return Op::Cancel { task };
        }
        self.rescue(view)
    }
}
