//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::time::Duration;

use reveille_command::Command;
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::json;

fn refusal(command: &Command) -> String {
    let error = command.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["command"; 2]);
}

#[test]
fn an_argv_is_all_that_must_be_given() {
    let command: Command = serde_json::from_value(json!({"argv": ["/bin/check", "a"]})).expect("a spec");
    assert_eq!(command, Command::new("/bin/check").arg("a").directory("/").within(Duration::from_secs(30)));
    assert_eq!(command.spacing(), Spacing::default());
    assert_eq!(command.time_out(), Some(Duration::from_secs(30)));
    assert_eq!(command.destination().as_deref(), Some("/bin/check"));
}

#[test]
fn a_program_is_written_from_the_root_and_leads_nowhere_back() {
    assert!(serde_json::from_value::<Command>(json!({"argv": []})).expect("a spec").validate().is_err());
    for path in ["", "check", "./check", "~/check"] {
        assert!(refusal(&Command::new(path)).starts_with("the program in `argv` is "), "{path}");
    }
    for path in ["/bin/../check", "/bin/./check", "/bin//check", "/bin/check/"] {
        assert!(refusal(&Command::new(path)).contains("without `.`, `..`"), "{path}");
        assert!(refusal(&Command::new("/bin/check").directory(path)).starts_with("`directory` is "), "{path}");
    }
    assert!(Command::new("/bin/..check").directory("/srv/.hidden").validate().is_ok());
}

#[test]
fn what_no_program_can_be_given_is_refused() {
    let command = Command::new("/bin/check");
    assert!(refusal(&command.clone().arg("a\0")).contains("NUL"));
    assert!(refusal(&command.clone().env("A", "\0")).contains("NUL"));
    assert!(refusal(&command.clone().env("A=B", "")).contains("names a variable \"A=B\""));
    assert!(refusal(&command.clone().env("", "")).contains("names a variable \"\""));
    assert!(command.clone().arg("x".repeat(65_526)).validate().is_ok());
    assert!(refusal(&command.arg("x".repeat(65_527))).contains("have 65537 bytes, and may have 65536"));
}

#[test]
fn times_that_cannot_work_are_refused() {
    let command = Command::new("/bin/check");
    assert!(refusal(&command.clone().every(Duration::ZERO)).starts_with("`every` is zero"));
    let growing = Spacing::growing(Duration::ZERO, Duration::from_secs(1));
    assert!(refusal(&command.clone().spaced(growing)).starts_with("`every` is zero"));
    assert!(refusal(&command.clone().within(Duration::ZERO)).starts_with("`time_out` is zero"));
    assert!(refusal(&command.within(Duration::from_secs(3601))).starts_with("`time_out` is zero or longer"));
}
