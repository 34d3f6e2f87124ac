//! The replicas, as far as they answer "who can take this?".

use uuid::Uuid;

use super::{output::plain, time};
use crate::store::replica::{Replica, Role};

/// A replica that has not renewed for this long is not counted on, though nobody may be there to declare it gone.
/// Three times the usual lease.
const SILENT_MS: i64 = 30_000;

/// Every replica that the database remembers, at one moment.
#[derive(Debug)]
pub(super) struct Fleet {
    replicas: Vec<Replica>,
    now_ms: i64,
}

/// What is known of a replica's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Live,
    /// Not declared gone, but it has not renewed for a while.
    Silent,
    /// It said that it goes.
    Left,
    /// The others declared it gone.
    Lost,
}

impl Life {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Silent => "silent",
            Self::Left => "left",
            Self::Lost => "lost",
        }
    }
}

impl Fleet {
    pub(super) fn new(replicas: Vec<Replica>, now_ms: i64) -> Self {
        Self { replicas, now_ms }
    }

    pub(super) fn all(&self) -> &[Replica] {
        &self.replicas
    }

    pub(super) fn life(&self, replica: &Replica) -> Life {
        match (replica.gone_at, replica.gone_why.as_deref()) {
            (None, _) if self.now_ms - replica.seen_at > SILENT_MS => Life::Silent,
            (None, _) => Life::Live,
            (Some(_), Some("left")) => Life::Left,
            (Some(_), _) => Life::Lost,
        }
    }

    /// Those of a role that are there now.
    pub(super) fn live(&self, role: Role) -> Vec<&Replica> {
        self.with(role, Life::Live)
    }

    /// Those of a role that show no life, and that nobody has declared gone.
    pub(super) fn silent(&self, role: Role) -> Vec<&Replica> {
        self.with(role, Life::Silent)
    }

    fn with(&self, role: Role, life: Life) -> Vec<&Replica> {
        self.replicas.iter().filter(|replica| replica.role == role.word() && self.life(replica) == life).collect()
    }

    pub(super) fn find(&self, incarnation: Uuid) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.incarnation == incarnation)
    }

    /// What to call a replica: its role, its label, and enough of its id to tell it from its neighbours.
    pub(super) fn name(&self, incarnation: Uuid) -> String {
        match self.find(incarnation) {
            Some(replica) => format!("{} {} ({})", replica.role, plain(&replica.label), short(incarnation)),
            None => format!("a replica that is forgotten ({})", short(incarnation)),
        }
    }

    /// For how long a replica has not renewed.
    pub(super) fn silence(&self, replica: &Replica) -> String {
        time::since(replica.seen_at, self.now_ms)
    }
}

/// The random end of an id: its beginning is the time, which neighbours share.
fn short(id: Uuid) -> String {
    let text = id.simple().to_string();
    text[text.len() - 6..].to_owned()
}

/// Whether a worker knows tasks of this name.
pub(super) fn knows(worker: &Replica, name: &str) -> bool {
    worker.kinds.split(',').any(|known| known == name)
}

/// Whether a triggerer has every kind of a set.
pub(super) fn has(triggerer: &Replica, kinds: &str) -> bool {
    crate::kind::has_whole(&triggerer.kinds.split(',').collect::<Vec<_>>(), kinds)
}

/// Whether a replica takes from this queue.
pub(super) fn serves(replica: &Replica, queue: &str) -> bool {
    replica.queues == "*" || replica.queues.split(',').any(|served| served == queue)
}

/// Whether it holds as much as it may.
pub(super) fn is_full(replica: &Replica) -> bool {
    replica.running >= replica.capacity
}

/// What these replicas know, in words.
pub(super) fn listed(replicas: &[&Replica]) -> String {
    let words: std::collections::BTreeSet<&str> =
        replicas.iter().flat_map(|replica| replica.kinds.split(',')).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "none".to_owned() } else { words.into_iter().collect::<Vec<_>>().join(", ") }
}
