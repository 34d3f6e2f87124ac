//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use reveille_trigger::{Trigger, checks::golden_specs};
// Linking the crate is what registers its triggers.
use reveille_wait as _;

type Read = serde_json::Result<Box<dyn Trigger>>;

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    let mut kinds = golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs"));
    kinds.dedup();
    assert_eq!(kinds, ["absent", "all", "any", "not_before", "signal", "task", "timer"]);
}

#[test]
fn an_unknown_field_inside_is_refused() {
    let read: Read = serde_json::from_str(r#"{"any": {"paid": {"signal": {"key": "a", "count": 2}}}}"#);
    let said = read.expect_err("a refusal").to_string();
    assert!(said.contains("paid: unknown field `count`"), "{said}");
}

#[test]
fn missing_fields_are_refused() {
    for spec in [r#"{"signal": {}}"#, r#"{"task": {}}"#] {
        let read: Read = serde_json::from_str(spec);
        assert!(read.expect_err(spec).to_string().contains("missing field"), "{spec}");
    }
}
