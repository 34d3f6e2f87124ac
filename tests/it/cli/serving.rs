//! Processes that serve, and what the other commands see of them.

use super::shell::Shell;
use crate::stage::Backend;

const JOINED: &str = "worker: worker";

#[test]
fn dev_makes_what_it_needs_and_runs_a_task_to_its_end() {
    let shell = Shell::new();
    let dev = shell.start(&["dev"], " joined");
    let task = shell.add(&["hello", "--step", r#"{"greet": {"whom": "you"}}"#]);
    shell.wait_for(task, "deferred");
    assert_eq!(shell.json(&["task", "signal", "hello/you", "--payload", r#""morning""#])["resumed"], 1);

    let ended = shell.wait_for(task, "succeeded");

    assert_eq!(ended["end"]["result"], "morning");
    let moves: Vec<_> =
        ended["history"].as_array().unwrap().iter().map(|moved| moved["why"].as_str().unwrap()).collect();
    assert_eq!(moves, ["enqueued", "claimed", "deferred", "signal", "claimed", "finished"]);
    dev.signal("TERM");
    assert_eq!(dev.end(), Some(0));
}

#[test]
fn all_is_well_while_both_roles_serve_and_not_after() {
    let shell = Shell::new();
    let dev = shell.start(&["dev"], JOINED);
    dev.wait_for_log("triggerer: triggerer");
    let report = shell.run(&["doctor"]).expect(0).stdout;
    assert!(report.ends_with("all is well\n"), "{report}");
    let roles: Vec<_> =
        shell.json(&["replica", "list"]).as_array().unwrap().iter().map(|line| line["life"].clone()).collect();
    assert_eq!(roles, ["live", "live"]);

    dev.signal("INT");
    assert_eq!(dev.end(), Some(0));

    shell.run(&["doctor"]).expect(1);
    assert!(shell.json(&["replica", "list"]).as_array().unwrap().iter().all(|line| line["life"] == "left"));
}

#[test]
fn the_roles_serve_in_processes_of_their_own() {
    let shell = Shell::migrated(Backend::Postgres);
    let triggerer = shell.start(&["triggerer", "--label", "east", "--capacity", "7", "--queues", "a,b"], " joined");
    let worker = shell.start(&["worker", "--label", "west"], " joined");

    let replicas = shell.json(&["replica", "list"]);

    let of = |role: &str| replicas.as_array().unwrap().iter().find(|line| line["role"] == role).unwrap().clone();
    assert_eq!((&of("triggerer")["label"], &of("triggerer")["capacity"]), (&"east".into(), &7.into()));
    assert_eq!(of("triggerer")["queues"], serde_json::json!(["a", "b"]));
    assert_eq!((&of("worker")["label"], &of("worker")["queues"]), (&"west".into(), &serde_json::Value::Null));
    for process in [triggerer, worker] {
        process.signal("TERM");
        assert_eq!(process.end(), Some(0));
    }
}

#[test]
fn a_task_may_wait_for_a_file_before_it_begins() {
    let shell = Shell::new();
    let _dev = shell.start(&["dev"], " joined");
    let file = shell.path("data.csv").to_str().unwrap().to_owned();
    let when = format!(r#"{{"file": {{"path": "{file}", "settle": "0s", "every": "50ms"}}}}"#);
    let task = shell.add(&["hello", "--step", r#"{"greet": {"whom": "you"}}"#, "--when", &when]);
    assert_eq!(shell.show(task)["state"], "deferred");

    shell.write("data.csv", "1,2\n");

    shell.json(&["task", "signal", "hello/you"]);
    shell.wait_for(task, "succeeded");
}

#[test]
fn a_name_that_the_live_workers_do_not_know_is_warned_of() {
    let shell = Shell::new();
    let _dev = shell.start(&["dev"], JOINED);
    let answer = shell.run(&["task", "add", "helo"]).expect(0);
    assert!(answer.stderr.contains("no live worker knows a task named \"helo\": they know "), "{answer:?}");
    assert!(answer.stderr.contains("help: start a worker whose binary has it"), "{answer:?}");
    assert_eq!(shell.run(&["task", "add", "hello"]).expect(0).stderr, "");
}

#[test]
fn a_step_that_does_not_decode_is_left_alone_and_reported() {
    let shell = Shell::new();
    let dev = shell.start(&["dev"], JOINED);
    let task = shell.add(&["hello", "--step", r#"{"great": 1}"#]);
    dev.wait_for_log("unknown variant `great`, expected `greet` or `hear`");
    let shown = shell.wait_for(task, "ready");
    assert_eq!(shown["history"].as_array().unwrap().last().unwrap()["why"], "released");
}

#[test]
fn logs_are_json_for_programs_and_answers_stay_on_stdout() {
    let shell = Shell::new();
    let dev = shell.start(&["--log-format", "json", "dev"], " joined");
    for line in dev.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
}

/// A task that waits in the worker's own slot, and so runs until it is answered.
fn busy(shell: &Shell) -> reveille::id::TaskId {
    let task = shell.add(&["hello", "--step", r#"{"greet": {"whom": "you"}}"#]);
    shell.wait_for(task, "running");
    task
}

#[test]
fn what_runs_is_finished_before_the_process_ends() {
    let mut shell = Shell::new();
    shell.set("REVEILLE_WORKER_DEFERRABLE", "false");
    let dev = shell.start(&["dev"], JOINED);
    let task = busy(&shell);
    dev.signal("TERM");
    dev.wait_for_log("SIGTERM: stopping");

    shell.json(&["task", "signal", "hello/you"]);

    assert_eq!(dev.end(), Some(0));
    assert_eq!(shell.show(task)["state"], "succeeded");
}

#[test]
fn work_that_outlasts_the_drain_is_dropped_and_the_exit_code_says_so() {
    let mut shell = Shell::new();
    shell.set("REVEILLE_WORKER_DEFERRABLE", "false");
    shell.set("REVEILLE_WORKER_DRAIN", "100ms");
    let dev = shell.start(&["dev"], JOINED);
    let task = busy(&shell);
    dev.signal("TERM");
    assert_eq!(dev.end(), Some(1));

    let _dev = shell.start(&["dev"], JOINED);
    shell.json(&["task", "signal", "hello/you"]);
    shell.wait_for(task, "succeeded");
}

#[test]
fn a_second_interrupt_does_not_wait_for_what_runs() {
    let mut shell = Shell::new();
    shell.set("REVEILLE_WORKER_DEFERRABLE", "false");
    let dev = shell.start(&["dev"], JOINED);
    busy(&shell);
    dev.signal("INT");
    dev.wait_for_log("SIGINT: stopping");
    dev.signal("INT");
    assert_eq!(dev.end(), Some(130));
}
