//! What one command does, another sees: on both databases, with nobody serving.

use super::shell::Shell;
use crate::stage::Backend;

on_both! {
    fn a_task_that_is_added_is_listed_and_shown(shell) {
        let task = shell.add(&["report", "--step", r#"{"day": 1}"#, "--queue", "night", "--priority", "high"]);

        let listed = &shell.json(&["task", "list"])[0];
        assert_eq!(listed["id"], task.to_string());
        assert_eq!((&listed["name"], &listed["queue"], &listed["priority"]), (&"report".into(), &"night".into(), &"high".into()));
        let shown = shell.show(task);
        assert_eq!(shown["step"], serde_json::json!({ "day": 1 }));
        assert_eq!(shown["why"], "is ready, and no worker is live");
        assert_eq!(shown["history"][0]["why"], "enqueued");
        assert!(shown["enqueued_at"].as_str().unwrap().ends_with('Z'));
    }
}

on_both! {
    fn a_limit_is_stored_and_shown(shell) {
        let task = shell.add(&["report", "--limit", "api=eu=3"]);
        let slot = serde_json::json!({ "key": "api=eu", "limit": 3, "number": null });
        assert_eq!(shell.show(task)["slot"], slot);
    }
}

on_both! {
    fn lists_are_narrowed(shell) {
        let batch = "01997d3e-8f00-7000-8000-000000000001";
        shell.add(&["report", "--queue", "night"]);
        shell.add(&["report", "--batch", batch, "--after", "1h"]);
        let count = |arguments: &[&str]| shell.json(&[&["task", "list"], arguments].concat()).as_array().unwrap().len();
        for (arguments, expected) in [
            (&["--queue", "night"][..], 1),
            (&["--name", "report"], 2),
            (&["--name", "other"], 0),
            (&["--batch", batch], 1),
            (&["--state", "deferred"], 1),
            (&["--limit", "1"], 1),
        ] {
            assert_eq!(count(arguments), expected, "{arguments:?}");
        }
    }
}

on_both! {
    fn a_signal_resumes_the_task_that_waits_for_it(shell) {
        let task = shell.add(&["report", "--when", r#"{"signal": {"key": "order 42"}}"#, "--deadline", "2h"]);
        let why = shell.run(&["task", "show", &task.to_string()]).expect(0).stdout;
        assert!(why.starts_with("The task has waited for 1s for the signal order 42; its deadline is in "), "{why}");
        assert!(why.contains("task signal 'order 42'"), "{why}");

        let sent = shell.json(&["task", "signal", "order 42", "--payload", r#"{"cents": 5}"#]);

        assert_eq!(sent["resumed"], 1);
        let shown = shell.show(task);
        assert_eq!(shown["state"], "ready");
        assert_eq!(shown["event"]["payload"], serde_json::json!({ "cents": 5 }));
    }
}

on_both! {
    fn a_signal_is_kept_for_the_task_to_come(shell) {
        let id = "01997d3e-8f00-7000-8000-000000000002";
        for _ in 0..2 {
            assert_eq!(shell.json(&["task", "signal", "early", "--id", id])["resumed"], 0);
        }
        let [first, second] = [(); 2].map(|()| shell.add(&["report", "--when", r#"{"signal": {"key": "early"}}"#]));
        assert_eq!(shell.show(first)["state"], "ready");
        assert_eq!(shell.show(second)["state"], "deferred", "a signal that is sent twice under one id is sent once");
    }
}

on_both! {
    fn a_task_that_is_cancelled_stays_so(shell) {
        let task = shell.add(&["report", "--after", "1h"]).to_string();
        assert_eq!(shell.json(&["task", "cancel", &task, "--reason", "not needed"])["outcome"], "cancelled");
        assert_eq!(shell.json(&["task", "cancel", &task])["outcome"], "before");
        let shown = shell.run(&["task", "show", &task]).expect(0).stdout;
        assert!(shown.starts_with("The task was cancelled just now: not needed."), "{shown}");
    }
}

on_both! {
    fn a_task_with_a_dedupe_key_is_added_once(shell) {
        let arguments = ["report", "--dedupe", "2030-01-01"];
        let task = shell.add(&arguments);
        let again = shell.json(&[&["task", "add"], &arguments[..]].concat());
        assert_eq!(again["id"], task.to_string());
        assert_eq!(again["added"], false);
        assert_eq!(shell.tasks(), 1);
    }
}

on_both! {
    fn a_task_with_an_id_of_the_callers_is_added_once(shell) {
        let arguments = ["task", "add", "report", "--id", "01997d3e-8f00-7000-8000-000000000003"];
        assert_eq!(shell.json(&arguments)["added"], true);
        assert_eq!(shell.json(&arguments)["added"], false);
        assert_eq!(shell.tasks(), 1);
    }
}

on_both! {
    fn a_queue_is_paused_until_it_is_resumed(shell) {
        let task = shell.add(&["report", "--queue", "night shift"]);
        shell.run(&["queue", "pause", "night shift"]).expect(0);
        let queue = &shell.json(&["queue", "list"])[0];
        assert_eq!((&queue["name"], &queue["ready"]), (&"night shift".into(), &1.into()));
        assert!(queue["paused_at"].is_string());
        assert!(shell.show(task)["advice"].as_str().unwrap().contains("queue resume 'night shift'"));

        shell.run(&["queue", "resume", "night shift"]).expect(0);

        assert!(shell.json(&["queue", "list"])[0]["paused_at"].is_null());
    }
}

on_both! {
    fn the_doctor_finds_that_nobody_serves(shell) {
        shell.add(&["report"]);
        let report = shell.run(&["--json", "doctor"]).expect(1);
        let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
        assert_eq!(report["ok"], false);
        let bad: Vec<_> = report["checks"].as_array().unwrap().iter().filter(|line| line["state"] == "bad").collect();
        assert!(bad.iter().all(|line| line["check"] == "finding" && line["help"].is_string()), "{report}");
        assert!(bad.iter().any(|line| line["message"].as_str().unwrap().contains("report")), "{report}");
    }
}

on_both! {
    fn migrating_again_changes_nothing(shell) {
        let again = shell.json(&["migrate"]);
        assert_eq!(again["applied"], serde_json::json!([]));
        assert_eq!(again["key_is_new"], false);
    }
}

on_both! {
    fn the_schema_can_be_read_without_applying_it(shell) {
        let text = shell.run(&["migrate", "--sql"]).expect(0).stdout;
        assert!(text.starts_with("-- migration 0001: "), "{text}");
        assert!(text.contains("create table reveille_task"), "{text}");
        assert_eq!(shell.json(&["migrate", "--sql"])[0]["version"], 1);
    }
}

#[test]
fn printing_the_schema_makes_nothing() {
    let shell = Shell::new();
    shell.run(&["migrate", "--sql"]).expect(0);
    assert!(!shell.path("reveille.db").exists() && !shell.path("reveille.key").exists());
}

#[test]
fn a_task_that_no_live_worker_knows_is_added_with_a_warning() {
    let shell = Shell::migrated(Backend::Sqlite);
    let answer = shell.run(&["task", "add", "report"]).expect(0);
    assert!(answer.stdout.starts_with("added report to the queue default: "), "{answer:?}");
    assert!(answer.stderr.contains("warning: no worker is live"), "{answer:?}");
    assert!(answer.stderr.contains("help: start one"), "{answer:?}");
    assert_eq!(shell.tasks(), 1);
}

#[test]
fn what_is_in_the_binary_is_listed() {
    let linked = Shell::new().json(&["kinds"]);
    for kind in ["file", "signal", "task", "timer"] {
        assert!(linked["triggers"].as_array().unwrap().contains(&kind.into()), "{linked}");
    }
}

#[test]
fn an_answer_that_nobody_reads_is_no_error() {
    assert!(Shell::new().unread(&["migrate", "--sql"]).success());
}

#[test]
fn many_commands_share_one_sqlite_file() {
    let shell = Shell::migrated(Backend::Sqlite);
    let ends = shell.at_once(16, &["task", "add", "report"]);
    assert!(ends.iter().all(std::process::ExitStatus::success), "{ends:?}");
    assert_eq!(shell.tasks(), 16);
}
