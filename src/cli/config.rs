//! What a process is told: by flags, over `REVEILLE_*` variables, over `reveille.toml`, over defaults.
//!
//! A key that nobody knows is an error: a setting that is misspelt must not be a setting that is ignored.

mod keys;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use config::{ConfigError, Environment, File, FileFormat, Map};
use serde::{Deserialize, Deserializer, de::Error as _};

use self::keys::{Key, Keys};
use super::{failure::Failure, time};
use crate::{
    presence::SHORTEST_LEASE,
    store::{Url, retention},
    telemetry::{DEFAULT_FILTER, LogFormat},
    triggerer, worker,
};

/// The file that is read if there is one and no other is named.
const FILE: &str = "reveille.toml";

/// By how much the worker's own limit comes after the process's.
const DROP: Duration = Duration::from_secs(2);

/// Every setting, by the names of the file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    #[serde(deserialize_with = "parsed")]
    pub(super) database_url: Url,
    pub(super) database_pooler: bool,
    pub(super) key_file: Option<PathBuf>,
    pub(super) payload_limit: NonZeroUsize,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) triggerer: Triggerer,
    pub(super) worker: Worker,
    pub(super) retention: Retention,
    pub(super) connections: Tables,
    pub(super) triggers: Tables,
}

/// Tables by name, for triggers to read. They hold secrets: only the names are shown.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(super) struct Tables(BTreeMap<String, serde_json::Value>);

