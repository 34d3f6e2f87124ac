//! A place of its own in a database that others use: a schema that is made, used, and removed.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use super::{Url, doing};
use crate::error::{Error, Result};

/// A schema on a PostgreSQL server, to be [removed](Self::remove).
#[derive(Debug)]
pub struct Scratch {
    server: String,
    schema: String,
}

impl Scratch {
    /// Makes a schema whose name begins with `prefix`; answers with the URL under which it is a database of its own.
    ///
    /// # Errors
    /// If the server does not answer, or this user may not make one.
    pub async fn make(server: &str, prefix: &str) -> Result<(Self, Url)> {
        let schema = format!("{prefix}_{}", Uuid::now_v7().simple());
        let scratch = Self { server: server.to_owned(), schema };
        // The name is letters, digits and underscores.
        scratch.run(format!("create schema {}", scratch.schema)).await?;
        let separator = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{separator}options[search_path]={}", scratch.schema).parse()?;
        Ok((scratch, url))
    }

    /// Its name.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Removes it, with all that is in it.
    ///
    /// # Errors
    /// If the server does not answer: the schema is then still there.
    pub async fn remove(self) -> Result<()> {
        self.run(format!("drop schema {} cascade", self.schema)).await
    }

    async fn run(&self, text: String) -> Result<()> {
        let mut connection =
            PgConnection::connect_with(&Url::postgres_options(&self.server)?).await.map_err(doing("connecting"))?;
        let done = sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await;
        done.map_err(|error| match error {
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code == "42501") => {
                Error::Unusable(format!("this user may not make a schema: {refusal}"))
            }
            error => doing("making a place of our own")(error),
        })?;
        connection.close().await.map_err(doing("closing a connection"))
    }
}
