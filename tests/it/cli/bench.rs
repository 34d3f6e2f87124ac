//! What `reveille bench` measures, and that it leaves nothing behind.

use serde_json::Value;

use super::shell::Shell;
use crate::stage::Backend;

const TRIGGERS: f64 = 40.0;

/// A second of it: 40 triggers, checked every 37.5 to 50 ms.
fn poll(shell: &Shell, kind: &str) -> Value {
    let report =
        shell.json(&["bench", "poll", "--kind", kind, "--triggers", "40", "--every", "50ms", "--seconds", "1"]);
    assert_eq!((&report["scenario"], &report["kind"]), (&"poll".into(), &kind.into()), "{report}");
    assert_eq!((&report["triggers"], &report["replicas"]), (&40.into(), &1.into()), "{report}");
    report
}

fn figure(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("there is no figure {name} in {report}"))
}

on_both! {
    fn polls_are_counted_and_what_they_cost(shell) {
        let report = poll(shell, "file");
        // No more than the shortest spacing lets through, each once more for what was under way; and that they are made
        // at all, however slow this machine is.
        let polls = figure(&report, "polls_per_s");
        assert!((TRIGGERS..=TRIGGERS / 0.0375 + TRIGGERS).contains(&polls), "{report}");
        assert_eq!(report["polls_failed"], 0, "{report}");
        assert!(figure(&report, "seconds") >= 1.0, "{report}");
        assert!(figure(&report, "cpu_percent") > 0.0, "{report}");
        let lag = |name: &str| figure(&report["lag_ms"], name);
        assert!(lag("p50") <= lag("p99") && lag("p99") <= lag("max"), "{report}");
        if cfg!(target_os = "linux") {
            assert!(figure(&report, "rss_bytes") > figure(&report, "rss_bytes_per_trigger"), "{report}");
        }
    }
}

on_both! {
    fn the_server_has_answered_what_the_triggerer_counts(shell) {
        let report = poll(shell, "http");
        assert_eq!(report["polls_failed"], 0, "{report}");
        let (polls, served) = (figure(&report, "polls_per_s"), figure(&report, "served_per_s"));
        // But for those under way at the beginning, and at the end.
        assert!(polls >= TRIGGERS && (polls - served).abs() <= TRIGGERS, "{report}");
    }
}

/// A figure that is told beside that of plain SQL, where there is a server for it.
fn beside_floor(report: &Value, name: &str) {
    let reached = figure(report, name);
    assert!(reached > 0.0, "{report}");
    if report["backend"] == "postgres" {
        let ratio = reached / figure(report, "floor_per_s");
        assert!((figure(report, "ratio_to_floor") - ratio).abs() < 1e-9, "{report}");
    } else {
        assert_eq!((&report["floor_per_s"], &report["ratio_to_floor"]), (&Value::Null, &Value::Null), "{report}");
    }
}

on_both! {
    fn a_burst_is_timed_to_its_last_event(shell) {
        for kind in ["active", "passive"] {
            let report = shell.json(&["bench", "burst", "--kind", kind, "--triggers", "40"]);
            beside_floor(&report, "events_per_s");
            let lag = |name: &str| figure(&report["lag_ms"], name);
            assert!(lag("p50") <= lag("p99") && lag("p99") <= lag("max"), "{report}");
            assert!((figure(&report, "events_per_s") - 40_000.0 / lag("max").max(1.0)).abs() < 1e-9, "{report}");
        }
    }
}

on_both! {
    fn all_that_is_free_is_picked_up(shell) {
        let report = shell.json(&["bench", "pickup", "--triggers", "40"]);
        beside_floor(&report, "pickup_per_s");
    }
}

on_both! {
    fn tasks_go_all_the_way(shell) {
        let before = shell.things();
        let report = shell.json(&["bench", "cycle", "--tasks", "40"]);
        beside_floor(&report, "cycles_per_s");
        assert_eq!(shell.things(), before);
    }
}

on_both! {
    fn a_server_may_be_further_away(shell) {
        let cycle = ["bench", "cycle", "--tasks", "40", "--delay", "20"];
        if shell.json(&["bench", "cycle", "--tasks", "1"])["backend"] == "sqlite" {
            shell.run(&cycle).refused(2, &["no network before SQLite", "leave out --delay"]);
            return;
        }
        let report = shell.json(&cycle);
        assert_eq!(report["delay_ms"], 20, "{report}");
        // Nine transactions of three round trips each at least, one after the other.
        assert!(figure(&report, "seconds") >= 0.5, "{report}");
        // As for the floor: seven, the first with four.
        assert!(figure(&report, "floor_per_s") <= 40.0 / 0.5, "{report}");
        for what in ["burst", "pickup"] {
            assert_eq!(shell.json(&["bench", what, "--triggers", "40", "--delay", "1"])["delay_ms"], 1);
        }
    }
}

