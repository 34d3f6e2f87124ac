//! What statuses, headers and fields mean.

use std::time::Duration;

use reveille_http::{Condition, Http, Test};
use reveille_trigger::Trigger;
use serde_json::json;

use crate::{
    server::{Reply, Server, answer, json as say},
    stage::{Seen, Stage},
};

#[tokio::test]
async fn a_status_of_success_fires_unless_told_otherwise() {
    let server = Server::saying(answer(204, &[("X-State", "done"), ("Set-Cookie", "secret")], "")).await;
    let response = Stage::new().fired(&Http::get(server.url("/"))).await;
    assert_eq!((response.status, &response.body, &response.left_out), (204, &json!(null), &None));
    assert_eq!(response.headers.get("x-state").map(String::as_str), Some("done"));
    assert!(!response.headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn each_status_has_the_meaning_that_is_documented() {
    let server = Server::answering(|asked| answer(asked.target[1..].parse().expect("a status"), &[], "")).await;
    // A condition that never holds, so that only the table speaks.
    let http = |status: u16| Http::get(server.url(&format!("/{status}"))).until(299);
    for status in [200, 202, 302, 304, 404, 409, 425] {
        assert_eq!(Stage::new().check(&http(status)).await, Seen::NotYet, "{status}");
    }
    for status in [400, 405, 406, 410, 411, 413, 414, 415, 417, 422, 426, 428, 431, 451, 501, 505] {
        let error = Stage::new().try_check(&http(status)).await.expect_err("an error");
        assert!(error.is_fatal() && error.to_string().contains(&format!("the answer is {status}")), "{error}");
        let lenient = http(status).not_yet(status);
        assert_eq!(Stage::new().check(&lenient).await, Seen::NotYet, "{status}");
    }
    for status in [401, 402, 403, 407, 408, 418, 421, 429, 500, 502, 503, 504, 599] {
        assert!(Stage::new().error(&http(status)).await.contains(&format!("the answer is {status}")));
        assert_eq!(Stage::new().fired(&http(status).until(status)).await.status, status);
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_fires_once_it_is() {
    let server =
        Server::saying_one_by_one([answer(503, &[], ""), answer(404, &[], ""), answer(200, &[], "here")]).await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until(200));
    stage.error(&http).await;
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.fired(&http).await.body, json!("here"));
}

#[tokio::test]
async fn a_field_of_the_body_decides() {
    let states = ["queued", "done"].map(|state| say(&json!({"job": {"state": state, "rows": 7}})));
    let server = Server::saying_one_by_one(states).await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until_json("$.job.state", "done"));
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.fired(&http).await.body, json!({"job": {"state": "done", "rows": 7}}));
}

#[tokio::test]
async fn a_failure_counts_before_a_success_and_says_why() {
    let server = Server::saying(say(&json!({"state": "failed"}))).await;
    let http = Http::get(server.url("/")).until(200).fail_json("$.state", Test::one_of(["failed", "cancelled"]));
    let Seen::Failed(reason) = Stage::new().check(&http).await else { panic!("it has not failed") };
    assert!(reason.contains(r#""one_of":["failed","cancelled"]"#), "{reason}");
}

#[tokio::test]
async fn a_header_decides() {
    let replies = [&[][..], &[("X-State", "running")], &[("x-state", "other"), ("X-STATE", "all done")]]
        .map(|headers| answer(200, headers, ""));
    let server = Server::saying_one_by_one(replies).await;
    let (mut stage, http) =
        (Stage::new(), Http::get(server.url("/")).until(Condition::header("x-state", Test::contains("done"))));
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.fired(&http).await.headers["x-state"], "other, all done");
}

#[tokio::test]
async fn a_condition_holds_if_all_of_it_does_and_without_a_status_means_success() {
    let server = Server::saying(answer(500, &[("x-state", "done")], r#"{"state": "done"}"#)).await;
    let state = Condition::json("$.state", "done");
    Stage::new().error(&Http::get(server.url("/")).until(state.clone())).await;
    Stage::new()
        .error(
            &Http::get(server.url("/"))
                .until(state.clone().and(Condition::status([500, 502])).and(Condition::header("x-state", "no"))),
        )
        .await;
    let all = state.and(Condition::status(500)).and(Condition::header("x-state", "done"));
    assert_eq!(Stage::new().fired(&Http::get(server.url("/")).until(all)).await.status, 500);
}

#[tokio::test]
async fn a_request_is_sent_as_the_spec_says() {
    let server = Server::saying(answer(200, &[], "")).await;
    let http =
        Http::post(server.url("/search?q=1"), json!({"a": [1]})).header("X-Who", "me").header("Accept", "text/csv");
    Stage::new().fired(&http).await;
    let asked = server.last();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str(), asked.body.as_str()),
        ("POST", "/search?q=1", r#"{"a":[1]}"#)
    );
    assert_eq!((asked.headers["x-who"].as_str(), asked.headers["accept"].as_str()), ("me", "text/csv"));
    assert_eq!(asked.headers["content-type"], "application/json");
    assert_eq!(asked.headers["user-agent"], concat!("reveille/", env!("CARGO_PKG_VERSION")));

    Stage::new()
        .fired(&Http::post(server.url("/"), "a=1").header("content-type", "application/x-www-form-urlencoded"))
        .await;
    assert_eq!(
        (server.last().body.as_str(), server.last().headers["content-type"].as_str()),
        ("a=1", "application/x-www-form-urlencoded")
    );

    Stage::new().fired(&Http::head(server.url("/"))).await;
    assert_eq!(server.last().method, "HEAD");
}

#[tokio::test]
async fn looks_share_one_connection() {
    let server = Server::saying(answer(404, &[], "not here")).await;
    for _ in 0..5 {
        assert_eq!(Stage::new().check(&Http::get(server.url("/"))).await, Seen::NotYet);
    }
    let connections: Vec<usize> = server.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0; 5]);
}

#[tokio::test]
async fn a_look_that_is_given_up_leaves_no_connection_behind() {
    let mut server = Server::saying(Reply::Hang(Vec::new())).await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")));
    tokio::select! {
        answered = stage.try_check(&http) => panic!("there is no answer: {answered:?}"),
        () = server.is_asked() => {}
    }
    server.all_closed().await;
}

#[test]
fn what_the_runtime_asks_of_it() {
    let http = Http::get("https://api.example.com/x").every(Duration::from_secs(9)).time_out(Duration::from_mins(2));
    assert_eq!(http.destination().as_deref(), Some("api.example.com:443"));
    assert_eq!(Http::get("http://[::1]:8080/").destination().as_deref(), Some("[::1]:8080"));
    assert_eq!(Http::get("/x").connection("api").destination().as_deref(), Some("connection api"));
    assert_eq!(http.spacing().interval(Duration::ZERO), Duration::from_secs(9));
    assert!(Trigger::time_out(&http).is_some_and(|limit| limit > Duration::from_mins(2)));
}
