//! That what is notified is heard, and that nothing is missed around it.

use reveille_sql::{Heard, Listen};
use reveille_trigger::{Error, Trigger, checks::may_be_dropped};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::stage::{Stage, context, look};

/// Begins a check.
fn begin(stage: &Stage, listen: &Listen) -> JoinHandle<Result<Option<Value>, Error>> {
    let (listen, cx) = (listen.clone(), stage.context());
    tokio::spawn(async move { look(&listen, &cx).await })
}

async fn heard(check: JoinHandle<Result<Option<Value>, Error>>) -> Heard {
    let payload = check.await.expect("a check").expect("an answer").expect("an event");
    serde_json::from_value(payload).expect("what was heard")
}

/// Waits until the server has seen this channel being listened on, by so many connections, and gives their processes.
async fn listeners(stage: &Stage, count: usize) -> Vec<i32> {
    let text = "select pid from pg_stat_activity where query = $1";
    let mut connection = PgConnection::connect(&stage.url).await.expect("a connection");
    loop {
        let listens = format!("LISTEN \"{}\"", stage.name);
        let pids: Vec<i32> =
            sqlx::query_scalar(text).bind(listens).fetch_all(&mut connection).await.expect("connections");
        if pids.len() == count {
            return pids;
        }
    }
}

async fn notify(stage: &Stage, channel: &str, payload: &str) {
    stage.run(&format!("select pg_notify('{channel}', '{payload}')")).await;
}

#[tokio::test]
async fn a_notification_fires_all_who_listen_through_one_connection() {
    let stage = Stage::postgres().await;
    let listen = Listen::on(&stage.name, &stage.name);
    let checks: Vec<_> = (0..50).map(|_| begin(&stage, &listen)).collect();
    listeners(&stage, 1).await;
    // The last to be entered may be entered after the first notification, and hears the next.
    let mut checks = checks;
    while !checks.is_empty() {
        notify(&stage, &stage.name, "{\"order\": 42}").await;
        let (ended, waiting): (Vec<_>, Vec<_>) = checks.into_iter().partition(JoinHandle::is_finished);
        for check in ended {
            assert_eq!(heard(check).await, Heard::Notification(json!({"order": 42})));
        }
        checks = waiting;
    }
    stage.end().await;
}

#[tokio::test]
async fn what_is_said_is_text_where_it_is_no_json() {
    let stage = Stage::postgres().await;
    for (said, payload) in [("two words", json!("two words")), ("", json!("")), ("42", json!(42))] {
        let check = begin(&stage, &Listen::on(&stage.name, &stage.name));
        listeners(&stage, 1).await;
        notify(&stage, &stage.name, said).await;
        assert_eq!(heard(check).await, Heard::Notification(payload));
        listeners(&stage, 0).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn a_channel_is_spelt_letter_by_letter_and_others_are_not_heard() {
    let stage = Stage::postgres().await;
    let channel = format!("{} \"Ä; drop", stage.name);
    let check = begin(&stage, &Listen::on(&stage.name, &channel));
    let other = begin(&stage, &Listen::on(&stage.name, &stage.name));
    listeners(&stage, 1).await;
    notify(&stage, &stage.name.to_uppercase(), "wrong").await;
    // It is not known when the second listens: until then nobody hears.
    while !check.is_finished() {
        notify(&stage, &channel, "right").await;
    }
    assert_eq!(heard(check).await, Heard::Notification(json!("right")));
    assert!(!other.is_finished());
    other.abort();
    stage.end().await;
}

#[tokio::test]
async fn what_has_happened_before_is_found_by_the_look() {
    let stage = Stage::postgres().await;
    stage.run("insert into TABLE values (42, true, 'paid')").await;
    let listen = Listen::on(&stage.name, &stage.name)
        .look(stage.text("select id, note from TABLE where id = $1 and done"))
        .parameter(42);
    let row = json!({"id": 42, "note": "paid"});
    assert_eq!(heard(begin(&stage, &listen)).await, Heard::Row(row.as_object().expect("a row").clone()));
    stage.end().await;
}

#[tokio::test]
async fn what_happens_during_the_look_is_heard_after_it() {
    let stage = Stage::postgres().await;
    // The look waits for a lock, and sees nothing of what is notified meanwhile.
    let look = "select id from TABLE where (select pg_advisory_xact_lock_shared(hashtext('TABLE'))) is null";
    let listen = Listen::on(&stage.name, &stage.name).look(stage.text(look));
    let mut other = PgConnection::connect(&stage.url).await.expect("a connection");
    let lock = |verb| AssertSqlSafe(stage.text(&format!("select pg_advisory_{verb}(hashtext('TABLE'))::text")));
    sqlx::query(lock("lock")).execute(&mut other).await.expect("the lock");
    let check = begin(&stage, &listen);
    let waits =
        stage.text("select count(*) from pg_stat_activity where wait_event = 'advisory' and query like '%TABLE%'");
    while sqlx::query_scalar::<_, i64>(AssertSqlSafe(waits.clone())).fetch_one(&mut other).await.expect("a count") == 0
    {
    }
    notify(&stage, &stage.name, "meanwhile").await;
    sqlx::query(lock("unlock")).execute(&mut other).await.expect("the lock");
    assert_eq!(heard(check).await, Heard::Notification(json!("meanwhile")));
    stage.end().await;
}

#[tokio::test]
async fn a_lost_connection_may_be_tried_again_and_the_next_check_looks_again() {
    let stage = Stage::postgres().await;
    let listen = Listen::on(&stage.name, &stage.name).look(stage.text("select id from TABLE where done"));
    let checks: Vec<_> = (0..3).map(|_| begin(&stage, &listen)).collect();
    let pids = listeners(&stage, 1).await;
    stage.run(&format!("select pg_terminate_backend({})", pids[0])).await;
    for check in checks {
        let error = check.await.expect("a check").expect_err("an error");
        assert!(!error.is_fatal() && error.to_string().contains(&stage.name), "{error}");
    }
    // Nobody listened to this.
    stage.run("insert into TABLE values (7, true, null)").await;
    notify(&stage, &stage.name, "missed").await;
    let row = json!({"id": 7});
    assert_eq!(heard(begin(&stage, &listen)).await, Heard::Row(row.as_object().expect("a row").clone()));
    stage.end().await;
}

#[tokio::test]
async fn when_nobody_listens_the_connection_is_closed() {
    let stage = Stage::postgres().await;
    let checks: Vec<_> = (0..3).map(|_| begin(&stage, &Listen::on(&stage.name, &stage.name))).collect();
    listeners(&stage, 1).await;
    for check in checks {
        check.abort();
    }
    listeners(&stage, 0).await;
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_may_be_tried_again_and_others_than_postgresql_too() {
    // Taken, so that nobody else can listen there, and not listening.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let url = format!("postgres://u:secret@{}/d", socket.local_addr().expect("its address"));
    for url in [url, "sqlite:///db".to_owned()] {
        let cx = context("gone", &json!({"url": url}));
        let error = look(&Listen::on("gone", "orders"), &cx).await.expect_err("an error");
        assert!(!error.is_fatal() && error.to_string().contains("\"gone\""), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_check_lasts() {
    assert_eq!(Listen::on("shop", "orders").time_out(), None);
    assert_eq!(Listen::on("shop", "orders").destination(), None);
}

#[tokio::test]
async fn a_check_may_be_dropped_wherever_it_waits() {
    let stage = Stage::postgres().await;
    let listen = Listen::on(&stage.name, &stage.name).look("select 1 as it");
    assert!(may_be_dropped(&listen, || stage.context()).await > 0);
    stage.end().await;
}
