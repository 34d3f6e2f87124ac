//! Adding tasks.

use std::time::Duration;

use futures::future::join_all;
use reveille::{
    Error, NewTask, Priority, Retry,
    id::TaskId,
    store::{Db, Url},
    task::End,
    wait::Signal,
};
use serde_json::json;
use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::stage::{Fake, Stage, work};

both!(
    async fn a_task_enqueued_again_is_the_same_task(stage: Stage) {
        let id = TaskId::mint();
        assert_eq!(stage.store.enqueue(work().id(id)).await.unwrap(), id);
        assert_eq!(stage.store.enqueue(NewTask::named("work", json!("other")).id(id)).await.unwrap(), id);
        assert_eq!(stage.whole(id).await.step, Some(json!("first")));
        assert_eq!(stage.history_of(id).await, ["enqueued"]);
        let worker = stage.worker().await;
        assert_eq!(stage.claimed(worker, 10).await, [id]);
    }
);

both!(
    async fn a_finished_task_enqueued_again_stays_finished(stage: Stage) {
        let id = TaskId::mint();
        stage.store.enqueue(work().id(id)).await.unwrap();
        let worker = stage.worker().await;
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);

        let again = work().id(id).when(reveille::defer(Fake::default()));
        for task in [work().id(id), again] {
            assert_eq!(stage.store.enqueue(task).await.unwrap(), id);
            assert_eq!(stage.state_of(id).await, "succeeded");
            assert_eq!(stage.history_of(id).await, ["enqueued", "claimed", "finished"]);
            assert!(stage.claims(worker, 10).await.is_empty());
        }
        let triggerer = stage.triggerer().await;
        assert!(stage.leases(triggerer, 10).await.is_empty());
    }
);

both!(
    async fn a_running_task_enqueued_again_goes_on(stage: Stage) {
        let id = TaskId::mint();
        stage.store.enqueue(work().id(id)).await.unwrap();
        let worker = stage.worker().await;
        let claim = stage.claim(worker).await;
        let again = work().id(id).when(reveille::defer(Signal::new("x")));
        stage.store.enqueue(again).await.unwrap();
        assert_eq!(stage.state_of(id).await, "running");
        assert!(stage.whole(id).await.wait.is_none());
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
    }
);

both!(
    async fn an_id_twice_in_one_batch_is_one_task(stage: Stage) {
        let id = TaskId::mint();
        let batch = vec![work().id(id), NewTask::named("other", json!("other")).id(id), work()];
        let ids = stage.store.enqueue_all(batch).await.unwrap();
        assert_eq!((ids[0], ids[1]), (id, id));
        assert_ne!(ids[2], id);
        let whole = stage.whole(id).await;
        assert_eq!((whole.brief.name.as_str(), whole.history.len()), ("work", 1));
    }
);

both!(
    async fn a_batch_larger_than_a_statement_is_added_whole_and_answered_in_order(stage: Stage) {
        let ids: Vec<TaskId> = (0..1_201).map(|_| TaskId::mint()).collect();
        let shuffled: Vec<TaskId> = ids.iter().rev().copied().collect();
        let answered = stage.store.enqueue_all(shuffled.iter().map(|id| work().id(*id)).collect()).await.unwrap();
        assert_eq!(answered, shuffled);
        let worker = stage.worker().await;
        assert_eq!(stage.claims(worker, 2_000).await.len(), 1_201);
    }
);

both!(
    async fn a_batch_with_a_bad_task_adds_none(stage: Stage) {
        let good = TaskId::mint();
        for bad in [
            NewTask::named("", json!(0)),
            NewTask::named("a\nb", json!(0)),
            NewTask::named("x".repeat(201), json!(0)),
            work().queue(""),
            work().dedupe(""),
            work().dedupe("x".repeat(501)),
            work().retry(Retry { max_attempts: 0, ..Retry::NEVER }),
            work().when(reveille::defer(Signal::new(""))),
        ] {
            let refused = stage.store.enqueue_all(vec![work().id(good), bad]).await.unwrap_err();
            assert!(matches!(refused, Error::Invalid(_) | Error::BadSpec { .. }), "{refused:?}");
            assert!(stage.store.show(good).await.unwrap().is_none());
        }
    }
);

both!(
    async fn a_dedupe_key_admits_one_unfinished_task(stage: Stage) {
        let first = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        assert_eq!(stage.store.enqueue(work().dedupe("k")).await.unwrap(), first);
        assert_ne!(stage.store.enqueue(work().dedupe("l")).await.unwrap(), first);
        assert_ne!(stage.store.enqueue(NewTask::named("other", json!(0)).dedupe("k")).await.unwrap(), first);
        let batch = stage.store.enqueue_all(vec![work().dedupe("m"), work().dedupe("m")]).await.unwrap();
        assert_eq!(batch[0], batch[1]);
    }
);

