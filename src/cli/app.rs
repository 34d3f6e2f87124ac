//! What every command has at hand: the configuration, the way to the database, and where answers go.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use super::{
    config::Config,
    failure::{Exit, Failure},
    output::{Output, argument},
};
use crate::{
    error::Error,
    store::{Options, Store, Url},
    telemetry::{self, LogFormat},
    vault::Vault,
};

/// How many connections a command opens that answers and ends.
const FEW: u32 = 2;

/// The flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Flags {
    #[arg(long, global = true, value_name = "URL")]
    #[arg(help = "sqlite:FILE or postgres://USER@HOST/NAME [default: sqlite:reveille.db]")]
    database_url: Option<Url>,

    /// Whether a pooler in transaction mode stands before the database [default: false]
    #[arg(long, global = true, value_name = "BOOL", hide_short_help = true)]
    database_pooler: Option<bool>,

    /// The key that seals what is stored [default: reveille.key, beside the database]
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// The configuration [default: ./reveille.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    config: Option<PathBuf>,

    /// Answer in JSON, and fail in JSON on stderr
    #[arg(long, global = true)]
    json: bool,

    /// The largest step, spec, event or result that is stored [default: 1048576]
    #[arg(long, global = true, value_name = "BYTES", hide_short_help = true)]
    payload_limit: Option<std::num::NonZeroUsize>,

    /// What is logged on stderr, as directives of tracing [default: reveille=info,sqlx=error,warn]
    #[arg(long, global = true, value_name = "FILTER", hide_short_help = true)]
    log: Option<String>,

    /// How it is logged [default: text]
    #[arg(long, global = true, value_name = "FORMAT", hide_short_help = true)]
    log_format: Option<LogFormat>,

    /// Log more; -vv for all there is
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "log")]
    verbose: u8,
}

impl Flags {
    pub(super) fn output(&self) -> Output {
        if self.json { Output::Programs } else { Output::People }
    }

    /// The command line so far, for advice that can be copied. A password is left out of it.
    fn again(&self) -> String {
        let path = |path: &PathBuf| argument(&path.to_string_lossy());
        let mut words = vec![argument(&std::env::args().next().unwrap_or_else(|| "reveille".to_owned()))];
        words.extend(self.config.as_ref().map(|file| format!("--config {}", path(file))));
        words.extend(self.database_url.as_ref().map(|url| format!("--database-url {}", argument(&url.to_string()))));
        words.extend(self.database_pooler.map(|pooler| format!("--database-pooler {pooler}")));
        words.extend(self.key_file.as_ref().map(|file| format!("--key-file {}", path(file))));
        words.join(" ")
    }
}

/// What a command works with.
#[derive(Debug)]
pub(super) struct App {
    pub(super) config: Config,
    /// The file that the configuration came from.
    pub(super) config_file: Option<PathBuf>,
    pub(super) output: Output,
    /// How to call this binary again on the same database.
    pub(super) again: String,
}

impl App {
    /// Reads the configuration and puts the flags over it.
    pub(super) fn new(flags: Flags) -> Result<Self, Failure> {
        let (output, again) = (flags.output(), flags.again());
        let (mut config, config_file) = Config::load(flags.config, std::env::vars_os())?;
        let verbose = match flags.verbose {
            0 => None,
            1 => Some("reveille=debug,info".to_owned()),
            2.. => Some("reveille=trace,debug".to_owned()),
        };
        config.database_url = flags.database_url.unwrap_or(config.database_url);
        config.database_pooler = flags.database_pooler.unwrap_or(config.database_pooler);
        if config.database_pooler {
            config.database_url = config.database_url.behind_pooler()?;
        }
        config.key_file = flags.key_file.or(config.key_file);
        config.payload_limit = flags.payload_limit.unwrap_or(config.payload_limit);
        config.log = flags.log.or(verbose).unwrap_or(config.log);
        config.log_format = flags.log_format.unwrap_or(config.log_format);
        Ok(Self { config, config_file, output, again })
    }

    /// Logs less than by default, if nobody said otherwise.
    pub(super) fn log_errors_only(&mut self) {
        if self.config.log == telemetry::DEFAULT_FILTER {
            "error".clone_into(&mut self.config.log);
        }
    }

    /// Begins to log.
    pub(super) fn start_log(&self) -> Result<(), Failure> {
        telemetry::start(&self.config.log, self.config.log_format).map_err(|error| {
            Failure::usage(format!("the log filter {:?} does not read: {error}", self.config.log))
                .help("write a level or directives, such as info or reveille=debug,warn")
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.config.database_url
    }

    /// Where the key is: as told, or beside the database.
    pub(super) fn key_file(&self) -> PathBuf {
        let beside = match self.url() {
            Url::Sqlite(database) => database.parent().unwrap_or(Path::new("")),
            Url::Postgres(_) => Path::new(""),
        };
        self.config.key_file.clone().unwrap_or_else(|| beside.join("reveille.key"))
    }

    /// The key, which must be there.
    pub(super) fn vault(&self) -> Result<Vault, Failure> {
        let path = self.key_file();
        if !path.exists() && !path.is_symlink() {
            return Err(Failure::usage(format!("there is no key file {}", path.display())).help(
                "point --key-file at the one that this database was first used with; for a new database, `reveille migrate` makes one",
            ));
        }
        Ok(Vault::read(path)?)
    }

    /// Connects, for a command that answers and ends.
    pub(super) async fn open(&self) -> Result<Store, Failure> {
        self.connect(Some(FEW)).await
    }

    /// Connects, for a process that serves.
    pub(super) async fn open_to_serve(&self) -> Result<Store, Failure> {
        self.connect(None).await
    }

    async fn connect(&self, connections: Option<u32>) -> Result<Store, Failure> {
        // Before the key, which is not there either when nothing was made yet.
        if let Url::Sqlite(path) = self.url()
            && !path.exists()
        {
            return Err(Failure::new(Exit::Database, anyhow::anyhow!("there is no database {}", path.display()))
                .help("`reveille migrate` makes one, and `reveille dev` makes one and serves it; or name yours with --database-url"));
        }
        let mut options = Options::new(self.url().clone(), self.vault()?);
        options.payload_limit = self.config.payload_limit.get();
        options.connections = connections.unwrap_or(options.connections);
        Store::connect(options).await.map_err(|error| match error {
            Error::Outage { .. } => Failure::from(error).help(format!(
                "make sure that {} is up and can be reached from here, or name another with --database-url",
                self.url()
            )),
            error => error.into(),
        })
    }

    /// Tells the replicas that there may be something to do, and closes.
    pub(super) async fn close(&self, store: Store) {
        if let Err(error) = store.tell().await {
            // What was done is done. The replicas look by themselves, a moment later.
            tracing::debug!("the replicas were not told: {}", error.chain());
        }
        store.close().await;
    }
}
