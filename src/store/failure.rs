//! Waits that end badly. One path for all of them: a fatal check, an event that says failed, a deadline.
//!
//! It is not hot, so it reads the task under its lock, decides here, and writes the decision.

use uuid::Uuid;

use super::{
    Db, Store, doing, each,
    event::{self, Resuming},
    history::Why,
    task::{self, Ending, Over},
};
use crate::{
    error::Result,
    id::{Fence, Incarnation, TaskId},
    task::{End, TaskState, WaitFailed, WaitFailure, Woken, cut},
    vault::Purpose,
};

/// That a wait has ended badly.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The task that waits.
    pub fence: Fence,
    /// How.
    pub failed: WaitFailed,
    /// Who must hold the trigger and be live; nobody, for a deadline that is not the holder's to strike.
    pub holder: Option<Incarnation>,
    /// The event that said so.
    pub event: Option<Uuid>,
}

/// What became of verdicts.
#[derive(Debug, Default)]
pub struct Struck {
    /// Those that decided.
    pub accepted: Vec<TaskId>,
    /// Among them, those whose task ended.
    pub ended: Vec<Over>,
}

#[derive(sqlx::FromRow)]
struct Waiting {
    generation: i32,
    turn: i32,
    attempt: i32,
    max_attempts: i32,
    backoff_ms: i64,
    backoff_cap_ms: i64,
    or_resume: bool,
    deadline_at: Option<i64>,
    deadline_is_fixed: bool,
    holder: Option<Uuid>,
    holder_is_live: bool,
}

impl Waiting {
    /// Whether no attempt from then on can be in time.
    fn is_over_by(&self, at: i64) -> bool {
        self.deadline_is_fixed && self.deadline_at.is_some_and(|deadline_at| deadline_at <= at)
    }
}

impl Store {
    /// Gives verdicts, each of which resumes its task, arms its wait again, or fails it for good.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn fail_waits(
        &self,
        db: &mut Db<'_>,
        who: Option<Incarnation>,
        mut verdicts: Vec<Verdict>,
    ) -> Result<Struck> {
        let mut struck = Struck::default();
        // In the order of ids, as every statement that ends waits locks its tasks.
        verdicts.sort_by_key(|verdict| verdict.fence);
        for verdict in verdicts {
            let task = verdict.fence.task;
            match self.fail_wait(db, who, verdict).await? {
                Fate::Refused => {}
                Fate::MovedOn => struck.accepted.push(task),
                Fate::Ended(over) => {
                    struck.accepted.push(task);
                    struck.ended.extend(over);
                }
            }
        }
        Ok(struck)
    }

    async fn fail_wait(&self, db: &mut Db<'_>, who: Option<Incarnation>, mut verdict: Verdict) -> Result<Fate> {
        verdict.failed.message = cut(verdict.failed.message);
        let Some(waiting) = waiting(db, verdict.fence.task).await? else { return Ok(Fate::Refused) };
        let may = match verdict.holder {
            None => true,
            Some(holder) => waiting.holder == Some(holder.0) && waiting.holder_is_live,
        };
        if waiting.generation != verdict.fence.generation || !may {
            return Ok(Fate::Refused);
        }
        let now = self.clock().now_ms();
        let why = match verdict.failed.reason {
            WaitFailure::Deadline => Why::Deadline,
            WaitFailure::Fatal | WaitFailure::Errors | WaitFailure::Misfit => Why::WaitFailed,
        };
        let retry = task::retry(waiting.max_attempts, waiting.backoff_ms, waiting.backoff_cap_ms);
        if waiting.or_resume {
            let event = self.seal_own(Purpose::Event, "event", &<Woken>::Failed(verdict.failed))?;
            let event_id = verdict.event.unwrap_or_else(Uuid::now_v7);
            event::resume(db, who, now, &[Resuming { fence: verdict.fence, event, event_id, why }]).await?;
            Ok(Fate::MovedOn)
        } else if let Some(delay) = retry.delay_ms(waiting.attempt, rand::random()).filter(|_| !waiting.is_over_by(now))
        {
            rearm(db, who, now, &verdict, &waiting, now.saturating_add(delay)).await?;
            Ok(Fate::MovedOn)
        } else {
            let ending = self.ending(verdict.fence, TaskState::Deferred, &End::failed(verdict.failed.message), why)?;
            Ok(Fate::Ended(task::end(db, now, &[Ending { event: verdict.event, who, ..ending }]).await?))
        }
    }
}

