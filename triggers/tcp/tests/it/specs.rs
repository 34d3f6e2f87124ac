//! Golden specs: rows as they were once stored, which must read for as long as their tag exists.

use std::time::Duration;

use reveille_tcp::Tcp;
use reveille_trigger::{Spacing, Trigger, checks::golden_specs};
use serde_json::{Value, json};

fn read(spec: Value) -> serde_json::Result<Box<dyn Trigger>> {
    serde_json::from_value(spec)
}

fn refusal(tcp: &Tcp) -> String {
    let error = tcp.validate().expect_err("a refusal");
    assert!(error.is_fatal());
    error.to_string()
}

#[test]
fn every_golden_spec_reads_and_is_written_as_it_was_and_takes_no_unknown_field() {
    assert_eq!(golden_specs(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/specs")), ["tcp"; 2]);
}

#[test]
fn a_host_and_a_port_are_all_that_must_be_given() {
    let tcp: Tcp = serde_json::from_value(json!({"host": "db.internal", "port": 5432})).expect("a spec");
    assert_eq!(tcp, Tcp::new("db.internal", 5432).spaced(Spacing::default()).within(Duration::from_secs(3)));
    assert_eq!(tcp.destination().as_deref(), Some("db.internal:5432"));
    assert_eq!(Tcp::new("::1", 80).destination().as_deref(), Some("[::1]:80"));
}

#[test]
fn a_host_is_a_name_or_an_address() {
    for host in ["db.internal", "db", "my_service", "10.0.0.5", "::1", "fe80::1", "bücher.example"] {
        assert!(Tcp::new(host, 1).validate().is_ok(), "{host}");
    }
    for host in ["", "db:5432", "http://db", "[::1]", "a b", "a\0", &"a".repeat(254)] {
        assert!(refusal(&Tcp::new(host, 1)).starts_with("`host` "), "{host}");
    }
}

#[test]
fn numbers_that_cannot_work_are_refused() {
    let tcp = Tcp::new("db", 5432);
    assert!(read(json!({"tcp": {"host": "db", "port": 65536}})).is_err());
    assert!(refusal(&Tcp::new("db", 0)).starts_with("`port` is 0"));
    assert!(refusal(&tcp.clone().every(Duration::ZERO)).starts_with("`every` is zero"));
    assert!(refusal(&tcp.clone().within(Duration::ZERO)).starts_with("`time_out` is zero"));
    assert!(refusal(&tcp.within(Duration::from_secs(301))).starts_with("`time_out` is zero or longer"));
}
