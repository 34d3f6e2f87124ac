//! Fresh, migrated databases.

use std::{path::PathBuf, str::FromStr};

use reveille::{Store, Url, store::migrations};
use sqlx::{Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// One database, which is gone when the test is over.
#[derive(Debug)]
pub(super) enum Home {
    Sqlite(TempDir),
    Postgres { name: String, url: String },
}

impl Home {
    pub(super) async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => {
                let folder = TempDir::new().unwrap();
                Store::migrate(&Url::Sqlite(file(&folder))).await.unwrap();
                Self::Sqlite(folder)
            }
            Backend::Postgres => {
                let mut admin = admin().await;
                let template = template(&mut admin).await;
                let name = format!("reveille_it_{}", Uuid::now_v7().simple());
                run(&mut admin, format!("create database {name} template {template}")).await;
                admin.close().await.unwrap();
                Self::Postgres { url: url_of(&name), name }
            }
        }
    }

    pub(super) fn url(&self) -> Url {
        match self {
            Self::Sqlite(folder) => Url::Sqlite(file(folder)),
            Self::Postgres { url, .. } => Url::Postgres(url.clone()),
        }
    }

    /// A file goes when its folder is dropped; a database must be told.
    pub(super) async fn clear(&self) {
        if let Self::Postgres { name, .. } = self {
            let mut admin = admin().await;
            run(&mut admin, format!("drop database {name} with (force)")).await;
            admin.close().await.unwrap();
        }
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("reveille.db")
}

/// The server that `tests/run` started.
pub(crate) fn admin_url() -> String {
    std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is not set: run `bash tests/run`, which starts a PostgreSQL for the tests")
}

fn url_of(database: &str) -> String {
    let url = admin_url();
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{database}")
}

async fn admin() -> PgConnection {
    PgConnection::connect_with(&PgConnectOptions::from_str(&admin_url()).unwrap()).await.unwrap()
}

async fn run(admin: &mut PgConnection, text: String) {
    admin.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
}

/// The migrated database that the others are copies of: made once a server and set of migrations, by whoever is first.
async fn template(admin: &mut PgConnection) -> String {
    let hash = hash();
    let name = format!("reveille_template_{hash:016x}");
    sqlx::query("select pg_advisory_lock($1)").bind(hash.cast_signed()).execute(&mut *admin).await.unwrap();
    let made: Option<bool> = sqlx::query_scalar("select datistemplate from pg_database where datname = $1")
        .bind(&name)
        .fetch_optional(&mut *admin)
        .await
        .unwrap();
    // One that is no template yet was left half made by a run that was ended.
    if made != Some(true) {
        run(admin, format!("drop database if exists {name} with (force)")).await;
        run(admin, format!("create database {name}")).await;
        Store::migrate(&Url::Postgres(url_of(&name))).await.unwrap();
        run(admin, format!("alter database {name} is_template true")).await;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(hash.cast_signed()).execute(&mut *admin).await.unwrap();
    name
}

/// FNV-1a over the migrations' text, equal in every process.
fn hash() -> u64 {
    let url = Url::Postgres(String::new());
    let bytes = migrations(&url).flat_map(|(_, _, text)| text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
