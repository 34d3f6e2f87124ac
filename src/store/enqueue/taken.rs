//! What is there already: tasks by their ids, and who has a dedupe key.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Dedupe, Row};
use crate::{
    clock::millis,
    error::Result,
    id::TaskId,
    store::{Db, doing, each},
};

/// Which of these ids are there, unfinished or finished. One statement, as a task that ends moves from one table to the
/// other in one transaction; no lock, as nothing about the tasks is changed, and a caller may be long about committing.
pub(super) async fn known(db: &mut Db<'_>, given: &[Uuid]) -> Result<HashSet<TaskId>> {
    let mut known = Vec::new();
    if given.is_empty() {
        return Ok(HashSet::new());
    }
    match db {
        Db::Postgres(c) => {
            let text = "select id from reveille_task where id = any($1)
                        union all select id from reveille_finished where id = any($1)";
            let found: Result<Vec<Uuid>, _> = sqlx::query_scalar(text).bind(given).fetch_all(&mut **c).await;
            known.extend(found.map_err(doing("looking for tasks that are there"))?);
        }
        Db::Sqlite(c) => {
            let text =
                "select id from reveille_task where id = $1 union all select id from reveille_finished where id = $1";
            for id in given {
                let found: Result<Option<Uuid>, _> = sqlx::query_scalar(text).bind(id).fetch_optional(&mut **c).await;
                known.extend(found.map_err(doing("looking for tasks that are there"))?);
            }
        }
    }
    Ok(known.into_iter().map(TaskId).collect())
}

/// Takes back what was inserted for ids that have ended since we looked, and answers which. Who inserts an id waits for
/// another who does. If the other's task has even ended by then, its row is not in the way any more, and only a later
/// statement sees where it went.
pub(super) async fn take_back(db: &mut Db<'_>, now: i64, made: &[Uuid]) -> Result<Vec<Uuid>> {
    let Db::Postgres(c) = db else { return Ok(Vec::new()) };
    if made.is_empty() {
        return Ok(Vec::new());
    }
    let ended = sqlx::query_scalar("select id from reveille_finished where id = any($1)").bind(made);
    let ended: Vec<Uuid> = ended.fetch_all(&mut **c).await.map_err(doing("looking for tasks that have ended"))?;
    if ended.is_empty() {
        return Ok(ended);
    }
    for text in [
        "delete from reveille_task where id = any($1)",
        "delete from reveille_trigger where task_id = any($1)",
        "delete from reveille_wait_key where task_id = any($1)",
    ] {
        let deleted = sqlx::query(text).bind(&ended).execute(&mut **c).await;
        deleted.map_err(doing("taking back tasks that have ended"))?;
    }
    let told = "delete from reveille_history
                 where task_id = any($1) and at = $2 and day = $2 / 86400000 % 32 and was is null";
    let deleted = sqlx::query(told).bind(&ended).bind(now).execute(&mut **c).await;
    deleted.map_err(doing("taking back tasks that have ended"))?;
    Ok(ended)
}

/// Takes a dedupe key for `id`, or answers who has it. A key that is refused is not locked: a caller may be long about
/// committing, and the key is to be free for the next as soon as its task has ended.
pub(super) async fn reserve(
    db: &mut Db<'_>,
    name: &str,
    dedupe: &Dedupe,
    id: TaskId,
    now: i64,
) -> Result<Option<TaskId>> {
    let until = dedupe.window.map(|window| now.saturating_add(millis(window)));
    let take = r#"insert into reveille_dedupe (name, key, task_id, "until") values ($1, $2, $3, $4)
                  on conflict (name, key) do nothing"#;
    let look = r#"select task_id, "until" from reveille_dedupe where name = $1 and key = $2"#;
    let take_over = r#"update reveille_dedupe set task_id = $3, "until" = $4
                        where name = $1 and key = $2 and "until" <= $5"#;
    // Where the holder goes, or another takes the key over, between two statements, we try again.
    loop {
        let taken = each!(&mut *db, c => sqlx::query(take).bind(name).bind(&dedupe.key).bind(id.0).bind(until)
            .execute(&mut **c).await.map(|done| done.rows_affected()))
        .map_err(doing("taking a dedupe key"))?;
        if taken > 0 {
            return Ok(None);
        }
        let holder: Option<(Uuid, Option<i64>)> =
            each!(&mut *db, c => sqlx::query_as(look).bind(name).bind(&dedupe.key).fetch_optional(&mut **c).await)
                .map_err(doing("looking for a dedupe key"))?;
        let Some((holder, until_then)) = holder else { continue };
        if until_then.is_none_or(|until| until > now) {
            return Ok(Some(TaskId(holder)));
        }
        let taken = each!(&mut *db, c => sqlx::query(take_over).bind(name).bind(&dedupe.key).bind(id.0).bind(until)
            .bind(now).execute(&mut **c).await.map(|done| done.rows_affected()))
        .map_err(doing("taking a dedupe key over"))?;
        if taken > 0 {
            return Ok(None);
        }
    }
}

/// Gives a dedupe key back that was taken for a task which then was there after all.
pub(super) async fn give_back(db: &mut Db<'_>, row: &Row) -> Result<()> {
    let Some(dedupe) = row.task.dedupe.as_ref().filter(|_| row.took_key) else { return Ok(()) };
    let text = "delete from reveille_dedupe where name = $1 and key = $2 and task_id = $3";
    each!(db, c => sqlx::query(text).bind(&row.task.name).bind(&dedupe.key).bind(row.id).execute(&mut **c).await.map(drop))
        .map_err(doing("giving a dedupe key back"))
}
