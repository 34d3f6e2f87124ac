//! When a file counts as settled.

use std::{fs, time::Duration};

use reveille_file::File;
use reveille_trigger::{Context, Memory, Timestamp, checks::may_be_dropped};

use crate::stage::{SECOND, Stage, fired};

#[tokio::test]
async fn a_settled_file_fires_with_its_size() {
    let mut stage = Stage::new();
    stage.write("a.csv", "seven b");
    let file = File::at(stage.path("a.csv"));
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 7)]));
}

#[tokio::test]
async fn a_missing_file_or_parent_is_not_there_yet() {
    let mut stage = Stage::new();
    for name in ["a.csv", "later/a.csv", "later/*.csv", "*/a.csv", "**/*.csv"] {
        let file = File::matching(stage.path(name));
        assert_eq!(stage.settle(&file).await, None, "{name}");
    }
    let file = File::matching(stage.path("later/*.csv"));
    stage.write("later/a.csv", "");
    assert_eq!(stage.settle(&file).await, fired([("later/a.csv", 0)]));
}

#[tokio::test]
async fn a_parent_that_is_a_file_is_not_there_yet() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    for name in ["a.csv/b.csv", "a.csv/*.csv", "a.csv/**/*.csv"] {
        let file = File::matching(stage.path(name));
        assert_eq!(stage.settle(&file).await, None, "{name}");
    }
}

#[tokio::test]
async fn a_growing_file_does_not_fire() {
    let mut stage = Stage::new();
    let file = File::at(stage.path("a.csv"));
    for content in ["1", "12", "123", "1234"] {
        stage.write("a.csv", content);
        assert_eq!(stage.check(&file).await, None);
        stage.turn_clock(10 * SECOND);
    }
    assert_eq!(stage.check(&file).await, fired([("a.csv", 4)]));
}

#[tokio::test]
async fn a_rewrite_of_equal_size_starts_settling_anew() {
    let mut stage = Stage::new();
    stage.write("a.csv", "old");
    stage.modified("a.csv", 1);
    let file = File::at(stage.path("a.csv"));
    assert_eq!(stage.check(&file).await, None);
    stage.write("a.csv", "new");
    stage.modified("a.csv", 2);
    stage.turn_clock(2 * SECOND);
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 3)]));
}

#[tokio::test]
async fn another_file_renamed_into_place_starts_settling_anew() {
    let mut stage = Stage::new();
    stage.write("a.csv", "old");
    stage.write("b.csv", "new");
    // Only the inode tells them apart.
    stage.modified("a.csv", 1);
    stage.modified("b.csv", 1);
    let file = File::at(stage.path("a.csv"));
    assert_eq!(stage.check(&file).await, None);
    fs::rename(stage.path("b.csv"), stage.path("a.csv")).expect("a rename");
    stage.turn_clock(2 * SECOND);
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 3)]));
}

#[tokio::test]
async fn a_file_that_went_and_came_back_starts_settling_anew() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    let file = File::at(stage.path("a.csv"));
    assert_eq!(stage.check(&file).await, None);
    fs::rename(stage.path("a.csv"), stage.path("away")).expect("a rename");
    assert_eq!(stage.check(&file).await, None);
    fs::rename(stage.path("away"), stage.path("a.csv")).expect("a rename");
    stage.turn_clock(2 * SECOND);
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 0)]));
}

#[tokio::test]
async fn a_change_of_hands_starts_settling_anew() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    let file = File::at(stage.path("a.csv"));
    assert_eq!(stage.check(&file).await, None);
    stage.turn_clock(2 * SECOND);
    stage.change_hands();
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 0)]));
}

#[tokio::test]
async fn settling_takes_as_long_as_the_spec_says() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    let file = File::at(stage.path("a.csv")).settle(5 * SECOND);
    for _ in 0..5 {
        assert_eq!(stage.check(&file).await, None);
        stage.turn_clock(Duration::from_millis(999));
    }
    assert_eq!(stage.check(&file).await, None);
    stage.turn_clock(Duration::from_millis(5));
    assert_eq!(stage.check(&file).await, fired([("a.csv", 0)]));
}

#[tokio::test]
async fn the_time_that_a_look_takes_does_not_count() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    let file = File::at(stage.path("a.csv"));
    stage.look_takes = SECOND;
    // The first look may have seen the file as late as at 1, the third as early as at 2.
    for _ in 0..3 {
        assert_eq!(stage.check(&file).await, None);
    }
    assert_eq!(stage.check(&file).await, fired([("a.csv", 0)]));
}

#[tokio::test]
async fn with_nothing_to_settle_the_first_look_fires() {
    let mut stage = Stage::new();
    let file = File::at(stage.path("a.csv")).settle(Duration::ZERO);
    assert_eq!(stage.check(&file).await, None);
    stage.write("a.csv", "1");
    assert_eq!(stage.check(&file).await, fired([("a.csv", 1)]));
}

#[tokio::test]
async fn an_error_between_two_looks_forgets_nothing() {
    let mut stage = Stage::new();
    stage.write("in/a.csv", "");
    let file = File::at(stage.path("in/a.csv"));
    assert_eq!(stage.check(&file).await, None);
    fs::rename(stage.path("in"), stage.path("away")).expect("a rename");
    std::os::unix::fs::symlink("in", stage.path("in")).expect("a link to itself");
    assert!(stage.try_check(&file).await.is_err());
    fs::remove_file(stage.path("in")).expect("the link");
    fs::rename(stage.path("away"), stage.path("in")).expect("a rename");
    stage.turn_clock(2 * SECOND);
    assert_eq!(stage.check(&file).await, fired([("in/a.csv", 0)]));
}

#[tokio::test]
async fn a_directory_settles_when_entries_no_longer_come() {
    let mut stage = Stage::new();
    stage.write("in/a.csv", "12345");
    stage.modified("in", 1);
    let file = File::at(stage.path("in"));
    assert_eq!(stage.check(&file).await, None);
    stage.write("in/b.csv", "");
    stage.modified("in", 2);
    stage.turn_clock(2 * SECOND);
    assert_eq!(stage.settle(&file).await, fired([("in", 0)]));
}

#[tokio::test]
async fn a_look_may_be_dropped_wherever_it_waits() {
    let stage = Stage::new();
    stage.write("a.csv", "");
    let context = || Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default());
    for pattern in ["a.csv", "**/*.csv"] {
        may_be_dropped(&File::matching(stage.path(pattern)).settle(Duration::ZERO), context).await;
    }
}
