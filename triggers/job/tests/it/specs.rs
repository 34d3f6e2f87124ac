//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::{fs, path::Path, time::Duration};

use reveille_job::{Api, Job, States};
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::{Value, json};

fn read(spec: Value) -> serde_json::Result<Box<dyn Trigger>> {
    serde_json::from_value(spec)
}

fn refusal(job: &Job) -> String {
    let error = job.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs").join(name);
    serde_json::from_slice(&fs::read(path).expect("a golden spec")).expect("json")
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["job"; 3]);
}

#[test]
fn the_builder_says_what_a_spec_says() {
    let run = Job::github_actions("github", "octo-org", "octo-repo", 30_433_642)
        .every(Duration::from_secs(30))
        .leave_running();
    assert_eq!(serde_json::to_value(run).expect("json"), golden("github_actions.json")["job"]);
    let states = States::at("$.state").done(["done"]).failed(["failed"]).not_yet(["queued", "running"]);
    let api = Api::poll("/exports/{id}")
        .header("accept", "application/json")
        .states(states)
        .message("$.error")
        .cancel("/exports/{id}/cancel");
    let own = Job::on(api)
        .connection("warehouse")
        .param("id", "2026-01-01")
        .spaced(Spacing::growing(Duration::from_secs(1), Duration::from_mins(1)))
        .time_out(Duration::from_secs(5));
    assert_eq!(serde_json::to_value(own).expect("json"), golden("own.json")["job"]);
}

#[test]
fn unknown_fields_of_an_api_are_refused() {
    for spec in [
        json!({"api": {"url": "/x", "states": [], "method": "GET"}}),
        json!({"api": {"url": "/x", "states": [{"path": "$.a", "success": [1]}]}}),
        json!({"api": {"url": "/x", "states": [], "cancel": {"url": "/y", "headers": {}}}}),
    ] {
        let error = read(json!({"job": spec})).expect_err("an error").to_string();
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[test]
fn what_can_never_work_is_refused_by_the_name_of_its_field() {
    let done = || States::at("$.state").done(["done"]);
    for (job, part) in [
        (Job::of("jenkins"), "`api` \"jenkins\" is not ready-made (airbyte, databricks,"),
        (Job::of("livy").connection("api"), "`params` has no \"batch_id\""),
        (Job::of("livy").connection("api").param("batch_id", "3"), "must be an integer, with no quotes"),
        (Job::livy("api", 3).param("batch", 3), "`params` has \"batch\", which is none"),
        (Job::github_actions("api", "..", "repo", 3), "`params` has \"owner\", which can be no part of a path"),
        (Job::github_actions("api", "", "repo", 3), "`params` has \"owner\", which can be no part of a path"),
        (Job::on(Api::poll("/{id}").states(done())).connection("api").param("id", 1.5), "must be a text or an integer"),
        (Job::of("livy").param("batch_id", 3), "`url` is no URL"),
        (Job::on(Api::poll("/x")).connection("api"), "`api`: `states` has no `done`"),
        (
            Job::on(Api::poll("/x").states(done()).states(States::at("$.b"))).connection("api"),
            "`api`: `states` has \"$.b\"",
        ),
        (Job::on(Api::poll("/x").states(States::at("b").done([1]))).connection("api"), "`api`: `path` \"b\""),
        (Job::on(Api::poll("/x").states(done()).message("$.")).connection("api"), "`api`: `path` \"$.\""),
        (Job::on(Api::poll("/x").states(done()).header("cookie", "a")).connection("api"), "`headers` "),
        (Job::on(Api::poll("http://h/").states(done()).cancel("cancel")), "`cancel`: `url` is no URL"),
        (Job::livy("api", 3).every(Duration::ZERO), "`every` is zero"),
        (Job::livy("api", 3).time_out(Duration::ZERO), "`time_out` "),
    ] {
        assert!(refusal(&job).contains(part), "{}", refusal(&job));
    }
}
