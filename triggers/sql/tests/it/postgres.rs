//! What only PostgreSQL has, and what only a server has.

use std::time::Duration;

use reveille_sql::Sql;
use reveille_trigger::Trigger;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::net::{TcpListener, TcpSocket};

use crate::stage::{LONG, Stage, context, look};

#[tokio::test]
async fn a_value_of_any_type_comes_as_json() {
    let stage = Stage::postgres().await;
    let sql = stage.query(
        "select 1.50::numeric as n, '2026-01-01'::date as d, array[1, 2] as a, '{\"k\": [null]}'::jsonb as j, \
         9007199254740993::int8 as i, 'x'::bytea as b, '1 day'::interval as v, null::uuid as u",
    );
    let row = json!({
        "n": 1.5, "d": "2026-01-01", "a": [1, 2], "j": {"k": [null]}, "i": 9_007_199_254_740_993_i64, "b": "\\x78",
        "v": "1 day", "u": null,
    });
    assert_eq!(stage.look(&sql).await.expect("an answer"), Some(row));
    stage.end().await;
}

#[tokio::test]
async fn a_function_that_writes_is_refused() {
    let stage = Stage::postgres().await;
    let function = format!("{}_write", stage.name);
    stage
        .run(&format!(
            "create function {function}() returns int language sql as 'insert into TABLE values (1) returning 1'"
        ))
        .await;
    let error = stage.look(&stage.query(&format!("select {function}()"))).await.expect_err("a refusal");
    assert!(error.is_fatal() && error.to_string().contains("read-only transaction"), "{error}");
    stage.run(&format!("drop function {function}")).await;
    stage.end().await;
}

#[tokio::test]
async fn a_look_that_is_given_up_leaves_its_connection_to_nobody() {
    let stage = Stage::postgres().await;
    let slow = stage.query("select pg_sleep(600)::text as \"TABLE\"").within(LONG);
    let cx = stage.context();
    let mut other = PgConnection::connect(&stage.url).await.expect("a connection");
    let running = format!("from pg_stat_activity where wait_event = 'PgSleep' and query like '%{}%'", stage.name);
    let count = format!("select count(*) {running}");
    // More often than there are connections: the server goes on with what is given up, so that one that were kept would
    // have no answer for the next.
    for given_up in 0..6 {
        tokio::select! {
            _ = slow.check(&cx) => panic!("it ended"),
            () = async {
                while sqlx::query_scalar::<_, i64>(AssertSqlSafe(count.clone()))
                    .fetch_one(&mut other)
                    .await
                    .expect("a count")
                    <= given_up
                {}
            } => {}
        }
    }
    assert!(stage.look(&stage.query("select 1 as it")).await.expect("an answer").is_some());
    stage.run(&format!("select pg_terminate_backend(pid) {running}")).await;
    stage.end().await;
}

#[tokio::test]
async fn nobody_there_may_be_tried_again_and_shows_no_secret() {
    // Taken, so that nobody else can listen there, and not listening.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("its address");
    let looked = async |name, scheme| {
        let url = format!("{scheme}://u:secret@{address}/d");
        look(&Sql::query(name, "select 1"), &context(name, &json!({"url": url}))).await.expect_err("an error")
    };
    let (postgres, mysql) = tokio::join!(looked("gone_1", "postgres"), looked("gone_2", "mysql"));
    for (error, name) in [(postgres, "\"gone_1\""), (mysql, "\"gone_2\"")] {
        assert!(!error.is_fatal() && !error.to_string().contains("secret"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("postgres://u:secret@{}/d", silent.local_addr().expect("its address"));
    let sql = Sql::query("silent", "select 1").within(Duration::from_millis(100));
    let error = look(&sql, &context("silent", &json!({"url": url}))).await.expect_err("an error");
    assert!(
        !error.is_fatal() && error.to_string().contains("cannot get a connection to \"silent\" in time"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_is_named_in_the_configuration() {
    let cx = context("warehouse", &json!({"url": "postgres:///"}));
    let error = look(&Sql::query("shop", "select 1"), &cx).await.expect_err("an error");
    assert!(!error.is_fatal() && error.to_string().contains("[connections.shop]"), "{error}");
    for url in ["oracle://u:secret@h/d", "postgres://u:secret@h:port/d", "secret"] {
        let error = look(&Sql::query("odd", "select 1"), &context("odd", &json!({"url": url}))).await.expect_err(url);
        assert!(!error.is_fatal() && error.to_string().contains("the `url` in [connections.odd]"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let error = look(&Sql::query("odd", "select 1"), &context("odd", &json!({"uri": ""}))).await.expect_err("an error");
    assert!(error.to_string().contains("unknown field `uri`"), "{error}");
}
