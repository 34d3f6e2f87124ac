//! `reveille bench takeover`, small: what it does to processes, and what it says of that.

use serde_json::Value;

use super::shell::Shell;
use crate::stage::Backend;

/// Three triggerers with a lease of 2 s, the first of which holds 30 triggers when this befalls it.
fn takeover(backend: Backend, fault: &str) -> Value {
    let shell = Shell::with_its_own_tmp(backend);
    let before = shell.things();
    let report = shell.json(&["bench", "takeover", "--triggers", "30", "--lease", "2s", "--fault", fault]);
    assert_eq!((&report["scenario"], &report["kind"]), (&"takeover".into(), &fault.into()), "{report}");
    assert_eq!((&report["lost"], &report["doubled"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(shell.things(), before);
    report
}

/// How soon the last trigger was elsewhere, in milliseconds.
fn last(report: &Value) -> u64 {
    report["takeover_ms"]["max"].as_u64().unwrap()
}

#[test]
fn nothing_of_one_that_hangs_is_taken_before_its_lease_is_over_and_nothing_is_done_twice() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let report = takeover(backend, "stop");
        // Its last renewal was less than a renewal period before.
        assert!(last(&report) > 2_000 - 667, "{report}");
    }
}

#[test]
fn all_of_one_that_is_killed_is_elsewhere_sooner_where_there_are_sessions() {
    let [embedded, server] = [Backend::Sqlite, Backend::Postgres].map(|backend| takeover(backend, "kill"));
    assert!(last(&embedded) > 2_000 - 667, "{embedded}");
    assert!(last(&server) >= 1_000, "a suspect has a second: {server}");
}

#[test]
fn all_of_one_that_is_asked_to_end_is_handed_over_at_once() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let report = takeover(backend, "term");
        // No lease passes: the shortest way to lose one is three periods long.
        assert!(last(&report) < 2_000 - 667, "{report}");
    }
}
