//! What a path leads to.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink, time::Duration};

use reveille_file::File;

use crate::stage::{SECOND, Stage, fired};

/// A trigger for which to be there is enough: these tests are about what is found.
fn there(pattern: impl Into<camino::Utf8PathBuf>) -> File {
    File::matching(pattern).settle(Duration::ZERO)
}

#[tokio::test]
async fn a_pattern_fires_with_all_that_match_in_order() {
    let mut stage = Stage::new();
    for (name, content) in [("in/b.csv", "12"), ("in/a.csv", "1"), ("in/a.txt", ""), ("in/sub/c.csv", "")] {
        stage.write(name, content);
    }
    let file = File::matching(stage.path("in/*.csv"));
    assert_eq!(stage.settle(&file).await, fired([("in/a.csv", 1), ("in/b.csv", 2)]));
}

#[tokio::test]
async fn a_pattern_does_not_fire_while_one_match_grows_or_comes() {
    let mut stage = Stage::new();
    let file = File::matching(stage.path("*.csv"));
    for (name, content) in [("a.csv", "1"), ("b.csv", "1"), ("b.csv", "12"), ("c.csv", "")] {
        stage.write(name, content);
        assert_eq!(stage.check(&file).await, None);
        stage.turn_clock(2 * SECOND);
    }
    fs::remove_file(stage.path("c.csv")).expect("a match to go");
    assert_eq!(stage.settle(&file).await, fired([("a.csv", 1), ("b.csv", 2)]));
}

#[tokio::test]
async fn wildcards_may_stand_in_any_part_of_a_path() {
    let mut stage = Stage::new();
    for name in ["2026-01/eu/a.csv", "2026-02/us/a.csv", "2026-02/us/b.txt", "2025-12/eu/a.csv", "2026-01/a.csv"] {
        stage.write(name, "");
    }
    let file = there(stage.path("2026-[0-9][0-9]/??/a.*"));
    assert_eq!(stage.check(&file).await, fired([("2026-01/eu/a.csv", 0), ("2026-02/us/a.csv", 0)]));
}

#[tokio::test]
async fn two_stars_lead_to_any_depth_and_to_each_file_once() {
    let mut stage = Stage::new();
    for name in ["a.csv", "x/a.csv", "x/y/z/a.csv", "x/y/z/a.txt", ".hidden/a.csv", "x/.hidden.csv"] {
        stage.write(name, "");
    }
    symlink("..", stage.path("x/circle")).expect("a link");
    let expected = fired([("a.csv", 0), ("x/a.csv", 0), ("x/y/z/a.csv", 0)]);
    assert_eq!(stage.check(&there(stage.path("**/*.csv"))).await, expected);
    assert_eq!(stage.check(&there(stage.path("**/**/*.csv"))).await, expected);
    assert_eq!(stage.check(&there(stage.path("x/**/z/a.txt"))).await, fired([("x/y/z/a.txt", 0)]));
    stage.write("t/t/b.csv", "");
    assert_eq!(stage.check(&there(stage.path("**/t/**/b.csv"))).await, fired([("t/t/b.csv", 0)]));
}

#[tokio::test]
async fn hidden_names_match_only_where_the_dot_is_written() {
    let mut stage = Stage::new();
    stage.write(".a.csv", "");
    for pattern in ["*.csv", "?a.csv", "[.]a.csv", "*"] {
        assert_eq!(stage.check(&there(stage.path(pattern))).await, None, "{pattern}");
    }
    assert_eq!(stage.check(&there(stage.path(".*.csv"))).await, fired([(".a.csv", 0)]));
}

#[tokio::test]
async fn a_literal_path_may_have_brackets_and_stars_in_it() {
    let mut stage = Stage::new();
    for name in ["[1]*.csv", "1.csv", "1x.csv"] {
        stage.write(name, "");
    }
    let literal = File::at(stage.path("[1]*.csv")).settle(Duration::ZERO);
    assert_eq!(stage.check(&literal).await, fired([("[1]*.csv", 0)]));
    let escaped = there(stage.path("[[]1][*].csv"));
    assert_eq!(stage.check(&escaped).await, fired([("[1]*.csv", 0)]));
    let pattern = there(stage.path("[1]*.csv"));
    assert_eq!(stage.check(&pattern).await, fired([("1.csv", 0), ("1x.csv", 0)]));
}

#[tokio::test]
async fn a_slash_at_the_end_asks_for_a_directory() {
    let mut stage = Stage::new();
    stage.write("file", "");
    stage.write("directory/file", "");
    assert_eq!(stage.check(&there(stage.path("file/"))).await, None);
    assert_eq!(stage.check(&there(stage.path("*/"))).await, fired([("directory", 0)]));
}

#[tokio::test]
async fn links_are_followed_and_a_dangling_one_is_not_there() {
    let mut stage = Stage::new();
    symlink("target/a.csv", stage.path("a.csv")).expect("a link");
    assert_eq!(stage.check(&there(stage.path("*.csv"))).await, None);
    stage.write("target/a.csv", "12");
    assert_eq!(stage.check(&there(stage.path("*.csv"))).await, fired([("a.csv", 2)]));
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_that_names_it() {
    let mut stage = Stage::new();
    symlink("circle", stage.path("circle")).expect("a link to itself");
    for name in ["circle", "circ*", "circle/*.csv", "circle/**/*.csv", "c*/a.csv"] {
        let error = stage.try_check(&there(stage.path(name))).await.expect_err(name);
        assert!(!error.is_fatal());
        let message = error.to_string();
        assert!(message.contains("cannot look at") && message.contains("/circle"), "{message}");
    }
}

#[tokio::test]
async fn a_match_that_no_event_can_name_is_an_error_and_other_names_are_not() {
    let mut stage = Stage::new();
    stage.write("a.csv", "");
    fs::write(stage.path("").as_std_path().join(OsStr::from_bytes(b"\xff.csv")), "").expect("a file");
    let error = stage.try_check(&there(stage.path("*.csv"))).await.expect_err("an error");
    assert!(!error.is_fatal());
    assert!(error.to_string().contains("not UTF-8"));
    assert_eq!(stage.check(&there(stage.path("a*"))).await, fired([("a.csv", 0)]));
}

#[tokio::test]
async fn ten_thousand_matches_fire_and_one_more_is_refused() {
    let mut stage = Stage::new();
    // A hundred files, seen through a hundred links.
    for number in 0..100 {
        stage.write(&format!("target/{number}"), "");
        fs::create_dir_all(stage.path("in")).expect("a directory");
        symlink("../target", stage.path(&format!("in/{number}"))).expect("a link");
    }
    let file = there(stage.path("in/*/*"));
    assert_eq!(stage.check(&file).await.map(|files| files.len()), Some(10_000));
    stage.write("in/more/1", "");
    let error = stage.try_check(&file).await.expect_err("a refusal");
    assert!(error.is_fatal());
    assert!(error.to_string().contains("more than 10000 files or directories: narrow it"), "{error}");
}
