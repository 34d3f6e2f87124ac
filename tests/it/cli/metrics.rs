//! What a process that serves tells Prometheus.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use super::shell::{PATIENCE, Process, Shell};
use crate::stage::Backend;

/// A triggerer that serves its metrics.
struct Measured<'s> {
    process: Process<'s>,
    address: String,
    shell: &'s Shell,
}

impl<'s> Measured<'s> {
    fn start(shell: &'s Shell, arguments: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let process = shell.start(&[&["triggerer", "--metrics", &address], arguments].concat(), " joined");
        Self { process, address, shell }
    }

    fn read(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn wait_for(&self, line: &str) {
        for _ in 0..PATIENCE {
            if self.read().contains(&format!("\n{line}\n")) {
                return;
            }
            // What takes a while, and does nothing.
            self.shell.run(&["kinds"]);
        }
        panic!("{line:?} is not in the metrics:\n{}", self.read());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn add(shell: &Shell, queue: &str, file: &str) {
    let when = format!(r#"{{"file": {{"path": {file:?}, "settle": "0s", "every": "50ms"}}}}"#);
    shell.add(&["hello", "--step", r#"{"greet": {"whom": "you"}}"#, "--queue", queue, "--when", &when]);
}

#[test]
fn what_no_triggerer_takes_is_told_until_one_does() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let shell = Shell::migrated(backend);
        for _ in 0..3 {
            add(&shell, "b", "/not/there");
        }
        let measured = Measured::start(&shell, &["--queues", "a"]);
        measured.wait_for(r#"reveille_unserved_triggers{kinds="file",queue="b"} 3"#);

        let _other = shell.start(&["triggerer", "--queues", "b"], " joined");

        measured.wait_for(r#"reveille_unserved_triggers{kinds="file",queue="b"} 0"#);
    }
}

#[test]
fn events_are_counted() {
    let shell = Shell::migrated(Backend::Sqlite);
    shell.write("there", "");
    let measured = Measured::start(&shell, &[]);

    for _ in 0..3 {
        add(&shell, "default", shell.path("there").to_str().unwrap());
    }

    measured.wait_for(r#"reveille_events_total{outcome="accepted"} 3"#);
    measured.wait_for(r#"reveille_events_total{outcome="refused"} 0"#);
}

#[test]
fn a_life_that_was_lost_is_counted() {
    let shell = Shell::migrated(Backend::Sqlite);
    let measured = Measured::start(&shell, &["--lease", "1s"]);
    let peer = shell.start(&["triggerer", "--lease", "1s"], " joined");

    measured.process.signal("STOP");
    peer.wait_for_log("declared gone");
    measured.process.signal("CONT");

    measured.wait_for("reveille_lives_lost_total 1");
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let shell = Shell::migrated(Backend::Sqlite);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    shell.run(&["triggerer", "--metrics", &address]).refused(2, &[&address, "--metrics"]);
}