on_both! {
    fn it_ends_though_others_sleep_in_the_same_tables(shell) {
        for (what, count, figure) in [
            ("burst", "--triggers", "events_per_s"),
            ("pickup", "--triggers", "pickup_per_s"),
            ("cycle", "--tasks", "cycles_per_s"),
        ] {
            let report = shell.json(&["bench", what, count, "40", "--asleep", "1001"]);
            assert_eq!(report["asleep"], 1_001, "{report}");
            beside_floor(&report, figure);
        }
    }
}

on_both! {
    fn it_works_beside_what_is_there_and_leaves_nothing_behind(shell) {
        shell.add(&["report"]);
        let before = shell.things();
        let poll = ["bench", "poll", "--triggers", "4", "--seconds", "1"];
        let in_schema = |name| [&poll[..], &["--schema", name]].concat();
        if shell.is_on_a_server() {
            shell.run(&poll).refused(2, &["schema public of this database holds tasks", "--schema NAME"]);
            shell.run(&in_schema("public")).refused(2, &["\"public\" already exists", "name another"]);
            shell.json(&in_schema("mine"));
        } else {
            // A file of its own is beside whatever there is.
            shell.json(&poll);
            shell.run(&in_schema("mine")).refused(2, &["SQLite has no schemas", "leave out --schema"]);
        }
        assert_eq!((shell.things(), shell.tasks()), (before, 1));
    }
}

on_both! {
    fn nothing_is_left_of_one_that_is_interrupted(shell) {
        let before = shell.things();
        let bench = ["bench", "poll", "--kind", "http", "--triggers", "10", "--seconds", "1h", "--log", "reveille=info"];
        let bench = shell.start(&bench, "joined, with room for 10 triggers");
        bench.signal("INT");
        assert_eq!(bench.end(), Some(130));
        let log = |thing: &String| !thing.starts_with("log-");
        assert_eq!(shell.things().into_iter().filter(log).collect::<Vec<_>>(), before);
    }
}

/// By how much more pages are found in memory of deeper trees for each row, and how many more the search may take: in which
/// order it goes to the table differs with how much lies there.
const DEEPER: f64 = 1.25;
const SEARCH: f64 = 150.0;

on_both! {
    fn what_cannot_run_costs_those_who_look_for_work_nothing(shell) {
        let report = shell.json(&["bench", "stuck", "--triggers", "100000"]);
        assert_eq!((&report["scenario"], &report["triggers"]), (&"stuck".into(), &100_000.into()), "{report}");
        let work = |of: &str, name: &str| figure(&report[of], name);
        for taking in ["claim", "lease"] {
            let (before, after) = (format!("{taking}_before"), format!("{taking}_after"));
            assert!(work("took_ms", &after) > 0.0, "{report}");
            if report["backend"] == "sqlite" {
                assert!(work("steps", &after) <= 1.01 * work("steps", &before), "{report}");
                continue;
            }
            assert!(work("buffers", &after) <= DEEPER * work("buffers", &before), "{report}");
            assert!(work("search_buffers", &after) <= work("search_buffers", &before) + SEARCH, "{report}");
        }
    }
}

on_both! {
    fn a_soak_is_sampled_and_drawn(shell) {
        let (before, seconds) = (shell.things(), 5.0);
        let bench = ["--json", "bench", "soak", "--seconds", "5", "--rate", "40", "--svg", "soak.svg"];
        // In so short a time tables only grow, and it says so by its exit code.
        let answer = shell.run(&bench);
        assert!([Some(0), Some(1)].contains(&answer.code), "{answer:#?}");
        let report: Value = serde_json::from_str(&answer.stdout).unwrap();
        let flat = report["flat"].as_array().unwrap();
        assert_eq!(answer.code == Some(0), flat.iter().all(|one| one["is_flat"] == true), "{report}");
        let measures: Vec<_> = flat.iter().map(|one| one["measure"].as_str().unwrap()).collect();
        assert!(["memory", "tokio tasks", "lag p99"].iter().all(|measure| measures.contains(measure)), "{measures:?}");

        let samples = report["samples"].as_array().unwrap();
        let of = |name: &str| samples.iter().map(|sample| figure(sample, name)).collect::<Vec<_>>();
        assert!(samples.len() >= 3 && of("at_s").is_sorted() && of("at_s").last() >= Some(&seconds), "{report}");
        let resumed = of("resumed");
        // All that came, but for what was still waiting a second, or as slow as this machine is.
        assert!(resumed.is_sorted() && resumed.last() >= Some(&40.0) && resumed.last() <= Some(&200.0), "{report}");
        assert!(of("descriptors").iter().chain(&of("tokio_tasks")).all(|count| *count > 0.0), "{report}");
        assert!(of("rss_bytes").iter().all(|bytes| *bytes > 1e6), "{report}");
        let taken = |sample: &Value| {
            let tables = sample["tables"].as_array().unwrap();
            tables.iter().map(|table| figure(table, "bytes") + figure(table, "index_bytes")).sum::<f64>()
        };
        assert!(samples.iter().map(taken).all(|bytes| bytes > 0.0), "{report}");
        assert!(std::fs::read_to_string(shell.path("soak.svg")).unwrap().contains("lag p99"));
        std::fs::remove_file(shell.path("soak.svg")).unwrap();
        assert_eq!(shell.things(), before);
    }
}
