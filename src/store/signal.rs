//! Signals, the ends of tasks, and free [slots](super::slot): what arrives under a key.
//!
//! A signal may come before the wait. Whoever stores one of the two commits first and *then* matches, so that of two
//! who come at once the later commit sees the other; and every replica matches again each period, in case somebody
//! was lost between commit and match. Nobody looks before inserting.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;
use uuid::Uuid;

use super::{
    BATCH, Db, Store, arrival, doing, each,
    event::{self, Resuming},
    history::Why,
    locking, slot,
    task::{self, Over, json},
    wake::Topic,
};
use crate::{
    clock::millis,
    error::{Error, Result},
    id::{Fence, Incarnation, TaskId},
    task::{End, EndState, Woken},
    vault::Purpose,
};

/// How long a signal is kept for a wait to come.
pub const KEPT: Duration = Duration::from_hours(24);

/// A signal to be sent.
#[derive(Clone, Debug)]
pub struct Signal<P> {
    /// Minted by the sender: sending it twice is sending it once.
    pub id: Uuid,
    /// What the waits name.
    pub key: String,
    /// What the resumed tasks are given.
    pub payload: P,
    /// How long it is kept.
    pub kept: Duration,
}

impl<P> Signal<P> {
    /// A new signal, [kept](KEPT) for a day.
    pub fn new(key: impl Into<String>, payload: P) -> Self {
        Self { id: Uuid::now_v7(), key: key.into(), payload, kept: KEPT }
    }
}

impl Store {
    /// Sends a signal to every task that waits for its key; if there is none, it is kept for the first that will.
    /// Answers how many tasks it resumed at once.
    ///
    /// # Errors
    /// If the key or payload cannot be stored, or the database does not answer: then send it again with the same id.
    pub async fn signal<P: Serialize>(&self, signal: Signal<P>) -> Result<usize> {
        super::within("sending a signal", async {
            let mut tx = self.begin().await?;
            self.signal_in(&mut tx.db(), &signal).await?;
            tx.commit().await
        })
        .await?;
        self.match_keys(&[format!("signal:{}", signal.key)], None).await
    }

