//! Servers that say when to ask again, that hold a request, and that know what was answered before.

use std::time::Duration;

use reveille_http::{Condition, Http};
use reveille_trigger::checks::{may_be_dropped, never_blocks};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::oneshot};

use crate::{
    server::{Reply, Server, answer},
    stage::{Seen, Stage},
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_busy_server_is_not_asked_before_it_says() {
    for status in [429, 503] {
        let server = Server::saying(answer(status, &[("retry-after", "17")], "")).await;
        let error = Stage::new().try_check(&Http::get(server.url("/"))).await.expect_err("an error");
        assert_eq!(error.retry_after(), Some(17 * SECOND));
    }
    let dates = [("date", "Thu, 01 Jan 2026 00:00:00 GMT"), ("retry-after", "Thu, 01 Jan 2026 00:01:00 GMT")];
    let server = Server::saying(answer(503, &dates, "")).await;
    let error = Stage::new().try_check(&Http::get(server.url("/"))).await.expect_err("an error");
    assert_eq!(error.retry_after(), Some(60 * SECOND));
}

#[tokio::test]
async fn a_failure_for_good_is_not_put_off() {
    let server = Server::saying(answer(410, &[("retry-after", "17")], "")).await;
    let error = Stage::new().try_check(&Http::get(server.url("/"))).await.expect_err("an error");
    assert!(error.is_fatal() && error.retry_after().is_none());
}

#[tokio::test]
async fn not_yet_with_a_time_is_not_asked_before_it() {
    let server = Server::saying_one_by_one([answer(202, &[("retry-after", "20")], ""), answer(200, &[], "")]).await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until(200));
    for _ in 0..4 {
        assert_eq!(stage.check(&http).await, Seen::NotYet);
        stage.turn_clock(5 * SECOND - Duration::from_millis(1));
    }
    assert_eq!(server.asked().len(), 1);
    stage.turn_clock(Duration::from_millis(4));
    stage.fired(&http).await;
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_was_answered_before_is_not_asked_for_again() {
    let server = Server::answering(|asked| match asked.headers.get("if-none-match").map(String::as_str) {
        None => answer(200, &[("etag", r#""one""#)], r#"{"state": "running"}"#),
        Some(r#""one""#) => answer(304, &[("etag", r#""one""#)], ""),
        Some(other) => panic!("it was never told {other}"),
    })
    .await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until_json("$.state", "done"));
    for _ in 0..3 {
        assert_eq!(stage.check(&http).await, Seen::NotYet);
    }
    let asked: Vec<bool> = server.asked().iter().map(|asked| asked.headers.contains_key("if-none-match")).collect();
    assert_eq!(asked, [false, true, true]);
    // Another replica knows of nothing, and gets a whole answer.
    assert_eq!(Stage::new().check(&http).await, Seen::NotYet);
    assert!(!server.last().headers.contains_key("if-none-match"));
}

#[tokio::test]
async fn a_new_answer_takes_the_place_of_the_one_before() {
    let server = Server::saying_one_by_one([
        answer(200, &[("etag", "W/\"1\"")], r#"{"state": "running"}"#),
        answer(200, &[], r#"{"state": "running"}"#),
        answer(200, &[], r#"{"state": "done"}"#),
    ])
    .await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until_json("$.state", "done"));
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    stage.fired(&http).await;
    let asked: Vec<Option<String>> =
        server.asked().iter().map(|asked| asked.headers.get("if-none-match").cloned()).collect();
    assert_eq!(asked, [None, Some("W/\"1\"".to_owned()), None]);
}

#[tokio::test]
async fn an_etag_is_not_gone_by_where_it_does_not_decide() {
    let server = Server::saying(answer(200, &[("etag", r#""one""#)], "")).await;
    for http in [
        Http::get(server.url("/")).until(Condition::header("x-state", "done")),
        Http::get(server.url("/")).until(304),
        Http::post(server.url("/"), "").until(201),
        Http::get(server.url("/")).until(201).header("If-None-Match", "\"mine\""),
    ] {
        let mut stage = Stage::new();
        assert_eq!(stage.check(&http).await, Seen::NotYet);
        assert_eq!(stage.check(&http).await, Seen::NotYet);
        assert_ne!(server.last().headers.get("if-none-match").map(String::as_str), Some("\"one\""), "{http:?}");
    }
}

#[tokio::test]
async fn a_server_that_holds_the_request_is_waited_for() {
    let (happen, mut happened) = oneshot::channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let http = Http::get(format!("http://{}/", listener.local_addr().expect("an address")));
    let look = tokio::spawn(async move { Stage::new().fired(&http.time_out(Duration::from_mins(5))).await });
    let (mut stream, _) = listener.accept().await.expect("a connection");
    assert!(happened.try_recv().is_err() && !look.is_finished());
    happen.send(()).expect("a server that holds");
    happened.await.expect("something to happen");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.expect("an answer");
    assert_eq!(look.await.expect("a look").body, json!("done"));
}

#[tokio::test]
async fn a_look_may_be_dropped_wherever_it_waits_and_holds_up_no_thread() {
    let stage = Stage::new();
    let server = Server::saying(answer(200, &[], "done")).await;
    assert!(may_be_dropped(&Http::get(server.url("/")), || stage.context()).await > 0);
    let server = Server::saying(Reply::Hang(Vec::new())).await;
    let late = Http::get(server.url("/")).time_out(SECOND);
    never_blocks(&late, || stage.context()).await.expect_err("no answer in time");
}
