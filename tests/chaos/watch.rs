//! What is read from the database: snapshots while things fail, and everything when all is over.

use std::time::Duration;

use futures::TryStreamExt as _;
use reveille::{Store, clock::Clock, task::End, vault::Purpose};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    record::{Evidence, Finished, Holding},
    server::Server,
};

/// How far apart snapshots are.
const APART: Duration = Duration::from_millis(50);

/// One statement is one snapshot.
const HOLDINGS: &str = "
    select r.incarnation, r.role, r.capacity,
           (select count(*) from reveille_trigger t where t.holder = r.incarnation)
         + (select count(*) from reveille_task k where k.holder = r.incarnation) as held
      from reveille_replica r
     where r.gone_at is null";

const HISTORY: &str = "
    select task_id, at, generation, turn, attempt, was, became, why, event, who
      from reveille_history order by task_id, generation, turn, at";

const FINISHED: &str = "select id, state, generation, turn, attempt, crashes, result from reveille_finished";

/// Whatever should be empty once every task has ended. Signals are kept, and are nobody's.
const LEFT: &str = "
    select id as task_id, 'not ended: ' || state || ', generation ' || generation || ', turn ' || turn || ', attempt ' || attempt as says
      from reveille_task
     union all select task_id, 'a wait is left: ' || kind || ', generation ' || generation from reveille_trigger
     union all select task_id, 'a key is left: ' || key from reveille_wait_key
     union all select task_id, 'a slot is left: ' || key || ', number ' || n from reveille_slot
     union all select task_id, 'something is left to undo: ' || kind from reveille_undo";

#[derive(sqlx::FromRow)]
struct FinishedRow {
    id: Uuid,
    state: String,
    generation: i32,
    turn: i32,
    attempt: i32,
    crashes: i32,
    result: Vec<u8>,
}

/// Takes snapshots until told to stop. While the database is away there are none.
pub(crate) async fn snapshots(server: &Server, stop: &CancellationToken) -> Snapshots {
    let clock = Clock::system();
    let mut seen = Snapshots::default();
    let mut connection: Option<PgConnection> = None;
    let mut next = clock.monotonic();
    while !stop.is_cancelled() {
        if connection.is_none() {
            connection = server.connect().await.ok();
        }
        if let Some(open) = &mut connection {
            match sqlx::query_as::<_, Holding>(HOLDINGS).fetch_all(open).await {
                Ok(holdings) => {
                    seen.taken += 1;
                    seen.holdings.extend(holdings);
                }
                Err(_) => connection = None,
            }
        }
        // As far apart as they should be, however long each takes; those that were missed are not made up for.
        next = (next + APART).max(clock.monotonic());
        clock.sleep(next.saturating_sub(clock.monotonic())).await;
    }
    seen
}

#[derive(Default)]
pub(crate) struct Snapshots {
    pub(crate) taken: usize,
    pub(crate) holdings: Vec<Holding>,
}

/// How many tasks have not ended.
pub(crate) async fn unfinished(server: &Server) -> Result<i64, sqlx::Error> {
    let mut connection = server.connect().await?;
    let text = "select (select count(*) from reveille_task) + (select count(*) from reveille_undo)";
    sqlx::query_scalar(text).fetch_one(&mut connection).await
}

/// Everything that is stored, opened.
pub(crate) async fn evidence(server: &Server, store: &Store) -> Evidence {
    let mut connection = server.connect().await.unwrap();
    let history = sqlx::query_as(HISTORY).fetch_all(&mut connection).await.unwrap();
    let left = sqlx::query_as(LEFT).fetch_all(&mut connection).await.unwrap();
    let mut finished = Vec::new();
    let mut rows = sqlx::query_as::<_, FinishedRow>(FINISHED).fetch(&mut connection);
    while let Some(row) = rows.try_next().await.unwrap() {
        let FinishedRow { id, state, generation, turn, attempt, crashes, result } = row;
        let end: End = store.open(Purpose::Result, result).unwrap();
        finished.push(Finished { task: id, state, generation, turn, attempt, crashes, result: end.result });
    }
    drop(rows);
    let held = "select task_id, generation, holder from held";
    let held = sqlx::query_as(held).fetch_all(&mut connection).await.unwrap();
    let signs = "select incarnation, label, at, lost from sign order by at, lost";
    let signs = sqlx::query_as(signs).fetch_all(&mut connection).await.unwrap();
    Evidence { history, finished, left, held, signs, ..Evidence::default() }
}