enum Fate {
    Refused,
    MovedOn,
    Ended(Vec<Over>),
}

/// A deferred task and its wait, both locked until the transaction ends: nobody takes the trigger over meanwhile.
async fn waiting(db: &mut Db<'_>, task: TaskId) -> Result<Option<Waiting>> {
    // The lock first, and alone: what it waited for may have changed the rest.
    let lock = super::locking!(db, "select id from reveille_task where id = $1 and state = 'deferred'");
    let there: Option<Uuid> =
        each!(&mut *db, c => sqlx::query_scalar(lock).bind(task.0).fetch_optional(&mut **c).await)
            .map_err(doing("locking a task"))?;
    if there.is_none() {
        return Ok(None);
    }
    macro_rules! look {
        ($lock:literal) => {
            concat!(
                "select k.generation, k.turn, k.attempt, k.max_attempts, k.backoff_ms, k.backoff_cap_ms, t.or_resume,
                        t.deadline_at, t.deadline_is_fixed, t.holder,
                        exists (select 1 from reveille_replica r where r.incarnation = t.holder and r.gone_at is null) as holder_is_live
                   from reveille_task k
                   join reveille_trigger t on t.task_id = k.id and t.generation = k.generation
                  where k.id = $1 ",
                $lock
            )
        };
    }
    let text = match db {
        Db::Sqlite(_) => look!(""),
        Db::Postgres(_) => look!("for update of t"),
    };
    each!(db, c => sqlx::query_as(text).bind(task.0).fetch_optional(&mut **c).await).map_err(doing("looking at a wait"))
}

/// Arms the same wait again, from `at` on: whatever counted from the deferral counts from then, and a deadline that is a
/// time of the calendar stays.
async fn rearm(
    db: &mut Db<'_>,
    who: Option<Incarnation>,
    now: i64,
    verdict: &Verdict,
    waiting: &Waiting,
    at: i64,
) -> Result<()> {
    let (task, generation) = (verdict.fence.task.0, verdict.fence.generation);
    // A timer is due as long after `at` as it was after the deferral; an active trigger gets its first look then.
    let trigger = "update reveille_trigger
                      set generation = generation + 1, holder = null, since = $3,
                          deadline_at = case when deadline_is_fixed then deadline_at else deadline_at - since + $3 end,
                          wake_at = case when passive then wake_at - since + $3 else $3 end
                    where task_id = $1 and generation = $2";
    let keys = "update reveille_wait_key set generation = generation + 1 where task_id = $1 and generation = $2";
    let moved =
        "update reveille_task set generation = generation + 1, attempt = attempt + 1 where id = $1 and generation = $2";
    each!(&mut *db, c => sqlx::query(trigger).bind(task).bind(generation).bind(at).execute(&mut **c).await.map(drop))
        .map_err(doing("arming a wait again"))?;
    for text in [keys, moved] {
        each!(&mut *db, c => sqlx::query(text).bind(task).bind(generation).execute(&mut **c).await.map(drop))
            .map_err(doing("arming a wait again"))?;
    }
    let told =
        "insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
                values ($1 / 86400000 % 32, $2, $1, $3, $4, $5, 'deferred', 'deferred', 'rearmed', $6, $7)";
    each!(db, c => sqlx::query(told).bind(now).bind(task).bind(generation + 1).bind(waiting.turn).bind(waiting.attempt + 1)
        .bind(verdict.event).bind(who.map(|who| who.0)).execute(&mut **c).await.map(drop))
    .map_err(doing("writing history"))
}
