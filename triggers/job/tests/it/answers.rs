//! What answers mean, whatever the API.

use reveille_job::{Api, Job, States};
use reveille_trigger::Trigger;
use serde_json::json;

use crate::{
    service::Service,
    stage::{Seen, Stage, state_of},
};

fn job() -> Job {
    let states = States::at("$.state").done(["done"]).failed(["failed"]).not_yet(["running"]);
    Job::on(Api::poll("/jobs/{id}").states(states).message("$.error").cancel("/jobs/{id}/cancel"))
        .connection("api")
        .param("id", "a/b")
}

#[tokio::test]
async fn a_job_that_ends_well_fires_with_what_is_said_of_it() {
    let service =
        Service::saying([(200, json!({"state": "running"})), (200, json!({"state": "done", "rows": 7}))]).await;
    let mut stage = Stage::new(&service.url("/v1"));
    assert_eq!(stage.check(&job()).await, Seen::NotYet);
    let seen = stage.check(&job()).await;
    assert_eq!(state_of(&seen), "done");
    assert!(matches!(seen, Seen::Done(ended) if ended.job == json!({"state": "done", "rows": 7})));
    assert_eq!(service.lines(), ["GET /v1/jobs/a%2Fb", "GET /v1/jobs/a%2Fb"]);
}

#[tokio::test]
async fn a_job_that_fails_says_why_in_a_bearable_length() {
    let service = Service::saying([(200, json!({"state": "failed", "error": "é".repeat(1000)}))]).await;
    let Seen::Failed(reason) = Stage::new(&service.url("")).check(&job()).await else { panic!("it has not failed") };
    assert_eq!(reason, format!("the job ended as \"failed\": {}…", "é".repeat(500)));
}

#[tokio::test]
async fn a_state_that_nobody_knows_is_an_error_that_names_it() {
    for (body, part) in [(json!({"state": "new"}), "\"new\" at \"$.state\""), (json!({}), "nothing at \"$.state\"")] {
        let service = Service::saying([(200, body)]).await;
        let error = Stage::new(&service.url("")).try_check(&job()).await.expect_err("an error");
        assert!(!error.is_fatal() && error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_state_counts_in_a_successful_answer_only() {
    for (status, fatal) in [(404, false), (401, false), (500, false), (304, false), (400, true), (410, true)] {
        let service = Service::saying([(status, json!({"state": "done"}))]).await;
        let error = Stage::new(&service.url("")).try_check(&job()).await.expect_err("an error");
        assert_eq!(error.is_fatal(), fatal, "{status}: {error}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_gives_etags_is_asked_for_what_is_new() {
    let service = Service::answering(|asked| {
        if asked.headers.contains_key("if-none-match") {
            (304, "", json!(null))
        } else {
            (200, "etag: \"1\"\r\n", json!({"state": "running"}))
        }
    })
    .await;
    let mut stage = Stage::new(&service.url(""));
    for _ in 0..3 {
        assert_eq!(stage.check(&job()).await, Seen::NotYet);
    }
    let asked: Vec<bool> = service.asked().iter().map(|asked| asked.headers.contains_key("if-none-match")).collect();
    assert_eq!(asked, [false, true, true]);
}

#[tokio::test]
async fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_says() {
    let service = Service::answering(|_| (429, "retry-after: 33\r\n", json!(null))).await;
    let mut stage = Stage::new(&service.url(""));
    let error = stage.try_check(&job()).await.expect_err("an error");
    assert_eq!(error.retry_after().map(|delay| delay.as_secs()), Some(33));
    let error = stage.cancel(&job()).await.expect_err("an error");
    assert_eq!(error.retry_after().map(|delay| delay.as_secs()), Some(33));
}

#[test]
fn what_the_runtime_asks_of_it() {
    assert_eq!(job().destination().as_deref(), Some("connection api"));
}