    /// Stores a signal in the caller's own transaction. Tasks are resumed after that has committed, by
    /// [`match_keys`](Self::match_keys) or a replica's next look.
    ///
    /// # Errors
    /// If the key or payload cannot be stored, or the database does not answer.
    pub async fn signal_in<P: Serialize>(&self, db: &mut Db<'_>, signal: &Signal<P>) -> Result<()> {
        if signal.key.is_empty() || signal.key.len() > 512 || signal.key.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "a signal's key has 1 to 512 bytes and no control characters, unlike {:?}",
                signal.key
            )));
        }
        let payload = serde_json::to_value(&signal.payload).map_err(|error| Error::json("the payload", &error))?;
        let event = self.seal(Purpose::Event, "payload", &Woken::Payload(payload))?;
        let now = self.clock().now_ms();
        let text = "insert into reveille_signal (id, key, event, sent_at, expires_at) values ($1, $2, $3, $4, $5) on conflict (id) do nothing";
        each!(db, c => sqlx::query(text).bind(signal.id).bind(format!("signal:{}", signal.key)).bind(event).bind(now)
            .bind(now.saturating_add(millis(signal.kept))).execute(&mut **c).await.map(drop))
        .map_err(doing("storing a signal"))
    }

    /// Brings together what waits and what came, under keys as they are stored. Answers how many tasks were resumed.
    ///
    /// # Errors
    /// If the database does not answer: the next period's match does it again.
    pub async fn match_keys(&self, keys: &[String], who: Option<Incarnation>) -> Result<usize> {
        let mut resumed = 0;
        // One look at all of them, as most have nothing to be matched.
        let came = match keys {
            [] | [_] => keys.to_vec(),
            several => {
                let now = self.clock().now_ms();
                self.reading("looking for what has come", async |db| came(db, now, several).await).await?
            }
        };
        for key in &came {
            let matched = if let Some(id) = key.strip_prefix("task:") {
                self.match_task(key, id, who).await
            } else if let Some(slot) = key.strip_prefix(slot::PREFIX) {
                super::within("giving slots", async {
                    let mut tx = self.begin().await?;
                    let given = self.match_slots(&mut tx.db(), slot, who).await?;
                    tx.commit().await?;
                    Ok(given)
                })
                .await
            } else {
                self.match_signals(key, who).await
            };
            match matched {
                Ok(count) => resumed += count,
                // An end that cannot be read is left as it is, and must not hold up the other keys.
                Err(error @ (Error::Vault(_) | Error::Invalid(_) | Error::TooLarge { .. })) => {
                    tracing::warn!("cannot tell those who wait for {key}: {}", error.chain());
                }
                Err(error) => return Err(error),
            }
        }
        if resumed > 0 {
            self.wake().hint(Topic::Ready);
            self.wake().hint(Topic::Waiting);
        }
        Ok(resumed)
    }

    /// One signal after the other, oldest first, until there is none left or nobody waits.
    async fn match_signals(&self, key: &str, who: Option<Incarnation>) -> Result<usize> {
        let mut resumed = 0;
        loop {
            let page = super::within("delivering a signal", async {
                let mut tx = self.begin().await?;
                let page = self.deliver_signal(&mut tx.db(), key, who).await?;
                tx.commit().await?;
                Ok(page)
            });
            let page = page.await?;
            resumed += page.resumed;
            if page.is_last {
                return Ok(resumed);
            }
        }
    }

    /// Gives the oldest signal to one page of those who wait, and remembers in its row how far it has come: whoever goes
    /// on gives it to nobody twice, and not to the next wait of one whom it has resumed. It is taken if anybody was there.
    async fn deliver_signal(&self, db: &mut Db<'_>, key: &str, who: Option<Incarnation>) -> Result<Page> {
        let now = self.clock().now_ms();
        let oldest = locking!(
            db,
            "select id, event, taken_at, delivered_to from reveille_signal
              where key = $1 and (taken_at is null or delivered_to is not null) and (delivered_to is not null or expires_at > $2)
              order by sent_at, id limit 1"
        );
        let signal: Option<Oldest> =
            each!(&mut *db, c => sqlx::query_as(oldest).bind(key).bind(now).fetch_optional(&mut **c).await)
                .map_err(doing("looking for a signal"))?;
        let Some(Oldest { id, event, taken_at, delivered_to }) = signal else { return Ok(Page::EMPTY) };
        let make = |fence| Resuming { fence, event: event.clone(), event_id: id, why: Why::Signal };
        let (count, next) = deliver(db, key, delivered_to, now, who, make).await?;
        let taken_at = taken_at.or((count > 0).then_some(now));
        if (taken_at, next) != (None, delivered_to) {
            let text = "update reveille_signal set taken_at = $2, delivered_to = $3 where id = $1";
            each!(&mut *db, c => sqlx::query(text).bind(id).bind(taken_at).bind(next).execute(&mut **c).await.map(drop))
                .map_err(doing("taking a signal"))?;
        }
        // The next one is for those who are left, if any.
        Ok(Page { resumed: count, is_last: next.is_none() && taken_at.is_none() })
    }

    async fn match_task(&self, key: &str, id: &str, who: Option<Incarnation>) -> Result<usize> {
        let (mut resumed, mut after) = (0, None);
        loop {
            let page = super::within("telling of a task's end", async {
                let mut tx = self.begin().await?;
                let Some((event, id)) = self.end_of(&mut tx.db(), id).await? else { return Ok((0, None)) };
                let make = |fence| Resuming { fence, event: event.clone(), event_id: id, why: Why::Task };
                let page = deliver(&mut tx.db(), key, after, self.clock().now_ms(), who, make).await?;
                tx.commit().await?;
                Ok(page)
            });
            let (count, next) = page.await?;
            resumed += count;
            if next.is_none() {
                return Ok(resumed);
            }
            after = next;
        }
    }

    /// How a task ended, sealed as an event, and the event's id, which is the task's.
    pub(super) async fn end_of(&self, db: &mut Db<'_>, id: &str) -> Result<Option<(Vec<u8>, Uuid)>> {
        let id: TaskId = id.parse().map_err(|error| Error::Invalid(format!("{id:?} names no task: {error}")))?;
        let text = "select state, result from reveille_finished where id = $1";
        let finished: Option<(String, Vec<u8>)> =
            each!(db, c => sqlx::query_as(text).bind(id.0).fetch_optional(&mut **c).await)
                .map_err(doing("looking for a finished task"))?;
        let Some((state, result)) = finished else { return Ok(None) };
        let end: End = self.open(Purpose::Result, result)?;
        let state: EndState = state.parse()?;
        let ended = reveille_wait::Ended { task: id.0, state: state.into(), result: end.result, error: end.error };
        let payload = serde_json::to_value(ended).map_err(|error| Error::json("the end of a task", &error))?;
        // The result was within the limit when it came.
        Ok(Some((self.seal_own(Purpose::Event, "event", &Woken::Payload(payload))?, id.0)))
    }

    /// What follows the end of tasks, after its commit: those that wait for them are resumed, and those that wait for
    /// their slots.
    ///
    /// # Errors
    /// If the database does not answer: the next period's match does it.
    pub async fn ended(&self, over: &[Over]) -> Result<()> {
        if over.is_empty() {
            return Ok(());
        }
        let slots: BTreeSet<&str> = over.iter().filter_map(|over| over.slot.as_deref()).collect();
        let slots = slots.into_iter().map(|key| format!("{}{key}", slot::PREFIX));
        let keys: Vec<String> = over.iter().map(|over| format!("task:{}", over.task)).chain(slots).collect();
        let awaited = super::within("looking for who waits", async {
            let mut tx = self.read().await?;
            let awaited = awaited(&mut tx.db(), &keys).await?;
            tx.commit().await?;
            Ok(awaited)
        })
        .await?;
        self.match_keys(&awaited, None).await.map(drop)
    }

    /// Matches again a page of what waits or was sent, after `cursor`. Answers the next page's cursor.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn match_again(&self, who: Incarnation, cursor: Option<String>) -> Result<Option<String>> {
        let (matched, next) = super::within("matching again", async {
            let mut tx = self.read().await?;
            let found = unmatched(&mut tx.db(), self.clock().now_ms(), cursor.as_deref().unwrap_or_default()).await?;
            tx.commit().await?;
            Ok(found)
        })
        .await?;
        self.match_keys(&matched, Some(who)).await?;
        Ok(next)
    }
}

