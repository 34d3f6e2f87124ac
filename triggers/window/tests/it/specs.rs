//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use jiff::civil::time;
use reveille_trigger::{Trigger, checks::golden_specs};
use reveille_window::{Day, Window};
use serde_json::{Value, json};

fn read(spec: Value) -> serde_json::Result<Box<dyn Trigger>> {
    serde_json::from_value(spec)
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["window"; 3]);
}

#[test]
fn a_zone_is_all_that_must_be_given() {
    let window: Window = serde_json::from_value(json!({"zone": "UTC"})).expect("a spec");
    assert_eq!(window, Window::between(time(0, 0, 0, 0), time(0, 0, 0, 0), "UTC").on(Day::ALL));
    assert!(read(json!({"window": {}})).expect_err("an error").to_string().contains("missing field `zone`"));
}

#[test]
fn unknown_days_are_refused() {
    let error = read(json!({"window": {"zone": "UTC", "days": ["monday"]}})).expect_err("an error");
    assert!(error.to_string().contains("unknown variant `monday`, expected one of `mon`"), "{error}");
}

#[test]
fn a_time_of_day_that_is_none_is_answered_with_what_to_write() {
    for text in ["24:00", "9", "22:00+01:00 ", "noon", "2026-01-01", ""] {
        let error = read(json!({"window": {"zone": "UTC", "to": text}})).expect_err(text);
        assert!(error.to_string().contains("is no time of day: write one from \"00:00\""), "{error}");
    }
}

#[test]
fn a_window_that_can_never_open_is_refused() {
    for (spec, part) in [
        (json!({"zone": "Europe/Berln"}), "`zone` \"Europe/Berln\" is not in the IANA database"),
        (json!({"zone": ""}), "`zone` \"\" is not"),
        (json!({"zone": "+02:00"}), "`zone` \"+02:00\" is not"),
        (json!({"zone": "UTC", "days": []}), "`days` is empty"),
    ] {
        let window: Window = serde_json::from_value(spec).expect("a spec");
        let error = window.validate().expect_err(part);
        assert!(error.is_fatal());
        assert!(error.to_string().starts_with(part), "{error}");
    }
}
