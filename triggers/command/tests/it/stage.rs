//! A shell that is allowed to run, and a pipe that all it starts holds open.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command as Program, time::Duration};

use reveille_command::Command;
use reveille_trigger::{Answer, Config, Context, Error, Memory, Outcome, Timestamp, Trigger};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::unix::pipe,
    time::timeout,
};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn shell(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

pub(crate) fn context(settings: Value) -> Context {
    let config = Config::new(BTreeMap::new(), [("command".to_owned(), settings)].into());
    Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default()).with_config(config)
}

pub(crate) async fn answer(command: &Command) -> Result<Answer, Error> {
    let cx = context(json!({"allow": ["/bin/*"], "env": ["STAGE*"]}));
    timeout(LONG, command.check(&cx)).await.expect("an answer in time")
}

/// What the event of a check does to its task.
pub(crate) async fn outcome(command: &Command) -> Outcome {
    match answer(command).await.expect("an answer") {
        Answer::Fire(event) => event.outcome,
        Answer::NotYet => panic!("it has not fired"),
    }
}

/// A named pipe. Whoever has opened it, and all their children, are gone when it comes to its end.
pub(crate) struct Fifo {
    dir: TempDir,
    reader: BufReader<pipe::Receiver>,
}

impl Fifo {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let path = dir.path().join("fifo");
        assert!(Program::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        let reader = pipe::OpenOptions::new().open_receiver(&path).expect("its end to read from");
        Self { dir, reader: BufReader::new(reader) }
    }

    /// The beginning of a script: all that it starts holds the pipe as descriptor 3.
    pub(crate) fn held_by(&self, script: &str) -> String {
        format!("exec 3>'{}'; {script}", self.path("fifo").display())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read_file(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file")
    }

    /// The next line that somebody wrote to descriptor 3.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(LONG, self.reader.read_line(&mut line)).await.expect("a line in time").expect("a line");
        line.trim_end().to_owned()
    }

    /// Waits until nobody holds the pipe; what was written until then.
    pub(crate) async fn closed(&mut self) -> String {
        let mut rest = String::new();
        timeout(LONG, self.reader.read_to_string(&mut rest)).await.expect("all to be gone in time").expect("the rest");
        rest
    }
}
