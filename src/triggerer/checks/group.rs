//! Equal triggers that share their checks: one look answers for all the tasks that had deferred before it began.
//!
//! A look counts for those who were members when it began, and for nobody who joined later: what they wait for may have
//! happened before they deferred.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;
use reveille_trigger::{Memory, Trigger};
use smallvec::{SmallVec, smallvec};

use super::schedule::Destination;
use crate::{
    error::Result,
    kind,
    triggerer::{
        held::{Hold, Holding},
        home::Spec,
    },
};

/// One group, for as long as it has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupId(u64);

/// Who shares. Most are alone.
pub(super) type Members = SmallVec<[Hold; 1]>;

#[derive(Debug)]
pub(super) struct Group {
    /// None while the next look is far off: it is read again then.
    pub(super) trigger: Option<Arc<dyn Trigger>>,
    pub(super) destination: Destination,
    /// Who waits. Those who left without a word are found out at the next look.
    pub(super) members: Members,
    /// When the wait ends first of those who have joined since the last look began, in milliseconds of the database's time.
    pub(super) first_deadline: Option<i64>,
    /// When the latest of them deferred, in milliseconds: for its sake looks are close together again.
    pub(super) since: i64,
    /// When it is to be looked at, in milliseconds of the monotonic clock; none while it is.
    pub(super) next: Option<i64>,
    pub(super) memory: Memory,
    /// How many looks in a row could not tell.
    pub(super) failures: u32,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    /// By the hashes of their specs, which stand beside the groups: of a million they would be twice in memory.
    by_spec: HashTable<GroupId>,
    hasher: RandomState,
    by_id: HashMap<GroupId, Box<(Spec, Group)>>,
    formed: u64,
}

impl Groups {
    /// Adds a member, which has trigger and spec in common with the others from then on. Answers its group, and whether that is
    /// new, and yet to be looked at for the first time: unless that is `soon`, its trigger is read again then. Of thousands
    /// that are leased at once most wait.
    pub(super) fn join(&mut self, spec: &Spec, member: &mut Holding, soon: bool) -> (GroupId, bool) {
        let hash = self.hasher.hash_one(spec);
        if let Some(id) = self.by_spec.find(hash, |id| self.by_id[id].0 == *spec) {
            let (spec, group) = &mut **self.by_id.get_mut(id).expect("each spec has its group");
            group.members.push(member.hold());
            group.first_deadline = group.first_deadline.into_iter().chain(member.deadline_at).min();
            group.since = group.since.max(member.since);
            (member.shared, member.alone) = (Some(Arc::clone(spec)), None);
            return (*id, false);
        }
        let id = GroupId(self.formed);
        self.formed += 1;
        let (trigger, destination) = member.alone.take().map(|alone| (alone.trigger, alone.destination)).unzip();
        let group = Group {
            trigger: trigger.filter(|_| soon),
            destination: destination.flatten(),
            members: smallvec![member.hold()],
            first_deadline: None,
            since: member.since,
            next: None,
            memory: Memory::default(),
            failures: 0,
        };
        self.by_id.insert(id, Box::new((Arc::clone(spec), group)));
        self.by_spec.insert_unique(hash, id, |id| self.hasher.hash_one(&self.by_id[id].0));
        (id, true)
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.by_id.get(&id).map(|entry| &entry.1)
    }

    pub(super) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.by_id.get_mut(&id).map(|entry| &mut entry.1)
    }

    /// What a group looks with, read again if it was let go of.
    pub(super) fn trigger(&self, id: GroupId) -> Result<Option<Arc<dyn Trigger>>> {
        let Some((spec, group)) = self.by_id.get(&id).map(|entry| &**entry) else { return Ok(None) };
        match &group.trigger {
            Some(trigger) => Ok(Some(Arc::clone(trigger))),
            None => kind::join(spec).map(|trigger| Some(Arc::from(trigger))),
        }
    }

    /// Takes out one that has nobody left.
    pub(super) fn remove(&mut self, id: GroupId) -> Option<Group> {
        let (spec, group) = *self.by_id.remove(&id)?;
        if let Ok(found) = self.by_spec.find_entry(self.hasher.hash_one(&spec), |other| *other == id) {
            found.remove();
        }
        Some(group)
    }
}
