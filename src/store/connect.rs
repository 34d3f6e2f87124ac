//! Connecting, and refusing a database that cannot serve, with what to do about it.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres, SqliteConnection,
    error::DatabaseError,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    BATCH, Db, Inner, Pool, Pooled, Store, doing, each,
    hosts::{self, Hosts, Place},
    migrate,
    sessions::{self, WRITING},
    wake::Wake,
    writer::Writer,
};
use crate::{
    clock::Clock,
    error::{Error, Result},
    vault::{Sealed, Vault},
};

/// The oldest server that has what the statements need, and is still looked after.
const OLDEST_POSTGRES: i32 = 140_000;

/// How long another process on the same SQLite file may hold the writer before we call it an outage.
const BUSY: Duration = Duration::from_secs(3);

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub enum Url {
    /// A file on this host.
    Sqlite(PathBuf),
    /// A server.
    Postgres(String),
}

impl FromStr for Url {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Hosts::of(text).map(|_| Self::Postgres(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
        match path {
            Some(path) if !path.is_empty() && !path.contains(":memory:") => Ok(Self::Sqlite(path.into())),
            Some(_) => Err(Error::Invalid("name the file: sqlite:reveille.db (a database in memory cannot be shared)".to_owned())),
            None => Err(Error::Invalid(
                "the database URL begins with sqlite: or postgres://, such as sqlite:reveille.db or postgres://user@host/name".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Url {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(text) => {
                let Ok(hosts) = Hosts::of(text) else { return f.write_str("postgres://…") };
                let first = hosts.at(0);
                let places: Vec<_> =
                    hosts.iter().map(|host| format!("{}:{}", host.get_host(), host.get_port())).collect();
                let database = first.get_database().unwrap_or(first.get_username());
                write!(f, "postgres://{}@{}/{database}", first.get_username(), places.join(","))
            }
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Url {
    /// `sqlite` or `postgres`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    pub(super) fn sqlite_options(path: &Path, create: bool) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is on disk before it is answered. The writer shares one between many.
            .synchronous(SqliteSynchronous::Full)
            // What a savepoint changes is copied, and would be copied to a file.
            .pragma("temp_store", "memory")
            .busy_timeout(BUSY)
            .foreign_keys(false)
            // Those for a batch are there for some sizes each.
            .statement_cache_capacity(250)
            .row_buffer_size(BATCH)
            .disable_statement_logging()
    }

    /// Where statements may take their time, and nobody waits for them.
    pub(super) fn unlimited_hosts(text: &str) -> Result<Hosts> {
        let ours = |options: PgConnectOptions| options.application_name("reveille").disable_statement_logging();
        Ok(Hosts::of(text)?.map(ours))
    }

    pub(super) fn postgres_hosts(text: &str) -> Result<Hosts> {
        Ok(Self::unlimited_hosts(text)?.with(&[
            ("statement_timeout", "5s"),
            // Short statements are estimated as long ones: compiling a claim took ten times as long as running it.
            ("jit", "off"),
            // Whatever they look for is found by an index, and was in use a moment ago. At the default of 4 the planner reads
            // whole tables in place of some hundred rows: a third of the time of a whole cycle.
            ("random_page_cost", "1.1"),
            ("idle_in_transaction_session_timeout", "10s"),
        ]))
    }

    /// Where its server is.
    ///
    /// # Errors
    /// If it is a file, or there are several.
    pub fn place(&self) -> Result<Place> {
        let Self::Postgres(text) = self else {
            return Err(Error::Invalid(format!("{self} is a file, and no network is before it")));
        };
        let several = || Error::Invalid(format!("{self} names several servers: name the one"));
        Hosts::of(text)?.place().ok_or_else(several)
    }

    /// The same database, with its server at a port of this host.
    ///
    /// # Errors
    /// If it is a file.
    pub fn at_local_port(&self, port: u16) -> Result<Self> {
        self.place()?;
        match self {
            Self::Sqlite(_) => Ok(self.clone()),
            Self::Postgres(text) => hosts::at_local_port(text, port).parse(),
        }
    }

    /// The same database, declared to be behind a pooler.
    ///
    /// # Errors
    /// If it is a file.
    pub fn behind_pooler(self) -> Result<Self> {
        match self {
            Self::Sqlite(_) => Err(Error::Invalid(format!(
                "{self} is a file, and no pooler stands before it: leave database_pooler out"
            ))),
            Self::Postgres(text) if text.contains('?') => Ok(Self::Postgres(format!("{text}&pooler=true"))),
            Self::Postgres(text) => Ok(Self::Postgres(format!("{text}?pooler=true"))),
        }
    }
}

/// What opening a store needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the database is.
    pub url: Url,
    /// What seals and opens its values.
    pub vault: Vault,
    /// The clock that the database sets.
    pub clock: Clock,
    /// The largest step, spec, event or result, in bytes of JSON.
    pub payload_limit: usize,
    /// The most connections to PostgreSQL, or readers of SQLite.
    pub connections: u32,
}

impl Options {
    /// With the system's clock, a limit of 1 MiB and 8 connections.
    pub fn new(url: Url, vault: Vault) -> Self {
        Self { url, vault, clock: Clock::system(), payload_limit: 1 << 20, connections: 8 }
    }
}

impl Store {
    /// Connects, and makes sure that the database can serve.
    ///
    /// # Errors
    /// [`Error::Outage`] if it is out of reach; [`Error::Unusable`] if it is too old, in recovery, read-only, not
    /// migrated or newer than this binary; [`Error::Vault`] if another key was used with it.
    pub async fn connect(options: Options) -> Result<Self> {
        let pool = Pool::connect(&options).await?;
        let store = Self(Arc::new(Inner {
            pool,
            vault: options.vault,
            clock: options.clock,
            wake: Wake::default(),
            payload_limit: options.payload_limit,
            url: options.url,
            upkeep: tokio::sync::Mutex::default(),
            following: tokio::sync::Mutex::default(),
        }));
        store.learn_the_time().await?;
        store.check_key().await?;
        Ok(store)
    }

    /// Asks the database what time it is.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn learn_the_time(&self) -> Result<()> {
        let ask = async |db: &mut Db<'_>| {
            let sent = self.clock().monotonic();
            let now = super::replica::database_time(db).await?;
            self.clock().learn(now, sent, self.clock().monotonic());
            Ok(())
        };
        self.reading("asking for the time", ask).await
    }

    /// Makes sure that our key is the one that this database was first used with, or makes it so.
    async fn check_key(&self) -> Result<()> {
        let text = "select value from reveille_setting where name = 'canary'";
        let look = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_scalar(text).fetch_optional(&mut **c).await).map_err(doing("checking the key"))
        };
        let canary: Option<Vec<u8>> = self.reading("checking the key", look).await?;
        if let Some(canary) = canary {
            return Ok(self.0.vault.check_canary(&Sealed::from_bytes(canary))?);
        }
        let insert = "insert into reveille_setting (name, value) values ('canary', $1) on conflict (name) do nothing";
        let canary = self.0.vault.seal_canary().into_bytes();
        super::within("storing the key's canary", async {
            let mut tx = self.begin().await?;
            each!(&mut tx.db(), c => sqlx::query(insert).bind(canary).execute(&mut **c).await.map(drop))
                .map_err(doing("storing the key's canary"))?;
            tx.commit().await
        })
        .await?;
        // Another process may have been first, with another key.
        Box::pin(self.check_key()).await
    }
}

impl Pool {
    async fn connect(options: &Options) -> Result<Self> {
        match &options.url {
            Url::Sqlite(path) => {
                if matches!(path.try_exists(), Ok(false)) {
                    return Err(Error::Unusable(format!(
                        "there is no database at {}: run `reveille migrate` to make one",
                        path.display()
                    )));
                }
                let settings = Url::sqlite_options(path, false);
                let writing = settings.clone().busy_timeout(Duration::ZERO);
                let mut writer = SqliteConnection::connect_with(&settings)
                    .await
                    .map_err(|error| unreachable(&options.url, error))?;
                check_sqlite(&mut writer, &options.url).await?;
                // From here on the writer asks by itself, more often than SQLite would.
                sqlx::query("pragma busy_timeout = 0").execute(&mut writer).await.map_err(doing("connecting"))?;
                let readers = SqlitePoolOptions::new()
                    .max_connections(options.connections)
                    .test_before_acquire(false)
                    .connect_lazy_with(settings.clone().read_only(true));
                Ok(Self::Sqlite { writer: Writer::new(writing, writer), readers })
            }
            Url::Postgres(text) => {
                let hosts = Url::postgres_hosts(text)?;
                let primary = hosts.primary().await.map_err(|error| unreachable(&options.url, error))?;
                let pool = PgPoolOptions::new()
                    .max_connections(options.connections)
                    .acquire_timeout(super::TIME_OUT)
                    // A dead connection shows at `begin`; a ping before each would cost a round trip.
                    .test_before_acquire(false)
                    .connect_with(primary)
                    .await
                    .map_err(|error| unreachable(&options.url, error))?;
                check_postgres(&pool, &hosts, &options.url).await?;
                Ok(Self::Postgres(pool, hosts))
            }
        }
    }
}

pub(super) fn unreachable(url: &Url, error: sqlx::Error) -> Error {
    match error {
        refusal if sessions::is_poolers_refusal(&refusal) => undeclared(url),
        sqlx::Error::Database(refusal) if matches!(url, Url::Sqlite(_)) => match sqlite_code(&*refusal) {
            8 => read_only(url),
            14 => Error::Unusable(format!("cannot open {url}: is it a file that this user may read and write?")),
            26 => Error::Unusable(format!("{url} is not a SQLite database: name another file")),
            _ => Error::Outage { doing: "connecting", source: Box::new(sqlx::Error::Database(refusal)) },
        },
        sqlx::Error::Database(refusal)
            if refusal.code().is_some_and(|code| ["28", "3D"].iter().any(|class| code.starts_with(class))) =>
        {
            Error::Unusable(format!("{url} does not let us in: {refusal}"))
        }
        error => Error::Outage { doing: "connecting", source: Box::new(error) },
    }
}

async fn check_sqlite(connection: &mut SqliteConnection, url: &Url) -> Result<()> {
    migrate::check(&mut Db::Sqlite(connection), url).await?;
    // Only a write finds out whether writing is allowed.
    let write =
        sqlx::query("update reveille_setting set value = value where name = ''").execute(&mut *connection).await;
    match write {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(refusal)) if sqlite_code(&*refusal) == 8 => Err(read_only(url)),
        Err(error) => Err(doing("checking the database")(error)),
    }
}