impl Tables {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Triggerer {
    pub(super) capacity: usize,
    #[serde(deserialize_with = "words")]
    pub(super) queues: Option<Vec<String>>,
    #[serde(deserialize_with = "duration")]
    pub(super) lease: Duration,
    pub(super) checks: usize,
    pub(super) checks_per_destination: usize,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Worker {
    pub(super) concurrency: usize,
    #[serde(deserialize_with = "words")]
    pub(super) queues: Option<Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub(super) names: Option<Vec<String>>,
    #[serde(deserialize_with = "duration")]
    pub(super) lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub(super) drain: Duration,
    pub(super) deferrable: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Retention {
    #[serde(deserialize_with = "duration")]
    pub(super) kept: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: Url::Sqlite("reveille.db".into()),
            database_pooler: false,
            key_file: None,
            payload_limit: NonZeroUsize::new(1 << 20).expect("1 MiB is not 0"),
            log: DEFAULT_FILTER.to_owned(),
            log_format: LogFormat::default(),
            metrics: None,
            triggerer: Triggerer::default(),
            worker: Worker::default(),
            retention: Retention::default(),
            connections: Tables::default(),
            triggers: Tables::default(),
        }
    }
}

impl Default for Triggerer {
    fn default() -> Self {
        let triggerer::Settings { capacity, queues, lease, checks, checks_per_destination, .. } =
            triggerer::Settings::default();
        Self { capacity, queues, lease, checks, checks_per_destination }
    }
}

impl Default for Worker {
    fn default() -> Self {
        let worker::Settings { concurrency, queues, names, lease, drain, deferrable, .. } = worker::Settings::default();
        Self { concurrency, queues, names, lease, drain, deferrable }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { kept: triggerer::Settings::default().kept }
    }
}

impl Config {
    /// Reads the file that `named` names, or [`FILE`] if there is one, and the variables over it. Answers also which
    /// file it was.
    pub(super) fn load(
        named: Option<PathBuf>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Option<PathBuf>), Failure> {
        let mut variables = keys::from_variables(variables)?;
        let by_variable = variables.remove(keys::CONFIG).map(PathBuf::from);
        let named = named.or(by_variable);
        let file = match named {
            Some(path) => Some(path),
            None => Some(PathBuf::from(FILE)).filter(|path| path.exists()),
        };
        let mut keys = Keys::default();
        let mut builder = config::Config::builder();
        if let Some(path) = &file {
            keys = Keys::in_file(path)?;
            builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        let values: Map<String, String> = variables.clone().into_iter().collect();
        let config = builder
            .add_source(Environment::default().source(Some(values)))
            .build()
            .and_then(config::Config::try_deserialize::<Self>)
            .map_err(|error| misfit(error, &variables, &keys))?;
        Ok((config, file))
    }

    /// How a triggerer runs that is told this. After the flags, which may mend what cannot work.
    pub(super) fn triggerer_settings(&self, label: String) -> Result<triggerer::Settings, Failure> {
        let Triggerer { capacity, queues, lease, checks, checks_per_destination } = self.triggerer.clone();
        if capacity == 0 {
            return Err(no_room("triggerer.capacity", "--capacity"));
        }
        for (key, many) in [("checks", checks), ("checks_per_destination", checks_per_destination)] {
            if many == 0 {
                return Err(Failure::usage(format!("triggerer.{key} is 0, and nothing would ever be checked"))
                    .help("set it to at least 1, or leave it out"));
            }
        }
        let (lease, kept) = (long_enough("triggerer.lease", lease)?, self.kept()?);
        Ok(triggerer::Settings {
            capacity,
            queues,
            label,
            lease,
            checks,
            checks_per_destination,
            kept,
            config: self.for_triggers(),
            ..triggerer::Settings::default()
        })
    }

    /// How a worker runs that is told this. After the flags, which may mend what cannot work.
    pub(super) fn worker_settings(&self, label: String) -> Result<worker::Settings, Failure> {
        let Worker { concurrency, queues, names, lease, drain, deferrable } = self.worker.clone();
        if concurrency == 0 {
            return Err(no_room("worker.concurrency", "--concurrency"));
        }
        let (lease, kept) = (long_enough("worker.lease", lease)?, self.kept()?);
        // The process counts the drain and says how it ended; the worker's own limit is there for its other users.
        let drain = drain.saturating_add(DROP);
        let config = self.for_triggers();
        Ok(worker::Settings { concurrency, queues, names, label, lease, drain, deferrable, kept, config })
    }

    fn for_triggers(&self) -> reveille_trigger::Config {
        reveille_trigger::Config::new(self.connections.0.clone(), self.triggers.0.clone())
    }

    fn kept(&self) -> Result<Duration, Failure> {
        let kept = self.retention.kept;
        match retention::validate(kept) {
            Ok(()) => Ok(kept),
            Err(error) => Err(Failure::usage(format!("retention.kept: {error}")).help("write it in days, such as 7d")),
        }
    }
}

fn no_room(key: &str, flag: &str) -> Failure {
    let role = key.split('.').next().unwrap_or(key);
    Failure::usage(format!("{key} is 0, and a {role} without room does nothing"))
        .help(format!("set it, or {flag}, to at least 1; to stop a {role}, stop its process"))
}

fn long_enough(key: &str, lease: Duration) -> Result<Duration, Failure> {
    if lease >= SHORTEST_LEASE {
        return Ok(lease);
    }
    let seconds = SHORTEST_LEASE.as_secs();
    Err(Failure::usage(format!("{key} is under {seconds} s, too short to be renewed in time"))
        .help(format!("set it to {seconds}s or more; the default is 10s")))
}

/// Says which setting has a value that does not fit it, and where that stands.
fn misfit(error: ConfigError, variables: &HashMap<String, String>, keys: &Keys) -> Failure {
    let (key, what) = match error {
        ConfigError::Type { key, unexpected, expected, .. } => {
            (key, format!("expected {expected}, found {unexpected}"))
        }
        ConfigError::At { key, error, .. } => (key, error.to_string()),
        error => (None, error.to_string()),
    };
    let Some(key) = key else { return Failure::usage(format!("the configuration does not read: {what}")) };
    // A list's error names the place in the list as well.
    let name = key.split('[').next().unwrap_or(&key);
    match keys.place(name) {
        _ if variables.contains_key(name) => Failure::usage(format!("{}: {what}", Key(name).variable())),
        Some(place) => Failure::usage(format!("{place}: {key}: {what}")),
        None => Failure::usage(format!("{key}: {what}")),
    }
}

fn parsed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time::duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A list, or in a variable its words between commas.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of words, or words between commas")]
    enum Form {
        List(Vec<String>),
        Commas(String),
    }
    let words = match Form::deserialize(deserializer)? {
        Form::List(words) => words,
        Form::Commas(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
    };
    if words.is_empty() || words.iter().any(String::is_empty) {
        return Err(D::Error::custom("the list has an empty word or none at all: leave the key out to mean all"));
    }
    Ok(Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, variables: &[(&str, &str)]) -> Result<Config, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reveille.toml");
        std::fs::write(&path, file).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Config::load(Some(path), variables).map(|(config, _)| config)
    }

