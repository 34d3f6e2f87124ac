//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::{fs, path::Path, time::Duration};

use reveille_http::{Condition, Http, Test};
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::{Value, json};

fn read(spec: Value) -> serde_json::Result<Box<dyn Trigger>> {
    serde_json::from_value(spec)
}

fn refusal(http: &Http) -> String {
    let error = http.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["http"; 3]);
}

#[test]
fn a_url_is_all_that_must_be_given() {
    let http: Http = serde_json::from_value(json!({"url": "https://api.example.com/"})).expect("a spec");
    assert_eq!(http, Http::get("https://api.example.com/"));
    assert_eq!(http.spacing(), Spacing::every(Duration::from_secs(5)));
    http.validate().expect("a spec that can work");
}

#[test]
fn the_builder_says_what_a_spec_says() {
    let http = Http::post("/runs/search", json!({"id": 7}))
        .connection("warehouse")
        .header("accept", "application/json")
        .until_json("$.state", "done")
        .until(Condition::status(410).and(Condition::header("x-gone", Test::exists())))
        .fail_json("$.state", Test::one_of(["failed", "cancelled"]))
        .not_yet(400)
        .spaced(Spacing::growing(Duration::from_secs(1), Duration::from_mins(1)))
        .time_out(Duration::from_secs(90))
        .redirects(0)
        .max_body(4096);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs/all.json");
    let golden: Value = serde_json::from_slice(&fs::read(golden).expect("a golden spec")).expect("json");
    assert_eq!(serde_json::to_value(&http).expect("json"), golden["http"]);
}

#[test]
fn a_url_that_can_never_work_is_refused() {
    for url in ["", "/jobs/7", "jobs", "ftp://h/", "https://", "https://me:pw@h/", "mailto:a@b", "file:///x"] {
        assert!(refusal(&Http::get(url)).starts_with("`url` "), "{url}");
    }
    assert!(refusal(&Http::get("https://me:pw@h/")).contains("configure a connection"));
    assert!(refusal(&Http::get(format!("https://h/{}", "a".repeat(9000)))).contains("may have 8192"));
    assert!(Http::get("jobs/7").connection("api").validate().is_ok());
    assert!(refusal(&Http::get("ftp://h/").connection("api")).starts_with("`url` "));
    assert!(refusal(&Http::get("jobs/7").connection("")).starts_with("`connection` "));
}

#[test]
fn secrets_and_headers_that_the_client_sets_are_refused() {
    for (name, part) in
        [("Authorization", "connection"), ("cookie", "connection"), ("Host", "`url`"), ("Content-Length", "`body`")]
    {
        let message = refusal(&Http::get("https://h/").header(name, "x"));
        assert!(message.starts_with("`headers` ") && message.contains(part), "{message}");
    }
    assert!(refusal(&Http::get("https://h/").header("a b", "x")).starts_with("`headers` "));
    assert!(refusal(&Http::get("https://h/").header("a", "x\r\ny: z")).starts_with("`headers` "));
}

#[test]
fn limits_that_can_never_work_are_refused_by_the_name_of_their_field() {
    let http = || Http::get("https://h/");
    for (http, field) in [
        (http().every(Duration::ZERO), "`every`"),
        (http().time_out(Duration::ZERO), "`time_out`"),
        (http().time_out(Duration::from_mins(11)), "`time_out`"),
        (http().redirects(21), "`redirects`"),
        (http().max_body(0), "`max_body`"),
        (http().max_body(17 << 20), "`max_body`"),
        (http().until(20), "`until`: `status` 20"),
        (http().fail_json("state", 1), "`fail`: `path` \"state\""),
        (http().not_yet(Condition::header("a b", "c")), "`not_yet`: `name`"),
        (Http::head("https://h/").until_json("$.a", 1), "`method` HEAD"),
    ] {
        assert!(refusal(&http).starts_with(field), "{}", refusal(&http));
    }
    let head_with_body = json!({"url": "https://h/", "method": "HEAD", "body": "x"});
    assert!(refusal(&serde_json::from_value(head_with_body).expect("a spec")).starts_with("`body` "));
    assert!(read(json!({"http": {"url": "https://h/", "method": "get"}})).is_err());
    assert!(read(json!({"http": {"url": "https://h/", "time_out": "-1s"}})).is_err());
}
