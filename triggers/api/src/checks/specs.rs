//! Specs: that they read, are written as they were, and hold nothing that nobody reads.

use std::{fs, path::Path};

use serde_json::Value;

use crate::Trigger;

/// Reads every golden spec in a folder: rows as they were once stored, which must read for as long as their kind exists.
/// Each has to be valid, to be written as it was, and to [refuse an unknown field](refuses_unknown_fields). Answers with
/// their kinds, sorted, so that none is left out unseen.
///
/// ```no_run
/// # use reveille_trigger::checks::golden_specs;
/// assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["even_second"]);
/// ```
///
/// # Panics
/// If one does not read, can never work, or is written otherwise; the message names the file.
pub fn golden_specs(folder: impl AsRef<Path>) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of golden specs") {
        let path = entry.expect("a golden spec").path();
        let name = path.display().to_string();
        let spec: Value = fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let trigger = read(&spec, &name);
        assert_eq!(written(&*trigger, &name), spec, "{name}");
        refuses(&spec, &name);
        kinds.push(trigger.typetag_name());
    }
    kinds.sort_unstable();
    kinds
}

/// Makes sure that a trigger is the same after it was stored: its spec is valid, reads, and is written as it was.
///
/// # Panics
/// If it is not.
pub fn round_trips(trigger: &dyn Trigger) {
    let name = trigger.typetag_name();
    let spec = written(trigger, name);
    assert_eq!(written(&*read(&spec, name), name), spec, "{name}");
}

/// Makes sure that a spec, which reads, does not with a field that there is none of. One that is misspelt must not be
/// taken for one that is left out. It is the object of the kind that is looked at, and none within it.
///
/// # Panics
/// If the field is taken, or the refusal does not name it.
pub fn refuses_unknown_fields(spec: &Value) {
    read(spec, "the spec");
    refuses(spec, "the spec");
}

fn refuses(spec: &Value, name: &str) {
    const UNKNOWN: &str = "no_such_field";
    let mut spec = spec.clone();
    let fields = spec.as_object_mut().and_then(|kind| kind.values_mut().next()).and_then(Value::as_object_mut);
    let fields = fields.unwrap_or_else(|| panic!("{name} is no object of fields under a kind"));
    fields.insert(UNKNOWN.to_owned(), Value::Null);
    match serde_json::from_value::<Box<dyn Trigger>>(spec) {
        Ok(_) => panic!("{name}: an unknown field is taken: add #[serde(deny_unknown_fields)]"),
        Err(error) => assert!(error.to_string().contains(UNKNOWN), "{name}: the refusal names no field: {error}"),
    }
}

fn read(spec: &Value, name: &str) -> Box<dyn Trigger> {
    let trigger: Box<dyn Trigger> =
        serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    trigger.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
    trigger
}

fn written(trigger: &dyn Trigger, name: &str) -> Value {
    serde_json::to_value(trigger).unwrap_or_else(|error| panic!("{name}: {error}"))
}
