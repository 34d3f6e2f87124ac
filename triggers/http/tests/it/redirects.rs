//! Where redirects lead, and what goes along.

use reveille_http::Http;
use serde_json::json;

use crate::{
    server::{Reply, Server, answer},
    stage::{Seen, Stage},
};

fn to(status: u16, location: &str) -> Reply {
    answer(status, &[("location", location)], "moved")
}

#[tokio::test]
async fn redirects_are_followed_with_the_method_that_is_due() {
    for (status, method, then) in [
        (301, "GET", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ] {
        let server = Server::saying_one_by_one([to(status, "../there?x=1"), answer(200, &[], "")]).await;
        let spec = json!({"url": server.url("/a/b"), "method": method, "body": (method != "HEAD").then_some("text")});
        Stage::new().fired(&serde_json::from_value(spec).expect("a spec")).await;
        let last = server.last();
        assert_eq!((last.method.as_str(), last.target.as_str()), (then, "/there?x=1"), "{status} {method}");
        assert_eq!(last.body, if then == method && then != "HEAD" { "text" } else { "" }, "{status} {method}");
    }
}

#[tokio::test]
async fn redirects_in_a_circle_are_an_error() {
    let server = Server::saying(to(302, "/again")).await;
    let message = Stage::new().error(&Http::get(server.url("/")).redirects(3)).await;
    assert!(message.contains("redirects more than 3 times"), "{message}");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn with_no_redirects_the_answer_is_one_like_any_other() {
    let server = Server::saying(to(302, "/there")).await;
    let http = Http::get(server.url("/")).redirects(0);
    assert_eq!(Stage::new().check(&http).await, Seen::NotYet);
    assert_eq!(Stage::new().fired(&http.until(302)).await.headers["location"], "/there");
    assert!(server.asked().iter().all(|asked| asked.target == "/"));
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_not_followed() {
    let server = Server::saying(answer(302, &[], "")).await;
    assert_eq!(Stage::new().check(&Http::get(server.url("/"))).await, Seen::NotYet);
    for location in ["file:///etc/passwd", "http://", "ftp://h/x", "gopher:x"] {
        let server = Server::saying(to(302, location)).await;
        let message = Stage::new().error(&Http::get(server.url("/"))).await;
        assert!(message.contains("redirects to what is no URL"), "{location}: {message}");
    }
    let server = Server::saying(to(302, "http://me:pw@127.0.0.1/")).await;
    assert!(Stage::new().error(&Http::get(server.url("/"))).await.contains("with credentials in it"));
}

#[tokio::test]
async fn nothing_that_is_meant_for_one_server_is_sent_to_another() {
    let other = Server::saying_one_by_one([answer(404, &[], ""), answer(200, &[], "")]).await;
    let home = Server::saying(to(302, &other.url("/there"))).await;
    let secrets = json!({"url": home.url(""), "bearer": "secret", "headers": {"x-api-key": "secret"}});
    let http = Http::get("/").connection("api").header("x-who", "me").header("accept", "text/csv");
    let mut stage = Stage::with_connection("api", secrets);
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(home.last().headers["x-api-key"], "secret");
    let asked = other.last();
    assert_eq!(asked.headers["accept"], "text/csv");
    for name in ["authorization", "x-api-key", "x-who", "referer", "if-none-match"] {
        assert!(!asked.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn credentials_that_left_home_do_not_come_back() {
    // The other server sends the client back to a path of its own choosing.
    let home_url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let back = std::sync::Arc::clone(&home_url);
    let other = Server::answering(move |_| to(302, &format!("{}/chosen", back.get().expect("a server")))).await;
    let there = other.url("/");
    let home =
        Server::answering(move |asked| if asked.target == "/" { to(302, &there) } else { answer(200, &[], "") }).await;
    home_url.set(home.url("")).expect("a server");
    let mut stage = Stage::with_connection("api", json!({"url": home.url(""), "basic": {"user": "me"}}));
    stage.fired(&Http::get("/").connection("api")).await;
    let asked = home.asked();
    assert!(asked[0].headers.contains_key("authorization") && asked[1].target == "/chosen");
    assert!(!asked[1].headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_body_is_sent_to_one_server_only() {
    let other = Server::saying(answer(200, &[], "")).await;
    let server = Server::saying(to(307, &other.url("/"))).await;
    let message = Stage::new().error(&Http::post(server.url("/"), "sealed")).await;
    assert!(message.contains("a body is sent to one only"), "{message}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn what_a_redirect_led_to_is_asked_for_in_full() {
    let server = Server::answering(|asked| {
        if asked.target == "/" { to(302, "/there") } else { answer(200, &[("etag", "\"of there\"")], "{}") }
    })
    .await;
    let (mut stage, http) = (Stage::new(), Http::get(server.url("/")).until_json("$.state", "done"));
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert_eq!(stage.check(&http).await, Seen::NotYet);
    assert!(server.asked().iter().all(|asked| !asked.headers.contains_key("if-none-match")));
}
