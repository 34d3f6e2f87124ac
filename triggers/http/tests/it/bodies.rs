//! Bodies: huge, endless, and of any kind.

use std::fmt::Write;

use reveille_http::{Http, Test};
use serde_json::json;

use crate::{
    server::{Reply, Server, answer, json as say},
    stage::{Seen, Stage},
};

#[tokio::test]
async fn a_body_of_ten_gigabytes_is_not_read_where_the_status_decides() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n";
    let mut server = Server::saying(Reply::Endless(head.into())).await;
    let response = Stage::new().fired(&Http::get(server.url("/")).until(200)).await;
    assert_eq!(response.body, json!(null));
    assert_eq!(response.left_out.as_deref(), Some("it has more than 1048576 bytes"));
    server.all_closed().await;
}

#[tokio::test]
async fn a_body_without_end_is_read_up_to_the_limit() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffff\r\n"] {
        let mut server = Server::saying(Reply::Endless(head.into())).await;
        let response = Stage::new().fired(&Http::get(server.url("/")).max_body(5000)).await;
        assert_eq!(response.left_out.as_deref(), Some("it has more than 5000 bytes"));
        server.all_closed().await;
    }
}

#[tokio::test]
async fn a_huge_body_is_an_error_where_a_field_decides() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n"] {
        let mut server = Server::saying(Reply::Endless(head.into())).await;
        let message = Stage::new().error(&Http::get(server.url("/")).until_json("$.a", 1)).await;
        assert!(message.contains("more than 1048576 bytes: raise `max_body`"), "{message}");
        server.all_closed().await;
    }
}

#[tokio::test]
async fn a_body_of_the_limit_is_read() {
    let server = Server::saying(answer(200, &[], "12345")).await;
    assert_eq!(Stage::new().fired(&Http::get(server.url("/")).max_body(5)).await.body, json!("12345"));
    assert_eq!(Stage::new().fired(&Http::get(server.url("/")).max_body(4)).await.body, json!(null));
}

#[tokio::test]
async fn a_body_that_is_no_json_is_an_error_where_a_field_decides_and_is_not_quoted() {
    for body in ["", "<html>secret</html>", r#"{"state": "secret"#, "\u{feff}{}"] {
        let server = Server::saying(answer(200, &[("content-type", "text/html")], body)).await;
        let message = Stage::new().error(&Http::get(server.url("/")).until_json("$.state", "done")).await;
        assert!(message.contains("a body that is no JSON (text/html, "), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[tokio::test]
async fn json_that_is_nested_without_end_is_an_error() {
    let server = Server::saying(answer(200, &[], &"[".repeat(200_000))).await;
    let message = Stage::new().error(&Http::get(server.url("/")).until_json("$..a", 1)).await;
    assert!(message.contains("no JSON"), "{message}");
}

#[tokio::test]
async fn a_body_is_json_by_its_type_or_by_being_asked_for() {
    for kind in ["application/json; charset=utf-8", "application/problem+json", "Application/JSON"] {
        let server = Server::saying(answer(200, &[("content-type", kind)], r#"{"a": 1}"#)).await;
        assert_eq!(Stage::new().fired(&Http::get(server.url("/"))).await.body, json!({"a": 1}), "{kind}");
    }
    let server = Server::saying(answer(200, &[("content-type", "text/plain")], r#"{"a": 1}"#)).await;
    assert_eq!(Stage::new().fired(&Http::get(server.url("/"))).await.body, json!(r#"{"a": 1}"#));
    assert_eq!(Stage::new().fired(&Http::get(server.url("/")).until_json("$.a", 1)).await.body, json!({"a": 1}));
    // What says that it is JSON and is not counts as text where only the status decides.
    let server = Server::saying(answer(200, &[("content-type", "application/json")], "oops")).await;
    assert_eq!(Stage::new().fired(&Http::get(server.url("/"))).await.body, json!("oops"));
}

#[tokio::test]
async fn a_body_that_is_no_text_is_left_out() {
    let server = Server::saying(Reply::Say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe".into())).await;
    let response = Stage::new().fired(&Http::get(server.url("/"))).await;
    assert_eq!((response.body, response.left_out.as_deref()), (json!(null), Some("its 2 bytes are not UTF-8")));
}

#[tokio::test]
async fn a_large_body_is_looked_into_and_left_out_of_the_payload() {
    let mut rows = String::new();
    for row in 0..60_000 {
        write!(rows, r#"{{"row":{row}}},"#).expect("a row");
    }
    let body = format!(r#"{{"rows": [{rows} {{"state": "done"}}]}}"#);
    let server = Server::saying(answer(200, &[("content-type", "application/json")], &body)).await;
    let response = Stage::new().fired(&Http::get(server.url("/")).until_json("$..state", "done")).await;
    assert_eq!(response.left_out.as_deref(), Some("it has more than 524288 bytes, as JSON"));
    assert_eq!(Stage::new().check(&Http::get(server.url("/")).until_json("$..state", "no")).await, Seen::NotYet);
}

#[tokio::test]
async fn tests_look_at_all_that_a_path_selects() {
    let jobs = json!({"jobs": [{"id": 1, "state": "done"}, {"id": 2, "state": "running"}], "error": null});
    let server = Server::saying(say(&jobs)).await;
    let http = |path: &str, test: Test| Http::get(server.url("/")).until_json(path, test);
    for (path, test) in [
        ("$.jobs[*].state", Test::from("running")),
        ("$.jobs[?@.id == 2].state", Test::one_of(["running", "queued"])),
        ("$.error", Test::exists()),
        ("$.jobs[?@.state == 'failed']", Test::missing()),
    ] {
        assert!(matches!(Stage::new().check(&http(path, test)).await, Seen::Fired(_)), "{path}");
    }
    assert_eq!(Stage::new().check(&http("$.jobs[?@.state != 'done']", Test::missing())).await, Seen::NotYet);
}
