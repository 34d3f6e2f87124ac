//! A folder to type commands in.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use reveille::id::TaskId;
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::stage::{Backend, admin_url};

/// How often something is asked for before it counts as not happening. Each time takes a process, which is a while.
pub(super) const PATIENCE: usize = 1_000;

/// The binary of this project.
const STOCK: &str = env!("CARGO_BIN_EXE_reveille");

/// A folder with nothing in it, and an environment with nothing in it but what a test puts there.
#[derive(Debug)]
pub(super) struct Shell {
    binary: PathBuf,
    folder: TempDir,
    variables: Vec<(String, String)>,
    server: Option<Server>,
}

/// What a command left behind.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Shell {
    /// On nothing yet.
    pub(super) fn new() -> Self {
        Self { binary: STOCK.into(), folder: TempDir::new().unwrap(), variables: Vec::new(), server: None }
    }

    /// In which `reveille` is another binary.
    pub(super) fn of(self, binary: PathBuf) -> Self {
        Self { binary, ..self }
    }

    /// On a database that is migrated, where what is temporary is in the folder as well.
    pub(super) fn with_its_own_tmp(backend: Backend) -> Self {
        let mut shell = Self::migrated(backend);
        let folder = shell.folder.path().to_str().unwrap().to_owned();
        shell.set("TMPDIR", &folder);
        shell
    }

    /// On a database that is migrated.
    pub(super) fn migrated(backend: Backend) -> Self {
        let mut shell = Self::new();
        if backend == Backend::Postgres {
            let server = Server::new();
            shell.set("REVEILLE_DATABASE_URL", &server.url);
            shell.server = Some(server);
        }
        shell.run(&["migrate"]).expect(0);
        shell
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn set(&mut self, variable: &str, value: &str) {
        self.variables.push((variable.to_owned(), value.to_owned()));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.binary, arguments)
    }

    fn command_of(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(self.folder.path()).env_clear().envs(self.variables.iter().cloned());
        command
    }

    /// Types a command, and waits for its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Answer {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        Answer {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Types a command that succeeds, and reads its answer as a program does.
    pub(super) fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let answer = self.run(&all);
        serde_json::from_str(&answer.expect(0).stdout).unwrap()
    }

    /// Adds a task, and answers its id.
    pub(super) fn add(&self, arguments: &[&str]) -> TaskId {
        let mut all = vec!["task", "add"];
        all.extend(arguments);
        self.json(&all)["id"].as_str().unwrap().parse().unwrap()
    }

    pub(super) fn show(&self, task: TaskId) -> Value {
        self.json(&["task", "show", &task.to_string()])
    }

    /// On PostgreSQL, not on a file.
    pub(super) fn is_on_a_server(&self) -> bool {
        self.server.is_some()
    }

    /// What is in the folder, and what schemas there are where there can be some, in order.
    pub(super) fn things(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let mut things: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        things.extend(self.server.iter().flat_map(Server::schemas));
        things.sort();
        things
    }

    pub(super) fn tasks(&self) -> usize {
        self.json(&["task", "list"]).as_array().unwrap().len()
    }

    /// Asks for a task until it is in this state.
    pub(super) fn wait_for(&self, task: TaskId, state: &str) -> Value {
        for _ in 0..PATIENCE {
            let shown = self.show(task);
            if shown["state"] == state {
                return shown;
            }
        }
        panic!("the task is not {state}: {}", self.show(task));
    }

    /// Types a command that stays, and goes on once it says `ready`.
    pub(super) fn start(&self, arguments: &[&str], ready: &str) -> Process<'_> {
        self.spawn(self.command(arguments), ready)
    }

    /// The same, with the binary of this project.
    pub(super) fn start_stock(&self, arguments: &[&str], ready: &str) -> Process<'_> {
        self.start_of(STOCK.as_ref(), arguments, ready)
    }

    /// The same, with another binary.
    pub(super) fn start_of(&self, binary: &Path, arguments: &[&str], ready: &str) -> Process<'_> {
        self.spawn(self.command_of(binary, arguments), ready)
    }

    fn spawn(&self, mut command: Command, ready: &str) -> Process<'_> {
        let log = self.path(&format!("log-{}", Uuid::now_v7()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let process = Process { child: command.spawn().unwrap(), log, shell: self };
        process.wait_for_log(ready);
        process
    }

    /// Types a command whose answer nobody reads.
    pub(super) fn unread(&self, arguments: &[&str]) -> ExitStatus {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        child.wait().unwrap()
    }

    /// Types commands all at once.
    pub(super) fn at_once(&self, count: usize, arguments: &[&str]) -> Vec<ExitStatus> {
        let children: Vec<Child> =
            (0..count).map(|_| self.command(arguments).stdout(Stdio::null()).spawn().unwrap()).collect();
        children.into_iter().map(|mut child| child.wait().unwrap()).collect()
    }
}

impl Answer {
    /// Makes sure how it ended.
    pub(super) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Makes sure that it was refused with these words, and that the user is spared what is for us alone.
    pub(super) fn refused(self, code: i32, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:#?}");
        }
        assert!(self.stderr.starts_with("error: "), "{self:#?}");
        assert_eq!(self.stdout, "", "{self:#?}");
        for word in ["panicked", "backtrace", "Error {", "Some(", "\u{1b}"] {
            assert!(!self.stderr.contains(word), "{word:?} is in {self:#?}");
        }
        self.expect(code)
    }
}

/// A process that serves, until it is dropped.
#[derive(Debug)]
pub(super) struct Process<'s> {
    child: Child,
    log: PathBuf,
    shell: &'s Shell,
}

impl Process<'_> {
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(super) fn wait_for_log(&self, words: &str) {
        for _ in 0..PATIENCE {
            if self.log().contains(words) {
                return;
            }
            // What takes a while, and does nothing.
            self.shell.run(&["kinds"]);
        }
        panic!("{words:?} is not in the log:\n{}", self.log());
    }

    /// Sends a signal, such as `TERM`.
    pub(super) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Has it stop, and waits until it has.
    pub(super) fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.end(), Some(0));
    }

    pub(super) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A database on the server of the tests, which goes with the shell.
#[derive(Debug)]
struct Server {
    name: String,
    url: String,
}

impl Server {
    fn new() -> Self {
        let name = format!("reveille_cli_{}", Uuid::now_v7().simple());
        let (server, _) = {
            let url = admin_url();
            let (server, database) = url.rsplit_once('/').unwrap();
            (server.to_owned(), database.to_owned())
        };
        administer(format!("create database {name}"));
        Self { url: format!("{server}/{name}"), name }
    }

    fn schemas(&self) -> Vec<String> {
        let ask = async |mut connection: PgConnection| {
            sqlx::query_scalar("select nspname::text from pg_namespace").fetch_all(&mut connection).await.unwrap()
        };
        connected(&self.url, ask)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        administer(format!("drop database {} with (force)", self.name));
    }
}

fn administer(text: String) {
    connected(&admin_url(), async |mut connection| {
        connection.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
    });
}

fn connected<T>(url: &str, body: impl AsyncFnOnce(PgConnection) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { body(PgConnection::connect(url).await.unwrap()).await })
}