#[derive(sqlx::FromRow)]
struct Oldest {
    id: Uuid,
    event: Vec<u8>,
    taken_at: Option<i64>,
    delivered_to: Option<Uuid>,
}

/// What one page of those who wait came to.
struct Page {
    resumed: usize,
    is_last: bool,
}

impl Page {
    const EMPTY: Self = Self { resumed: 0, is_last: true };
}

/// Resumes one page of those who wait for a key, or tells them if they look at more than that, in the order of their ids;
/// answers how many, and after whom the next page begins, if there may be one. Pages, because all of them may be more than one transaction has time for.
async fn deliver(
    db: &mut Db<'_>,
    key: &str,
    after: Option<Uuid>,
    now: i64,
    who: Option<Incarnation>,
    make: impl Fn(Fence) -> Resuming,
) -> Result<(usize, Option<Uuid>)> {
    let text = "select w.task_id, w.generation, t.passive
                  from reveille_wait_key w join reveille_trigger t on t.task_id = w.task_id
                 where w.key = $1 and w.task_id > $2 and w.arrived is null
                 order by w.task_id limit $3";
    let after = after.unwrap_or(Uuid::nil());
    let waiting: Vec<(Uuid, i32, bool)> =
        each!(&mut *db, c => sqlx::query_as(text).bind(key).bind(after).bind(BATCH as i64).fetch_all(&mut **c).await)
            .map_err(doing("looking for who waits"))?;
    let (mut over, mut told) = (Vec::new(), Vec::new());
    for (id, generation, passive) in &waiting {
        let came = make(Fence { task: TaskId(*id), generation: *generation });
        if *passive { over.push(came) } else { told.push(came) }
    }
    if !over.is_empty() && !told.is_empty() {
        let both: Vec<Uuid> = waiting.iter().map(|(id, ..)| *id).collect();
        task::lock(db, &both).await?;
    }
    // A refused one keeps its key until whoever moved its task commits.
    let count = event::resume(db, who, now, &over).await?.len() + arrival::arrive(db, now, key, &told).await?.len();
    let next = waiting.last().filter(|_| waiting.len() == BATCH).map(|(last, ..)| *last);
    Ok((count, next))
}

