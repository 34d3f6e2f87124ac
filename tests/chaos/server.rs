//! A PostgreSQL server of the run's own, to be killed and started again, and whose clock can be made to jump.
//!
//! It listens on a socket in its folder, and is a child of this process and in its group, so that whatever ends the whole
//! group ends it too. What is committed is in the hands of the operating system, which does not fail here: `fsync` is off.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use reveille::{Store, Url, clock::Clock};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::patience;

const SETTINGS: &str = "listen_addresses = ''\nunix_socket_directories = '..'\nmax_connections = 120\nfsync = off\n\
                        full_page_writes = off\nshared_buffers = 128MB\n";

/// The tables come before the system's own functions, so that a function of ours can stand in for one of those.
const CLOCK: &str = "
    alter database postgres set search_path = public, pg_catalog;
    create table ahead (ms bigint not null);
    insert into ahead values (0);
    create function clock_timestamp() returns timestamptz language sql volatile
        as 'select pg_catalog.clock_timestamp() + (select ms from public.ahead) * interval ''1 ms''';";

/// What the tables do not tell afterwards: when replicas showed life or were declared lost, by the clock that never jumps,
/// and who held a trigger as its wait ended or was armed again.
const WITNESSES: &str = "
    create table sign (incarnation uuid not null, label text not null, at bigint not null, lost boolean not null);
    create function sign() returns trigger language plpgsql as $$ begin
        insert into public.sign
        values (new.incarnation, new.label, extract(epoch from pg_catalog.clock_timestamp()) * 1000, new.gone_at is not null);
        return null;
    end $$;
    create trigger joined after insert on reveille_replica for each row execute function sign();
    create trigger renewed after update on reveille_replica for each row
        when (new.beat <> old.beat or (old.gone_at is null and new.gone_why = 'lost')) execute function sign();
    create table held (task_id uuid not null, generation integer not null, holder uuid not null);
    create function held() returns trigger language plpgsql as $$ begin
        insert into public.held values (old.task_id, old.generation, old.holder);
        return null;
    end $$;
    create trigger ended after delete on reveille_trigger for each row
        when (old.holder is not null) execute function held();
    create trigger rearmed after update on reveille_trigger for each row
        when (old.holder is not null and new.generation <> old.generation) execute function held();";

pub(crate) struct Server {
    folder: TempDir,
    owner: Option<(u32, u32)>,
    running: Mutex<Option<std::process::Child>>,
}

impl Server {
    /// Made, started and migrated.
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let owner = std::env::var("TEST_POSTGRES_USER").ok().map(|user| (number("-u", &user), number("-g", &user)));
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let server = Self { folder, owner, running: Mutex::default() };
        let made = server
            .command("initdb")
            .args([
                "--username=reveille",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "--pgdata=data",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let path = server.folder.path().join("data/postgresql.conf");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + SETTINGS).unwrap();
        server.begin().await;
        let mut connection = server.connect().await.unwrap();
        connection.execute(CLOCK).await.unwrap();
        Store::migrate(&server.url()).await.unwrap();
        connection.execute(WITNESSES).await.unwrap();
        connection.close().await.unwrap();
        server
    }

    pub(crate) fn url(&self) -> Url {
        Url::Postgres(format!("postgres://reveille@localhost/postgres?host={}", self.folder.path().display()))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let Url::Postgres(text) = self.url() else { unreachable!("it is PostgreSQL") };
        PgConnection::connect(&text).await
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn begin(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let child = self.command("postgres").args(["-D", "data"]).stderr(log).spawn().unwrap();
        *self.running.lock().unwrap() = Some(child);
        let clock = Clock::system();
        let answers = async {
            while self.connect().await.is_err() {
                clock.sleep(Duration::from_millis(20)).await;
            }
        };
        patience(answers, "the server to start").await;
    }

    /// Ends it at once, as if its host had lost its power.
    pub(crate) async fn stop(&self) {
        let Some(mut child) = self.running.lock().unwrap().take() else { return };
        let clock = Clock::system();
        // One that is recovering may sleep for a minute before it looks whether its processes have ended; a signal wakes it.
        while child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
            clock.sleep(Duration::from_millis(200)).await;
        }
    }

    /// Kills one of the processes that serve connections: the server ends all of them, and recovers.
    pub(crate) async fn kill_backend(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.connect().await?;
        let pid: Option<i32> = sqlx::query_scalar(
            "select pid from pg_stat_activity where application_name = 'reveille' and pid <> pg_backend_pid() order by backend_start limit 1",
        )
        .fetch_optional(&mut connection)
        .await?;
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended by itself meanwhile.
            kill_process(pid, Signal::KILL).ok();
        }
        Ok(())
    }

    /// Makes its clock jump.
    pub(crate) async fn turn(&self, by_ms: i64) -> Result<(), sqlx::Error> {
        let mut connection = self.connect().await?;
        sqlx::query("update ahead set ms = ms + $1").bind(by_ms).execute(&mut connection).await?;
        connection.close().await
    }

    fn command(&self, program: &str) -> Command {
        let bin = std::env::var("TEST_POSTGRES_BIN").expect("TEST_POSTGRES_BIN is not set: run `bash tests/run`");
        let mut command = Command::new(Path::new(&bin).join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            kill_process(Pid::from_child(&child), Signal::QUIT).unwrap();
            child.wait().unwrap();
        }
    }
}

/// A number of a user of this system.
fn number(which: &str, user: &str) -> u32 {
    let output = Command::new("id").args([which, user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
