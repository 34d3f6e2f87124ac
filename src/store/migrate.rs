//! Bringing a database to the schema that this binary was built for, and telling when it isn't.

use std::{path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
};

use super::{
    Db, Url,
    connect::{check_sessions, sqlite_code, unreachable},
    doing, each,
    sessions::WRITING,
};
use crate::{
    clock::Clock,
    error::{Error, Result},
};

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

/// A table of its own, as the database may be migrated by the same library for somebody else.
const APPLIED: &str = "reveille_migration";

/// How the description begins of a migration that those who don't know it go on with: it only adds what has a default.
/// Whatever takes away or means something else is another one, for the release after.
const EXPANDS: &str = "expand ";

/// How long a migration may wait for the locks that it needs.
const LOCK: Duration = Duration::from_secs(30);
const LOCK_TIME_OUT: &str = "30s";

/// How soon a file that is busy is tried again.
const BUSY_AGAIN: Duration = Duration::from_millis(20);

/// The migrations of one database, as text, in order.
pub fn migrations(url: &Url) -> impl Iterator<Item = (i64, &'static str, &'static str)> {
    migrator_of(url).iter().map(|migration| (migration.version, migration.description.as_ref(), migration.sql.as_str()))
}

fn migrator_of(url: &Url) -> &'static Migrator {
    match url {
        Url::Sqlite(_) => &SQLITE,
        Url::Postgres(_) => &POSTGRES,
    }
}

fn migrator(url: &Url) -> Migrator {
    let of = migrator_of(url);
    // What it may not know is judged before.
    let mut own =
        Migrator { migrations: of.migrations.clone(), ignore_missing: true, locking: false, ..Migrator::DEFAULT };
    own.dangerous_set_table_name(APPLIED);
    own
}

impl super::Store {
    /// Applies what is missing, all or nothing; answers the versions that were. Safe to run from several processes at
    /// once.
    ///
    /// # Errors
    /// If the database is out of reach, refuses, or is too new for this binary.
    pub async fn migrate(url: &Url) -> Result<Vec<i64>> {
        match url {
            Url::Sqlite(path) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists())
                {
                    return Err(Error::Unusable(format!("there is no folder {}: make it first", folder.display())));
                }
                let mut connection =
                    open(path).await.map_err(|error| Error::Unusable(format!("cannot open {url}: {error}")))?;
                // Two processes may start on one new file at once, and SQLite's migrations take no lock of their own.
                let mut tx = connection.begin_with("begin exclusive").await.map_err(doing("locking the database"))?;
                let pending = pending_migrations(&mut Db::Sqlite(&mut tx), url).await?;
                migrator(url).run_direct(None, &mut *tx, false).await.map_err(migrating)?;
                tx.commit().await.map_err(doing("migrating"))?;
                connection.close().await.map_err(doing("migrating"))?;
                Ok(pending)
            }
            Url::Postgres(text) => {
                let hosts =
                    Url::postgres_hosts(text)?.with(&[("statement_timeout", "0"), ("lock_timeout", LOCK_TIME_OUT)]);
                let (mut connection, _) = hosts.connect().await.map_err(|error| unreachable(url, error))?;
                check_sessions(&mut connection, &hosts, url).await?;
                let sessions = hosts.sessions();
                let begin = AssertSqlSafe(sessions.beginning(WRITING));
                let mut tx = connection.begin_with(begin).await.map_err(doing("locking the database"))?;
                // Not one of the session, which may be shared: it goes with the transaction.
                let lock = "select pg_advisory_xact_lock(hashtextextended('reveille_migration', 0))";
                sqlx::query(lock).execute(&mut *tx).await.map_err(doing("locking the database"))?;
                let pending = pending_migrations(&mut Db::Postgres(&mut tx), url).await?;
                migrator(url).run_direct(None, &mut *tx, false).await.map_err(migrating)?;
                sessions.tidy(&mut tx).await.map_err(doing("migrating"))?;
                tx.commit().await.map_err(doing("migrating"))?;
                connection.close().await.map_err(doing("migrating"))?;
                Ok(pending)
            }
        }
    }
}

/// Opens a file, or makes it. Turning a new one's log on does not wait while somebody else does the same: we do.
async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = Url::sqlite_options(path, true).busy_timeout(LOCK);
    let clock = Clock::system();
    let begun = clock.monotonic();
    loop {
        match SqliteConnection::connect_with(&options).await {
            Err(error) if is_busy(&error) && clock.monotonic() - begun < LOCK => {
                clock.sleep(BUSY_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(refusal) if sqlite_code(&**refusal) == 5)
}

/// Refuses a database whose schema is not the one that this binary was built for.
pub(super) async fn check(db: &mut Db<'_>, url: &Url) -> Result<()> {
    match pending_migrations(db, url).await?.len() {
        0 => Ok(()),
        pending => Err(Error::Unusable(format!("{url} lacks {pending} migration(s): run `reveille migrate`"))),
    }
}

/// The versions that this binary has and the database lacks.
///
/// # Errors
/// If the database has versions that this binary lacks and that do more than to add something.
pub async fn pending_migrations(db: &mut Db<'_>, url: &Url) -> Result<Vec<i64>> {
    let exists = match db {
        Db::Sqlite(_) => "select count(*) from sqlite_master where type = 'table' and name = 'reveille_migration'",
        Db::Postgres(_) => "select count(*) from pg_class where oid = to_regclass('reveille_migration')",
    };
    let exists: i64 = each!(db, c => sqlx::query_scalar(exists).fetch_one(&mut **c).await)
        .map_err(doing("looking for the schema"))?;
    let applied: Vec<(i64, String)> = if exists == 0 {
        Vec::new()
    } else {
        let text = "select version, description from reveille_migration where success order by version";
        each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("reading the schema's version"))?
    };
    let ours: Vec<i64> = migrator_of(url).iter().map(|migration| migration.version).collect();
    let is_newer = |(version, what): &&(i64, String)| !ours.contains(version) && !what.starts_with(EXPANDS);
    if let Some((newer, _)) = applied.iter().find(is_newer) {
        return Err(Error::Unusable(format!(
            "{url} is newer than this binary (it has migration {newer}): use a newer reveille"
        )));
    }
    Ok(ours.into_iter().filter(|ours| !applied.iter().any(|(version, _)| version == ours)).collect())
}

fn migrating(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => doing("migrating")(error),
        error => Error::Unusable(format!("the database cannot be migrated: {error}")),
    }
}
