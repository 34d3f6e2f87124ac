//! What the end of a program means, and what it may use.

use reveille_command::Command;
use reveille_trigger::{Answer, Outcome, Trigger};
use serde_json::{Value, json};

use crate::stage::{answer, context, outcome, shell};

#[tokio::test]
async fn exit_code_0_fires_with_the_output() {
    for (script, payload) in [
        ("echo '{\"rows\": 7}'", json!({"rows": 7})),
        ("echo two words; echo an aside >&2", json!("two words")),
        ("true", Value::Null),
    ] {
        assert_eq!(outcome(&shell(script)).await, Outcome::Resume(payload), "{script}");
    }
}

#[tokio::test]
async fn exit_code_1_is_not_yet() {
    assert!(matches!(answer(&shell("echo soon; exit 1")).await, Ok(Answer::NotYet)));
}

#[tokio::test]
async fn any_other_exit_code_ends_the_wait_badly_and_says_why() {
    let reason = "\"/bin/sh\" ended with exit code 3: no such export".to_owned();
    assert_eq!(outcome(&shell("echo no such export >&2; exit 3")).await, Outcome::Fail(reason));
    let reason = "\"/bin/sh\" ended with exit code 255".to_owned();
    assert_eq!(outcome(&shell("exit 255")).await, Outcome::Fail(reason));
}

#[tokio::test]
async fn a_program_that_a_signal_killed_may_be_tried_again() {
    let error = answer(&shell("echo low on memory >&2; kill -9 $$")).await.expect_err("an error");
    assert!(!error.is_fatal());
    assert_eq!(error.to_string(), "\"/bin/sh\" was killed by signal 9: low on memory");
}

#[tokio::test]
async fn what_cannot_be_started_may_be_tried_again() {
    for command in [Command::new("/bin/no-such-program"), shell("true").directory("/no/such/directory")] {
        let error = answer(&command).await.expect_err("an error");
        assert!(!error.is_fatal());
        assert!(error.to_string().contains("No such file or directory"), "{error}");
    }
}

#[tokio::test]
async fn nothing_is_allowed_unless_the_configuration_says_so() {
    for settings in [json!({}), json!({"allow": []}), json!({"allow": ["/bin/true"], "env": ["*"]})] {
        let error = shell("true").check(&context(settings)).await.expect_err("a refusal");
        assert!(!error.is_fatal());
        assert!(error.to_string().contains("\"/bin/sh\" is not allowed to run here"), "{error}");
    }
    let error = shell("true").check(&context(json!({"allowed": []}))).await.expect_err("a refusal");
    assert!(error.to_string().contains("unknown field `allowed`"), "{error}");
}

#[tokio::test]
async fn a_path_that_leads_back_is_refused_also_when_it_was_stored() {
    let cx = context(json!({"allow": ["/**"]}));
    let error = Command::new("/bin/../bin/true").check(&cx).await.expect_err("a refusal");
    assert!(error.is_fatal(), "{error}");
}

#[tokio::test]
async fn the_environment_is_what_is_passed_on_and_what_the_spec_names() {
    let command = Command::new("/bin/env").arg("-0").env("STAGE", "a b").env("STAGE_2", "");
    let Outcome::Resume(Value::String(text)) = outcome(&command).await else { panic!("text") };
    let mut names: Vec<&str> = text.split_terminator('\0').map(|it| it.split('=').next().expect("a name")).collect();
    names.retain(|name| !["PATH", "HOME", "LANG"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["STAGE", "STAGE_2"]);
    assert!(text.contains("STAGE=a b\0") && text.contains("PATH="), "{text:?}");
}

#[tokio::test]
async fn a_variable_that_is_not_allowed_is_refused() {
    let error = answer(&shell("true").env("LD_PRELOAD", "/tmp/x.so")).await.expect_err("a refusal");
    assert!(error.to_string().contains("the variable \"LD_PRELOAD\" may not be set here"), "{error}");
}

#[tokio::test]
async fn its_input_is_empty_and_its_directory_the_one_that_is_asked_for() {
    let command = shell("cat; pwd").directory("/usr/bin");
    assert_eq!(outcome(&command).await, Outcome::Resume(json!("/usr/bin")));
    assert_eq!(outcome(&shell("pwd")).await, Outcome::Resume(json!("/")));
}

#[tokio::test]
async fn arguments_are_no_script() {
    let command = Command::new("/bin/echo").args(["$HOME", "*", "a;b"]);
    assert_eq!(outcome(&command).await, Outcome::Resume(json!("$HOME * a;b")));
}

#[tokio::test]
async fn a_flood_of_output_is_drained_and_cut() {
    let flood = "head -c 20000000 /dev/zero | tr '\\0' e >&2; head -c 20000000 /dev/zero | tr '\\0' x";
    let Outcome::Resume(Value::String(text)) = outcome(&shell(flood)).await else { panic!("text") };
    assert_eq!(text.len(), 64 * 1024 + "\n[cut: 65536 bytes of 20000000]".len());
    assert!(text.starts_with("xxx") && text.ends_with("[cut: 65536 bytes of 20000000]"));

    let Outcome::Fail(reason) = outcome(&shell(&format!("{flood}; exit 2"))).await else { panic!("a reason") };
    assert!(reason.ends_with("eee") && reason.len() < 2200, "{} bytes", reason.len());
}
