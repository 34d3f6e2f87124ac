//! SQLite's one writer, which makes many waiting writes durable with one commit.
//!
//! Each transaction is a savepoint. Whoever finishes while others wait for the writer hands it on without committing,
//! and waits; the last in the queue, or the one that fills a batch, commits for all. So a write costs a share of an
//! `fsync`, and nobody is answered before what they wrote is on disk.
//!
//! Other processes may write to the same file, one at a time, and SQLite knows no queue for that: whoever asks when it is
//! free has it. So a writer that has been at it for a while leaves a gap, and one that waits asks every millisecond, which
//! finds that gap (SQLite's own busy handler asks ever more rarely, and would starve).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::doing;
use crate::{
    clock::Clock,
    error::{Error, Result},
};

/// The most transactions that one commit makes durable: it bounds what an answer waits for.
const SHARED: usize = 256;

/// How long one process may write without a break, and how long the break is.
const SPELL: Duration = Duration::from_millis(50);
const BREAK: Duration = Duration::from_millis(3);

/// How often one that waits for another process asks, and how long before it gives up.
const ASK: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub(super) struct Writer {
    desk: Arc<Mutex<Desk>>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Desk {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// A `begin immediate` is open: it holds the work of those in `unanswered`.
    open: bool,
    /// The host's time, whatever the tests do with the database's.
    clock: Clock,
    /// Since when this process has written without a break, and until when.
    spell: (Duration, Duration),
    /// A savepoint was dropped without an end.
    dirty: bool,
    unanswered: Vec<oneshot::Sender<Result<(), String>>>,
}

/// One transaction on the writer.
#[derive(Debug)]
pub struct Turn {
    // Taken by `commit`; otherwise dropping the turn undoes it.
    desk: Option<OwnedMutexGuard<Desk>>,
    waiting: Arc<AtomicUsize>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        let desk = Desk {
            options,
            connection: Some(connection),
            open: false,
            clock: Clock::system(),
            spell: (Duration::ZERO, Duration::ZERO),
            dirty: false,
            unanswered: Vec::new(),
        };
        Self { desk: Arc::new(Mutex::new(desk)), waiting: Arc::default() }
    }

    pub(super) async fn begin(&self) -> Result<Turn> {
        let queued = Queued::join(&self.waiting);
        let desk = Arc::clone(&self.desk).lock_owned().await;
        drop(queued);
        // From here on, dropping the turn undoes whatever was begun.
        let mut turn = Turn { desk: Some(desk), waiting: Arc::clone(&self.waiting) };
        turn.desk().open().await?;
        Ok(turn)
    }

    pub(super) async fn close(&self) {
        let mut desk = self.desk.lock().await;
        desk.settle().await;
        if let Some(connection) = desk.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("closing the database: {error}");
        }
    }
}

/// Counts those who wait for the writer; dropping it, because the turn came or the caller gave up, uncounts.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Turn {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        self.desk().connection.as_mut().expect("opened when the turn began")
    }

    fn desk(&mut self) -> &mut Desk {
        self.desk.as_mut().expect("taken only by commit, which consumes the turn")
    }

    /// In a task of its own, so that a caller who gives up leaves no half of a commit behind for those who share it.
    pub(super) async fn commit(self) -> Result<()> {
        let done = tokio::spawn(self.finish()).await;
        done.unwrap_or_else(|lost| Err(Error::Outage { doing: "committing", source: Box::new(lost) }))
    }

    async fn finish(mut self) -> Result<()> {
        let more = self.waiting.load(Ordering::SeqCst) > 0 && self.desk().unanswered.len() < SHARED;
        if !more {
            let mut desk = self.desk.take().expect("taken once");
            desk.dirty = false;
            return desk.commit("release turn; commit").await;
        }
        self.desk().run("release turn").await.map_err(doing("committing"))?;
        self.desk().dirty = false;
        let mut desk = self.desk.take().expect("taken once");
        let (answer, answered) = oneshot::channel();
        desk.unanswered.push(answer);
        // The next turn may be dropped while it waits, so somebody must be sure to commit.
        release(desk);
        match answered.await {
            Ok(result) => result.map_err(|message| Error::Outage { doing: "committing", source: message.into() }),
            Err(lost) => Err(Error::Outage { doing: "committing", source: Box::new(lost) }),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(mut desk) = self.desk.take() {
            desk.dirty = true;
            release(desk);
        }
    }
}

