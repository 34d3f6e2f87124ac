//! What holds for every trigger, and for this one.

use std::fs;

use acme_triggers::StatusFile;
use reveille_trigger::{
    Answer, Context, Memory, Timestamp,
    checks::{golden_specs, may_be_dropped, never_blocks, round_trips},
};

fn context() -> Context {
    Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default())
}

#[test]
fn the_golden_spec_reads_and_is_written_as_it_was() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["status_file"]);
    round_trips(&StatusFile::at("/srv/export/status", "done"));
}

#[tokio::test]
async fn it_fires_when_the_file_says_so() {
    let path = std::env::temp_dir().join(format!("status-{}", std::process::id()));
    let trigger = StatusFile::at(&path, "done");
    let fires = async || matches!(never_blocks(&trigger, context).await, Ok(Answer::Fire(_)));
    assert!(!fires().await, "it is not there");
    fs::write(&path, "running").expect("a status");
    assert!(!fires().await, "it says something else");
    fs::write(&path, "done\n").expect("a status");
    assert!(fires().await);
    may_be_dropped(&trigger, context).await;
    fs::remove_file(&path).expect("its removal");
}
