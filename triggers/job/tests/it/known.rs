//! The APIs that are ready-made, each against a server that answers as its documentation says.

use reveille_job::Job;
use serde_json::{Value, json};

use crate::{
    service::Service,
    stage::{Seen, Stage, state_of},
};

/// Looks once at a job that the server describes so.
async fn look(job: &Job, base: &str, said: Value) -> Seen {
    let service = Service::saying([(200, said)]).await;
    Stage::new(&service.url(base)).check(job).await
}

/// What a client asks, and how it cancels.
async fn lines(job: &Job, base: &str, running: Value) -> Vec<String> {
    let service = Service::saying([(200, running), (202, json!({}))]).await;
    let mut stage = Stage::new(&service.url(base));
    assert_eq!(stage.check(job).await, Seen::NotYet);
    stage.cancel(job).await.expect("it is cancelled");
    assert!(service.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer t0ken"));
    service.lines()
}

#[tokio::test]
async fn databricks() {
    let job = Job::databricks("api", 455_644_833);
    // From the documentation of `runs/get`, without the parts that are not looked at.
    let run = |life: &str, result: Option<&str>| {
        let mut run = json!({
            "job_id": 11_223_344, "run_id": 455_644_833, "number_in_job": 455_644_833, "run_name": "A job run",
            "state": {"life_cycle_state": life, "state_message": "", "user_cancelled_or_timedout": false},
            "start_time": 1_625_060_460_483_u64, "run_type": "JOB_RUN",
        });
        if let Some(result) = result {
            run["state"]["result_state"] = result.into();
            run["state"]["state_message"] = format!("It is {result}.").into();
        }
        run
    };
    for life in ["QUEUED", "PENDING", "RUNNING", "BLOCKED", "WAITING_FOR_RETRY"] {
        assert_eq!(look(&job, "", run(life, None)).await, Seen::NotYet, "{life}");
    }
    // The cluster is still being cleaned up.
    assert_eq!(look(&job, "", run("TERMINATING", Some("SUCCESS"))).await, Seen::NotYet);
    for result in ["SUCCESS", "SUCCESS_WITH_FAILURES"] {
        assert_eq!(state_of(&look(&job, "", run("TERMINATED", Some(result))).await), result);
    }
    for result in [
        "FAILED",
        "TIMEDOUT",
        "CANCELED",
        "MAXIMUM_CONCURRENT_RUNS_REACHED",
        "EXCLUDED",
        "UPSTREAM_FAILED",
        "UPSTREAM_CANCELED",
        "DISABLED",
    ] {
        let reason = format!("the job ended as \"{result}\": It is {result}.");
        assert_eq!(look(&job, "", run("TERMINATED", Some(result))).await, Seen::Failed(reason));
    }
    for life in ["SKIPPED", "INTERNAL_ERROR"] {
        assert_eq!(look(&job, "", run(life, None)).await, Seen::Failed(format!("the job ended as \"{life}\"")));
    }
    let asked = ["GET /api/2.2/jobs/runs/get?run_id=455644833", "POST /api/2.2/jobs/runs/cancel"];
    assert_eq!(lines(&job, "", run("RUNNING", None)).await, asked);
}

#[tokio::test]
async fn databricks_is_told_which_run_to_cancel() {
    let service = Service::saying([(200, json!({}))]).await;
    Stage::new(&service.url("")).cancel(&Job::databricks("api", 7)).await.expect("it is cancelled");
    assert_eq!(service.asked()[0].body, json!({"run_id": 7}));
}

#[tokio::test]
async fn dbt_cloud() {
    let job = Job::dbt_cloud("api", 1, 200);
    let run = |status: u8, message: Option<&str>| {
        json!({
            "status": {"code": 200, "is_success": true, "user_message": "Success!", "developer_message": ""},
            "data": {
                "id": 200, "account_id": 1, "job_definition_id": 5, "status": status, "status_message": message,
                "is_complete": status >= 10, "is_success": status == 10, "is_error": status == 20,
                "is_cancelled": status == 30,
            },
        })
    };
    for status in [1, 2, 3] {
        assert_eq!(look(&job, "", run(status, None)).await, Seen::NotYet, "{status}");
    }
    assert_eq!(state_of(&look(&job, "", run(10, None)).await), 10);
    let failed = look(&job, "", run(20, Some("Database error"))).await;
    assert_eq!(failed, Seen::Failed("the job ended as 20: Database error".to_owned()));
    assert_eq!(look(&job, "", run(30, None)).await, Seen::Failed("the job ended as 30".to_owned()));
    let asked = ["GET /api/v2/accounts/1/runs/200/", "POST /api/v2/accounts/1/runs/200/cancel/"];
    assert_eq!(lines(&job, "", run(3, None)).await, asked);
}

#[tokio::test]
async fn airbyte() {
    let job = Job::airbyte("api", 1234);
    let said = |status: &str| {
        json!({
            "jobId": 1234, "status": status, "jobType": "sync", "startTime": "2023-03-25T01:30:50Z",
            "lastUpdatedAt": "2023-03-25T01:35:10Z", "connectionId": "18dccc91-0ab1-4f72-9ed7-0b8fc27c5826",
            "duration": "PT8H6M12S",
        })
    };
    for status in ["pending", "running", "incomplete"] {
        assert_eq!(look(&job, "/v1", said(status)).await, Seen::NotYet, "{status}");
    }
    assert_eq!(state_of(&look(&job, "/v1", said("succeeded")).await), "succeeded");
    for status in ["failed", "cancelled"] {
        assert_eq!(look(&job, "/v1", said(status)).await, Seen::Failed(format!("the job ended as \"{status}\"")));
    }
    assert_eq!(lines(&job, "/v1", said("running")).await, ["GET /v1/jobs/1234", "DELETE /v1/jobs/1234"]);
}

#[tokio::test]
async fn livy() {
    let job = Job::livy("api", 3);
    let said = |state: &str| {
        json!({
            "id": 3, "name": null, "owner": null, "proxyUser": null, "state": state, "appId": "application_1",
            "appInfo": {"driverLogUrl": null, "sparkUiUrl": null}, "log": ["stdout: ", "\nstderr: "],
        })
    };
    for state in ["not_started", "starting", "recovering", "idle", "running", "busy", "shutting_down"] {
        assert_eq!(look(&job, "", said(state)).await, Seen::NotYet, "{state}");
    }
    assert_eq!(state_of(&look(&job, "", said("success")).await), "success");
    for state in ["error", "dead", "killed"] {
        assert_eq!(look(&job, "", said(state)).await, Seen::Failed(format!("the job ended as \"{state}\"")));
    }
    assert_eq!(lines(&job, "", said("running")).await, ["GET /batches/3", "DELETE /batches/3"]);
}

#[tokio::test]
async fn github_actions() {
    let job = Job::github_actions("api", "octo-org", "octo.repo", 30_433_642);
    let said = |status: &str, conclusion: Option<&str>| {
        json!({
            "id": 30_433_642, "name": "Build", "head_branch": "main", "run_number": 562, "event": "push",
            "status": status, "conclusion": conclusion, "workflow_id": 159_038, "run_attempt": 1,
        })
    };
    for status in ["requested", "queued", "pending", "waiting", "in_progress"] {
        assert_eq!(look(&job, "", said(status, None)).await, Seen::NotYet, "{status}");
    }
    assert_eq!(look(&job, "", said("completed", Some("action_required"))).await, Seen::NotYet);
    for conclusion in ["success", "neutral", "skipped"] {
        assert_eq!(state_of(&look(&job, "", said("completed", Some(conclusion))).await), conclusion);
    }
    for conclusion in ["failure", "cancelled", "timed_out", "stale", "startup_failure"] {
        let reason = format!("the job ended as \"{conclusion}\"");
        assert_eq!(look(&job, "", said("completed", Some(conclusion))).await, Seen::Failed(reason));
    }
    let run = "/repos/octo-org/octo.repo/actions/runs/30433642";
    assert_eq!(lines(&job, "", said("queued", None)).await, [format!("GET {run}"), format!("POST {run}/cancel")]);

    let service = Service::saying([(200, said("queued", None))]).await;
    Stage::new(&service.url("")).check(&job).await;
    let headers = &service.asked()[0].headers;
    assert_eq!(headers["accept"], "application/vnd.github+json");
    assert_eq!(headers["x-github-api-version"], "2022-11-28");
    assert!(headers["user-agent"].starts_with("reveille/"));
}
