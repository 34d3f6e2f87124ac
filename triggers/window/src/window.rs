//! Fires within hours of the day and days of the week.

use std::sync::LazyLock;

use jiff::{
    civil::Time,
    tz::{TimeZone, TimeZoneDatabase},
};
use reveille_trigger::{Answer, Context, Error, Event, Timestamp, Trigger, Wait, async_trait, typetag};
use serde::{Deserialize, Serialize};

use crate::{Day, opening::Hours, words::clock};

/// The zones that are in the binary: no file of the host is read, so that all replicas agree.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Fires within hours of the day and days of the week, in a time zone: at once if the task defers within them, else
/// when they begin. The payload is null.
///
/// # Spec
/// `{"from": "22:00", "to": "06:00", "days": ["mon", "fri"], "zone": "Europe/Berlin"}`
///
/// - `from`, `to`: times of day, such as `"22:00"` or `"22:00:30"`; `"00:00"` unless given. It is open at `from` and no
///   longer at `to`. Where `to` is not after `from`, it ends on the next day: both the same is a whole day.
/// - `days`: those on which it opens, of `"mon"` to `"sun"`; all unless given. `"fri"` from 22:00 to 06:00 is open on
///   Saturday at 3:00.
/// - `zone`: a name of the IANA database, such as `"Europe/Berlin"` or `"UTC"`.
///
/// # Where clocks are set
/// On each of its days a window is one stretch of time, from the first moment at which clocks show `from` or later to
/// the last at which they show less than `to`. Where they skip `from`, it opens when they are set forward; where they
/// skip all of it, not on that day; where they show an hour twice, it is open from the first time to the second.
///
/// # It is passive
/// No triggerer runs it. Its moment is reckoned when the task defers, by the rules for time zones that this version
/// brings. If no replica is alive from then to the end of the window, it fires as soon as one is: later than it should.
/// Nested in a trigger that has checks to make, it is asked whether the window is open at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    #[serde(default, with = "clock")]
    from: Time,
    #[serde(default, with = "clock")]
    to: Time,
    #[serde(default = "every_day")]
    days: Vec<Day>,
    zone: String,
}

impl Window {
    /// Between two times of day, on all days, in a zone of the IANA database.
    pub fn between(from: Time, to: Time, zone: impl Into<String>) -> Self {
        Self { from, to, days: every_day(), zone: zone.into() }
    }

    /// Sets the days on which it opens.
    #[must_use]
    pub fn on(self, days: impl IntoIterator<Item = Day>) -> Self {
        Self { days: days.into_iter().collect(), ..self }
    }

    fn hours(&self) -> Result<Hours<'_>, Error> {
        if self.days.is_empty() {
            return Err(Error::fatal("`days` is empty: name those on which it opens, such as [\"mon\", \"fri\"]"));
        }
        Ok(Hours { from: self.from, to: self.to, days: &self.days, zone: zone(&self.zone)? })
    }
}

#[typetag::serde(name = "window")]
#[async_trait]
impl Trigger for Window {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let now = cx.now();
        if self.hours()?.opening(now) == now { Ok(Answer::Fire(Event::resume(())?)) } else { Ok(Answer::NotYet) }
    }

    fn validate(&self) -> Result<(), Error> {
        self.hours().map(|_| ())
    }

    fn wait(&self, since: Timestamp) -> Wait {
        // A spec that was stored without `validate` gets its one check, which says what is wrong with it.
        self.hours().map_or(Wait::Active, |hours| Wait::Until(hours.opening(since)))
    }
}

fn zone(name: &str) -> Result<TimeZone, Error> {
    ZONES.get(name).map_err(|_| {
        Error::fatal(format!(
            "`zone` {name:?} is not in the IANA database as of this version: write one such as \"Europe/Berlin\", or \"UTC\""
        ))
    })
}

fn every_day() -> Vec<Day> {
    Day::ALL.into()
}
