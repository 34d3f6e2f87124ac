//! `pgbouncer` in transaction mode before the server that all tests share: two of its sessions for any number of clients.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::Mutex,
};

use reveille::Url;
use sqlx::{Connection, PgConnection, Row, postgres::PgConnectOptions};
use tempfile::TempDir;

use super::{cluster::owner, until};

/// Where `tests/run` says what to start.
const PROGRAM: &str = "TEST_PGBOUNCER";

/// How many sessions it has for a database.
pub(crate) const SESSIONS: usize = 2;

/// What a client finds in a session that it is lent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lent {
    pub(crate) search_path: String,
    pub(crate) statement_timeout: String,
    pub(crate) prepared: i64,
    pub(crate) channels: i64,
    pub(crate) locks: i64,
}

/// It listens on a socket in its own folder, and ends with the test.
#[derive(Debug)]
pub(crate) struct Pooler {
    folder: TempDir,
    database: String,
    process: Mutex<Option<Child>>,
}

impl Pooler {
    /// Whether there is none to start, which is said.
    pub(crate) fn is_missing() -> bool {
        let missing = std::env::var_os(PROGRAM).is_none();
        if missing {
            println!("left out: {PROGRAM} is not set");
        }
        missing
    }

    /// Starts one before the server of a database, with more settings than all need.
    pub(crate) async fn before(url: &Url, settings: &str) -> Self {
        let Url::Postgres(text) = url else { panic!("only PostgreSQL has poolers") };
        let server = PgConnectOptions::from_str(text).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().display();
        let configuration = format!(
            "[databases]
* = host={} port={} user={}
[pgbouncer]
unix_socket_dir = {path}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = {SESSIONS}
{}
{settings}
",
            server.get_host(),
            server.get_port(),
            server.get_username(),
            if can_track_statements() { "max_prepared_statements = 0" } else { "" }
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), configuration).unwrap();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let database = server.get_database().expect("the URL names a database").to_owned();
        let pooler = Self { folder, database, process: Mutex::default() };
        pooler.start().await;
        pooler
    }

    /// The database through it, as users write that who don't know of it.
    pub(crate) fn undeclared_url(&self) -> Url {
        let socket = self.folder.path().display();
        Url::Postgres(format!("postgres://reveille@localhost:6432/{}?host={socket}", self.database))
    }

    /// The same with the names of our tables led to, as for a schema of one's own, and declared.
    pub(super) fn url(&self) -> Url {
        let Url::Postgres(text) = self.undeclared_url() else { unreachable!() };
        Url::Postgres(format!("{text}&pooler=true&options[search_path]=public"))
    }

    /// The same as if it were two, of which the first is off.
    pub(crate) fn url_of_two_hosts(&self) -> Url {
        let socket = self.folder.path().to_str().unwrap().replace('/', "%2F");
        Url::Postgres(format!("postgres://reveille@{socket}%2Foff,{socket}:6432/{}?pooler=true", self.database))
    }

    pub(crate) async fn start(&self) {
        let mut command = Command::new(program());
        command.arg("pgbouncer.ini").current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        *self.process.lock().unwrap() = Some(command.spawn().unwrap());
        until("the pooler to let us in", async || self.client().await.is_ok()).await;
    }

    /// SIGKILL: every client loses its connection, and the server its sessions.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap().take().expect("it was started");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    async fn client(&self) -> sqlx::Result<PgConnection> {
        let Url::Postgres(text) = self.undeclared_url() else { unreachable!() };
        PgConnection::connect_with(&PgConnectOptions::from_str(&text)?.extra_float_digits(None)).await
    }

    /// All its sessions as a stranger finds them, which is lent them at once.
    pub(crate) async fn lent(&self) -> Vec<Lent> {
        let text = "begin;
             select current_setting('search_path'), current_setting('statement_timeout'),
                    (select count(*) from pg_prepared_statements), (select count(*) from pg_listening_channels()),
                    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())";
        let (mut clients, mut lent) = (Vec::new(), Vec::new());
        for _ in 0..SESSIONS {
            let mut client = self.client().await.unwrap();
            let row = sqlx::raw_sql(text).fetch_one(&mut client).await.unwrap();
            lent.push(Lent {
                search_path: row.get(0),
                statement_timeout: row.get(1),
                prepared: row.get(2),
                channels: row.get(3),
                locks: row.get(4),
            });
            clients.push(client);
        }
        lent
    }
}

/// Whether it can look after prepared statements itself: nothing of ours may need that.
fn can_track_statements() -> bool {
    let output = Command::new(program()).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let minor = said.split('.').nth(1).expect("PgBouncer 1.18.0, or such");
    minor.parse::<u32>().unwrap() >= 21
}

fn program() -> OsString {
    std::env::var_os(PROGRAM).expect("what needs one is left out without it")
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if self.process.lock().unwrap().is_some() {
            self.kill();
        }
    }
}
