//! What replicas did against the signs of life that they gave, by one clock that never jumps.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{Complaint, Rule};
use crate::{
    plan::LEASE,
    record::{Evidence, Pause, Sign},
};

/// Nobody is given up sooner after a sign of life, in milliseconds: that is what one whose session has ended is given, less
/// what two clocks may differ by.
const GIVEN: i64 = 950;

/// How late a look may reach its server that was begun in time, in milliseconds.
const ON_ITS_WAY: i64 = 1_000;

/// Who was declared lost had been silent, and shows life no more.
pub(super) fn declared_alive(signs: &[Sign]) -> Vec<Complaint> {
    let mut last: HashMap<Uuid, &Sign> = HashMap::new();
    let mut complaints = Vec::new();
    for sign in signs {
        let before = last.insert(sign.incarnation, sign);
        let what = match before {
            Some(before) if before.lost => "showed life after it was declared lost",
            Some(before) if sign.lost && sign.at - before.at < GIVEN => {
                "was declared lost just after it had shown life"
            }
            _ => continue,
        };
        let says = format!("{} {} {what}: {before:?}, {sign:?}", sign.label, sign.incarnation);
        complaints.push(Complaint { rule: Rule::Alive, task: None, says });
    }
    complaints
}

/// Whoever has been silent for a lease begins no check. What one that was frozen had begun before reaches its server after
/// that, so that nothing can be told there.
pub(super) fn not_parked(evidence: &Evidence) -> Vec<Complaint> {
    let mut shown: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for sign in evidence.signs.iter().filter(|sign| !sign.lost) {
        shown.entry(&sign.label).or_default().push(sign.at);
    }
    let was_frozen = |label: &str, at: i64| {
        let held = |pause: &Pause| pause.label == label && (pause.from..pause.to + ON_ITS_WAY).contains(&at);
        evidence.pauses.iter().any(held)
    };
    let longest = LEASE.as_millis() as i64 + ON_ITS_WAY;
    let mut complaints = Vec::new();
    for look in &evidence.looks {
        let shown = shown.get(look.label.as_str()).map_or(&[][..], Vec::as_slice);
        let silent = shown[..shown.partition_point(|at| *at <= look.at)].last().map(|at| look.at - at);
        if silent.is_none_or(|silent| silent > longest) && !was_frozen(&look.label, look.at) {
            let says = format!("{} looked at {}, silent for {silent:?} ms", look.label, look.at);
            complaints.push(Complaint { rule: Rule::NotParked, task: None, says });
        }
    }
    complaints
}
