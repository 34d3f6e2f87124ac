//! Any window, near any change of clocks, against a reckoning that knows nothing of gaps and folds: it reads the clock
//! minute by minute.

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::{TimeZone, TimeZoneDatabase},
};
use proptest::{prelude::*, sample::subsequence};
use reveille_trigger::{Trigger, Wait};
use reveille_window::{Day, Window};

/// Zones that skip and repeat half an hour, an hour, two hours, midnight, a day; and one that does neither.
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Asia/Beirut",
    "America/Havana",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
    "UTC",
];

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
struct Case {
    from: Time,
    to: Time,
    days: Vec<Day>,
    zone: &'static str,
    since: Timestamp,
}

fn time_of_day() -> impl Strategy<Value = Time> {
    // Most changes are in the small hours.
    prop_oneof![(0_i8..5, 0_i8..60), (0_i8..24, 0_i8..60)]
        .prop_map(|(hour, minute)| Time::new(hour, minute, 0, 0).expect("a time of day"))
}

prop_compose! {
    fn case()(
        from in time_of_day(),
        to in time_of_day(),
        days in subsequence(Day::ALL.to_vec(), 1..=7),
        zone in prop::sample::select(ZONES.to_vec()),
        // 1975 to 2037: before, there are zones that are seconds off.
        near in 157_766_400_i64..2_114_380_800,
        away in -4 * 24 * 60_i64..24 * 60,
    ) -> Case {
        let near = Timestamp::from_second(near).expect("a time");
        let change = zone_named(zone).following(near).next().map_or(near, |change| change.timestamp());
        let whole_minute = Timestamp::from_second(change.as_second() / 60 * 60).expect("a time");
        Case { from, to, days, zone, since: whole_minute + SignedDuration::from_mins(away) }
    }
}

fn zone_named(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).expect("a zone")
}

/// The minutes around a day's window: clocks are never more than 26 hours from UTC's.
fn minutes(from: DateTime, to: DateTime) -> impl Iterator<Item = Timestamp> {
    let around = SignedDuration::from_hours(26);
    let at = |shown: DateTime| shown.to_zoned(TimeZone::UTC).expect("a time").timestamp();
    let (mut next, end) = (at(from) - around, at(to) + around);
    std::iter::from_fn(move || {
        let minute = next;
        next += MINUTE;
        (minute < end).then_some(minute)
    })
}

/// The first minute that shows `from` or later, and the one after the last that shows less than `to`.
fn stretch(case: &Case, zone: &TimeZone, date: Date) -> (Timestamp, Timestamp) {
    let end = if case.to > case.from { date } else { date.tomorrow().expect("a day") };
    let (from, to) = (date.to_datetime(case.from), end.to_datetime(case.to));
    let (mut opens, mut closes) = (None, None);
    for minute in minutes(from, to) {
        let shown = zone.to_datetime(minute);
        if shown >= from && opens.is_none() {
            opens = Some(minute);
        }
        if shown < to {
            closes = Some(minute + MINUTE);
        }
    }
    (opens.expect("a beginning"), closes.expect("an end"))
}

fn opening_by_reading_the_clock(case: &Case) -> Timestamp {
    let zone = zone_named(case.zone);
    let today = zone.to_datetime(case.since).date();
    let dates = (-2..16).map(|days| today.checked_add(days.days()).expect("a day"));
    let openings = dates.filter(|date| case.days.contains(&Day::from(date.weekday()))).filter_map(|date| {
        let (opens, closes) = stretch(case, &zone, date);
        (opens < closes && case.since < closes).then_some(opens.max(case.since))
    });
    openings.min().expect("an opening within a fortnight")
}

fn opening(window: &Window, since: Timestamp) -> Timestamp {
    match window.wait(since) {
        Wait::Until(opening) => opening,
        other => panic!("a window is passive: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_opens_when_the_clock_says_so(case in case()) {
        let window = Window::between(case.from, case.to, case.zone).on(case.days.clone());
        let opens = opening(&window, case.since);
        prop_assert_eq!(opens, opening_by_reading_the_clock(&case));
    }

    #[test]
    fn an_opening_is_not_before_the_deferral_and_open_itself(case in case()) {
        let window = Window::between(case.from, case.to, case.zone).on(case.days.clone());
        let opens = opening(&window, case.since);
        prop_assert!(opens >= case.since);
        prop_assert_eq!(opening(&window, opens), opens);
        // Whoever waits from later on waits no shorter.
        prop_assert!(opening(&window, case.since + MINUTE) >= opens);
    }
}
