//! Connections of the pools while they are in a transaction.

use sqlx::{Database, PgPool, Postgres, Sqlite, SqlitePool, pool::PoolConnection};

use super::{doing, hosts, sessions::Sessions};
use crate::error::{Error, Result};

/// A pooled connection in a transaction. Unless that is committed, dropping it closes the connection: it serves as a
/// rollback, and after a time-out the connection's state is anybody's guess.
#[derive(Debug)]
pub struct Pooled<D: Database> {
    pub(super) connection: PoolConnection<D>,
    committed: bool,
}

impl<D: Database> Pooled<D> {
    async fn acquire(pool: &sqlx::Pool<D>) -> Result<Self> {
        let connection = pool.acquire().await.map_err(doing("connecting"))?;
        Ok(Self { connection, committed: false })
    }
}

impl Pooled<Sqlite> {
    pub(super) async fn begin(readers: &SqlitePool) -> Result<Self> {
        let mut pooled = Self::acquire(readers).await?;
        sqlx::query("begin").execute(&mut *pooled.connection).await.map_err(doing("beginning a transaction"))?;
        Ok(pooled)
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        sqlx::query("commit").execute(&mut *self.connection).await.map_err(doing("committing"))?;
        self.committed = true;
        Ok(())
    }
}

impl Pooled<Postgres> {
    pub(super) async fn begin(pool: &PgPool, sessions: &Sessions, how: &'static str) -> Result<Self> {
        let mut pooled = Self::acquire(pool).await?;
        sessions.begin(&mut pooled.connection, how).await.map_err(doing("beginning a transaction"))?;
        Ok(pooled)
    }

    pub(super) async fn commit(mut self, sessions: &Sessions) -> Result<()> {
        sessions.commit(&mut self.connection).await.map_err(doing("committing"))?;
        self.committed = true;
        Ok(())
    }

    /// Refuses a server that has become a standby, and closes the connection.
    pub(super) async fn begin_on_primary(pool: &PgPool, sessions: &Sessions, how: &'static str) -> Result<Self> {
        let mut pooled = Self::begin(pool, sessions, how).await?;
        if hosts::is_in_recovery(&mut pooled.connection).await.map_err(doing("beginning a transaction"))? {
            let source = std::io::Error::other("the server is in recovery");
            return Err(Error::Outage { doing: "beginning a transaction", source: Box::new(source) });
        }
        Ok(pooled)
    }
}

impl<D: Database> Drop for Pooled<D> {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}
