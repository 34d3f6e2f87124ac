//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::{fs, path::Path};

use reveille_trigger::Trigger;
// Linking the crate is what registers its triggers.
use reveille_wait as _;
use serde_json::Value;

type Read = serde_json::Result<Box<dyn Trigger>>;

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was() {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs");
    let mut tags = Vec::new();
    for entry in fs::read_dir(specs).expect("the golden specs") {
        let path = entry.expect("a golden spec").path();
        let spec: Value = serde_json::from_slice(&fs::read(&path).expect("a golden spec")).expect("json");
        let trigger: Box<dyn Trigger> =
            serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        trigger.validate().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(serde_json::to_value(&trigger).expect("json"), spec, "{}", path.display());
        tags.push(trigger.typetag_name().to_owned());
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags, ["signal", "task", "timer"]);
}

#[test]
fn unknown_fields_are_refused() {
    for spec in [
        r#"{"timer": {"after": "2h", "jitter": "5m"}}"#,
        r#"{"signal": {"key": "order-42/paid", "count": 2}}"#,
        r#"{"task": {"id": "01997d3e-8f00-7000-8000-000000000000", "state": "failed"}}"#,
    ] {
        let read: Read = serde_json::from_str(spec);
        assert!(read.expect_err(spec).to_string().contains("unknown field"), "{spec}");
    }
}

#[test]
fn missing_fields_are_refused() {
    for spec in [r#"{"signal": {}}"#, r#"{"task": {}}"#] {
        let read: Read = serde_json::from_str(spec);
        assert!(read.expect_err(spec).to_string().contains("missing field"), "{spec}");
    }
}
