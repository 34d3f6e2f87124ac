//! What is refused, with what to do about it, and with nothing stored.

use super::shell::Shell;
use crate::stage::Backend;

/// Refused, and nothing stored.
fn refused(code: i32, arguments: &[&str], words: &[&str]) {
    let shell = Shell::migrated(Backend::Sqlite);
    shell.run(arguments).refused(code, words);
    assert_eq!(shell.tasks(), 0);
}

#[test]
fn an_unknown_kind_is_refused_with_those_that_are_known() {
    let when = r#"{"fiel": {"path": "/data"}}"#;
    refused(2, &["task", "add", "report", "--when", when], &["unknown kind \"fiel\"", "file, http, job, listen"]);
}

#[test]
fn a_wrong_field_of_a_trigger_is_refused_with_those_that_are_right() {
    let when = r#"{"file": {"pth": "/data"}}"#;
    refused(2, &["task", "add", "report", "--when", when], &["cannot wait on file", "`pth`", "`path`"]);
}

#[test]
fn a_trigger_that_can_never_work_is_refused_with_the_reason() {
    let when = r#"{"file": {"path": "data"}}"#;
    refused(2, &["task", "add", "report", "--when", when], &["`path` \"data\" is relative"]);
}

#[test]
fn a_trigger_that_is_not_written_as_one_is_refused_with_an_example() {
    refused(2, &["task", "add", "report", "--when", r#""file""#], &[r#"{"timer": {"after": "2h"}}"#]);
}

#[test]
fn a_limit_that_is_none_is_refused_with_how_to_write_it() {
    refused(2, &["task", "add", "report", "--limit", "api"], &["write it as KEY=N, such as api=3"]);
    refused(2, &["task", "add", "report", "--limit", "api=many"], &["\"many\" is no number of tasks", "KEY=N"]);
    refused(2, &["task", "add", "report", "--limit", "api=0"], &["1 to 10000 slots", "wait for ever"]);
    refused(2, &["task", "add", "report", "--limit", "=1"], &["1 to 200 bytes"]);
}

#[test]
fn a_pooler_before_a_file_is_refused() {
    let pooler = ["--database-pooler", "true", "task", "add", "report"];
    refused(2, &pooler, &["is a file, and no pooler stands before it", "leave database_pooler out"]);
}

#[test]
fn a_step_that_is_not_json_is_refused_with_how_to_quote_it() {
    refused(2, &["task", "add", "report", "--step", "{day: 1}"], &["--step is not JSON", "help: quote it"]);
}

#[test]
fn a_step_over_the_limit_is_refused_with_how_to_raise_it() {
    let step = format!("{:?}", "x".repeat(1_000));
    let arguments = ["--payload-limit", "100", "task", "add", "report", "--step", &step];
    refused(2, &arguments, &["the step is 1", "over the limit of 100", "raise --payload-limit"]);
}

#[test]
fn a_payload_over_the_limit_is_refused_and_the_signal_not_kept() {
    let shell = Shell::migrated(Backend::Sqlite);
    let payload = format!("{:?}", "x".repeat(1_000));
    shell
        .run(&["--payload-limit", "100", "task", "signal", "key", "--payload", &payload])
        .refused(2, &["the payload is 1", "over the limit of 100"]);
    let task = shell.add(&["report", "--when", r#"{"signal": {"key": "key"}}"#]);
    assert_eq!(shell.show(task)["state"], "deferred");
}

#[test]
fn a_signal_that_would_expire_at_once_is_refused() {
    refused(2, &["task", "signal", "key", "--kept", "0s"], &["--kept is under a second", "help: "]);
}

#[test]
fn an_id_that_is_none_is_refused_with_what_one_looks_like() {
    refused(2, &["task", "show", "42"], &["an id is a UUID such as 0"]);
}

#[test]
fn a_task_that_is_not_there_is_told_from_a_wrong_command() {
    let unknown = "01997d3e-8f00-7000-8000-000000000009";
    refused(1, &["task", "show", unknown], &["there is no task 01997d3e", "`reveille task list`"]);
    refused(1, &["task", "cancel", unknown], &["there is no task 01997d3e"]);
    refused(1, &["queue", "pause", "none"], &["there is no queue \"none\"", "help: "]);
}

#[test]
fn starting_at_a_time_and_after_a_while_exclude_each_other() {
    refused(2, &["task", "add", "report", "--after", "1h", "--at", "2030-01-01T00:00:00Z"], &["cannot be used with"]);
    refused(2, &["task", "add", "report", "--deadline", "1h"], &["--when"]);
    refused(2, &["task", "add", "report", "--dedupe-within", "1h"], &["--dedupe"]);
}

#[test]
fn a_time_that_is_none_is_refused_with_an_example() {
    refused(2, &["task", "add", "report", "--at", "noon"], &["\"noon\" is not a time", "2026-01-01T12:00:00Z"]);
    refused(2, &["task", "add", "report", "--after", "5"], &["\"5\" is not a duration", "such as 10s"]);
    refused(2, &["task", "add", "report", "--expires", "soon"], &["neither a time nor a duration"]);
}

#[test]
fn a_server_out_of_reach_has_an_exit_code_of_its_own_and_keeps_its_password() {
    let mut shell = Shell::migrated(Backend::Sqlite);
    shell.set("REVEILLE_DATABASE_URL", "postgres://me:secret@127.0.0.1:1/mine");
    let answer =
        shell.run(&["task", "list"]).refused(3, &[" while connecting: ", "help: ", "postgres://me@127.0.0.1:1/mine"]);
    assert!(!answer.stderr.contains("secret"), "{answer:?}");
}

#[test]
fn a_database_that_is_not_there_is_told_with_how_to_make_one() {
    let shell = Shell::new();
    shell.run(&["task", "list"]).refused(3, &["there is no database reveille.db", "`reveille migrate` makes one"]);
    assert!(!shell.path("reveille.db").exists());
}

#[test]
fn a_database_that_is_not_migrated_is_told_with_how_to() {
    let shell = Shell::migrated(Backend::Sqlite);
    shell.write("empty.db", "");
    let arguments = ["--database-url", "sqlite:empty.db", "task", "list"];
    shell.run(&arguments).refused(3, &["lacks 1 migration", "run `reveille migrate`"]);
}

#[test]
fn a_database_of_an_unknown_kind_is_refused_with_the_known_ones() {
    refused(2, &["--database-url", "mysql://there/mine", "task", "list"], &["sqlite:", "postgres://"]);
}

#[test]
fn a_command_that_is_none_is_refused_with_what_was_meant() {
    refused(2, &["tsk"], &["unrecognized subcommand 'tsk'", "'task'"]);
}

#[test]
fn programs_read_why_they_were_refused() {
    let shell = Shell::migrated(Backend::Sqlite);
    for (code, arguments, error) in [
        (2, &["task", "add"][..], "the following required arguments were not provided: <NAME>"),
        (2, &["task", "add", "report", "--when", r#"{"timer": {}}"#], "cannot wait on timer"),
        (1, &["task", "show", "01997d3e-8f00-7000-8000-000000000009"], "there is no task"),
        (3, &["--database-url", "sqlite:none.db", "task", "list"], "there is no database none.db"),
    ] {
        let answer = shell.run(&[&["--json"], arguments].concat()).expect(code);
        assert_eq!(answer.stdout, "");
        let report: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
        assert!(report["error"].as_str().unwrap().starts_with(error), "{report}");
        assert!(report["causes"].is_array(), "{report}");
    }
}

#[test]
fn help_tells_the_exit_codes_and_is_no_error() {
    let shell = Shell::new();
    let help = shell.run(&["--help"]).expect(0).stdout;
    for word in ["Exit codes:", "REVEILLE_TRIGGERER_CAPACITY", "doctor"] {
        assert!(help.contains(word), "{help}");
    }
    shell.run(&[]).expect(2);
}
