//! Databases that cannot serve, and what is said about them.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use reveille::{Error, Options, Result, Store, Url, vault::Vault};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    cluster::Cluster,
    stage::{Stage, admin_url},
};

async fn connect(url: Url) -> Result<Store> {
    Store::connect(Options::new(url, Vault::ephemeral())).await
}

/// What is said about a database that cannot be used as it is.
fn unusable(outcome: Result<Store>) -> String {
    match outcome {
        Err(Error::Unusable(said)) => said,
        other => panic!("it should be unusable, not {other:?}"),
    }
}

fn postgres(database: &str) -> Url {
    let url = admin_url();
    Url::Postgres(format!("{}/{database}", url.rsplit_once('/').unwrap().0))
}

both!(
    async fn a_database_that_lacks_a_migration_is_refused_until_it_is_migrated(stage: Stage) {
        stage.meddle("delete from reveille_migration").await;
        let said = unusable(Store::connect(stage.options()).await);
        assert!(said.contains("lacks 1 migration(s): run `reveille migrate`"), "{said}");
        stage.meddle("drop table reveille_migration").await;
        let said = unusable(Store::connect(stage.options()).await);
        assert!(said.contains("lacks 1 migration(s)"), "{said}");
    }
);

both!(
    async fn a_newer_database_is_refused_by_all(stage: Stage) {
        let text = "insert into reveille_migration (version, description, success, checksum, execution_time)
                    select 9999, 'later', true, checksum, 0 from reveille_migration";
        stage.meddle(text).await;
        let said = unusable(Store::connect(stage.options()).await);
        assert!(said.contains("newer than this binary (it has migration 9999)"), "{said}");
        let refused = Store::migrate(stage.store.url()).await.unwrap_err();
        assert!(refused.to_string().contains("newer than this binary"), "{refused}");
    }
);