    fn refusal(file: &str, variables: &[(&str, &str)]) -> String {
        load(file, variables).unwrap_err().to_string()
    }

    #[test]
    fn every_known_key_can_be_set_in_the_file_and_by_a_variable() {
        let value = |key: &str| match key.rsplit('.').next().unwrap() {
            "database_url" => "postgres://me@there/mine",
            "key_file" => "/etc/reveille.key",
            "log" => "debug",
            "log_format" => "json",
            "metrics" => "127.0.0.1:9464",
            "queues" | "names" => "a,b",
            "lease" | "drain" => "1m",
            "kept" => "3d",
            "database_pooler" => "true",
            "deferrable" => "false",
            _ => "77",
        };
        for key in keys::known() {
            let (name, line) = (key.variable(), format!("{} = {:?}", key.0, value(key.0)));
            let from_file = load(&line, &[]).unwrap();
            assert_ne!(from_file, Config::default(), "{line}");
            assert_eq!(load("", &[(&name, value(key.0))]).unwrap(), from_file, "{name}");
        }
    }

    #[test]
    fn connections_and_settings_of_triggers_are_handed_on_and_never_shown() {
        #[derive(Deserialize)]
        struct Login {
            bearer: String,
            headers: HashMap<String, String>,
        }
        let file = "[connections.Warehouse]
bearer = 'secret'
headers = { X-Key = 'hidden' }
[triggers.command]
allow = ['/bin/true']";
        let config = load(file, &[]).unwrap();
        let of_triggers = config.triggerer_settings(String::new()).unwrap().config;
        let login: Login = of_triggers.connection("Warehouse").unwrap();
        assert_eq!((login.bearer.as_str(), login.headers["X-Key"].as_str()), ("secret", "hidden"));
        assert!(of_triggers.of_kind::<HashMap<String, Vec<String>>>("command").unwrap().is_some());
        let shown = format!("{config:?}");
        assert!(shown.contains("Warehouse") && !shown.contains("secret") && !shown.contains("hidden"), "{shown}");
        let refused = refusal("[connections]\nwarehouse = 'postgres://me:secret@there'", &[]);
        assert!(
            refused.contains("unknown key \"connections.warehouse\"")
                || refused.contains("unknown key \"connections\""),
            "{refused}"
        );
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn a_variable_goes_before_the_file_and_the_file_before_the_default() {
        let config = load("[triggerer]\ncapacity = 5\nlease = '20s'", &[("REVEILLE_TRIGGERER_CAPACITY", "6")]).unwrap();
        assert_eq!(config.triggerer.capacity, 6);
        assert_eq!(config.triggerer.lease, Duration::from_secs(20));
        assert_eq!(config.worker, Worker::default());
    }

    #[test]
    fn a_variable_that_is_empty_says_nothing() {
        assert_eq!(load("", &[("REVEILLE_WORKER_QUEUES", "")]).unwrap(), Config::default());
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_place() {
        let in_file = refusal("log = 'info'\n[worker]\nconcurrency = 'many'", &[]);
        assert!(in_file.contains("reveille.toml, line 3: worker.concurrency: "), "{in_file}");
        let in_variable = refusal("", &[("REVEILLE_WORKER_DRAIN", "soon")]);
        assert!(in_variable.starts_with("REVEILLE_WORKER_DRAIN: \"soon\" is not a duration"), "{in_variable}");
    }

    #[test]
    fn a_url_that_does_not_read_is_not_repeated() {
        let refused = refusal("", &[("REVEILLE_DATABASE_URL", "postgres://me:secret@[there/mine")]);
        assert!(refused.starts_with("REVEILLE_DATABASE_URL: "), "{refused}");
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_do() {
        for (file, key) in [
            ("triggerer.capacity = 0", "triggerer.capacity"),
            ("worker.concurrency = 0", "worker.concurrency"),
            ("triggerer.checks_per_destination = 0", "triggerer.checks_per_destination"),
            ("worker.lease = '10ms'", "worker.lease"),
            ("retention.kept = '60d'", "retention.kept"),
        ] {
            let config = load(file, &[]).unwrap();
            let refused = [config.triggerer_settings(String::new()).err(), config.worker_settings(String::new()).err()];
            let failure = refused.into_iter().flatten().next().unwrap();
            assert!(failure.to_string().starts_with(key), "{failure}");
            assert!(failure.advice().is_some(), "{failure}");
        }
    }
}
