//! What does not move by itself, or may be lost, for those who ask what is wrong.

use serde::Serialize;

use super::{
    Db, Store, doing, durability, each, queue, replica,
    unserved::{self, Unserved},
};
use crate::{clock::millis, error::Result};

/// Something that does not move by itself, and how much of it there is, counted up to 1,000.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Whether it is a problem, or only something to know.
    pub is_problem: bool,
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// How long a trigger may be overdue before it is worth a word.
const OVERDUE: std::time::Duration = std::time::Duration::from_secs(10);

impl Store {
    /// What no live replica can take, what waits for nothing, and what is left to an operator.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn examine(&self) -> Result<Vec<Finding>> {
        let now = self.clock().now_ms();
        self.reading("examining", async |db| Findings::of(db, now).await).await
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    async fn of(db: &mut Db<'_>, now: i64) -> Result<Vec<Finding>> {
        let triggerers = unserved::live(db, replica::Role::Triggerer).await?;
        let workers = unserved::live(db, replica::Role::Worker).await?;
        let mut found = Self::default();
        if workers.is_empty() {
            found.problem(
                "no worker is live".to_owned(),
                "start one: `reveille worker`, or a binary of yours with your tasks",
            );
        }
        if triggerers.is_empty() {
            found.problem(
                "no triggerer is live: active triggers are not checked".to_owned(),
                "start one: `reveille triggerer`",
            );
        }
        found.tasks(db, &workers).await?;
        found.triggers(db, &triggerers, now).await?;
        found.paused_queues(db).await?;
        found.left_to_people(db).await?;
        found.0.extend(durability::examine(db).await?);
        Ok(found.0)
    }

    fn problem(&mut self, what: String, advice: &str) {
        self.0.push(Finding { is_problem: true, what, advice: advice.to_owned() });
    }

    async fn tasks(&mut self, db: &mut Db<'_>, workers: &[replica::Replica]) -> Result<()> {
        let ready = "select distinct name, queue from reveille_task where state = 'ready' limit 1000";
        for (name, queue) in pairs(db, ready).await? {
            if !workers.iter().any(|worker| worker.serves(&queue) && worker.kinds.split(',').any(|known| known == name))
            {
                self.problem(
                    format!(
                        "tasks named {name:?} are ready on the queue {queue:?}, and no live worker there knows that name"
                    ),
                    "start a worker that serves the queue and whose binary has the name, or mend the name and cancel these",
                );
            }
        }
        let of_nobody = match db {
            Db::Sqlite(_) => {
                "select count(*) from (select 1 from reveille_wait_key w where w.key >= 'task:' and w.key < 'task;'
                    and not exists (select 1 from reveille_task k where k.id = unhex(substr(w.key, 6), '-'))
                    and not exists (select 1 from reveille_finished f where f.id = unhex(substr(w.key, 6), '-'))
                  limit 1000) as counted"
            }
            Db::Postgres(_) => {
                "select count(*) from (select 1 from reveille_wait_key w where w.key like 'task:%'
                    and not exists (select 1 from reveille_task k where k.id = substr(w.key, 6)::uuid)
                    and not exists (select 1 from reveille_finished f where f.id = substr(w.key, 6)::uuid)
                  limit 1000) as counted"
            }
        };
        match count(db, of_nobody).await? {
            0 => {}
            many => self.problem(
                format!("{many} task(s) wait for the end of a task that is not there, or is past its retention"),
                "`reveille task list --state deferred`, then `reveille task cancel ID` for those",
            ),
        }
        Ok(())
    }

    async fn triggers(&mut self, db: &mut Db<'_>, triggerers: &[replica::Replica], now: i64) -> Result<()> {
        for Unserved { kinds, queue } in unserved::beside(db, triggerers).await? {
            self.problem(
                format!(
                    "triggers of kind {kinds:?} wait on the queue {queue:?}, and no live triggerer there has that kind"
                ),
                "start a triggerer that serves the queue and whose binary links the crate that brings the kind",
            );
        }
        let undo = "select distinct kind, queue from reveille_undo where dead_at is null limit 1000";
        for (kinds, queue) in pairs(db, undo).await? {
            let cancelled = Unserved { kinds, queue };
            if !unserved::is_served(triggerers, &cancelled) {
                let Unserved { kinds, queue } = cancelled;
                self.problem(
                    format!("cancelled waits of kind {kinds:?} on the queue {queue:?} are yet to be undone, and no live triggerer there has that kind"),
                    "start a triggerer that serves the queue and whose binary links the crate that brings the kind",
                );
            }
        }
        if !triggerers.is_empty() && triggerers.iter().all(|triggerer| triggerer.running >= triggerer.capacity) {
            let overdue = match db {
                Db::Sqlite(_) => {
                    "select count(*) from (select 1 from reveille_trigger where holder is null and passive = 0 and wake_at <= $1 limit 1000) as counted"
                }
                Db::Postgres(_) => {
                    "select count(*) from (select 1 from reveille_trigger where holder is null and not passive and wake_at <= $1 limit 1000) as counted"
                }
            };
            let many: i64 =
                each!(db, c => sqlx::query_scalar(overdue).bind(now - millis(OVERDUE)).fetch_one(&mut **c).await)
                    .map_err(doing("examining"))?;
            if many > 0 {
                self.problem(
                    format!(
                        "{many} trigger(s) have been due for {} s or more, and every triggerer is full",
                        OVERDUE.as_secs()
                    ),
                    "start another triggerer, or give these a larger --capacity",
                );
            }
        }
        Ok(())
    }

    async fn paused_queues(&mut self, db: &mut Db<'_>) -> Result<()> {
        for queue in queue::list(db).await?.into_iter().filter(|queue| queue.paused_at.is_some() && queue.ready > 0) {
            self.problem(
                format!("the queue {:?} is paused, with {} ready task(s)", queue.name, queue.ready),
                &format!("`reveille queue resume {}`", queue.name),
            );
        }
        Ok(())
    }

    async fn left_to_people(&mut self, db: &mut Db<'_>) -> Result<()> {
        let dead = "select count(*) from (select 1 from reveille_undo where dead_at is not null limit 1000) as counted";
        match count(db, dead).await? {
            0 => {}
            many => self.problem(
                format!("{many} cancelled wait(s) could not be undone"),
                "see the triggerer's log for why, and undo them by hand",
            ),
        }
        let failed = "select count(*) from (select 1 from reveille_finished where day = -1 limit 1000) as counted";
        match count(db, failed).await? {
            0 => {}
            many => self.0.push(Finding {
                is_problem: false,
                what: format!("{many} task(s) failed for good"),
                advice: "`reveille task list --state failed`".to_owned(),
            }),
        }
        Ok(())
    }
}

async fn pairs(db: &mut Db<'_>, text: &'static str) -> Result<Vec<(String, String)>> {
    each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("examining"))
}

async fn count(db: &mut Db<'_>, text: &'static str) -> Result<i64> {
    each!(db, c => sqlx::query_scalar(text).fetch_one(&mut **c).await).map_err(doing("examining"))
}
