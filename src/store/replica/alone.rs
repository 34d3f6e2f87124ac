//! What renewing uses, so that it depends on nothing else; and what its session tells the others.
//!
//! A process that is killed loses its connections at once, and the server the session. So a replica writes beside its beat
//! which session it renews by, and whoever looks can tell whether that is still there. The rule: only a session that is
//! one replica's own says anything, so it is marked by a setting that is given as it begins. A pooler refuses that or
//! leaves it out. Who has no mark, or none to give behind a pooler that is declared, presents no session, and sees none of
//! the others'.

use sqlx::PgConnection;

use super::{Incarnation, Peer, PeerRow, peers};
use crate::{
    error::Result,
    store::{
        Db, Pool, Store, doing,
        sessions::{Sessions, WRITING},
    },
};

/// On PostgreSQL a connection outside the pool. SQLite has one writer, whose queue is fair: a connection of its own would
/// contend for the file with it, and starve.
#[derive(Debug)]
pub enum Alone {
    /// SQLite.
    Sqlite(Store),
    /// PostgreSQL, and whether the session behind it is this replica's own.
    Postgres(PgConnection, IsOwn),
    /// PostgreSQL behind a pooler, whose sessions say nothing of who uses them.
    Pooler(PgConnection, Sessions),
}

/// Whether a session serves one client from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsOwn {
    /// It does.
    Yes,
    /// It may serve others, or that cannot be told.
    Unknown,
}

/// A session of the server, by which a replica renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The process that serves it.
    pub pid: i32,
    /// When it began, in microseconds: numbers of processes are used again.
    pub began_at: i64,
    /// Whether the server still had it at this look.
    pub is_there: bool,
}

impl Alone {
    /// Runs one statement, which commits by itself.
    ///
    /// # Errors
    /// What the statement answers, or that it was not committed.
    pub async fn run<T>(&mut self, statement: impl AsyncFnOnce(&mut Db<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Sqlite(store) => {
                let mut tx = store.begin().await?;
                let answer = statement(&mut tx.db()).await?;
                tx.commit().await?;
                Ok(answer)
            }
            Self::Postgres(connection, _) => statement(&mut Db::Postgres(connection)).await,
            Self::Pooler(connection, sessions) => {
                sessions.begin(connection, WRITING).await.map_err(doing("beginning a transaction"))?;
                let answer = statement(&mut Db::Postgres(connection)).await?;
                sessions.commit(connection).await.map_err(doing("committing"))?;
                Ok(answer)
            }
        }
    }

    /// Whether looking tells that a peer's process has ended.
    pub fn sees_sessions(&self) -> bool {
        matches!(self, Self::Postgres(_, IsOwn::Yes))
    }

    /// The signs of life of everybody else who is not gone, with their sessions where those can be seen.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn peers(&mut self, me: Incarnation) -> Result<Vec<Peer>> {
        let Self::Postgres(connection, IsOwn::Yes) = self else {
            return self.run(async |db| peers(db, me).await).await;
        };
        // Whoever may not see when a session began takes one of the same number for the same.
        let text = "select r.incarnation, r.beat, r.lease_ms, r.session_pid, r.session_began_at,
                           exists (select from pg_stat_activity a
                                    where a.pid = r.session_pid
                                      and coalesce((extract(epoch from a.backend_start) * 1000000)::bigint, r.session_began_at) = r.session_began_at) as is_there
                      from reveille_replica r
                     where r.gone_at is null and r.incarnation <> $1";
        let rows: Vec<PeerRow> = sqlx::query_as(text)
            .bind(me.0)
            .fetch_all(connection)
            .await
            .map_err(doing("looking at the other replicas"))?;
        Ok(rows.into_iter().map(Peer::from).collect())
    }

    /// Tells the other processes at once what they have not been told of yet, over this connection: the one that passes
    /// hints on may have stopped already.
    ///
    /// # Errors
    /// If the database does not answer; nothing but time is lost then.
    pub async fn tell(&mut self, store: &Store) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(connection, _) | Self::Pooler(connection, _) => store.wake().tell(connection).await,
        }
    }
}

impl Store {
    /// What this replica uses to renew, its session presented.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn alone(&self, me: Incarnation) -> Result<Alone> {
        match &self.0.pool {
            Pool::Sqlite { .. } => Ok(Alone::Sqlite(self.clone())),
            Pool::Postgres(pool, hosts) => {
                let shared = hosts.sessions().are_shared();
                let marked = if shared { hosts.clone() } else { hosts.clone().with(&[("reveille.incarnation", me.0)]) };
                let (mut connection, at) = marked.connect().await.map_err(doing("connecting"))?;
                if hosts.are_several() {
                    // What works goes the same way from now on.
                    pool.set_connect_options(hosts.at(at));
                }
                if shared {
                    return Ok(Alone::Pooler(connection, hosts.sessions().clone()));
                }
                let is_own = present(&mut connection, me).await.map_err(doing("presenting a session"))?;
                Ok(Alone::Postgres(connection, is_own))
            }
        }
    }
}

/// Writes by which session this replica renews from now on, or that it has none to show: the one before is no longer
/// watched then.
async fn present(c: &mut PgConnection, me: Incarnation) -> Result<IsOwn, sqlx::Error> {
    let text = "update reveille_replica r
                   set session_pid = mine.pid, session_began_at = mine.began_at
                  from (select 1) as always
                       left join (select pid, (extract(epoch from backend_start) * 1000000)::bigint as began_at
                                    from pg_stat_activity
                                   where pid = pg_backend_pid()
                                     and current_setting('reveille.incarnation', true) = $1::uuid::text) as mine on true
                 where r.incarnation = $1
                returning r.session_pid is not null and r.session_began_at is not null";
    match sqlx::query_scalar(text).bind(me.0).fetch_optional(&mut *c).await {
        Ok(Some(true)) => Ok(IsOwn::Yes),
        Ok(Some(false) | None) => Ok(IsOwn::Unknown),
        // Somebody has closed the view to our role.
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some("42501") => {
            let text = "update reveille_replica set session_pid = null, session_began_at = null where incarnation = $1";
            sqlx::query(text).bind(me.0).execute(c).await?;
            Ok(IsOwn::Unknown)
        }
        Err(error) => Err(error),
    }
}
