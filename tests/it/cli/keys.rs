//! The key file: made once, needed always, and closed to others.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::shell::Shell;
use crate::stage::Backend;

#[test]
fn migrating_makes_a_key_file_for_the_owner_alone_and_keeps_it() {
    let shell = Shell::new();
    let made = shell.run(&["migrate"]).expect(0).stdout;
    assert!(made.contains("made the key file reveille.key: keep a copy"), "{made}");
    assert_eq!(fs::metadata(shell.path("reveille.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read(shell.path("reveille.key")).unwrap();
    shell.run(&["migrate"]).expect(0);
    assert_eq!(fs::read(shell.path("reveille.key")).unwrap(), key);
}

#[test]
fn the_key_file_lies_beside_the_database() {
    let shell = Shell::new();
    fs::create_dir(shell.path("data")).unwrap();
    shell.run(&["--database-url", "sqlite:data/mine.db", "migrate"]).expect(0);
    assert!(shell.path("data/reveille.key").exists());
    shell.run(&["--database-url", "sqlite:data/mine.db", "task", "list"]).expect(0);
}

#[test]
fn without_a_key_file_nothing_is_done() {
    let shell = Shell::migrated(Backend::Sqlite);
    fs::remove_file(shell.path("reveille.key")).unwrap();
    for command in [&["task", "list"][..], &["worker"], &["triggerer"], &["queue", "list"]] {
        shell
            .run(command)
            .refused(2, &["there is no key file reveille.key", "--key-file", "`reveille migrate` makes one"]);
    }
    let report = shell.run(&["doctor"]).expect(1).stdout;
    assert!(report.contains("✗ key file  there is no key file reveille.key"), "{report}");
    assert!(report.contains("- database  sqlite:reveille.db, for want of the key"), "{report}");
}

#[test]
fn connections_that_others_can_read_are_mentioned_and_not_shown() {
    let shell = Shell::migrated(Backend::Sqlite);
    let report = |mode| {
        fs::set_permissions(shell.path("reveille.toml"), fs::Permissions::from_mode(mode)).unwrap();
        let report = shell.run(&["doctor"]).stdout;
        assert!(!report.contains("hidden"), "{report}");
        report.contains("holds connections, and others on this host may read it")
    };
    shell.write("reveille.toml", "[connections.api]\nbearer = 'hidden'\n");
    assert!(report(0o644) && report(0o640) && !report(0o600));
    shell.write("reveille.toml", "log = 'info'\n");
    assert!(!report(0o644), "it holds no secret");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let shell = Shell::migrated(Backend::Sqlite);
    fs::set_permissions(shell.path("reveille.key"), fs::Permissions::from_mode(0o644)).unwrap();
    shell.run(&["task", "list"]).refused(2, &["can be read by others (mode 0644)", "run chmod 600"]);
    shell.run(&["doctor"]).expect(1);
}

#[test]
fn a_wrong_key_is_refused_before_anything_is_sealed_with_it() {
    let shell = Shell::migrated(Backend::Sqlite);
    shell.run(&["--database-url", "sqlite:other.db", "--key-file", "other.key", "migrate"]).expect(0);
    shell.run(&["--key-file", "other.key", "task", "add", "report"]).refused(2, &["is sealed with key", "--key-file"]);
    assert_eq!(shell.tasks(), 0);
}

#[test]
fn migrating_a_used_database_without_its_key_says_so_and_leaves_it_as_it_is() {
    let shell = Shell::migrated(Backend::Sqlite);
    fs::rename(shell.path("reveille.key"), shell.path("safe")).unwrap();
    shell.run(&["migrate"]).refused(2, &["is sealed with key", "which was only made now and seals nothing"]);
    fs::rename(shell.path("safe"), shell.path("reveille.key")).unwrap();
    shell.run(&["task", "list"]).expect(0);
}

#[test]
fn what_is_no_key_file_is_refused() {
    let shell = Shell::migrated(Backend::Sqlite);
    shell.run(&["--key-file", ".", "task", "list"]).refused(2, &["is not a regular file"]);
}
