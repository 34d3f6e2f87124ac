//! When a window opens, case by case.

use jiff::{Timestamp, civil::Time};
use reveille_trigger::{Answer, Context, Memory, Outcome, Trigger, Wait};
use reveille_window::{Day, Window};

const BERLIN: &str = "Europe/Berlin";

fn clock(text: &str) -> Time {
    text.parse().expect("a time of day in a test")
}

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a time in a test")
}

fn between(from: &str, to: &str) -> Window {
    Window::between(clock(from), clock(to), BERLIN)
}

#[track_caller]
fn assert_opens(window: &Window, since: &str, opens: &str) {
    assert_eq!(window.wait(moment(since)), Wait::Until(moment(opens)), "since {since}");
}

#[test]
fn within_the_hours_it_fires_at_once_and_outside_at_the_next_opening() {
    let window = between("09:00", "17:00");
    for (since, opens) in [
        ("2026-01-05T08:59:59.999999999+01:00", "2026-01-05T09:00:00+01:00"),
        ("2026-01-05T09:00:00+01:00", "2026-01-05T09:00:00+01:00"),
        ("2026-01-05T16:59:59.999999999+01:00", "2026-01-05T16:59:59.999999999+01:00"),
        ("2026-01-05T17:00:00+01:00", "2026-01-06T09:00:00+01:00"),
    ] {
        assert_opens(&window, since, opens);
    }
}

#[test]
fn the_hours_are_those_of_the_zone() {
    let window = Window::between(clock("09:00"), clock("17:00"), "America/New_York");
    assert_opens(&window, "2026-01-05T12:00:00Z", "2026-01-05T14:00:00Z");
    assert_opens(&window, "2026-07-06T12:00:00Z", "2026-07-06T13:00:00Z");
}

#[test]
fn it_waits_for_the_next_of_its_days() {
    let window = between("09:00", "17:00").on([Day::Fri, Day::Mon]);
    assert_opens(&window, "2026-01-05T18:00:00+01:00", "2026-01-09T09:00:00+01:00");
    assert_opens(&window, "2026-01-09T18:00:00+01:00", "2026-01-12T09:00:00+01:00");
}

#[test]
fn over_midnight_it_belongs_to_the_day_on_which_it_opens() {
    let window = between("22:00", "06:00").on([Day::Fri]);
    assert_opens(&window, "2026-01-10T03:00:00+01:00", "2026-01-10T03:00:00+01:00");
    assert_opens(&window, "2026-01-10T06:00:00+01:00", "2026-01-16T22:00:00+01:00");
    assert_opens(&window, "2026-01-09T03:00:00+01:00", "2026-01-09T22:00:00+01:00");
}

#[test]
fn the_same_time_twice_is_a_whole_day() {
    let weekend = between("00:00", "00:00").on([Day::Sat, Day::Sun]);
    assert_opens(&weekend, "2026-01-09T12:00:00+01:00", "2026-01-10T00:00:00+01:00");
    assert_opens(&weekend, "2026-01-11T23:59:59+01:00", "2026-01-11T23:59:59+01:00");
    assert_opens(&weekend, "2026-01-12T00:00:00+01:00", "2026-01-17T00:00:00+01:00");
}

/// In Berlin, 02:00 was followed by 03:00 on 2026-03-29.
#[test]
fn where_clocks_skip_its_beginning_it_opens_when_they_are_set() {
    let window = between("02:30", "04:00");
    assert_opens(&window, "2026-03-29T00:00:00+01:00", "2026-03-29T03:00:00+02:00");
    assert_opens(&window, "2026-03-29T04:00:00+02:00", "2026-03-30T02:30:00+02:00");
}

#[test]
fn where_clocks_skip_its_end_it_closes_when_they_are_set() {
    let window = between("01:00", "02:30");
    assert_opens(&window, "2026-03-29T01:59:59+01:00", "2026-03-29T01:59:59+01:00");
    assert_opens(&window, "2026-03-29T03:00:00+02:00", "2026-03-30T01:00:00+02:00");
}

#[test]
fn where_clocks_skip_all_of_it_it_opens_on_the_next_of_its_days() {
    assert_opens(&between("02:15", "02:45"), "2026-03-29T00:00:00+01:00", "2026-03-30T02:15:00+02:00");
    let sundays = between("02:15", "02:45").on([Day::Sun]);
    assert_opens(&sundays, "2026-03-29T00:00:00+01:00", "2026-04-05T02:15:00+02:00");
}

/// In Berlin, 02:00 to 03:00 came twice on 2026-10-25.
#[test]
fn where_clocks_show_an_hour_twice_it_is_open_from_the_first_to_the_second() {
    let window = between("02:15", "02:45");
    assert_opens(&window, "2026-10-25T00:00:00+02:00", "2026-10-25T02:15:00+02:00");
    for inside in ["2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00", "2026-10-25T02:44:59+01:00"] {
        assert_opens(&window, inside, inside);
    }
    assert_opens(&window, "2026-10-25T02:45:00+01:00", "2026-10-26T02:15:00+01:00");
}

#[test]
fn where_clocks_skip_midnight_a_day_begins_when_they_are_set() {
    // In Beirut, 2026-03-29 began at 01:00.
    let window = Window::between(clock("00:00"), clock("00:00"), "Asia/Beirut").on([Day::Sun]);
    assert_opens(&window, "2026-03-28T12:00:00+02:00", "2026-03-29T01:00:00+03:00");
}

#[test]
fn where_a_whole_day_is_skipped_it_does_not_open_on_it() {
    // In Apia, 2011-12-29 was followed by 2011-12-31.
    let fridays = Window::between(clock("09:00"), clock("17:00"), "Pacific/Apia").on([Day::Fri]);
    assert_opens(&fridays, "2011-12-29T18:00:00-10:00", "2012-01-06T09:00:00+14:00");
}

#[test]
fn at_the_end_of_time_it_waits_until_then() {
    let window = between("09:00", "09:01");
    assert_eq!(window.wait(Timestamp::MAX), Wait::Until(Timestamp::MAX));
    assert!(matches!(window.wait(Timestamp::MIN), Wait::Until(_)));
}

#[tokio::test]
async fn a_check_says_whether_it_is_open_now() {
    let window = between("09:00", "17:00");
    for (now, is_open) in [("2026-01-05T08:59:59+01:00", false), ("2026-01-05T09:00:00+01:00", true)] {
        let now = moment(now);
        let answer = window.check(&Context::new(move || now, Timestamp::UNIX_EPOCH, Memory::default())).await;
        match answer.expect("an answer") {
            Answer::NotYet => assert!(!is_open),
            Answer::Fire(event) => {
                assert!(is_open);
                assert_eq!(event.outcome, Outcome::Resume(().into()));
            }
        }
    }
}

#[tokio::test]
async fn a_stored_window_in_a_zone_that_is_gone_gets_a_check_that_says_so() {
    let window = Window::between(clock("09:00"), clock("17:00"), "Europe/Atlantis");
    assert_eq!(window.wait(Timestamp::UNIX_EPOCH), Wait::Active);
    let cx = Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default());
    let error = window.check(&cx).await.expect_err("an error");
    assert!(error.is_fatal() && error.to_string().contains("Europe/Atlantis"), "{error}");
}
