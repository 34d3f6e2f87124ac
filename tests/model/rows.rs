//! What a database holds, row by row.

use reveille::store::{Db, Store, Tx};
use uuid::Uuid;

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct TaskRow {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) origin: String,
    pub(crate) batch: Option<Uuid>,
    pub(crate) state: String,
    pub(crate) priority: i16,
    pub(crate) ready_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) crashes: i32,
    pub(crate) max_attempts: i32,
    pub(crate) backoff_ms: i64,
    pub(crate) backoff_cap_ms: i64,
    pub(crate) holder: Option<Uuid>,
    pub(crate) cancel_requested_at: Option<i64>,
    pub(crate) dedupe: Option<String>,
    pub(crate) slot_key: Option<String>,
    pub(crate) slot_limit: Option<i32>,
    pub(crate) step: Vec<u8>,
    pub(crate) event: Option<Vec<u8>>,
    pub(crate) progress: Option<Vec<u8>>,
    pub(crate) trace: Option<String>,
    pub(crate) enqueued_at: i64,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct TriggerRow {
    pub(crate) task_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) kind: String,
    pub(crate) passive: bool,
    pub(crate) queue: String,
    pub(crate) priority: i16,
    pub(crate) spec: Option<Vec<u8>>,
    pub(crate) since: i64,
    pub(crate) wake_at: Option<i64>,
    pub(crate) deadline_at: Option<i64>,
    pub(crate) deadline_is_fixed: bool,
    pub(crate) or_resume: bool,
    pub(crate) holder: Option<Uuid>,
    pub(crate) deaths: i32,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) key: String,
    pub(crate) task_id: Uuid,
    pub(crate) generation: i32,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct SignalRow {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) event: Vec<u8>,
    pub(crate) sent_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) taken_at: Option<i64>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct DedupeRow {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) task_id: Uuid,
    pub(crate) until: Option<i64>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct UndoRow {
    pub(crate) task_id: Uuid,
    pub(crate) generation: i32,
    pub(crate) kind: String,
    pub(crate) queue: String,
    pub(crate) spec: Vec<u8>,
    pub(crate) since: i64,
    pub(crate) wake_at: i64,
    pub(crate) attempt: i32,
    pub(crate) holder: Option<Uuid>,
    pub(crate) dead_at: Option<i64>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ReplicaRow {
    pub(crate) incarnation: Uuid,
    pub(crate) role: String,
    pub(crate) label: String,
    pub(crate) kinds: String,
    pub(crate) queues: String,
    pub(crate) capacity: i32,
    pub(crate) running: i32,
    pub(crate) joined_at: i64,
    pub(crate) seen_at: i64,
    pub(crate) lease_ms: i64,
    pub(crate) beat: i64,
    pub(crate) gone_at: Option<i64>,
    pub(crate) gone_why: Option<String>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct FinishedRow {
    pub(crate) day: i16,
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) queue: String,
    pub(crate) origin: String,
    pub(crate) batch: Option<Uuid>,
    pub(crate) state: String,
    pub(crate) priority: i16,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) crashes: i32,
    pub(crate) max_attempts: i32,
    pub(crate) backoff_ms: i64,
    pub(crate) backoff_cap_ms: i64,
    pub(crate) dedupe: Option<String>,
    pub(crate) slot_key: Option<String>,
    pub(crate) slot_limit: Option<i32>,
    pub(crate) step: Option<Vec<u8>>,
    pub(crate) event: Option<Vec<u8>>,
    pub(crate) result: Vec<u8>,
    pub(crate) trace: Option<String>,
    pub(crate) enqueued_at: i64,
    pub(crate) finished_at: i64,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct HistoryRow {
    pub(crate) task_id: Uuid,
    pub(crate) at: i64,
    pub(crate) generation: i32,
    pub(crate) turn: i32,
    pub(crate) attempt: i32,
    pub(crate) was: Option<String>,
    pub(crate) became: String,
    pub(crate) why: String,
    pub(crate) event: Option<Uuid>,
    pub(crate) who: Option<Uuid>,
}

/// Every row of every table that a verb may change.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) now: i64,
    pub(crate) tasks: Vec<TaskRow>,
    pub(crate) triggers: Vec<TriggerRow>,
    pub(crate) keys: Vec<KeyRow>,
    pub(crate) signals: Vec<SignalRow>,
    pub(crate) dedupe: Vec<DedupeRow>,
    /// Concurrency keys and numbers, and who has them.
    pub(crate) slots: Vec<(String, i32, Uuid)>,
    pub(crate) undo: Vec<UndoRow>,
    pub(crate) replicas: Vec<ReplicaRow>,
    pub(crate) queues: Vec<(String, Option<i64>)>,
    pub(crate) kinds: Vec<String>,
    pub(crate) finished: Vec<FinishedRow>,
    pub(crate) history: Vec<HistoryRow>,
    /// Whether `finished` and `history` are there from the beginning.
    pub(crate) is_whole: bool,
}

/// Reads the rows of one statement, on whichever database it is.
macro_rules! all {
    ($tx:expr, $query:ident($text:expr) $(, $argument:expr)*) => {
        match $tx.db() {
            Db::Sqlite(c) => sqlx::$query($text)$(.bind($argument))*.fetch_all(c).await.unwrap(),
            Db::Postgres(c) => sqlx::$query($text)$(.bind($argument))*.fetch_all(c).await.unwrap(),
        }
    };
}

const DAY: i64 = 86_400_000;

impl Rows {
    /// Reads it all; or all but what ended and happened before the clock was last turned.
    pub(crate) async fn read(store: &Store, is_whole: bool) -> Self {
        let mut tx: Tx = store.read().await.unwrap();
        let now = store.clock().now_ms();
        let (finished, history) = if is_whole {
            (
                all!(tx, query_as("select * from reveille_finished")),
                all!(tx, query_as("select * from reveille_history order by task_id, generation, turn")),
            )
        } else {
            // What is new lies in today's partition, or in that of the dead letters.
            let finished = "select * from reveille_finished where day in (-1, $1) and finished_at >= $2";
            let history =
                "select * from reveille_history where day in (-1, $1) and at >= $2 order by task_id, generation, turn";
            let today = (now / DAY % 32) as i16;
            (all!(tx, query_as(finished), today, now), all!(tx, query_as(history), today, now))
        };
        let rows = Self {
            now,
            tasks: all!(tx, query_as("select * from reveille_task")),
            triggers: all!(tx, query_as("select * from reveille_trigger")),
            keys: all!(tx, query_as("select * from reveille_wait_key")),
            signals: all!(tx, query_as("select * from reveille_signal")),
            dedupe: all!(tx, query_as("select * from reveille_dedupe")),
            slots: all!(tx, query_as("select key, n, task_id from reveille_slot")),
            undo: all!(tx, query_as("select * from reveille_undo")),
            replicas: all!(tx, query_as("select * from reveille_replica")),
            queues: all!(tx, query_as("select name, paused_at from reveille_queue")),
            kinds: all!(tx, query_scalar("select kinds from reveille_kind_set")),
            finished,
            history,
            is_whole,
        };
        tx.commit().await.unwrap();
        rows
    }
}
