//! Who holds how much, and how many deferrals were decided: what is asked of a fleet from outside, to prove it.

use uuid::Uuid;

use super::{Db, Store, doing, each, stuck::FAR};
use crate::error::Result;

/// How many tasks' deferrals reached their outcome, as the history tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Tasks with one outcome at least.
    pub decided: i64,
    /// Tasks with more outcomes than deferrals.
    pub twice: i64,
}

/// A live triggerer, and what it holds.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Holds {
    /// This life of it.
    pub incarnation: Uuid,
    /// Where it is.
    pub label: String,
    /// How often it has renewed.
    pub beat: i64,
    /// How many triggers it holds.
    pub held: i64,
}

impl Store {
    /// Who is there, and holds how many triggers, by label.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn holds(&self) -> Result<Vec<Holds>> {
        let text = "select r.incarnation, r.label, r.beat,
                           (select count(*) from reveille_trigger t where t.holder = r.incarnation) as held
                      from reveille_replica r where r.role = 'triggerer' and r.gone_at is null order by r.label";
        let count = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("counting triggers"))
        };
        self.reading("counting triggers", count).await
    }

    /// Whom each trigger names as its holder, gone or not; without those that are free.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn holders(&self) -> Result<Vec<(Uuid, Uuid)>> {
        let text = "select task_id, holder from reveille_trigger where holder is not null";
        let list = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_as(text).fetch_all(&mut **c).await).map_err(doing("listing holders"))
        };
        self.reading("listing holders", list).await
    }

    /// How many triggers name this replica as their holder, gone or not.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn held_by(&self, replica: Uuid) -> Result<i64> {
        let text = "select count(*) from reveille_trigger where holder = $1";
        let count = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_scalar(text).bind(replica).fetch_one(&mut **c).await)
                .map_err(doing("counting triggers"))
        };
        self.reading("counting triggers", count).await
    }

    /// Counts the outcomes of all deferrals that the history knows.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn outcomes(&self) -> Result<Outcomes> {
        let text = "select count(*), coalesce(sum(case when ended > begun then 1 else 0 end), 0)
                      from (select sum(case when became = 'deferred' then 1 else 0 end) as begun,
                                   sum(case when was = 'deferred' then 1 else 0 end) as ended
                              from reveille_history group by task_id) as told
                     where ended > 0";
        let count = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_as(text).fetch_one(&mut **c).await).map_err(doing("counting outcomes"))
        };
        let (decided, twice) = self.reading("counting outcomes", count).await?;
        Ok(Outcomes { decided, twice })
    }

    /// Whether any task is ready, runs, waits for a check, or waits for a time that is not [far off](Store::lay_out_asleep).
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn has_unfinished(&self) -> Result<bool> {
        // Each by an index: there may be millions that sleep.
        let text = "select exists (select 1 from reveille_task where state = 'ready')
                        or exists (select 1 from reveille_task where holder is not null)
                        or exists (select 1 from reveille_trigger where holder is not null)
                        or exists (select 1 from reveille_trigger where passive and wake_at < $1)
                        or exists (select 1 from reveille_queue q
                                     join reveille_trigger t on t.queue = q.name and t.holder is null and not t.passive
                                                            and t.wake_at < $1)";
        let look = async |db: &mut Db<'_>| {
            each!(db, c => sqlx::query_scalar(text).bind(FAR).fetch_one(&mut **c).await)
                .map_err(doing("looking for tasks"))
        };
        self.reading("looking for tasks", look).await
    }

    /// How many statements the server has run on this database, if it counts them: by `pg_stat_statements`.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn statements(&self) -> Result<Option<i64>> {
        let look = async |db: &mut Db<'_>| {
            let Db::Postgres(c) = db else { return Ok(None) };
            let place =
                "select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
                          where e.extname = 'pg_stat_statements'
                            and current_setting('shared_preload_libraries') like '%pg_stat_statements%'";
            let place: Option<String> =
                sqlx::query_scalar(place).fetch_optional(&mut **c).await.map_err(doing("counting statements"))?;
            let Some(place) = place else { return Ok(None) };
            let count = format!(
                "select coalesce(sum(s.calls), 0)::bigint from {place}.pg_stat_statements s
                   join pg_database d on d.oid = s.dbid where d.datname = current_database()"
            );
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut **c).await;
            count.map(Some).map_err(doing("counting statements"))
        };
        self.reading("counting statements", look).await
    }
}
