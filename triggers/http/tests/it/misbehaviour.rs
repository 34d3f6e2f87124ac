//! Servers that hang, break off, or never end.

use std::time::Duration;

use reveille_http::Http;
use tokio::net::TcpListener;

use crate::{
    server::{Reply, Server},
    stage::Stage,
};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn one_that_refuses_is_an_error_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let message = Stage::new().error(&Http::get(format!("http://{address}/jobs?key=secret"))).await;
    assert!(message.contains(&format!("http://{address}/jobs gave no answer")), "{message}");
    assert!(message.contains("refused") && !message.contains("secret"), "{message}");
}

#[tokio::test]
async fn one_with_no_address_is_an_error() {
    let message = Stage::new().error(&Http::get("http://nobody.invalid/")).await;
    assert!(message.contains("http://nobody.invalid/ gave no answer"), "{message}");
}

#[tokio::test]
async fn one_that_hangs_is_an_error_and_its_connection_is_dropped() {
    for said in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"] {
        let mut server = Server::saying(Reply::Hang(said.into())).await;
        let message = Stage::new().error(&Http::get(server.url("/")).time_out(SHORT)).await;
        assert!(message.contains("gave no whole answer within 300ms"), "{message}");
        server.all_closed().await;
    }
}

#[tokio::test]
async fn one_that_drips_is_an_error_however_much_it_says_in_the_end() {
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", "HTTP/1.1 200 OK\r\nx-long: "] {
        let mut server = Server::saying(Reply::Drip(head.into())).await;
        let message = Stage::new().error(&Http::get(server.url("/")).time_out(SHORT)).await;
        assert!(message.contains("gave no whole answer within 300ms"), "{message}");
        server.all_closed().await;
    }
}

#[tokio::test]
async fn one_that_closes_early_is_an_error() {
    for (said, part) in [
        ("", "gave no answer"),
        ("HTTP/1.1 200 OK\r\ncont", "gave no answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "answered 200, and broke off"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "answered 200, and broke off"),
    ] {
        let server = Server::saying(Reply::Close(said.into())).await;
        let message = Stage::new().error(&Http::get(server.url("/"))).await;
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn one_that_speaks_no_http_is_an_error() {
    for (said, part) in [
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "gave no answer"),
        ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "gave no answer"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n", "answered 200, and broke off"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "gave no answer"),
    ] {
        let mut server = Server::saying(Reply::Hang(said.into())).await;
        let message = Stage::new().error(&Http::get(server.url("/"))).await;
        assert!(message.contains(part), "{message}");
        server.all_closed().await;
    }
}

#[tokio::test]
async fn headers_without_end_are_an_error() {
    let mut server = Server::saying(Reply::Endless("HTTP/1.1 200 OK\r\nx-long: ".into())).await;
    let message = Stage::new().error(&Http::get(server.url("/"))).await;
    assert!(message.contains("gave no answer"), "{message}");
    server.all_closed().await;
}
