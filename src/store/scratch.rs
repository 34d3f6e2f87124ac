//! A database of one's own for a while: made, used, and removed.
//!
//! A fresh file, or a schema in a database that others use. Nothing outside of it is touched.

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Options, Store, Url, connect::unreachable, doing, sessions::WRITING};
use crate::{
    error::{Error, Result},
    vault::Vault,
};

const KEY_FILE: &str = "reveille.key";

/// A database, and a folder with its key, to be [removed](Self::remove).
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    schema: Option<Schema>,
    url: Url,
}

/// Where a schema is, and its name.
#[derive(Debug)]
struct Schema {
    server: String,
    name: String,
}

impl Scratch {
    /// Makes a schema on the server that `near` names, or a fresh file where it names a file. The names of schema and
    /// folder begin with `prefix`.
    ///
    /// # Errors
    /// If the server does not answer, or this user may not make one.
    pub async fn make(near: &Url, prefix: &str) -> Result<Self> {
        Self::named(near, prefix, None).await
    }

    /// The same, with a name for the schema, of lower-case letters, digits and underscores.
    ///
    /// # Errors
    /// If the server does not answer, if this user may not make one, or if there is one of this name.
    pub async fn named(near: &Url, prefix: &str, schema: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .tempdir()
            .map_err(|error| Error::Unusable(format!("cannot make a folder: {error}")))?;
        let Url::Postgres(server) = near else {
            let url = Url::Sqlite(folder.path().join("reveille.db"));
            return Ok(Self { folder, schema: None, url });
        };
        let name = schema.map_or_else(|| format!("{prefix}_{}", Uuid::now_v7().simple()), str::to_owned);
        let schema = Schema { server: server.clone(), name };
        schema.run(format!("create schema {}", schema.name)).await?;
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options[search_path]={}", schema.name).parse()?;
        Ok(Self { folder, schema: Some(schema), url })
    }

    /// A schema of the server's database, but for those of names that begin with `prefix`, in which tasks are that are not
    /// finished.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn in_use(near: &Url, prefix: &str) -> Result<Option<String>> {
        let Url::Postgres(text) = near else { return Ok(None) };
        let looking = "looking for tasks of others";
        let (mut connection, _) =
            Url::postgres_hosts(text)?.connect().await.map_err(|error| unreachable(near, error))?;
        let schemas: Vec<(String, String)> = sqlx::query_as(
            "select n.nspname::text, quote_ident(n.nspname)
               from pg_class c join pg_namespace n on n.oid = c.relnamespace
              where c.relname = 'reveille_task' and c.relkind = 'r' and not starts_with(n.nspname, $1 || '_')
                and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
              order by 1",
        )
        .bind(prefix)
        .fetch_all(&mut connection)
        .await
        .map_err(doing(looking))?;
        let mut in_use = None;
        for (name, quoted) in schemas {
            let text = format!("select exists (select 1 from {quoted}.reveille_task)");
            if sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(&mut connection).await.map_err(doing(looking))? {
                in_use = Some(name);
                break;
            }
        }
        connection.close().await.map_err(doing("closing a connection"))?;
        Ok(in_use)
    }

    /// Migrates it, and connects.
    ///
    /// # Errors
    /// If the database does not answer, or is too old.
    pub async fn open(&self) -> Result<Store> {
        self.open_at(self.url.clone()).await
    }

    /// The same, with connections that go another way.
    ///
    /// # Errors
    /// If the database does not answer, or is too old.
    pub async fn open_at(&self, url: Url) -> Result<Store> {
        Store::migrate(&self.url).await?;
        let vault = Vault::read_or_create(self.key_file())?;
        Store::connect(Options::new(url, vault)).await
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// As it is written on a command line, password included.
    pub fn written_url(&self) -> String {
        match &self.url {
            Url::Sqlite(path) => format!("sqlite:{}", path.display()),
            Url::Postgres(text) => text.clone(),
        }
    }

    /// The schema that it is, if it is one.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_ref().map(|schema| schema.name.as_str())
    }

    /// The server that it is a schema on, if it is one.
    pub fn server_url(&self) -> Option<&str> {
        self.schema.as_ref().map(|schema| schema.server.as_str())
    }

    /// A folder that goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The key that seals what is in it.
    pub fn key_file(&self) -> PathBuf {
        self.folder().join(KEY_FILE)
    }

    /// Leaves it where it is; answers where its key is.
    pub fn keep(self) -> PathBuf {
        self.folder.keep().join(KEY_FILE)
    }

    /// Removes it, with all that is in it.
    ///
    /// # Errors
    /// If the server does not answer, or the folder cannot be removed: it is then still there.
    pub async fn remove(self) -> Result<()> {
        if let Some(schema) = &self.schema {
            schema.run(format!("drop schema {} cascade", schema.name)).await?;
        }
        self.folder.close().map_err(|error| Error::Unusable(format!("cannot remove a folder of our own: {error}")))
    }
}

impl Schema {
    async fn run(&self, text: String) -> Result<()> {
        let url = Url::Postgres(self.server.clone());
        let connected = Url::postgres_hosts(&self.server)?.connect().await;
        let (mut connection, _) = connected.map_err(|error| unreachable(&url, error))?;
        let done = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await;
        done.map_err(|error| match error {
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code == "42501") => {
                Error::Unusable(format!("this user may not make a schema: {refusal}"))
            }
            // There is one.
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code == "42P06") => {
                Error::Invalid(format!("{refusal}: name another, for what is in it is removed at the end"))
            }
            error => doing("making a place of our own")(error),
        })?;
        connection.close().await.map_err(doing("closing a connection"))
    }
}

/// Runs a statement as a program that knows nothing of us would; a file that is not there is made.
///
/// # Errors
/// If the database does not answer, or refuses it.
pub async fn run_elsewhere(url: &Url, statement: &'static str) -> Result<()> {
    match url {
        Url::Sqlite(path) => {
            let mut connection =
                Url::sqlite_options(path, true).connect().await.map_err(doing("opening a file of somebody else's"))?;
            sqlx::raw_sql(statement).execute(&mut connection).await.map_err(doing("writing as somebody else"))?;
            connection.close().await
        }
        Url::Postgres(text) => {
            let hosts = Url::postgres_hosts(text)?;
            let (mut connection, _) = hosts.connect().await.map_err(doing("connecting"))?;
            let writing = doing("writing as somebody else");
            hosts.sessions().begin(&mut connection, WRITING).await.map_err(&writing)?;
            sqlx::raw_sql(statement).execute(&mut connection).await.map_err(&writing)?;
            hosts.sessions().commit(&mut connection).await.map_err(&writing)?;
            connection.close().await
        }
    }
    .map_err(doing("closing a connection"))
}
