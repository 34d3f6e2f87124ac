//! What authors check of their triggers, in a line each.

use std::{fs, path::Path};

use serde_json::Value;

use crate::Trigger;

/// Reads every golden spec in a folder: rows as they were once stored, which must read for as long as their kind exists.
/// Each has to be valid, and to be written as it was. Answers with their kinds, sorted, so that none is left out unseen.
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
        let spec: Value = fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let trigger: Box<dyn Trigger> =
            serde_json::from_value(spec.clone()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        trigger.validate().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let written = serde_json::to_value(&trigger).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(written, spec, "{}", path.display());
        kinds.push(trigger.typetag_name());
    }
    kinds.sort_unstable();
    kinds
}
