//! Leasing active triggers.

use std::{cmp::Reverse, collections::BTreeSet};

use reveille::{
    id::{Fence, Incarnation, TaskId},
    store::Scope,
};

use super::{Illegal, State, Wait, World, choose};

/// What a triggerer is told of a trigger that it leased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leased {
    pub(crate) fence: Fence,
    pub(crate) kinds: String,
    pub(crate) since: i64,
    pub(crate) wake_at: i64,
    pub(crate) deadline_at: Option<i64>,
    pub(crate) deaths: i32,
}

impl World {
    /// Gives active triggers to a live triggerer: first what holders that are gone left behind, in any order and whenever
    /// it is due; then what is free and due, by priority, then by the time that it is due.
    pub(crate) fn lease(
        &mut self,
        me: Incarnation,
        scope: &Scope,
        limit: usize,
        chosen: &[TaskId],
    ) -> Result<BTreeSet<Leased>, Illegal> {
        let may: Vec<TaskId> = if self.is_live(me) { self.within(scope) } else { Vec::new() };
        let wait = |id: &TaskId| self.tasks[id].wait().expect("only waits are within the scope");
        let left: Vec<_> = may
            .iter()
            .filter(|id| wait(id).holder.is_some_and(|holder| self.is_gone(holder)))
            .map(|id| ((), *id))
            .collect();
        let free: Vec<_> = may
            .iter()
            .filter(|id| wait(id).holder.is_none() && wait(id).wake_at.is_some_and(|at| at <= self.now))
            .map(|id| ((Reverse(self.tasks[id].card.priority), wait(id).wake_at), *id))
            .collect();
        let (taken_over, taken): (Vec<TaskId>, Vec<TaskId>) =
            chosen.iter().partition(|id| left.iter().any(|((), left)| left == *id));
        choose(&left, limit, &taken_over)?;
        choose(&free, limit - taken_over.len(), &taken)?;
        for id in chosen {
            let State::Deferred(wait) = &self.tasks[id].state else { unreachable!("it is within the scope") };
            let lost = wait.holder.is_some_and(|holder| self.replicas[&holder].gone.is_some_and(|gone| gone.lost));
            let State::Deferred(wait) = &mut self.task(*id).state else { unreachable!("it is within the scope") };
            wait.deaths += i32::from(lost);
            wait.holder = Some(me);
        }
        Ok(self.leases_of(me).into_iter().filter(|lease| chosen.contains(&lease.fence.task)).collect())
    }

    /// The tasks with an active trigger that a scope reaches.
    fn within(&self, scope: &Scope) -> Vec<TaskId> {
        let within = self.tasks.iter().filter(|(id, task)| {
            task.wait().is_some_and(|wait| !wait.is_passive() && scope.kinds.contains(&wait.kind))
                && scope.queues.as_ref().is_none_or(|queues| queues.contains(&task.card.queue))
                && !scope.aside.contains(id)
        });
        within.map(|(id, _)| *id).collect()
    }

    /// What a triggerer holds.
    pub(crate) fn leases_of(&self, me: Incarnation) -> BTreeSet<Leased> {
        let told = |id: &TaskId, generation: i32, wait: &Wait| Leased {
            fence: Fence { task: *id, generation },
            kinds: wait.kind.clone(),
            since: wait.since,
            wake_at: wait.wake_at.expect("an active trigger has a next look"),
            deadline_at: wait.deadline_at,
            deaths: wait.deaths,
        };
        let waits = self.tasks.iter().filter_map(|(id, task)| Some((id, task.generation, task.wait()?)));
        waits
            .filter(|(_, _, wait)| wait.holder == Some(me))
            .map(|(id, generation, wait)| told(id, generation, wait))
            .collect()
    }

    /// Gives triggers back, to be leased again from a time on.
    pub(crate) fn release(&mut self, me: Incarnation, batch: &[(Fence, i64)]) {
        for (fence, wake_at) in batch {
            if self.wait_at(*fence).is_some_and(|wait| wait.holder == Some(me))
                && let State::Deferred(wait) = &mut self.task(fence.task).state
            {
                wait.holder = None;
                wait.wake_at = Some(*wake_at);
            }
        }
    }
}
