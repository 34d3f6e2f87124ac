//! Moving a running task on to its next step without a change of hands: for waits in a worker's own slot.

use uuid::Uuid;

use super::{Db, Store, doing, each, history::Why, locking};
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
    /// Stores the next step and what it sees. `None` if nothing has come under the key.
    ///
    /// # Errors
    /// If the database does not answer, or a value is over the payload limit.
    pub async fn advance(
        &self,
        db: &mut Db<'_>,
        me: Incarnation,
        fence: Fence,
        step: &[u8],
        arrival: &Arrival,
    ) -> Result<Option<Moved>> {
        let now = self.clock().now_ms();
        // First of all, so that nothing is taken for a task that cannot have it.
        if !is_mine(db, me, fence).await? {
            return Ok(Some(Moved::NotMine));
        }
        let (event, id, why) = match arrival {
            Arrival::Woken { woken, event, why } => {
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
                     where id = $1
                    returning turn";
        let turn: i32 =
            each!(&mut *db, c => sqlx::query_scalar(text).bind(fence.task.0).bind(step).bind(event.as_deref())
            .fetch_one(&mut **c).await)
            .map_err(doing("storing the next step"))?;
        let text =
            "insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
                    values ($1 / 86400000 % 32, $2, $1, $3, $4, 1, 'running', 'running', $5, $6, $7)";
        each!(&mut *db, c => sqlx::query(text).bind(now).bind(fence.task.0).bind(fence.generation).bind(turn).bind(why.word())
            .bind(id).bind(me.0).execute(&mut **c).await.map(drop))
        .map_err(doing("writing history"))?;
        Ok(Some(Moved::To(event.map(|sealed| self.open(Purpose::Event, sealed)).transpose()?)))
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

/// Whether a running task is mine and I am not gone; its row is then locked until the transaction ends.
async fn is_mine(db: &mut Db<'_>, me: Incarnation, fence: Fence) -> Result<bool> {
    let text = locking!(
        db,
        "select id from reveille_task
          where id = $1 and generation = $2 and holder = $3 and state = 'running'
            and exists (select 1 from reveille_replica r where r.incarnation = $3 and r.gone_at is null)"
    );
    let mine: Option<Uuid> =
        each!(db, c => sqlx::query_scalar(text).bind(fence.task.0).bind(fence.generation).bind(me.0)
        .fetch_optional(&mut **c).await)
        .map_err(doing("looking for a task of mine"))?;
    Ok(mine.is_some())
}
