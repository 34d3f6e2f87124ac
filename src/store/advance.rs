//! Moving a running task on to its next step without a change of hands: for waits in a worker's own slot.

use reveille_trigger::Key;
use serde_json::Value;
use uuid::Uuid;

use super::{Db, Store, arrival, doing, each, history::Why, locking};
use crate::{
    error::Result,
    id::{Fence, Incarnation},
    task::Woken,
    vault::Purpose,
};

/// What such a wait ended with.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// This.
    Woken {
        /// What the next step sees.
        woken: Option<Woken>,
        /// The event's id.
        event: Uuid,
        /// Why the wait is over.
        why: Why,
        /// The signals that counted for it, and are now taken.
        taking: Vec<Uuid>,
    },
    /// Whatever has come under this key, if anything has.
    Key(String),
}

/// Where the task is.
#[derive(Clone, Debug)]
pub enum Moved {
    /// At its next step, which sees this.
    To(Option<Woken>),
    /// With somebody else, or nowhere.
    NotMine,
}

impl Store {
    /// Moves a task of mine from `turn` on to the next: stores its step and what that sees. `None` if nothing has come
    /// under the key, or if a signal that counted is with somebody else. Doing it again is safe: a task that is there already is not moved, and sees what it saw.
    ///
    /// # Errors
    /// If the database does not answer, or a value is over the payload limit.
    pub async fn advance(
        &self,
        db: &mut Db<'_>,
        me: Incarnation,
        fence: Fence,
        turn: i32,
        step: &[u8],
        arrival: &Arrival,
    ) -> Result<Option<Moved>> {
        let now = self.clock().now_ms();
        // First of all, so that nothing is taken for a task that cannot have it.
        match find(db, me, fence).await? {
            Some((at, _)) if at == turn => {}
            Some((at, event)) if at == turn + 1 => return self.moved(event).map(Some),
            _ => return Ok(Some(Moved::NotMine)),
        }
        let (event, id, why) = match arrival {
            Arrival::Woken { woken, event, why, taking } => {
                if !take_all(db, taking, now).await? {
                    return Ok(None);
                }
                let sealed = woken.as_ref().map(|woken| self.seal(Purpose::Event, "event", woken)).transpose()?;
                (sealed, *event, *why)
            }
            Arrival::Key(key) => match self.take(db, key, now).await? {
                Some((sealed, id, why)) => (Some(sealed), id, why),
                None => return Ok(None),
            },
        };
        let text =
            "update reveille_task set step = $2, event = $3, progress = null, turn = turn + 1, attempt = 1, crashes = 0
                     where id = $1";
        each!(&mut *db, c => sqlx::query(text).bind(fence.task.0).bind(step).bind(event.as_deref()).execute(&mut **c).await.map(drop))
            .map_err(doing("storing the next step"))?;
        let text =
            "insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
                    values ($1 / 86400000 % 32, $2, $1, $3, $4, 1, 'running', 'running', $5, $6, $7)";
        each!(&mut *db, c => sqlx::query(text).bind(now).bind(fence.task.0).bind(fence.generation).bind(turn + 1).bind(why.word())
            .bind(id).bind(me.0).execute(&mut **c).await.map(drop))
        .map_err(doing("writing history"))?;
        self.moved(event).map(Some)
    }

    fn moved(&self, event: Option<Vec<u8>>) -> Result<Moved> {
        Ok(Moved::To(event.map(|sealed| self.open(Purpose::Event, sealed)).transpose()?))
    }

    /// What has come under these keys and is not taken: the oldest signal of each, or how a task ended. With the ids of the
    /// signals.
    ///
    /// # Errors
    /// If the database does not answer, or something cannot be read here.
    pub async fn peek(&self, keys: &[String]) -> Result<(Vec<(Key, Value)>, Vec<Uuid>)> {
        let now = self.clock().now_ms();
        let (found, ids) = self
            .reading("looking for what has come", async |db| {
                let (mut found, mut ids) = (Vec::new(), Vec::new());
                for key in keys {
                    if let Some(task) = key.strip_prefix("task:") {
                        found.extend(self.end_of(db, task).await?.map(|(event, _)| arrival::Sealed { key: key.clone(), event }));
                        continue;
                    }
                    let oldest = "select id, event from reveille_signal
                                   where key = $1 and taken_at is null and expires_at > $2 order by sent_at, id limit 1";
                    let signal: Option<(Uuid, Vec<u8>)> =
                        each!(&mut *db, c => sqlx::query_as(oldest).bind(key).bind(now).fetch_optional(&mut **c).await)
                            .map_err(doing("looking for a signal"))?;
                    if let Some((id, event)) = signal {
                        found.push(arrival::Sealed { key: key.clone(), event });
                        ids.push(id);
                    }
                }
                Ok((found, ids))
            })
            .await?;
        Ok((self.open_arrived(found)?, ids))
    }

    /// Takes the oldest signal under a key, or reads how a task ended.
    async fn take(&self, db: &mut Db<'_>, key: &str, now: i64) -> Result<Option<(Vec<u8>, Uuid, Why)>> {
        if let Some(task) = key.strip_prefix("task:") {
            let ended = self.end_of(db, task).await?;
            return Ok(ended.map(|(sealed, id)| (sealed, id, Why::Task)));
        }
        let oldest = locking!(
            db,
            "select id, event from reveille_signal where key = $1 and taken_at is null and expires_at > $2 order by sent_at, id limit 1"
        );
        let signal: Option<(Uuid, Vec<u8>)> =
            each!(&mut *db, c => sqlx::query_as(oldest).bind(key).bind(now).fetch_optional(&mut **c).await)
                .map_err(doing("looking for a signal"))?;
        let Some((id, event)) = signal else { return Ok(None) };
        let taken = "update reveille_signal set taken_at = $2 where id = $1";
        each!(&mut *db, c => sqlx::query(taken).bind(id).bind(now).execute(&mut **c).await.map(drop))
            .map_err(doing("taking a signal"))?;
        Ok(Some((event, id, Why::Signal)))
    }
}

/// Takes signals, unless one of them is with somebody else: then none.
async fn take_all(db: &mut Db<'_>, signals: &[Uuid], now: i64) -> Result<bool> {
    let free = locking!(db, "select id from reveille_signal where id = $1 and taken_at is null");
    for id in signals {
        let free: Option<Uuid> = each!(&mut *db, c => sqlx::query_scalar(free).bind(id).fetch_optional(&mut **c).await)
            .map_err(doing("looking for a signal"))?;
        if free.is_none() {
            return Ok(false);
        }
    }
    let taken = "update reveille_signal set taken_at = $2 where id = $1";
    for id in signals {
        each!(&mut *db, c => sqlx::query(taken).bind(id).bind(now).execute(&mut **c).await.map(drop))
            .map_err(doing("taking a signal"))?;
    }
    Ok(true)
}

/// The turn and the event of a running task of mine, unless I am gone; its row is then locked until the transaction ends.
async fn find(db: &mut Db<'_>, me: Incarnation, fence: Fence) -> Result<Option<(i32, Option<Vec<u8>>)>> {
    let text = locking!(
        db,
        "select turn, event from reveille_task
          where id = $1 and generation = $2 and holder = $3 and state = 'running'
            and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)"
    );
    each!(db, c => sqlx::query_as(text).bind(fence.task.0).bind(fence.generation).bind(me.0)
        .fetch_optional(&mut **c).await)
    .map_err(doing("looking for a task of mine"))
}
