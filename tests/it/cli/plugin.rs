//! A stranger's trigger: the crates under `tests/plugin`, outside the workspace, and the binary that they make.

mod copy;

use std::fs;

use serde_json::{Value, json};

use self::copy::Plugin;
use super::shell::{Process, Shell};
use crate::stage::Backend;

/// A shell in which `reveille` is the plugin's own binary.
fn shell(backend: Backend) -> Shell {
    Shell::migrated(backend).of(Plugin::new().build("acme"))
}

#[test]
fn its_trigger_and_its_task_are_in_its_binary_and_in_no_other() {
    let [own, stock] = [shell(Backend::Sqlite), Shell::new()].map(|shell| shell.json(&["kinds"]));
    let brings = |kinds: &Value, what: &str, name: &str| kinds[what].as_array().unwrap().contains(&name.into());
    assert!(brings(&own, "triggers", "status_file") && brings(&own, "tasks", "export"), "{own}");
    assert!(brings(&own, "triggers", "file"), "those that Reveille brings are there as well: {own}");
    assert!(!brings(&stock, "triggers", "status_file") && !brings(&stock, "tasks", "export"), "{stock}");
}

#[test]
fn what_the_docs_teach_is_what_is_built() {
    let docs = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/TRIGGERS.md")).unwrap();
    let (_, taught) = docs.split_once("\n## One of your own").unwrap();
    let built = Plugin::new().texts();
    let blocks: Vec<_> = taught.split("\n```rust\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(blocks.len(), 3, "the trigger, its tests, and the binary");
    for block in blocks {
        assert!(
            built.iter().any(|text| text.ends_with(block)),
            "no file of tests/plugin is, but for its head:\n{block}"
        );
    }
}

#[test]
fn its_own_tests_pass_with_what_the_trigger_crate_has_for_them() {
    let tested = Plugin::new().cargo(&["test", "--workspace", "--exclude", "unlinked", "--test", "checks"]);
    assert!(tested.succeeded && !tested.stdout.contains(" 0 passed"), "{tested:#?}");
}

fn only_a_replica_with_it_runs_its_rows(backend: Backend) {
    let shell = shell(backend);
    let stock = [shell.start_stock(&["triggerer"], "joined"), shell.start_stock(&["worker"], "joined")];
    // A task that replicas without the plugin wait for and run. Whatever they can take was there before it.
    let those_without_it_have_looked = |name: &str| {
        let file = json!({ "file": { "path": shell.path(name), "settle": "0s", "every": "50ms" } });
        let step = json!({ "Awake": { "due": 0 } });
        shell.write(name, "");
        let probe = shell.add(&["demo.sleeper", "--step", &step.to_string(), "--when", &file.to_string()]);
        shell.wait_for(probe, "succeeded");
    };
    let status = shell.path("status");
    let task = shell.add(&["export", "--step", &json!({ "await": { "status": status } }).to_string()]);
    those_without_it_have_looked("first");
    assert_eq!(moves(&shell.show(task)), ["enqueued"]);

    let worker = shell.start(&["worker"], "joined");
    shell.wait_for(task, "deferred");
    shell.write("status", "done\n");
    those_without_it_have_looked("second");
    let waiting = shell.show(task);
    assert_eq!(moves(&waiting), ["enqueued", "claimed", "deferred"]);
    assert_eq!((&waiting["wait"]["kind"], &waiting["wait"]["holder"]), (&"status_file".into(), &Value::Null));

    let triggerer = shell.start(&["triggerer"], "joined");
    let ended = shell.wait_for(task, "succeeded");
    assert_eq!(ended["end"]["result"], "done");
    assert_eq!(moves(&ended), ["enqueued", "claimed", "deferred", "event", "claimed", "finished"]);
    stock.into_iter().chain([worker, triggerer]).for_each(Process::stop);
}

fn moves(task: &Value) -> Vec<&str> {
    task["history"].as_array().unwrap().iter().map(|moved| moved["why"].as_str().unwrap()).collect()
}

#[test]
fn only_a_replica_with_it_runs_its_rows_on_sqlite() {
    only_a_replica_with_it_runs_its_rows(Backend::Sqlite);
}

#[test]
fn only_a_replica_with_it_runs_its_rows_on_postgres() {
    only_a_replica_with_it_runs_its_rows(Backend::Postgres);
}

/// What one version wrote the other reads as far as it can, and leaves the rest to it, untouched.
fn an_older_and_a_newer_version_share_the_work(backend: Backend) {
    let newer = Plugin::newer().build("acme_newer");
    let shell = shell(backend);
    let export = |status: &str| {
        let step = json!({ "await": { "status": shell.path(status) } });
        shell.add(&["export", "--step", &step.to_string()])
    };
    let older_roles = || [shell.start(&["triggerer"], "joined"), shell.start(&["worker"], "joined")];
    let newer_role = |role: &str| shell.start_of(&newer, &[role], "joined");
    let until_held = |task| {
        while shell.show(task)["wait"]["holder"].is_null() {}
    };

    // What the older one wrote is taken over by the newer one.
    let older = older_roles();
    let [first, second] = [export("first"), export("second")];
    [first, second].into_iter().for_each(until_held);
    let newer_triggerer = newer_role("triggerer");
    older.into_iter().for_each(Process::stop);
    [first, second].into_iter().for_each(until_held);
    shell.write("first", "done\n");
    shell.wait_for(first, "ready");
    let newer_worker = newer_role("worker");
    assert_eq!(shell.wait_for(first, "succeeded")["end"]["result"], "done");

    // What the newer one wrote is left alone by the older one: a spec with one field more, and then a step.
    let third = export("third");
    shell.wait_for(third, "deferred");
    [newer_triggerer, newer_worker].into_iter().for_each(Process::stop);
    let [older_triggerer, older_worker] = older_roles();
    shell.write("second", "done\n");
    assert_eq!(shell.wait_for(second, "succeeded")["end"]["result"], "done");
    shell.write("third", "DONE\n");
    older_triggerer.wait_for_log(&third.to_string());
    assert_eq!(shell.show(third)["state"], "deferred");

    let newer_triggerer = newer_role("triggerer");
    shell.wait_for(third, "ready");
    older_worker.wait_for_log(&third.to_string());
    let newer_worker = newer_role("worker");
    assert_eq!(shell.wait_for(third, "succeeded")["end"]["result"], "done!");
    for (older, said) in [
        (&older_triggerer, format!("set the trigger of task {third} aside")),
        (&older_worker, format!("left task {third} alone")),
    ] {
        assert_eq!(older.log().matches(&said).count(), 1, "it is said once: {}", older.log());
    }
    [older_triggerer, older_worker, newer_triggerer, newer_worker].into_iter().for_each(Process::stop);
}

#[test]
fn an_older_and_a_newer_version_share_the_work_on_sqlite() {
    an_older_and_a_newer_version_share_the_work(Backend::Sqlite);
}

#[test]
fn an_older_and_a_newer_version_share_the_work_on_postgres() {
    an_older_and_a_newer_version_share_the_work(Backend::Postgres);
}

#[test]
fn two_triggers_under_one_kind_refuse_to_start() {
    let shell = Shell::migrated(Backend::Sqlite).of(Plugin::new().build("twice"));
    for command in ["kinds", "triggerer"] {
        let said = "two triggers are linked under the kind \"status_file\": rename one, or link only one";
        shell.run(&[command]).refused(2, &[said]);
    }
}

#[test]
fn a_crate_that_is_not_linked_fails_the_build() {
    let built = Plugin::new().cargo(&["build", "--package", "unlinked"]);
    assert!(!built.succeeded, "{built:#?}");
    let said = "extern crate `acme_triggers` is unused in crate `unlinked`";
    assert!(built.stderr.contains(said) && built.stderr.contains("use acme_triggers as _"), "{built:#?}");
    assert_eq!(built.stderr.matches("error: extern crate").count(), 1, "and nothing else is wrong: {built:#?}");
}

#[test]
fn a_crate_built_against_another_copy_of_the_trigger_crate_is_refused() {
    let built = Plugin::against_another_trigger_crate().cargo(&["build"]);
    assert!(!built.succeeded, "{built:#?}");
    for said in [
        "of package `acme-triggers v1.0.0",
        "package `reveille-trigger v0.0.1",
        "only one package uses the `links = \"reveille-trigger\"` value",
    ] {
        assert!(built.stderr.contains(said), "{said:?} is not in {built:#?}");
    }
    assert!(!built.stderr.contains("Compiling"), "it took no time: {built:#?}");
}
