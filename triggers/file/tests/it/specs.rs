//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::time::Duration;

use reveille_file::File;
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::{Value, json};

fn read(spec: Value) -> serde_json::Result<Box<dyn Trigger>> {
    serde_json::from_value(spec)
}

fn refusal(file: &File) -> String {
    let error = file.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["file"; 3]);
}

#[test]
fn a_path_is_all_that_must_be_given() {
    let file: File = serde_json::from_value(json!({"path": "/data/in/*.csv"})).expect("a spec");
    let defaults = File::matching("/data/in/*.csv").settle(Duration::from_secs(2)).every(Duration::from_secs(1));
    assert_eq!(file, defaults);
    assert_eq!(file.spacing(), Spacing::every(Duration::from_secs(1)));
}

#[test]
fn a_negative_duration_is_refused() {
    assert!(read(json!({"file": {"path": "/data/a.csv", "settle": "-2s"}})).is_err());
}

#[test]
fn a_path_that_can_never_work_is_refused_by_the_name_of_its_field() {
    for path in ["", "in/*.csv", "/data/[a", "/data/**"] {
        assert!(refusal(&File::matching(path)).starts_with("`path` "), "{path}");
    }
    for path in ["", "in/a.csv", "/data/\0"] {
        assert!(refusal(&File::at(path)).starts_with("`path` "), "{path}");
    }
    assert!(File::at("/data/[a/**").validate().is_ok());
}

#[test]
fn looks_without_a_pause_are_refused() {
    assert!(refusal(&File::at("/data/a.csv").every(Duration::ZERO)).starts_with("`every` is zero"));
}

#[test]
fn only_a_path_with_wildcards_in_it_is_written_as_literal() {
    let plain = serde_json::to_value(File::at("/data/a.csv")).expect("json");
    assert_eq!(plain, json!({"path": "/data/a.csv", "settle": "2s", "every": "1s"}));
    let starred = serde_json::to_value(File::at("/data/*.csv")).expect("json");
    assert_eq!(starred, json!({"path": "/data/*.csv", "literal": true, "settle": "2s", "every": "1s"}));
}
