//! What is dropped by age.

use reveille::task::EndState;

use super::{Illegal, World};

const DAY: i64 = 86_400_000;

/// Where a day is a partition of a ring, what is older than the ring goes when its place in it comes round again.
const RING: i64 = 32;

impl World {
    /// Drops expired signals and dedupe keys, and results and history that are older than `kept`. A database may keep
    /// them to the end of their day; it keeps dead letters for ever, and the history of whatever is kept.
    pub(crate) fn drop_old(&mut self, kept: i64, seen: &World) -> Result<(), Illegal> {
        let (now, before) = (self.now, self.now - kept);
        let is_past = |at: i64| at < before;
        let is_overdue = |at: i64| at / DAY < before / DAY && at / DAY > now / DAY - RING;
        self.signals.retain(|_, signal| signal.expires_at > now);
        self.dedupe.retain(|_, taken| taken.until.is_none_or(|until| until > now));

        for (id, finished) in &self.finished {
            let (at, is_dead_letter) = (finished.at, finished.end.state == EndState::Failed);
            match seen.finished.contains_key(id) {
                false if is_dead_letter || !is_past(at) => {
                    return Err(Illegal(format!("the end of {id:?} at {at} was dropped too early")));
                }
                true if !is_dead_letter && is_overdue(at) => {
                    return Err(Illegal(format!("the end of {id:?} at {at} was not dropped")));
                }
                true | false => {}
            }
        }
        self.finished.retain(|id, _| seen.finished.contains_key(id));

        for (id, history) in &mut self.history {
            let end = self.finished.get(id);
            let stays =
                self.tasks.contains_key(id) || end.is_some_and(|finished| finished.end.state == EndState::Failed);
            let left = seen.history.get(id).map_or(&[][..], Vec::as_slice);
            for told in &*history {
                match left.contains(told) {
                    false if stays || !is_past(told.at) => {
                        return Err(Illegal(format!("history of {id:?} was dropped too early: {told:?}")));
                    }
                    true if !stays && end.is_none() && is_overdue(told.at) => {
                        return Err(Illegal(format!("history of {id:?} was left behind: {told:?}")));
                    }
                    true | false => {}
                }
            }
            history.retain(|told| left.contains(told));
        }
        self.history.retain(|_, history| !history.is_empty());
        Ok(())
    }
}
