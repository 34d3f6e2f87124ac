//! What the last checks of triggers came to: told by their holders now and then, for those who ask why a task does not
//! move. Nothing depends on it.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::{BATCH, Db, Store, doing, each};
use crate::{
    error::Result,
    id::{Fence, Incarnation},
    vault::Purpose,
};

/// What the checks of one trigger on one replica have come to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The task that waits.
    #[serde(skip)]
    pub fence: Fence,
    /// How many checks there were.
    pub checks: u64,
    /// The last of them.
    #[serde(flatten)]
    pub last: Check,
}

/// One check that did not end the wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Check {
    /// How many of the last checks could not tell, this one included.
    pub failures: u32,
    /// When it began, in milliseconds of the database's time.
    pub at: i64,
    /// How long it took.
    pub took_ms: i64,
    /// When the next is due, in milliseconds of the database's time.
    pub next_at: i64,
    /// What it saw, or why it could not tell.
    pub said: Option<Arc<str>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    checks: i64,
    failures: i32,
    at: i64,
    took_ms: i64,
    next_at: i64,
    said: Option<Vec<u8>>,
}

impl Row {
    fn of(Report { checks, last, .. }: &Report, said: Option<Vec<u8>>) -> Self {
        let Check { failures, at, took_ms, next_at, .. } = *last;
        let failures = i32::try_from(failures).unwrap_or(i32::MAX);
        Self { checks: (*checks).cast_signed(), failures, at, took_ms, next_at, said }
    }
}

impl Store {
    /// Keeps reports on waits that still stand, in the place of what was told of them before.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn tell_of_checks(&self, db: &mut Db<'_>, who: Incarnation, batch: &[Report]) -> Result<()> {
        let said = |report: &Report| {
            let said = report.last.said.as_deref();
            said.map(|said| self.seal_own(Purpose::Check, "check", &said)).transpose()
        };
        let rows: Vec<Row> = batch.iter().map(|report| Ok(Row::of(report, said(report)?))).collect::<Result<_>>()?;
        match db {
            Db::Postgres(c) => {
                let query = sqlx::query(include_str!("sql/tell.postgres.sql")).bind(who.0);
                let query = query
                    .bind(batch.iter().map(|report| report.fence.task.0).collect::<Vec<_>>())
                    .bind(batch.iter().map(|report| report.fence.generation).collect::<Vec<_>>())
                    .bind(rows.iter().map(|row| row.checks).collect::<Vec<_>>())
                    .bind(rows.iter().map(|row| row.failures).collect::<Vec<_>>())
                    .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
                    .bind(rows.iter().map(|row| row.took_ms).collect::<Vec<_>>())
                    .bind(rows.iter().map(|row| row.next_at).collect::<Vec<_>>())
                    .bind(rows.into_iter().map(|row| row.said).collect::<Vec<_>>());
                query.execute(&mut **c).await.map_err(doing("telling of checks"))?;
            }
            Db::Sqlite(c) => {
                for (Report { fence, .. }, row) in batch.iter().zip(rows) {
                    let query = sqlx::query(include_str!("sql/tell.sqlite.sql")).bind(who.0).bind(fence.task.0);
                    let query = query.bind(fence.generation).bind(row.checks).bind(row.failures).bind(row.at);
                    let query = query.bind(row.took_ms).bind(row.next_at).bind(row.said);
                    query.execute(&mut **c).await.map_err(doing("telling of checks"))?;
                }
            }
        }
        Ok(())
    }

    /// What was last told of the checks of a wait.
    pub(super) async fn last_check(&self, db: &mut Db<'_>, fence: Fence) -> Result<Option<Report>> {
        let text = "select checks, failures, at, took_ms, next_at, said from reveille_check where task_id = $1 and generation = $2";
        let row: Option<Row> = each!(db, c => sqlx::query_as(text).bind(fence.task.0).bind(fence.generation).fetch_optional(&mut **c).await)
            .map_err(doing("reading of checks"))?;
        let Some(row) = row else { return Ok(None) };
        let said: Option<String> = row.said.map(|said| self.open(Purpose::Check, said)).transpose()?;
        let Row { checks, failures, at, took_ms, next_at, .. } = row;
        let last = Check { failures: failures.max(0).cast_unsigned(), at, took_ms, next_at, said: said.map(Arc::from) };
        Ok(Some(Report { fence, checks: checks.max(0).cast_unsigned(), last }))
    }
}

/// Forgets what was told of waits that are over, among one page after `cursor`. Answers the next page's cursor.
///
/// # Errors
/// If the database does not answer.
pub async fn forget(db: &mut Db<'_>, cursor: Option<Uuid>) -> Result<Option<Uuid>> {
    let cursor = cursor.unwrap_or(Uuid::nil());
    let page = "select task_id from reveille_check where task_id > $1 order by task_id limit $2";
    let page: Vec<Uuid> =
        each!(&mut *db, c => sqlx::query_scalar(page).bind(cursor).bind(BATCH as i64).fetch_all(&mut **c).await)
            .map_err(doing("looking for what was told of checks"))?;
    let Some(last) = page.last() else { return Ok(None) };
    let text = "delete from reveille_check where task_id > $1 and task_id <= $2
                   and not exists (select 1 from reveille_trigger t where t.task_id = reveille_check.task_id)";
    each!(db, c => sqlx::query(text).bind(cursor).bind(last).execute(&mut **c).await.map(drop))
        .map_err(doing("forgetting what was told of checks"))?;
    Ok(Some(*last).filter(|_| page.len() == BATCH))
}
