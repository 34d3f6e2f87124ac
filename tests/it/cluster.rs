//! PostgreSQL servers of a test's own, for what cannot be tried on the shared one.

use std::{
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A server that listens on a socket in its own folder, and ends with the test.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: TempDir,
    owner: Option<(u32, u32)>,
}

impl Cluster {
    /// A server that takes itself for a standby: it is in recovery, and answers reads.
    pub(crate) fn standby() -> Self {
        let cluster = Self::new();
        cluster.initialize();
        std::fs::write(cluster.folder.path().join("data/standby.signal"), "").unwrap();
        cluster.start();
        cluster
    }

    /// A server that is empty.
    pub(crate) fn primary() -> Self {
        let cluster = Self::new();
        cluster.initialize();
        cluster.start();
        cluster
    }

    /// A server that follows another, which waits for it with each commit from now on: it has all that was answered.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let cluster = Self::new();
        let host = primary.folder.path().to_str().unwrap();
        cluster.run(
            "pg_basebackup",
            &["--pgdata=data", "--write-recovery-conf", "--checkpoint=fast", "--username=reveille", "--host", host],
        );
        cluster.start();
        primary.run(
            "psql",
            &[
                &primary.url(),
                "--command=alter system set synchronous_standby_names = '*'",
                "--command=select pg_reload_conf()",
            ],
        );
        cluster
    }

    /// From now on it takes writes, and follows nobody.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", &["promote", "--wait", "--pgdata=data"]);
    }

    /// One URL for two servers.
    pub(crate) fn url_of_both(&self, other: &Self) -> String {
        let [one, two] = [self, other].map(|cluster| cluster.folder.path().to_str().unwrap().replace('/', "%2F"));
        format!("postgres://reveille@{one},{two}/postgres?target_session_attrs=read-write")
    }

    pub(crate) fn start(&self) {
        self.run("pg_ctl", &["start", "--wait", "--pgdata=data", "--log=log"]);
    }

    /// Ends every session and the server; `immediate` is as if its host had lost power.
    pub(crate) fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["stop", "--wait", &format!("--mode={mode}"), "--pgdata=data"]);
    }

    fn initialize(&self) {
        self.run("initdb", &["--username=reveille", "--auth=trust", "--no-sync", "--pgdata=data"]);
        let settings = "listen_addresses = ''\nunix_socket_directories = '..'\nfsync = off\n";
        let path = self.folder.path().join("data/postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + settings).unwrap();
    }

    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let owner = owner();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        Self { folder, owner }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://reveille@localhost/postgres?host={}", self.folder.path().display())
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program, arguments).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {said}");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let bin = std::env::var("TEST_POSTGRES_BIN").expect("TEST_POSTGRES_BIN is not set: run `bash tests/run`");
        let mut command = Command::new(PathBuf::from(bin).join(program));
        command.args(arguments).current_dir(self.folder.path()).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.folder.path().join("data/postmaster.pid").exists() {
            return;
        }
        let stopped = self.command("pg_ctl", &["stop", "--mode=immediate", "--pgdata=data"]).status();
        assert!(stopped.unwrap().success() || std::thread::panicking(), "the server did not stop");
    }
}

/// The numbers of the user and the group that run servers, if we may not.
pub(crate) fn owner() -> Option<(u32, u32)> {
    std::env::var("TEST_POSTGRES_USER").ok().map(|user| (id("-u", &user), id("-g", &user)))
}

/// A number of a user of this system.
fn id(which: &str, user: &str) -> u32 {
    let output = Command::new("id").args([which, user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
