//! The names of the settings, and what to say of a name that is none of them.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use super::super::failure::Failure;

const PREFIX: &str = "REVEILLE_";

/// Names the file itself, and so stands in no file: a variable only.
pub(super) const CONFIG: &str = "config";

/// Every setting. The test of [`Config`](super::Config) sets each of them.
const KNOWN: [&str; 19] = [
    "database_url",
    "database_pooler",
    "key_file",
    "payload_limit",
    "log",
    "log_format",
    "metrics",
    "triggerer.capacity",
    "triggerer.queues",
    "triggerer.lease",
    "triggerer.checks",
    "triggerer.checks_per_destination",
    "worker.concurrency",
    "worker.queues",
    "worker.names",
    "worker.lease",
    "worker.drain",
    "worker.deferrable",
    "retention.kept",
];

/// Sections whose names are the user's, and whose contents are read by triggers: in a file only.
pub(super) const OPEN: [&str; 2] = ["connections", "triggers"];

/// A setting's name, with its section: `triggerer.capacity`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a>(pub(super) &'a str);

impl Key<'_> {
    /// The variable that sets it: `REVEILLE_TRIGGERER_CAPACITY`.
    pub(super) fn variable(self) -> String {
        format!("{PREFIX}{}", self.0.replace('.', "_").to_uppercase())
    }
}

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = Key<'static>> {
    KNOWN.into_iter().map(Key)
}

/// What the variables set, by key.
pub(super) fn from_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<HashMap<String, String>, Failure> {
    let names: HashMap<String, &str> =
        KNOWN.into_iter().chain([CONFIG]).map(|key| (Key(key).variable(), key)).collect();
    let mut set = HashMap::new();
    // Sorted, so that of several mistakes the same is told each time.
    let ours: BTreeMap<String, OsString> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    for (name, value) in ours {
        let Some(key) = names.get(&name) else { return Err(unknown_variable(&name)) };
        let value = value.into_string().map_err(|_| Failure::usage(format!("{name} is not UTF-8")))?;
        if !value.is_empty() {
            set.insert((*key).to_owned(), value);
        }
    }
    Ok(set)
}

fn unknown_variable(name: &str) -> Failure {
    let failure = Failure::usage(format!("unknown variable {name} in the environment"));
    // What Kubernetes sets in every pod for a service that is named like us.
    if name.starts_with("REVEILLE_SERVICE_") || name.starts_with("REVEILLE_PORT") {
        return failure
            .help("Kubernetes sets it for a service named reveille: set enableServiceLinks: false for the pod");
    }
    let near = nearest(&name.trim_start_matches(PREFIX).to_lowercase(), |key| Key(key).variable());
    failure.help(format!("{near} (or unset it, if it is not meant for reveille)"))
}

/// Where each key of a file stands.
#[derive(Debug, Default)]
pub(super) struct Keys {
    path: PathBuf,
    lines: HashMap<String, usize>,
}

/// A line of a file.
#[derive(Debug)]
pub(super) struct Place<'a> {
    path: &'a Path,
    line: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.path.display(), self.line)
    }
}

