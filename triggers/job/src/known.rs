//! The APIs that are ready-made, as data.

use std::{collections::BTreeMap, sync::LazyLock};

use crate::Api;

static KNOWN: LazyLock<BTreeMap<String, Api>> =
    LazyLock::new(|| toml::from_str(include_str!("known.toml")).expect("a test reads it"));

/// The API of this name.
pub(crate) fn known(name: &str) -> Option<&'static Api> {
    KNOWN.get(name)
}

/// All of their names, for a message.
pub(crate) fn names() -> String {
    KNOWN.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_ready_made_can_work() {
        for (name, api) in KNOWN.iter() {
            api.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(names(), "airbyte, databricks, dbt_cloud, github_actions, livy");
    }
}
