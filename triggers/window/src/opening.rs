//! When a window opens next.
//!
//! The rule: on each of its days a window is one stretch of time. It begins at the first moment at which the clocks of
//! its zone show `from` of that day or later, and ends with the last moment at which they show less than `to`. So it
//! begins late where clocks skip its beginning, lasts longer where they show an hour twice, and does not open at all on
//! a day on which they skip the whole of it.

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};

use crate::Day;

/// How many days are looked at: a window of one day a week that is skipped twice opens well before.
const HORIZON: usize = 64;

/// The hours of a window, read and ready to be reckoned with.
pub(crate) struct Hours<'w> {
    pub(crate) from: Time,
    pub(crate) to: Time,
    pub(crate) days: &'w [Day],
    pub(crate) zone: TimeZone,
}

impl Hours<'_> {
    /// The first moment at or after `since` at which the window is open; the end of time if there is none.
    pub(crate) fn opening(&self, since: Timestamp) -> Timestamp {
        self.next_opening(since).unwrap_or(Timestamp::MAX)
    }

    fn next_opening(&self, since: Timestamp) -> Option<Timestamp> {
        let today = since.to_zoned(self.zone.clone()).date();
        // Yesterday's window may reach into today. At the beginning of time there is no yesterday.
        let first = today.yesterday().unwrap_or(today);
        // The windows of two days may overlap where a zone skips or repeats hours, but they begin and end in order.
        first.series(1.day()).take(HORIZON).filter(|date| self.days.contains(&Day::from(date.weekday()))).find_map(
            |date| {
                let (opens, closes) = self.stretch(date)?;
                (opens < closes && since < closes).then_some(opens.max(since))
            },
        )
    }

    /// From when to when it is open on a day. It ends on the next where `to` is not after `from`.
    fn stretch(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let end = if self.to > self.from { date } else { date.tomorrow().ok()? };
        Some((
            self.moment(date.to_datetime(self.from), Edge::First)?,
            self.moment(end.to_datetime(self.to), Edge::Last)?,
        ))
    }

    /// The moment at which clocks show this, or skip it.
    fn moment(&self, shown: DateTime, edge: Edge) -> Option<Timestamp> {
        let moments = self.zone.to_ambiguous_timestamp(shown);
        match (moments.offset(), edge) {
            (AmbiguousOffset::Unambiguous { .. }, _) | (AmbiguousOffset::Fold { .. }, Edge::First) => {
                moments.earlier().ok()
            }
            (AmbiguousOffset::Fold { .. }, Edge::Last) => moments.later().ok(),
            // The clocks are set forward between these two: that moment is the one.
            (AmbiguousOffset::Gap { .. }, _) => {
                let before = moments.earlier().ok()?;
                self.zone.following(before).next().map(|transition| transition.timestamp())
            }
        }
    }
}

/// Which of two moments that show the same.
#[derive(Clone, Copy)]
enum Edge {
    First,
    Last,
}
