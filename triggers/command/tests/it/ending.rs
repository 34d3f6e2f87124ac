//! That nothing of a run is left, however it ends.

use reveille_command::Command;
use reveille_trigger::{
    Outcome, Trigger,
    checks::{may_be_dropped, never_blocks},
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::unix::pipe, runtime::Runtime};

use crate::stage::{Fifo, context, outcome, shell};

/// Runs a check until its program says that it is ready, and drops it.
async fn drop_when_ready(command: &Command, fifo: &mut Fifo) {
    let cx = context(json!({"allow": ["/bin/sh"]}));
    tokio::select! {
        answer = command.check(&cx) => panic!("it ended: {answer:?}"),
        line = fifo.line() => assert_eq!(line, "ready"),
    }
}

#[tokio::test]
async fn a_dropped_check_ends_the_program_and_its_grandchildren() {
    let mut fifo = Fifo::new();
    let script = fifo.held_by("(sleep 1000 & (sleep 1000 & sleep 1000)) & echo ready >&3; sleep 1000");
    drop_when_ready(&shell(&script), &mut fifo).await;
    assert_eq!(fifo.closed().await, "");
}

#[tokio::test]
async fn a_program_is_asked_to_end_before_it_is_killed() {
    let mut fifo = Fifo::new();
    let script =
        fifo.held_by("trap 'echo aside; echo asked >&3; exit' TERM; echo ready >&3; while :; do sleep 0.05; done");
    drop_when_ready(&shell(&script), &mut fifo).await;
    assert_eq!(fifo.closed().await, "asked\n");
}

#[tokio::test]
async fn a_program_that_does_not_end_when_asked_is_killed_with_all_it_started() {
    let mut fifo = Fifo::new();
    let script = fifo.held_by("trap '' TERM; sh -c 'while :; do sleep 1000; done' & echo ready >&3; wait; wait");
    drop_when_ready(&shell(&script), &mut fifo).await;
    assert_eq!(fifo.closed().await, "");
}

#[tokio::test]
async fn a_flood_that_never_ends_is_ended() {
    let mut fifo = Fifo::new();
    let script = fifo.held_by("echo ready >&3; exec yes");
    drop_when_ready(&shell(&script), &mut fifo).await;
    assert_eq!(fifo.closed().await, "");
}

#[tokio::test]
async fn what_a_program_leaves_behind_ends_with_it() {
    let mut fifo = Fifo::new();
    let script = fifo.held_by("trap '' TERM; sleep 1000 & echo left one behind");
    assert_eq!(outcome(&shell(&script)).await, Outcome::Resume(json!("left one behind")));
    assert_eq!(fifo.closed().await, "");
}

#[tokio::test]
async fn a_program_that_closes_its_output_is_waited_for() {
    let fifo = Fifo::new();
    let script = format!("exec >&- 2>&-; sleep 0.2; echo ended > '{}'", fifo.path("ended").display());
    assert_eq!(outcome(&shell(&script)).await, Outcome::Resume(json!(null)));
    assert_eq!(fifo.read_file("ended"), "ended\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_that_leaves_the_group_holds_up_no_answer() {
    let mut fifo = Fifo::new();
    // It says that it has left, and waits for a line, with the output of the check in its hands.
    let (left, end) = (fifo.path("left"), fifo.path("end"));
    let script = fifo.held_by(&format!(
        "mkfifo '{left}' '{end}'; setsid sh -c \"echo >'{left}'; read line <'{end}'\" & read line <'{left}'; echo answered",
        left = left.display(),
        end = end.display()
    ));
    assert_eq!(outcome(&shell(&script)).await, Outcome::Resume(json!("answered")));
    let mut writer = pipe::OpenOptions::new().read_write(true).open_sender(end).expect("the pipe it waits for");
    writer.write_all(b"end\n").await.expect("a line");
    assert_eq!(fifo.closed().await, "");
}

#[test]
fn the_end_of_the_runtime_ends_the_program() {
    let (checks, tests) = (Runtime::new().expect("a runtime"), Runtime::new().expect("a runtime"));
    tests.block_on(async {
        let mut fifo = Fifo::new();
        let script = fifo.held_by("trap '' TERM; echo ready >&3; sleep 1000 & wait");
        checks.spawn(async move { shell(&script).check(&context(json!({"allow": ["/bin/sh"]}))).await });
        assert_eq!(fifo.line().await, "ready");
        checks.shutdown_background();
        assert_eq!(fifo.closed().await, "");
    });
}

#[tokio::test]
async fn fifty_runs_at_a_time_end_as_they_should() {
    let runs = (0..50).map(|number| {
        tokio::spawn(async move { (number, outcome(&shell(&format!("sleep 0.1; echo {number}"))).await) })
    });
    for run in runs.collect::<Vec<_>>() {
        let (number, outcome) = run.await.expect("a run");
        assert_eq!(outcome, Outcome::Resume(json!(number)));
    }
}

#[tokio::test]
async fn a_run_may_be_dropped_wherever_it_waits_and_holds_up_no_thread() {
    let allowed = || context(json!({"allow": ["/bin/sh"]}));
    assert!(may_be_dropped(&shell("echo done"), allowed).await > 0);
    never_blocks(&shell("sleep 1"), allowed).await.expect("an answer");
}
