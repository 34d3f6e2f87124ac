//! Credentials: where they come from, and where they go.

use reveille_http::Http;
use serde_json::json;

use crate::{
    server::{Server, answer},
    stage::Stage,
};

#[tokio::test]
async fn a_relative_url_is_appended_to_that_of_the_connection() {
    let server = Server::saying(answer(200, &[], "")).await;
    for (base, url, target) in [
        ("", "jobs/7", "/jobs/7"),
        ("/v1", "/jobs/7?full=1", "/v1/jobs/7?full=1"),
        ("/v1/", "jobs/7", "/v1/jobs/7"),
        // What would lead to another host, if it were resolved.
        ("/v1", "//elsewhere.example/x", "/v1/elsewhere.example/x"),
        ("", "@elsewhere.example/x", "/@elsewhere.example/x"),
        ("", "jobs/a:b", "/jobs/a:b"),
    ] {
        let mut stage = Stage::with_connection("api", json!({"url": server.url(base)}));
        stage.fired(&Http::get(url).connection("api")).await;
        assert_eq!(server.last().target, target);
    }
}

#[tokio::test]
async fn credentials_are_sent_as_configured() {
    let server = Server::saying(answer(200, &[], "")).await;
    for (credentials, name, value) in [
        (json!({"bearer": "t0ken"}), "authorization", "Bearer t0ken"),
        (
            json!({"basic": {"user": "Aladdin", "password": "open sesame"}}),
            "authorization",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        (json!({"headers": {"X-Api-Key": "k3y"}}), "x-api-key", "k3y"),
        (json!({"headers": {"authorization": "Token t"}}), "authorization", "Token t"),
    ] {
        let mut table = credentials;
        table["url"] = server.url("").into();
        let mut stage = Stage::with_connection("api", table);
        // Absolute, at the same origin, is as good as relative.
        for url in ["/x".to_owned(), server.url("/x")] {
            // Of a header that both have, the connection's is sent.
            stage.fired(&Http::get(url).connection("api").header("x-api-key", "of the spec")).await;
            assert_eq!(server.last().headers[name], value);
        }
    }
    Stage::new().fired(&Http::get(server.url("/x"))).await;
    assert!(!server.last().headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_url_of_another_origin_gets_no_credentials_and_no_request() {
    let (home, other) = (Server::saying(answer(200, &[], "")).await, Server::saying(answer(200, &[], "")).await);
    let mut stage = Stage::with_connection("api", json!({"url": home.url(""), "bearer": "secret"}));
    let error = stage.try_check(&Http::get(other.url("/x")).connection("api")).await.expect_err("an error");
    assert!(error.is_fatal());
    let message = error.to_string();
    assert!(
        message.contains(&other.url("")) && message.contains(&home.url("")) && !message.contains("secret"),
        "{message}"
    );
    assert!(home.asked().is_empty() && other.asked().is_empty());
}

#[tokio::test]
async fn a_connection_that_is_missing_or_wrong_is_an_error_that_quotes_no_value() {
    let url = "https://api.example.com";
    let file = "/nowhere/secret-free.pem";
    for (table, part) in [
        (json!({"url": url, "token": "secret"}), "unknown field `token`"),
        (json!({"bearer": "secret"}), "missing field `url`"),
        (json!({"url": "secret"}), "`url` is no base URL"),
        (json!({"url": "ftp://api.example.com"}), "`url` is no base URL"),
        (json!({"url": "https://me:secret@api.example.com"}), "`url` has credentials in it"),
        (json!({"url": url, "bearer": "secret\n"}), "`bearer` is no token"),
        (json!({"url": url, "headers": {"x-key": "secret\u{0}"}}), "\"x-key\""),
        (json!({"url": url, "bearer": "secret", "basic": {"user": "secret"}}), "only one of"),
        (json!({"url": url, "ca_file": file}), file),
    ] {
        let mut stage = Stage::with_connection("api", table);
        let message = stage.error(&Http::get("/x").connection("api")).await;
        assert!(message.contains(part) && !message.contains("secret\"") && !message.contains("me:"), "{message}");
    }
    let message = Stage::new().error(&Http::get("/x").connection("api")).await;
    assert!(message.contains("[connections.api]"), "{message}");
}
