//! Connections by their names in the configuration: one small pool for each, shared by all tasks that wait on it.

use std::{
    collections::BTreeMap,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reveille_trigger::{Config, Error};
use serde::Deserialize;
use sqlx::{
    ConnectOptions, Connection, Database, MySql, Pool, Postgres, Sqlite, mysql::MySqlConnectOptions, pool::PoolOptions,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

/// The most connections to one database. Looks are short, and it has others to serve.
const MAX_CONNECTIONS: u32 = 4;

/// How long a look waits for one of them.
pub(crate) const ACQUIRE: Duration = Duration::from_secs(10);

/// How long a connection that nobody uses is kept.
const IDLE: Duration = Duration::from_mins(1);

/// The pools of this process, by the names of their connections, each with the URL that it was made for.
static POOLS: Mutex<BTreeMap<String, (String, AnyPool)>> = Mutex::new(BTreeMap::new());

/// The table `[connections.NAME]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
}

/// A pool on one of the three databases. Clones share it.
#[derive(Clone)]
pub(crate) enum AnyPool {
    Postgres(Pool<Postgres>),
    MySql(Pool<MySql>),
    Sqlite(Pool<Sqlite>),
}

impl AnyPool {
    /// The pool of a connection. It is made at its first use, and anew when the configuration has another URL.
    pub(crate) fn named(config: &Config, name: &str) -> Result<Self, Error> {
        let Settings { url } = config.connection(name)?;
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, pool)) = pools.get(name)
            && *known == url
        {
            return Ok(pool.clone());
        }
        let pool = Self::to(name, &url)?;
        pools.insert(name.to_owned(), (url, pool.clone()));
        Ok(pool)
    }

    /// Connects when it is used, and not before.
    fn to(name: &str, url: &str) -> Result<Self, Error> {
        let scheme = url.split(':').next().unwrap_or_default();
        Ok(match scheme {
            "postgres" | "postgresql" => {
                let options: PgConnectOptions = read(name, url)?;
                // A pooler refuses what it cannot hold each session to; floats are read from JSON.
                Self::Postgres(pool(options.application_name("reveille").extra_float_digits(None)))
            }
            "mysql" | "mariadb" => Self::MySql(pool(read::<MySqlConnectOptions>(name, url)?)),
            "sqlite" => {
                let options: SqliteConnectOptions = read(name, url)?;
                // Also what is attached is read only then.
                Self::Sqlite(pool(options.read_only(true).create_if_missing(false)))
            }
            _ => return Err(unreadable(name)),
        })
    }
}

/// The URL of a connection that must be PostgreSQL, as options.
pub(crate) fn postgres_options(config: &Config, name: &str) -> Result<(String, PgConnectOptions), Error> {
    let Settings { url } = config.connection(name)?;
    if !url.starts_with("postgres") {
        return Err(Error::again(format!("the connection {name:?} is not PostgreSQL, which alone has LISTEN")));
    }
    let options: PgConnectOptions = read(name, &url)?;
    Ok((url, options.application_name("reveille").disable_statement_logging()))
}

fn pool<DB: Database>(options: <DB::Connection as Connection>::Options) -> Pool<DB> {
    PoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .idle_timeout(IDLE)
        // A query is part of a spec, which is never logged.
        .connect_lazy_with(options.disable_statement_logging())
}

fn read<O: FromStr>(name: &str, url: &str) -> Result<O, Error> {
    url.parse().map_err(|_| unreadable(name))
}

/// Says nothing of the URL itself, and so not why: it may have a password in it.
fn unreadable(name: &str) -> Error {
    Error::again(format!(
        "the `url` in [connections.{name}] does not read: write it as postgres://USER:PASSWORD@HOST/DATABASE, \
         mysql://USER:PASSWORD@HOST/DATABASE, or sqlite:///PATH"
    ))
}