both!(
    async fn a_dedupe_key_is_free_again_after_the_end(stage: Stage) {
        let first = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        let worker = stage.worker().await;
        let claim = stage.claim(worker).await;
        assert_eq!(stage.store.enqueue(work().dedupe("k")).await.unwrap(), first, "a running task is unfinished");
        assert!(stage.finish(worker, &claim, &End::failed("no")).await);
        let second = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(stage.claimed(worker, 10).await, [second]);
    }
);

both!(
    async fn a_dedupe_window_outlives_the_task_and_no_more(stage: Stage) {
        let hour = Duration::from_hours(1);
        let first = stage.store.enqueue(work().dedupe_within("k", hour)).await.unwrap();
        let worker = stage.worker().await;
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        stage.turn(hour - Duration::from_millis(1));
        assert_eq!(stage.store.enqueue(work().dedupe_within("k", hour)).await.unwrap(), first);
        stage.turn(Duration::from_millis(1));
        let second = stage.store.enqueue(work().dedupe_within("k", hour)).await.unwrap();
        assert_ne!(second, first);
        assert_eq!(stage.claimed(worker, 10).await, [second]);
    }
);

both!(
    async fn a_finished_task_enqueued_again_does_not_take_its_key(stage: Stage) {
        let id = TaskId::mint();
        let worker = stage.worker().await;
        stage.store.enqueue(work().id(id).dedupe("k")).await.unwrap();
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);

        // Its caller had not heard that it was added.
        assert_eq!(stage.store.enqueue(work().id(id).dedupe("k")).await.unwrap(), id);
        let next = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        assert_ne!(next, id, "the key would be taken for ever");
        assert_eq!(stage.claimed(worker, 10).await, [next]);
    }
);

both!(
    async fn one_of_many_at_once_gets_the_key(stage: Stage) {
        let ids = join_all((0..20).map(|_| stage.store.enqueue(work().dedupe("k")))).await;
        let first = *ids[0].as_ref().unwrap();
        assert!(ids.iter().all(|id| *id.as_ref().unwrap() == first));
        let worker = stage.worker().await;
        assert_eq!(stage.claimed(worker, 10).await, [first]);
    }
);

/// A connection of the caller's own.
async fn own(stage: &Stage) -> Own {
    match stage.store.url() {
        Url::Sqlite(path) => {
            Own::Sqlite(SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap())
        }
        Url::Postgres(url) => Own::Postgres(PgConnection::connect(url).await.unwrap()),
    }
}

enum Own {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Adds a task, and a row of the caller's, in a transaction of the caller's.
async fn enqueue_in(stage: &Stage, own: &mut Own, commit: bool) -> TaskId {
    let queue = "insert into reveille_queue (name) values ('callers')";
    match own {
        Own::Sqlite(c) => {
            let mut tx = c.begin().await.unwrap();
            sqlx::query(queue).execute(&mut *tx).await.unwrap();
            let ids = stage.store.enqueue_in(&mut Db::from(&mut *tx), vec![work()]).await.unwrap();
            if commit {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
            ids[0]
        }
        Own::Postgres(c) => {
            let mut tx = c.begin().await.unwrap();
            sqlx::query(queue).execute(&mut *tx).await.unwrap();
            let ids = stage.store.enqueue_in(&mut Db::from(&mut *tx), vec![work()]).await.unwrap();
            if commit {
                tx.commit().await.unwrap();
            } else {
                tx.rollback().await.unwrap();
            }
            ids[0]
        }
    }
}

both!(
    async fn a_task_in_the_callers_transaction_shares_its_fate(stage: Stage) {
        let mut own = own(&stage).await;
        let undone = enqueue_in(&stage, &mut own, false).await;
        assert!(stage.store.show(undone).await.unwrap().is_none());
        let kept = enqueue_in(&stage, &mut own, true).await;
        let worker = stage.worker().await;
        assert_eq!(stage.claimed(worker, 10).await, [kept]);
    }
);

on_postgres!(
    async fn a_task_of_an_open_transaction_is_not_seen(stage: Stage) {
        let worker = stage.worker().await;
        let mut tx = stage.store.begin().await.unwrap();
        let ids = stage.store.enqueue_in(&mut tx.db(), vec![work()]).await.unwrap();
        assert!(stage.claims(worker, 10).await.is_empty());
        tx.commit().await.unwrap();
        assert_eq!(stage.claimed(worker, 10).await, ids);
    }
);

both!(
    async fn an_expiry_is_stored_and_a_trace_and_an_origin(stage: Stage) {
        let task =
            work().origin(reveille::Origin::Schedule).priority(Priority::Urgent).queue("other").trace("00-1-2-01");
        let id = stage.store.enqueue(task).await.unwrap();
        let whole = stage.whole(id).await;
        assert_eq!((whole.origin.as_str(), whole.brief.priority, whole.brief.queue.as_str()), ("schedule", 3, "other"));
    }
);
