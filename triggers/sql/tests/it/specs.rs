//! Golden specs: rows as they were once stored, which must read for as long as their tags exist.

use std::time::Duration;

use reveille_sql::{Heard, Listen, Sql};
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::json;

fn refusal(trigger: &dyn Trigger) -> String {
    let error = trigger.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["listen", "listen", "sql", "sql"]);
}

#[test]
fn what_may_be_left_out_has_defaults() {
    let sql: Sql = serde_json::from_value(json!({"connection": "a", "query": "select 1"})).expect("a spec");
    assert_eq!(sql, Sql::query("a", "select 1").spaced(Spacing::default()).within(Duration::from_secs(30)));
    assert_eq!(sql.destination().as_deref(), Some("a"));
    let listen: Listen = serde_json::from_value(json!({"connection": "a", "channel": "b"})).expect("a spec");
    assert_eq!(listen, Listen::on("a", "b").within(Duration::from_secs(30)));
}

#[test]
fn a_connection_is_a_name_and_no_url() {
    assert!(refusal(&Sql::query("", "select 1")).starts_with("`connection` is empty"));
    for connection in ["postgres://u:secret@h/d", "mysql://u:secret@h/d"] {
        for said in [refusal(&Sql::query(connection, "select 1")), refusal(&Listen::on(connection, "a"))] {
            assert!(said.starts_with("`connection` is a URL") && !said.contains("secret"), "{said}");
        }
    }
}

#[test]
fn queries_that_cannot_work_are_refused_by_the_name_of_their_field() {
    assert!(refusal(&Sql::query("a", "delete from t")).starts_with("`query` begins with \"delete\""));
    assert!(refusal(&Listen::on("a", "b").look("delete from t")).starts_with("`look` begins with \"delete\""));
    assert!(refusal(&Listen::on("a", "b").parameter(1)).starts_with("`parameters` has values"));
}

#[test]
fn a_channel_has_a_name_that_is_not_cut() {
    assert!(Listen::on("a", "x".repeat(63)).validate().is_ok());
    for channel in [String::new(), "x".repeat(64), "a\0".to_owned()] {
        assert!(refusal(&Listen::on("a", channel)).starts_with("`channel` has "));
    }
}

#[test]
fn times_that_cannot_work_are_refused() {
    let sql = Sql::query("a", "select 1");
    assert!(refusal(&sql.clone().every(Duration::ZERO)).starts_with("`every` is zero"));
    for time_out in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(601)] {
        assert!(refusal(&sql.clone().within(time_out)).starts_with("`time_out` is under a millisecond"));
        assert!(refusal(&Listen::on("a", "b").within(time_out)).starts_with("`time_out` is under a millisecond"));
    }
}

#[test]
fn what_was_heard_reads_as_it_was_stored() {
    for (stored, heard) in [
        (json!({"notification": {"id": 1}}), Heard::Notification(json!({"id": 1}))),
        (json!({"row": {"id": 1}}), Heard::Row([("id".to_owned(), json!(1))].into_iter().collect())),
    ] {
        assert_eq!(serde_json::from_value::<Heard>(stored.clone()).expect("what was heard"), heard);
        assert_eq!(serde_json::to_value(heard).expect("json"), stored);
    }
}
