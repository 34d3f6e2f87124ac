//! Events: what ends a wait, in the transaction that moves its task.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use reveille_trigger::{Event, Outcome, Receipt};
use uuid::Uuid;

use super::{
    BATCH, Db, Store, doing, history,
    history::Why,
    rows,
    task::{self, Ending, Over},
};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    task::{End, TaskState, WaitFailed, WaitFailure, Woken},
    vault::Purpose,
};

/// An event, and the wait that it ends.
#[derive(Clone, Debug)]
pub struct Firing {
    /// The task that waits.
    pub fence: Fence,
    /// What happened.
    pub event: Arc<Event>,
    /// The trigger's holder. Evidence that the thing happened is taken from anybody; a verdict only from a live holder.
    pub holder: Incarnation,
}

/// What a resumed task is to be given, as it goes to the database.
#[derive(Clone, Debug)]
pub(super) struct Resuming {
    pub(super) fence: Fence,
    /// Sealed [`Woken`].
    pub(super) event: Vec<u8>,
    pub(super) event_id: Uuid,
    pub(super) why: Why,
}

impl Store {
    /// Fires a batch: waits go, tasks move or end, events are kept. Answers with a receipt each, in order, and with the
    /// tasks that ended.
    ///
    /// # Errors
    /// If the database does not answer: fire them again, with the same ids.
    pub async fn fire(&self, db: &mut Db<'_>, batch: &[Firing]) -> Result<(Vec<Receipt>, Vec<Over>)> {
        let now = self.clock().now_ms();
        let (mut resuming, mut endings, mut verdicts) = (Vec::new(), Vec::new(), Vec::new());
        let deciding = deciding(batch);
        for firing in batch {
            let Firing { fence, event, holder } = firing;
            if deciding.get(&fence.task) != Some(&(fence.generation, event.id)) {
                continue;
            }
            let ending = |end: &End, needs: Option<Incarnation>| -> Result<Ending> {
                let ending = self.ending(*fence, TaskState::Deferred, end, Why::Event)?;
                Ok(Ending { holder: needs, event: Some(event.id), who: Some(*holder), ..ending })
            };
            match &event.outcome {
                Outcome::Resume(payload) => resuming.push(Resuming {
                    fence: *fence,
                    event: self.seal(Purpose::Event, "event", &Woken::Payload(payload))?,
                    event_id: event.id,
                    why: Why::Event,
                }),
                Outcome::Succeed(result) => endings.push(ending(&End::succeeded(result.clone()), None)?),
                Outcome::Skip(reason) => endings.push(ending(&End::skipped(reason.clone()), Some(*holder))?),
                Outcome::Fail(reason) => verdicts.push(super::Verdict {
                    fence: *fence,
                    failed: WaitFailed { reason: WaitFailure::Fatal, message: reason.clone() },
                    holder: Some(*holder),
                    event: Some(event.id),
                }),
            }
        }
        if [resuming.len(), endings.len(), verdicts.len()].iter().filter(|len| **len > 0).count() > 1 {
            let tasks: Vec<Uuid> = batch.iter().map(|firing| firing.fence.task.0).collect();
            task::lock(db, &tasks).await?;
        }
        let who = batch.first().map(|firing| firing.holder);
        let mut accepted: HashSet<TaskId> = HashSet::new();
        accepted.extend(resume(db, who, now, &resuming).await?);
        let mut ended = if endings.is_empty() { Vec::new() } else { task::end(db, now, &endings).await? };
        accepted.extend(ended.iter().map(|over| over.task));
        let failed = self.fail_waits(db, who, verdicts).await?;
        accepted.extend(failed.accepted);
        ended.extend(failed.ended);
        let mut receipts = Vec::with_capacity(batch.len());
        for firing in batch {
            let Firing { fence, event, .. } = firing;
            let decides = deciding.get(&fence.task) == Some(&(fence.generation, event.id));
            let taken =
                (decides && accepted.contains(&fence.task)) || history::has_event(db, fence.task, event.id).await?;
            receipts.push(if taken { Receipt::Accepted } else { Receipt::Refused });
        }
        Ok((receipts, ended))
    }
}

/// For each task the generation and event that may decide: of its waits only the latest can stand, and of two events for
/// one wait in a batch the first is taken.
fn deciding(batch: &[Firing]) -> HashMap<TaskId, (i32, Uuid)> {
    let mut deciding = HashMap::new();
    for Firing { fence, event, .. } in batch {
        let latest = deciding.entry(fence.task).or_insert((fence.generation, event.id));
        if fence.generation > latest.0 {
            *latest = (fence.generation, event.id);
        }
    }
    deciding
}

/// Moves deferred tasks on to their next step; answers which.
pub(super) async fn resume(
    db: &mut Db<'_>,
    who: Option<Incarnation>,
    now: i64,
    batch: &[Resuming],
) -> Result<Vec<TaskId>> {
    let mut batch = batch.to_vec();
    // Each statement locks in the order of ids, and so must those that follow it.
    batch.sort_by_key(|resuming| resuming.fence);
    // Of two for one wait the first is taken.
    batch.dedup_by_key(|resuming| resuming.fence);
    let mut resumed = Vec::with_capacity(batch.len());
    for batch in batch.chunks(BATCH) {
        let ids = match db {
            Db::Postgres(c) => resume_postgres(c, who, now, batch).await,
            Db::Sqlite(c) => resume_sqlite(c, who, now, batch).await,
        };
        resumed.extend(ids.map_err(doing("firing"))?.into_iter().map(TaskId));
    }
    Ok(resumed)
}

async fn resume_postgres(
    c: &mut sqlx::PgConnection,
    who: Option<Incarnation>,
    now: i64,
    batch: &[Resuming],
) -> Result<Vec<Uuid>, sqlx::Error> {
    macro_rules! column {
        ($r:ident => $value:expr) => {
            batch.iter().map(|$r| $value).collect::<Vec<_>>()
        };
    }
    sqlx::query_scalar(include_str!("sql/fire.postgres.sql"))
        .bind(now)
        .bind(who.map(|who| who.0))
        .bind(column!(r => r.fence.task.0))
        .bind(column!(r => r.fence.generation))
        .bind(column!(r => r.event.as_slice()))
        .bind(column!(r => r.event_id))
        .bind(column!(r => r.why.word()))
        .fetch_all(c)
        .await
}

async fn resume_sqlite(
    c: &mut sqlx::SqliteConnection,
    who: Option<Incarnation>,
    now: i64,
    batch: &[Resuming],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut resumed = Vec::with_capacity(batch.len());
    for part in rows::parts(batch) {
        let all = [now.into(), who.map(|who| who.0).into()];
        let (text, bound) = rows::statements(include_str!("sql/fire.sqlite.sql"), all, part, |r| {
            let Fence { task, generation } = r.fence;
            [task.0.into(), generation.into(), (&r.event).into(), r.event_id.into(), r.why.word().into()]
        });
        resumed.extend(sqlx::query_scalar_with::<_, Uuid, _>(text, bound).fetch_all(&mut *c).await?);
    }
    Ok(resumed)
}
