//! Where to look: a path taken apart into the steps that lead to its matches.

use camino::Utf8Path;
use glob::{MatchOptions, Pattern};
use reveille_trigger::Error;

/// As in a shell: a wildcard crosses no `/`, and matches a leading dot only where the dot is written out.
const AS_IN_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The way from the root to what is waited for.
#[derive(Debug)]
pub(crate) struct Place(Vec<Step>);

/// One part of a path, between two slashes.
#[derive(Debug)]
pub(crate) enum Step {
    /// Into the entry with this name, or along this relative path.
    Name(String),
    /// Into each entry that matches.
    Matching(Pattern),
    /// Into the directory itself and each one below it: `**`.
    AnyDepth,
}

impl Place {
    /// The one place that `path` says, whatever characters are in it.
    pub(crate) fn literal(path: &Utf8Path) -> Result<Self, Error> {
        let rest = below_root(path)?;
        Ok(Self(vec![Step::Name(rest.to_owned())]))
    }

    /// All places that match `path`.
    pub(crate) fn pattern(path: &Utf8Path) -> Result<Self, Error> {
        let rest = below_root(path)?;
        if rest == "**" || rest.ends_with("/**") {
            return Err(Error::fatal(format!(
                "`path` {path:?} ends in `**`, which stands for directories only: write `**/*` for what is in them"
            )));
        }
        let mut steps = rest.split('/').map(|part| step(path, part)).collect::<Result<Vec<_>, _>>()?;
        // `**/**` says no more than `**`, and would walk each tree once for each way to divide its depth.
        steps.dedup_by(|a, b| matches!((a, b), (Step::AnyDepth, Step::AnyDepth)));
        Ok(Self(steps))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// Whether `path` is a pattern, unless it is said to be literal.
pub(crate) fn has_wildcards(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Whether a wildcard pattern matches the name of an entry.
pub(crate) fn matches(pattern: &Pattern, name: &str) -> bool {
    pattern.matches_with(name, AS_IN_A_SHELL)
}

fn below_root(path: &Utf8Path) -> Result<&str, Error> {
    if path.as_str().is_empty() {
        return Err(Error::fatal("`path` is empty: write what to wait for, such as \"/data/in/*.csv\""));
    }
    if path.as_str().contains('\0') {
        return Err(Error::fatal(format!("`path` {path:?} contains a NUL character, which no file name can")));
    }
    path.as_str().strip_prefix('/').ok_or_else(|| {
        Error::fatal(format!(
            "`path` {path:?} is relative: write it from the root, such as \"/data/in/*.csv\", since each process that \
             looks has a working directory of its own"
        ))
    })
}

fn step(path: &Utf8Path, part: &str) -> Result<Step, Error> {
    if part == "**" {
        return Ok(Step::AnyDepth);
    }
    if !has_wildcards(part) {
        return Ok(Step::Name(part.to_owned()));
    }
    Pattern::new(part).map(Step::Matching).map_err(|error| {
        Error::fatal(format!(
            "`path` {path:?} is not a glob pattern: {} in {part:?}; if these characters are part of a name, add \
             \"literal\": true",
            error.msg
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        let error = Place::pattern(Utf8Path::new(path)).expect_err("a refusal");
        assert!(error.is_fatal());
        error.to_string()
    }

    #[test]
    fn a_relative_path_is_refused() {
        for path in ["in/*.csv", "./in.csv", "../in.csv", "~/in.csv"] {
            assert!(refusal(path).contains("is relative"), "{path}");
            assert!(Place::literal(Utf8Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn an_empty_path_is_refused() {
        assert!(refusal("").starts_with("`path` is empty"));
        assert!(Place::literal(Utf8Path::new("")).is_err());
    }

    #[test]
    fn a_path_that_no_file_can_have_is_refused() {
        assert!(refusal("/data/\0").contains("NUL"));
    }

    #[test]
    fn a_bad_pattern_is_refused_with_the_part_that_is_wrong() {
        let message = refusal("/data/in[1/*.csv");
        assert!(message.starts_with(r#"`path` "/data/in[1/*.csv" is not a glob pattern"#), "{message}");
        assert!(message.contains(r#"in "in[1""#), "{message}");
        assert!(refusal("/data/a**/x").contains("recursive wildcards"));
        assert!(refusal("/data/***/x").contains("wildcards are either"));
    }

    #[test]
    fn a_pattern_that_ends_in_two_stars_is_refused_with_what_to_write() {
        for path in ["/data/**", "/**"] {
            assert!(refusal(path).contains("write `**/*`"), "{path}");
        }
    }

    #[test]
    fn a_bad_pattern_is_a_good_literal() {
        assert!(Place::literal(Utf8Path::new("/data/in[1/**")).is_ok());
    }
}
