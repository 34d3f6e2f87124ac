//! Rows to find one's way among.

use reveille::id::Incarnation;
use sqlx::PgConnection;

use super::run;

/// How many rows are stuck.
const STUCK: usize = 1_000_000;

/// 2,000 tasks that are ready, 2,000 that run and 2,000 triggers that are free, all of the lowest priority but one.
pub(super) async fn movable(c: &mut PgConnection, worker: Incarnation, triggerer: Incarnation) {
    let task = |from: usize, state: &str, holder: &str| {
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, holder, step, enqueued_at)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 'work', 'default', 'manual', '{state}', 1, n, 0, 0, 1, 0, 3, 1, 1,
                    {holder}, '\\x00', n
               from generate_series(1, 2000) n;"
        )
    };
    let trigger = |from: usize, passive: bool, wake_at: &str, deadline: &str, holder: &str| {
        format!(
            "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                           or_resume, holder, deaths)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 0, 'fake', {passive}, 'default', 1, '\\x00', n, {wake_at}, {deadline},
                    false, {holder}, 0
               from generate_series(1, 2000) n;"
        )
    };
    let (worker, triggerer) = (format!("'{worker}'"), format!("'{triggerer}'"));
    run(c, "insert into reveille_queue (name) values ('default')").await;
    run(c, task(0, "ready", "null")).await;
    run(c, task(10_000, "running", &worker)).await;
    for (from, passive, wake_at, holder) in
        [(20_000, false, "n", "null"), (30_000, false, "n", &*triggerer), (40_000, true, "n", "null")]
    {
        run(c, task(from, "deferred", "null")).await;
        run(c, trigger(from, passive, wake_at, "n", holder)).await;
    }
}

/// 2,000 tasks that wait for a slot of ten keys, and as many that have one.
pub(super) async fn keyed(c: &mut PgConnection) {
    let task = |from: usize, state: &str| {
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, slot_key, slot_limit, step, enqueued_at)
             select lpad(to_hex({from} + n), 32, '0')::uuid, 'work', 'default', 'manual', '{state}', 0, n, 0, 0, 1, 0, 3, 1, 1,
                    'k' || n % 10, 200, '\\x00', n
               from generate_series(1, 2000) n;"
        )
    };
    run(c, task(60_000, "deferred")).await;
    run(
        c,
        "insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, since, or_resume, deaths)
         select id, 0, 'slot', true, 'default', 0, ready_at, false, 0 from reveille_task where slot_key is not null;
         insert into reveille_wait_key (key, task_id, generation)
         select 'slot:' || slot_key, id, 0 from reveille_task where slot_key is not null",
    )
    .await;
    run(c, task(70_000, "deferred")).await;
    run(
        c,
        "insert into reveille_slot (key, n, task_id)
         select slot_key, ready_at / 10 + 1, id from reveille_task where slot_key is not null
            and not exists (select 1 from reveille_trigger t where t.task_id = id)",
    )
    .await;
}

/// What has ended on one day.
pub(super) async fn ended(c: &mut PgConnection) {
    let text = "insert into reveille_finished (day, id, name, queue, origin, state, priority, generation, turn, attempt, crashes,
                                               max_attempts, backoff_ms, backoff_cap_ms, result, enqueued_at, finished_at)
                select 5, lpad(to_hex(20000000 + n), 32, '0')::uuid, 'work', 'default', 'manual', 'succeeded', 1, 5, 1, 1, 0, 3, 1, 1,
                       '\\x00', 0, n
                  from generate_series(1, 100000) n";
    run(c, text).await;
}

/// A million dormant tasks of the highest priority on the same queue, with their triggers, half of them passive; and a
/// hundred thousand that are ready under names and kinds that nobody has.
pub(super) async fn stuck(c: &mut PgConnection) {
    run(
        c,
        format!(
            "insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, step, enqueued_at)
             select lpad(to_hex(1000000 + n), 32, '0')::uuid, 'work', 'default', 'manual', 'deferred', 3, 0, 0, 0, 1, 0, 3, 1, 1, '\\x00', 0
               from generate_series(1, {STUCK}) n;
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                           or_resume, deaths)
             select lpad(to_hex(1000000 + n), 32, '0')::uuid, 0, case when n % 2 = 0 then 'fake' else 'timer' end, n % 2 = 1, 'default', 3,
                    '\\x00', 0, 9000000000000 + n, 9000000000000 + n, false, 0
               from generate_series(1, {STUCK}) n;
             insert into reveille_task (id, name, queue, origin, state, priority, ready_at, generation, turn, attempt, crashes,
                                        max_attempts, backoff_ms, backoff_cap_ms, step, enqueued_at)
             select lpad(to_hex(9000000 + n), 32, '0')::uuid, 'unknown', 'default', 'manual', 'ready', 3, 0, 0, 0, 1, 0, 3, 1, 1, '\\x00', 0
               from generate_series(1, {STUCK} / 10) n;
             insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, or_resume, deaths)
             select lpad(to_hex(9500000 + n), 32, '0')::uuid, 0, 'unknown', false, 'default', 3, '\\x00', 0, 0, false, 0
               from generate_series(1, {STUCK} / 10) n;"
        ),
    )
    .await;
}

pub(super) async fn analyze(c: &mut PgConnection) {
    run(c, "analyze reveille_task, reveille_trigger, reveille_slot, reveille_wait_key, reveille_replica, reveille_queue, reveille_finished, reveille_history").await;
}