/// Which of these keys somebody waits for.
pub(super) async fn awaited(db: &mut Db<'_>, keys: &[String]) -> Result<Vec<String>> {
    let found = match db {
        Db::Postgres(c) => {
            sqlx::query_scalar("select distinct key from reveille_wait_key where key = any($1) and arrived is null")
                .bind(keys)
                .fetch_all(&mut **c)
                .await
        }
        Db::Sqlite(c) => {
            let text = "select distinct key from reveille_wait_key where arrived is null and key in (select value from json_each($1))";
            sqlx::query_scalar(text).bind(json(keys)).fetch_all(&mut **c).await
        }
    };
    found.map_err(doing("looking for who waits"))
}

/// How many awaited keys one look goes through.
const PAGE: i64 = 1_000;

/// Among one page of awaited keys after `cursor`, those for which something has come; and the next page's cursor.
async fn unmatched(db: &mut Db<'_>, now: i64, cursor: &str) -> Result<(Vec<String>, Option<String>)> {
    let page = "select distinct key from reveille_wait_key where key > $1 and arrived is null order by key limit $2";
    let keys: Vec<String> =
        each!(&mut *db, c => sqlx::query_scalar(page).bind(cursor).bind(PAGE).fetch_all(&mut **c).await)
            .map_err(doing("looking for who waits"))?;
    let next = if keys.len() as i64 == PAGE { keys.last().cloned() } else { None };
    Ok((came(db, now, &keys).await?, next))
}

/// For which of these keys something has come.
async fn came(db: &mut Db<'_>, now: i64, keys: &[String]) -> Result<Vec<String>> {
    let ids: Vec<Uuid> = keys.iter().filter_map(|key| key.strip_prefix("task:")?.parse().ok()).collect();
    let mut came = signalled(db, now, keys).await.map_err(doing("looking for signals"))?;
    came.extend(
        finished(db, &ids).await.map_err(doing("looking for finished tasks"))?.iter().map(|id| format!("task:{id}")),
    );
    came.extend(slot::open(db, keys).await?);
    Ok(came)
}

/// For which of these keys a signal lies ready.
async fn signalled(db: &mut Db<'_>, now: i64, keys: &[String]) -> Result<Vec<String>, sqlx::Error> {
    match db {
        Db::Postgres(c) => {
            let text = "select distinct key from reveille_signal where key = any($1) and (taken_at is null or delivered_to is not null) and (delivered_to is not null or expires_at > $2)";
            sqlx::query_scalar(text).bind(keys).bind(now).fetch_all(&mut **c).await
        }
        Db::Sqlite(c) => {
            let text = "select distinct key from reveille_signal
                         where key in (select value from json_each($1))
                           and (taken_at is null or delivered_to is not null) and (delivered_to is not null or expires_at > $2)";
            sqlx::query_scalar(text).bind(json(keys)).bind(now).fetch_all(&mut **c).await
        }
    }
}

/// Which of these tasks have ended.
async fn finished(db: &mut Db<'_>, ids: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    match db {
        Db::Postgres(c) => {
            sqlx::query_scalar("select id from reveille_finished where id = any($1)")
                .bind(ids)
                .fetch_all(&mut **c)
                .await
        }
        Db::Sqlite(c) => {
            let mut found = Vec::new();
            for id in ids {
                found.extend(
                    sqlx::query_scalar::<_, Uuid>("select id from reveille_finished where id = $1")
                        .bind(id)
                        .fetch_optional(&mut **c)
                        .await?,
                );
            }
            Ok(found)
        }
    }
}
