//! `reveille bench shares`, small: what processes hold, once they have settled.

use serde_json::Value;

use super::shell::Shell;
use crate::stage::Backend;

/// That something has happened, and who held how much then.
fn settled(stage: &Value, after: &str, labels: &[&str]) {
    let held = stage["held"].as_array().unwrap();
    let (names, counts): (Vec<_>, Vec<_>) =
        held.iter().map(|one| (one[0].as_str().unwrap(), one[1].as_i64().unwrap())).unzip();
    assert_eq!((stage["after"].as_str().unwrap(), names), (after, labels.to_vec()), "{stage}");
    assert_eq!(counts.iter().sum::<i64>(), 120, "{stage}");
    let fair = 120.0 / labels.len() as f64;
    let off = counts.iter().map(|count| 100.0 * (*count as f64 - fair).abs() / fair).fold(0.0, f64::max);
    assert!((stage["off_percent"].as_f64().unwrap() - off).abs() < 0.01, "{stage}");
}

// It exits with 1 where a share is more than 5 % off, or a trigger has moved twice.
on_both! {
    fn all_settle_at_their_shares(shell) {
        let before = shell.things();
        let report = shell.json(&["bench", "shares", "--replicas", "2", "--triggers", "120", "--lease", "2s"]);
        assert_eq!((&report["scenario"], &report["triggers"]), (&"shares".into(), &120.into()), "{report}");
        settled(&report["settled"][0], "added", &["bench-1", "bench-2"]);
        settled(&report["settled"][1], "joined", &["bench-1", "bench-2", "bench-3"]);
        settled(&report["settled"][2], "left", &["bench-2", "bench-3"]);
        assert_eq!(report["settled"][1]["most_moves"], 1, "{report}");
        assert!(report["settled"][1]["renewals"].as_i64().unwrap() > 1, "{report}");
        assert_eq!(shell.things(), before);
    }
}