both!(
    async fn migrating_again_changes_nothing(stage: Stage) {
        let task = stage.enqueue().await;
        assert_eq!(Store::migrate(stage.store.url()).await.unwrap(), Vec::<i64>::new());
        assert_eq!(stage.another().await.show(task).await.unwrap().unwrap().brief.state, "ready");
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn several_may_migrate_one_new_file_at_once() {
    let folder = TempDir::new().unwrap();
    let url = Url::Sqlite(folder.path().join("new.db"));
    let outcomes = futures::future::join_all((0..5).map(|_| Store::migrate(&url))).await;
    let mut applied: Vec<Vec<i64>> = outcomes.into_iter().map(Result::unwrap).collect();
    applied.sort();
    assert_eq!(applied.concat(), [1]);
    connect(url).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_migrate_one_new_database_at_once() {
    let name = format!("reveille_it_{}", uuid::Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&admin_url()).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await.unwrap();
    let url = postgres(&name);
    let outcomes = futures::future::join_all((0..5).map(|_| Store::migrate(&url))).await;
    let connected = connect(url).await;
    if let Ok(store) = &connected {
        store.close().await;
    }
    sqlx::query(sqlx::AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    connected.unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing.db");
    let said = unusable(connect(Url::Sqlite(path.clone())).await);
    assert!(said.contains("there is no database at") && said.contains("`reveille migrate`"), "{said}");
    assert!(!path.exists());
    let refused = Store::migrate(&Url::Sqlite(folder.path().join("no/such/folder.db"))).await.unwrap_err();
    assert!(refused.to_string().contains("there is no folder"), "{refused}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("letter.db");
    std::fs::write(&path, "Dear Sir or Madam, ".repeat(100)).unwrap();
    let said = unusable(connect(Url::Sqlite(path.clone())).await);
    assert!(said.contains("letter.db"), "{said}");
}

on_postgres!(
    async fn a_read_only_server_is_refused(stage: Stage) {
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let name = url.rsplit('/').next().unwrap();
        stage.meddle(format!("alter database {name} set default_transaction_read_only = on")).await;
        let said = unusable(Store::connect(stage.options()).await);
        assert!(said.contains("is read-only: connect to the primary"), "{said}");
    }
);

on_postgres!(
    async fn a_server_that_is_too_old_is_refused(stage: Stage) {
        // A server that gives itself out for an older one.
        stage
            .meddle(
                "create schema disguise;
                 create function disguise.current_setting(name text) returns text language sql as
                     $$ select case name when 'server_version_num' then '130014' else pg_catalog.current_setting(name) end $$",
            )
            .await;
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let url = Url::Postgres(format!("{url}?options[search_path]=disguise,pg_catalog,public"));
        let said = unusable(Store::connect(Options { url, ..stage.options() }).await);
        assert!(said.contains("is PostgreSQL 13: 14 or newer is needed"), "{said}");
    }
);

#[tokio::test]
async fn a_server_in_recovery_is_refused() {
    let standby = Cluster::standby();
    let said = unusable(connect(standby.url().parse().unwrap()).await);
    assert!(said.contains("is in recovery"), "{said}");
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_told_from_one_out_of_reach() {
    let said = unusable(connect(postgres("no_such_database")).await);
    assert!(said.contains("does not let us in") && said.contains("no_such_database"), "{said}");

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = Url::Postgres(format!("postgres://reveille@127.0.0.1:{port}/x"));
    let outcome = connect(nowhere.clone()).await.unwrap_err();
    assert!(outcome.is_outage(), "{outcome:?}");
    let outcome = Store::migrate(&nowhere).await.unwrap_err();
    assert!(outcome.is_outage(), "{outcome:?}");
}

#[test]
fn a_url_is_checked_when_it_is_read_and_shown_without_its_password() {
    for (text, shown) in [
        ("sqlite:a.db", "sqlite:a.db"),
        ("sqlite:///var/lib/a.db", "sqlite:/var/lib/a.db"),
        ("postgres://me:secret@db:5433/work", "postgres://me@db:5433/work"),
        ("postgresql://me@db/work?sslmode=require", "postgres://me@db:5432/work"),
    ] {
        let url: Url = text.parse().unwrap();
        assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
    }
    for text in ["", "a.db", "sqlite:", "sqlite::memory:", "mysql://me@db/work", "postgres://me@db:port/work"] {
        assert!(text.parse::<Url>().is_err(), "{text}");
    }
}

/// Runs a check as a user who may read and not write, whoever we are. Modes do not stop root, who lends the thread
/// another user's id; the threads of the database inherit it.
fn as_reader(check: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                let nobody = rustix::process::Uid::from_raw(65_534);
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            check();
        });
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What is said to a reader about a migrated file with these modes on it and its folder.
fn said_to_a_reader(path: &Path, file: u32, folder: u32) -> String {
    let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let inside: Vec<PathBuf> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    inside.iter().for_each(|path| set(path, file));
    set(path.parent().unwrap(), folder);
    let said = std::sync::Mutex::new(String::new());
    as_reader(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        *said.lock().unwrap() = unusable(runtime.block_on(connect(Url::Sqlite(path.to_owned()))));
    });
    set(path.parent().unwrap(), 0o755);
    said.into_inner().unwrap()
}

#[test]
fn a_file_that_may_not_be_written_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(Store::migrate(&Url::Sqlite(path.clone()))).unwrap();
    for (file, folder) in [(0o444, 0o555), (0o000, 0o555), (0o444, 0o000)] {
        let said = said_to_a_reader(&path, file, folder);
        assert!(said.contains("read-only") || said.contains("cannot open"), "{file:o} {folder:o}: {said}");
    }
    // While somebody has it open, its log can be read.
    let store = runtime.block_on(connect(Url::Sqlite(path.clone()))).unwrap();
    let said = said_to_a_reader(&path, 0o444, 0o555);
    assert!(said.contains("is read-only: give this user the right to write"), "{said}");
    runtime.block_on(store.close());
}