/// Gives the writer back, and sees to it that unanswered work is committed even if nobody takes it next.
fn release(desk: OwnedMutexGuard<Desk>) {
    if desk.unanswered.is_empty() && !desk.open {
        return;
    }
    let mutex = OwnedMutexGuard::mutex(&desk).clone();
    drop(desk);
    // Queues behind those who wait already: it commits only what they leave.
    tokio::spawn(async move { mutex.lock().await.settle().await });
}

impl Desk {
    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        sqlx::query(text).execute(connection).await.map(drop)
    }

    /// Begins a savepoint, in a transaction that is opened if none is.
    async fn open(&mut self) -> Result<()> {
        self.undo_dropped().await;
        if self.connection.is_none() {
            self.connection = Some(SqliteConnection::connect_with(&self.options).await.map_err(doing("connecting"))?);
        }
        let begun = if self.open {
            self.dirty = true;
            self.run("savepoint turn").await
        } else {
            self.have_the_file().await
        };
        begun.map_err(doing("beginning a transaction"))
    }

    /// Begins a transaction and a savepoint in it, once no other process writes.
    async fn have_the_file(&mut self) -> Result<(), sqlx::Error> {
        let asked = self.clock.monotonic();
        if asked.saturating_sub(self.spell.1) >= BREAK {
            self.spell.0 = asked;
        } else if asked.saturating_sub(self.spell.0) >= SPELL {
            self.clock.sleep(BREAK).await;
            self.spell.0 = self.clock.monotonic();
        }
        loop {
            // For whoever finds this call given up, it may have begun.
            (self.open, self.dirty) = (true, true);
            let begun = self.run("begin immediate; savepoint turn").await;
            (self.open, self.dirty) = (begun.is_ok(), begun.is_ok());
            match begun {
                Err(error) if is_busy(&error) && self.clock.monotonic().saturating_sub(asked) < PATIENCE => {
                    self.clock.sleep(ASK).await;
                }
                begun => return begun,
            }
        }
    }

    /// Where that cannot be done, because nobody knows how far the dropped one came, the connection is given up.
    async fn undo_dropped(&mut self) {
        if !std::mem::take(&mut self.dirty) || !self.open {
            return;
        }
        let undone = match self.run("rollback to turn").await {
            Ok(()) => self.run("release turn").await,
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            self.fail(&error).await;
        }
    }

    /// Commits for everybody whose work is in the open transaction. The statement may do something before.
    async fn commit(&mut self, statement: &'static str) -> Result<()> {
        match self.run(statement).await {
            Ok(()) => {
                self.open = false;
                self.spell.1 = self.clock.monotonic();
                self.answer(&Ok(()));
                Ok(())
            }
            Err(error) => {
                self.fail(&error).await;
                Err(doing("committing")(error))
            }
        }
    }

    /// Undoes what was dropped, and commits what is left.
    async fn settle(&mut self) {
        self.undo_dropped().await;
        // Whoever has work in it is told by `commit`.
        if self.open
            && let Err(error) = self.commit("commit").await
        {
            tracing::debug!("{}", error.chain());
        }
    }

    /// Gives up the open transaction and its connection: nothing in it is durable, and everybody is told.
    async fn fail(&mut self, error: &sqlx::Error) {
        self.answer(&Err(error.to_string()));
        self.open = false;
        self.dirty = false;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!("closing the writer: {error}");
        }
    }

    fn answer(&mut self, result: &Result<(), String>) {
        for answer in self.unanswered.drain(..) {
            // A caller that gave up does not listen; its work is as durable as the others'.
            drop(answer.send(result.clone()));
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 5)
}