impl Keys {
    /// Reads the keys of a file, and refuses those that nobody knows.
    pub(super) fn in_file(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the configuration {}: {error}", path.display()))
                .help("point --config at the file, or leave it out: ./reveille.toml is read if it is there")
        })?;
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let table = DeTable::parse(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            Failure::usage(format!("{}, line {line}: {}", path.display(), error.message()))
        })?;
        let mut keys = Self { path: path.to_owned(), lines: HashMap::new() };
        keys.collect("", table.get_ref(), &line_of);
        let mut found: Vec<(usize, &str)> = keys.lines.iter().map(|(key, line)| (*line, key.as_str())).collect();
        found.sort_unstable();
        match found.into_iter().find(|(_, key)| !KNOWN.contains(key)) {
            Some((line, key)) => {
                let place = Place { path, line };
                Err(Failure::usage(format!("{place}: unknown key {key:?}")).help(nearest(key, str::to_owned)))
            }
            None => Ok(keys),
        }
    }

    /// Sections are not keys: only what is in them is, and what is no section of ours as a whole.
    fn collect(&mut self, section: &str, table: &DeTable<'_>, line_of: &impl Fn(usize) -> usize) {
        for (name, value) in table {
            let key =
                if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) if is_section(&key) => self.collect(&key, inner, line_of),
                DeValue::Table(inner)
                    if OPEN.contains(&key.as_str()) && inner.iter().all(|(_, of)| of.get_ref().is_table()) => {}
                _ => {
                    self.lines.insert(key, line_of(name.span().start));
                }
            }
        }
    }

    /// Where a key stands, if it is in the file.
    pub(super) fn place(&self, key: &str) -> Option<Place<'_>> {
        self.lines.get(key).map(|line| Place { path: &self.path, line: *line })
    }
}

fn is_section(name: &str) -> bool {
    KNOWN.iter().any(|key| key.split_once('.').is_some_and(|(section, _)| section == name))
}

/// The keys most like this name, as `shown`; or all of them.
fn nearest(name: &str, shown: impl Fn(&str) -> String) -> String {
    let flat = |name: &str| name.replace('.', "_");
    let likeness = |key: &str| {
        // A key in the wrong section is as near as one that is misspelt.
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        strsim::jaro_winkler(&flat(name), &flat(key)).max(strsim::jaro_winkler(&last(name), &last(key)))
    };
    let mut like: Vec<(f64, &str)> = KNOWN.into_iter().map(|key| (likeness(key), key)).collect();
    like.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = like.first().map_or(0.0, |(best, _)| *best);
    let near: Vec<String> = like
        .into_iter()
        .filter(|(likeness, _)| *likeness > 0.85 && *likeness > best - 0.05)
        .map(|(_, key)| shown(key))
        .collect();
    if near.is_empty() {
        format!("the known ones are {}", KNOWN.map(shown).join(", "))
    } else {
        format!("did you mean {}?", near.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(file: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reveille.toml");
        fs::write(&path, file).unwrap();
        let failure = Keys::in_file(&path).unwrap_err();
        let place = failure.to_string().split("reveille.toml, ").nth(1).unwrap().to_owned();
        format!("{place}; {}", failure.advice().unwrap_or_default())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_is_near() {
        assert_eq!(
            advice("log = 'info'\n\n[triggerer]\ncapcity = 5"),
            "line 4: unknown key \"triggerer.capcity\"; did you mean triggerer.capacity?"
        );
    }

    #[test]
    fn a_key_in_the_wrong_section_is_led_to_the_right_one() {
        assert_eq!(advice("concurrency = 5"), "line 1: unknown key \"concurrency\"; did you mean worker.concurrency?");
    }

    #[test]
    fn an_unknown_section_is_an_unknown_key() {
        assert!(
            advice("[database]\nurl = 'x'")
                .starts_with("line 1: unknown key \"database\"; did you mean database_url or")
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_refused_with_its_line() {
        assert!(advice("log = 'info'\nwhat is this").starts_with("line 2: "));
    }

    #[test]
    fn an_unknown_variable_is_named_with_what_is_near() {
        let set = |name: &str| [(OsString::from(name), OsString::from("1"))];
        let failure = from_variables(set("REVEILLE_TRIGGERER_CAPCITY")).unwrap_err();
        assert_eq!(failure.to_string(), "unknown variable REVEILLE_TRIGGERER_CAPCITY in the environment");
        assert!(failure.advice().unwrap().contains("did you mean REVEILLE_TRIGGERER_CAPACITY?"));
        let failure = from_variables(set("REVEILLE_PORT_5432_TCP")).unwrap_err();
        assert!(failure.advice().unwrap().contains("enableServiceLinks: false"));
        assert!(from_variables(set("REVEILLES")).unwrap().is_empty());
    }
}
