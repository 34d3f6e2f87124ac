//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use reveille_trigger::{Trigger, checks::golden_specs};
// Linking the crate is what registers its triggers.
use reveille_wait as _;

type Read = serde_json::Result<Box<dyn Trigger>>;

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was() {
    let mut kinds = golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs"));
    kinds.dedup();
    assert_eq!(kinds, ["absent", "all", "any", "not_before", "signal", "task", "timer"]);
}

#[test]
fn unknown_fields_are_refused() {
    for spec in [
        r#"{"timer": {"after": "2h", "jitter": "5m"}}"#,
        r#"{"signal": {"key": "order-42/paid", "count": 2}}"#,
        r#"{"task": {"id": "01997d3e-8f00-7000-8000-000000000000", "state": "failed"}}"#,
        r#"{"absent": {"after": "2h", "of": {"signal": {"key": "a"}}, "else": "skip"}}"#,
        r#"{"not_before": {"after": "2h", "of": {"signal": {"key": "a"}}, "every": "1s"}}"#,
        r#"{"any": {"paid": {"signal": {"key": "a", "count": 2}}}}"#,
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
