//! Proxies, which only the environment of a whole process names.

use std::env;

use reveille_http::Http;
use tokio::process::Command;

use crate::{
    server::{Server, answer},
    stage::Stage,
};

const ROLE: &str = "REVEILLE_TEST_LOOKS_THROUGH_A_PROXY";

#[tokio::test]
async fn a_proxy_is_taken_from_the_environment_but_not_for_hosts_that_need_none() {
    if let Ok(direct) = env::var(ROLE) {
        assert_eq!(Stage::new().fired(&Http::get("http://nobody.invalid/x")).await.status, 203);
        assert_eq!(Stage::new().fired(&Http::get(direct)).await.status, 201);
        return;
    }
    let (proxy, direct) = (Server::saying(answer(203, &[], "")).await, Server::saying(answer(201, &[], "")).await);
    let child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "proxies::a_proxy_is_taken_from_the_environment_but_not_for_hosts_that_need_none"])
        .env(ROLE, direct.url("/y"))
        .env("http_proxy", proxy.url(""))
        .env("no_proxy", "127.0.0.1")
        .output()
        .await
        .expect("a process");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!((proxy.last().target.as_str(), proxy.asked().len()), ("http://nobody.invalid/x", 1));
    assert_eq!((direct.last().target.as_str(), direct.asked().len()), ("/y", 1));
}
