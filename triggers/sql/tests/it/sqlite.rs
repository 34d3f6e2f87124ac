//! What only SQLite has: a file on this host.

use std::{fs, time::Duration};

use reveille_sql::Sql;
use serde_json::json;
use tempfile::TempDir;

use crate::stage::{Stage, context, look};

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() {
    let dir = TempDir::new().expect("a temporary directory");
    let url = format!("sqlite://{}/none", dir.path().display());
    let cx = context("none", &json!({"url": url}));
    let error = look(&Sql::query("none", "select 1"), &cx).await.expect_err("an error");
    assert!(!error.is_fatal() && error.to_string().contains("unable to open database file"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[tokio::test]
async fn a_url_that_asks_to_write_is_read_only_all_the_same() {
    let stage = Stage::sqlite().await;
    let url = format!("{}?mode=rwc", stage.url);
    let cx = context("rwc", &json!({"url": url}));
    // A pragma's function is a table that can be read, and tells how the file was opened.
    let sql = Sql::query("rwc", "select query_only, name from pragma_query_only, pragma_database_list");
    assert!(look(&sql, &cx).await.expect("an answer").is_some());
    let error = look(&Sql::query("rwc", stage.text("with a as (select 1) insert into TABLE (id) values (1)")), &cx)
        .await
        .expect_err("no");
    assert!(error.is_fatal(), "{error}");
    stage.end().await;
}

#[tokio::test]
async fn a_blob_is_answered_with_what_to_write() {
    let stage = Stage::sqlite().await;
    let error = stage.look(&stage.query("select x'00ff' as it")).await.expect_err("an error");
    assert!(error.to_string().contains("JSON cannot hold BLOB values"), "{error}");
    let found = stage.look(&stage.query("select hex(x'00ff') as it")).await.expect("an answer");
    assert_eq!(found, Some(json!({"it": "00FF"})));
    stage.end().await;
}

#[tokio::test]
async fn a_look_that_took_too_long_lets_go_of_the_file() {
    let stage = Stage::sqlite().await;
    stage.run("insert into TABLE values (1, true, null)").await;
    let text = "with recursive a(n) as (select id from TABLE union all select n + 1 from a) select max(n) as n from a";
    let sql = stage.query(text).within(Duration::from_millis(100));
    let error = stage.look(&sql).await.expect_err("an error");
    assert!(error.to_string().contains("took longer than `time_out`"), "{error}");
    // While somebody reads, nobody writes, and this gives up after 5 seconds.
    stage.run("insert into TABLE values (2, true, null)").await;
    stage.end().await;
}