fn read_only(url: &Url) -> Error {
    Error::Unusable(format!("{url} is read-only: give this user the right to write the file and its folder"))
}

/// SQLite's primary code, without what an extended one adds; 0 if there is none.
pub(super) fn sqlite_code(refusal: &dyn DatabaseError) -> i32 {
    refusal.code().and_then(|code| code.parse::<i32>().ok()).map_or(0, |code| code & 0xff)
}

/// Refuses sessions that were not begun as we asked, where they should be our own.
pub(super) async fn check_sessions(c: &mut PgConnection, hosts: &Hosts, url: &Url) -> Result<()> {
    match hosts.sessions().are_as_declared(c).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(undeclared(url)),
        Err(error) => Err(doing("checking the session")(error)),
    }
}

fn undeclared(url: &Url) -> Error {
    Error::Unusable(format!(
        "{url} is behind a pooler that was not declared, or gives sessions no options: add pooler=true to the parameters of the URL, or set database_pooler"
    ))
}

async fn check_postgres(pool: &PgPool, hosts: &Hosts, url: &Url) -> Result<()> {
    check_sessions(&mut *pool.acquire().await.map_err(doing("connecting"))?, hosts, url).await?;
    let mut tx = Pooled::<Postgres>::begin(pool, hosts.sessions(), WRITING).await?;
    let (version, in_recovery, read_only): (i32, bool, bool) = sqlx::query_as(
        "select current_setting('server_version_num')::integer, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean",
    )
    .fetch_one(&mut *tx.connection)
    .await
    .map_err(doing("checking the server"))?;
    if version < OLDEST_POSTGRES {
        return Err(Error::Unusable(format!(
            "{url} is PostgreSQL {}: {} or newer is needed",
            version / 10_000,
            OLDEST_POSTGRES / 10_000
        )));
    }
    if in_recovery {
        return Err(Error::Unusable(format!(
            "{url} is in recovery (a standby, or still starting): connect to the primary"
        )));
    }
    if read_only {
        return Err(Error::Unusable(format!(
            "{url} is read-only: connect to the primary, or unset default_transaction_read_only for this user"
        )));
    }
    migrate::check(&mut Db::Postgres(&mut tx.connection), url).await?;
    tx.commit(hosts.sessions()).await
}
