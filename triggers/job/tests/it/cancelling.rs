//! What becomes of a job whose task is cancelled.

use reveille_http::Method;
use reveille_job::{Api, Job, States};
use serde_json::{Value, json};

use crate::{service::Service, stage::Stage};

fn api() -> Api {
    Api::poll("/jobs/{id}")
        .states(States::at("$.state").done(["done"]).failed(["failed"]).not_yet(["running"]))
        .cancel_by(Method::Put, "/jobs/{id}/state", Some(json!({"to": "cancelled", "id": "{id}"})))
}

fn job() -> Job {
    Job::on(api()).connection("api").param("id", 7)
}

/// A server that answers the cancelling so, and says this of the job.
async fn service(status: u16, job: (u16, Value)) -> Service {
    Service::answering(move |asked| {
        if asked.line.starts_with("GET") { (job.0, "", job.1.clone()) } else { (status, "", json!(null)) }
    })
    .await
}

#[tokio::test]
async fn the_job_is_cancelled_as_its_api_wants_it() {
    for status in [200, 202, 204] {
        let service = service(status, (500, json!(null))).await;
        Stage::new(&service.url("")).cancel(&job()).await.expect("it is cancelled");
        assert_eq!(service.lines(), ["PUT /jobs/7/state"]);
        assert_eq!(service.asked()[0].body, json!({"to": "cancelled", "id": 7}));
        assert_eq!(service.asked()[0].headers["authorization"], "Bearer t0ken");
    }
}

#[tokio::test]
async fn a_job_that_has_ended_or_is_gone_needs_no_cancelling() {
    for status in [400, 404, 405, 409, 410, 422] {
        for ended in
            [(200, json!({"state": "done"})), (200, json!({"state": "failed"})), (404, json!({})), (410, json!({}))]
        {
            let service = service(status, ended.clone()).await;
            Stage::new(&service.url(""))
                .cancel(&job())
                .await
                .unwrap_or_else(|error| panic!("{status} {ended:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn a_job_that_goes_on_is_cancelled_again_or_reported() {
    for (status, fatal) in [
        (302, false),
        (401, false),
        (403, false),
        (408, false),
        (409, false),
        (429, false),
        (500, false),
        (503, false),
        (400, true),
        (404, true),
        (422, true),
    ] {
        let service = service(status, (200, json!({"state": "running"}))).await;
        let error = Stage::new(&service.url("")).cancel(&job()).await.expect_err("an error");
        assert_eq!(error.is_fatal(), fatal, "{status}: {error}");
        assert!(error.to_string().contains("the job is not cancelled"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_tell_is_asked_again() {
    let service = service(400, (500, json!(null))).await;
    let error = Stage::new(&service.url("")).cancel(&job()).await.expect_err("an error");
    assert!(!error.is_fatal(), "{error}");
    let error = Stage::new("http://127.0.0.1:1").cancel(&job()).await.expect_err("an error");
    assert!(!error.is_fatal(), "{error}");
}

#[tokio::test]
async fn a_job_that_is_to_go_on_is_left_alone() {
    let service = service(200, (200, json!({"state": "running"}))).await;
    let mut stage = Stage::new(&service.url(""));
    stage.cancel(&job().leave_running()).await.expect("nothing to do");
    let without = Api::poll("/jobs/7").states(States::at("$.state").done(["done"]));
    stage.cancel(&Job::on(without).connection("api")).await.expect("nothing to do");
    assert_eq!(service.lines(), [] as [&str; 0]);
}
