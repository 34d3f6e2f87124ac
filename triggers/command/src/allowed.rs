//! What the configuration lets specs run. Whoever may add a task writes specs, so nothing is allowed by default.

use glob::{MatchOptions, Pattern};
use reveille_trigger::{Config, Error};
use serde::Deserialize;

/// A wildcard crosses no `/`.
const WITHIN_ONE_NAME: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The table `[triggers.command]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allowed {
    /// The programs, as patterns of absolute paths.
    #[serde(default)]
    allow: Vec<String>,
    /// The variables that a spec may set, as patterns of names: one such as `LD_PRELOAD` or `BASH_ENV` makes another
    /// program of the one that is allowed.
    #[serde(default)]
    env: Vec<String>,
}

impl Allowed {
    pub(crate) fn here(config: &Config) -> Result<Self, Error> {
        Ok(config.of_kind("command")?.unwrap_or_default())
    }

    /// Refuses what is not allowed on this replica. Another may allow it, so that it may be tried again.
    pub(crate) fn refuse<'a>(&self, program: &str, variables: impl Iterator<Item = &'a String>) -> Result<(), Error> {
        if !matches_one("allow", &self.allow, program)? {
            return Err(Error::again(format!(
                "{program:?} is not allowed to run here: add it to `allow` in [triggers.command] of reveille.toml"
            )));
        }
        for name in variables {
            if !matches_one("env", &self.env, name)? {
                return Err(Error::again(format!(
                    "the variable {name:?} may not be set here: add it to `env` in [triggers.command] of reveille.toml"
                )));
            }
        }
        Ok(())
    }
}

fn matches_one(setting: &str, patterns: &[String], text: &str) -> Result<bool, Error> {
    for pattern in patterns {
        let pattern = Pattern::new(pattern).map_err(|error| {
            Error::again(format!("{pattern:?} in `{setting}` of [triggers.command] is no pattern: {}", error.msg))
        })?;
        if pattern.matches_with(text, WITHIN_ONE_NAME) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(allow: &[&str], program: &str) -> Option<String> {
        let allowed =
            Allowed { allow: allow.iter().map(|&it| it.to_owned()).collect(), env: vec!["STAGE_*".to_owned()] };
        let error = allowed.refuse(program, ["STAGE_A".to_owned()].iter()).err()?;
        assert!(!error.is_fatal());
        Some(error.to_string())
    }

    #[test]
    fn a_program_is_allowed_by_its_path_or_a_pattern_of_it() {
        for pattern in ["/opt/check-a", "/opt/check-*", "/opt/check-[a-c]", "/*/check-a", "/opt/**/check-a"] {
            assert_eq!(refusal(&["/bin/other", pattern], "/opt/check-a"), None, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_allows_nothing_deeper_and_nothing_longer() {
        for program in ["/opt/check-a/b", "/opt/x/check-a", "/opt/check", "/opt/check-a/../../bin/sh"] {
            let said = refusal(&["/opt/check-*", "/opt/check-a"], program).expect(program);
            assert!(said.contains("is not allowed to run here: add it to `allow`"), "{said}");
        }
        assert!(refusal(&[], "/opt/check-a").is_some());
    }

    #[test]
    fn a_variable_is_refused_unless_it_is_allowed() {
        let allowed = Allowed { allow: vec!["/a".to_owned()], env: vec!["STAGE_*".to_owned()] };
        let names = ["STAGE_A".to_owned(), "LD_PRELOAD".to_owned()];
        let said = allowed.refuse("/a", names.iter()).expect_err("a refusal").to_string();
        assert!(said.starts_with(r#"the variable "LD_PRELOAD" may not be set here"#), "{said}");
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let said = refusal(&["/opt/[a"], "/opt/a").expect("a refusal");
        assert!(said.contains(r#""/opt/[a" in `allow` of [triggers.command] is no pattern"#), "{said}");
    }
}
