//! Every statement in a file of its own is one that its database accepts.

use std::{collections::BTreeSet, fs, path::PathBuf};

use reveille::store::Db;
use sqlx::{AssertSqlSafe, Executor};

use crate::stage::Stage;

/// The files of one backend: their names, and their statements without comments.
pub(crate) fn files(backend: &str) -> Vec<(String, Vec<String>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/store/sql");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(&format!(".{backend}.sql")) {
            let text = fs::read_to_string(path).unwrap();
            let text: String =
                text.lines().map(|line| line.split("--").next().unwrap_or_default().to_owned() + "\n").collect();
            let statements = text.split(';').map(str::trim).filter(|statement| !statement.is_empty());
            files.push((name, statements.map(ToOwned::to_owned).collect()));
        }
    }
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    files
}

both!(
    async fn every_statement_is_accepted(stage: Stage) {
        let backend = stage.store.url().backend();
        let mut tx = stage.store.begin().await.unwrap();
        for (name, statements) in files(backend) {
            assert!(backend == "sqlite" || statements.len() == 1, "{name} holds more than one statement");
            for statement in statements {
                let text = sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(statement));
                let prepared = match tx.db() {
                    Db::Sqlite(c) => c.prepare(text).await.map(drop),
                    Db::Postgres(c) => c.prepare(text).await.map(drop),
                };
                if let Err(error) = prepared {
                    panic!("{name}: {error}");
                }
            }
        }
    }
);

#[test]
fn every_file_has_its_twin() {
    let bare = |backend: &str| -> BTreeSet<String> {
        files(backend).into_iter().map(|(name, _)| name.split('.').next().unwrap().to_owned()).collect()
    };
    assert_eq!(bare("sqlite"), bare("postgres"));
}

/// A parameter that is left out is bound as null by SQLite, silently.
#[test]
fn no_statement_skips_a_parameter() {
    for backend in ["sqlite", "postgres"] {
        for (name, statements) in files(backend) {
            let text = statements.join(" ");
            let used: BTreeSet<u32> = text
                .split('$')
                .skip(1)
                .map(|after| after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap())
                .collect();
            assert_eq!(used, (1..=u32::try_from(used.len()).unwrap()).collect(), "{name}");
        }
    }
}
