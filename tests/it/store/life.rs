//! A task's life from end to end.

use reveille::trigger::Receipt;
use reveille::{store::Db, task::End, trigger::Event};
use serde_json::json;

use crate::stage::{Fake, Stage};

both!(
    async fn a_task_waits_without_a_worker_and_ends(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let task = stage.enqueue().await;
        assert_eq!(stage.state_of(task).await, "ready");

        let claim = stage.claim(worker).await;
        assert_eq!((claim.fence.task, claim.turn, claim.attempt), (task, 0, 1));
        assert_eq!(stage.state_of(task).await, "running");

        let fence = stage.defer(worker, &claim, &reveille::defer(Fake::default())).await;
        let waiting = stage.whole(task).await;
        assert_eq!((waiting.brief.state.as_str(), waiting.brief.turn, waiting.holder), ("deferred", 1, None));
        assert_eq!((waiting.generation, waiting.brief.waits_for.as_deref()), (fence.generation, Some("fake")));

        let leases = stage.leases(triggerer, 10).await;
        assert_eq!(leases.iter().map(|lease| lease.fence).collect::<Vec<_>>(), [fence]);
        assert_eq!((leases[0].kinds.as_str(), leases[0].since, leases[0].deaths), ("fake", stage.now(), 0));

        assert_eq!(stage.fire(triggerer, fence, Event::resume("seen").unwrap()).await, Receipt::Accepted);
        assert_eq!((stage.state_of(task).await, stage.payload_of(task).await), ("ready".to_owned(), json!("seen")));
        assert!(stage.whole(task).await.wait.is_none());

        let claim = stage.claim(worker).await;
        assert_eq!((claim.fence.task, claim.turn, claim.attempt), (task, 1, 1));
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(42))).await);

        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.end), ("succeeded", Some(End::succeeded(json!(42)))));
        assert_eq!(
            whole.history.iter().map(|t| t.why.as_str()).collect::<Vec<_>>(),
            ["enqueued", "claimed", "deferred", "event", "claimed", "finished"]
        );
        assert_eq!(
            whole.history.iter().map(|t| t.became.as_str()).collect::<Vec<_>>(),
            ["ready", "running", "deferred", "ready", "running", "succeeded"]
        );
        assert_eq!(whole.history.iter().map(|t| t.generation).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(whole.history[3].who, Some(triggerer.0));
        assert!(stage.claims(worker, 10).await.is_empty());
    }
);

both!(
    async fn what_is_stored_reads_back_as_it_was(stage: Stage) {
        let task = stage.enqueue().await;
        let whole = stage.whole(task).await;
        assert_eq!(whole.step, Some(json!("first")));
        assert_eq!(
            (whole.brief.name.as_str(), whole.brief.queue.as_str(), whole.origin.as_str()),
            ("work", "default", "manual")
        );
        assert_eq!((whole.brief.priority, whole.max_attempts, whole.brief.enqueued_at), (1, 3, stage.now()));
        assert_eq!(stage.store.show(reveille::id::TaskId::mint()).await.unwrap().map(|whole| whole.brief), None);
    }
);

both!(
    async fn a_transaction_that_is_dropped_changes_nothing(stage: Stage) {
        let task = stage.enqueue().await;
        let worker = stage.worker().await;
        let mut tx = stage.store.begin().await.unwrap();
        let claimed = within!(tx, db => reveille::store::task::claim(db, worker, &crate::stage::scope(&["work"]), stage.now(), 1)).mine;
        assert_eq!(claimed.len(), 1);
        drop(tx);
        assert_eq!(stage.state_of(task).await, "ready");
    }
);

both!(
    async fn a_reading_transaction_cannot_write(stage: Stage) {
        let mut tx = stage.store.read().await.unwrap();
        let text = "insert into reveille_queue (name) values ('x')";
        let refused = match tx.db() {
            Db::Sqlite(c) => sqlx::query(text).execute(c).await.err(),
            Db::Postgres(c) => sqlx::query(text).execute(c).await.err(),
        };
        assert!(refused.unwrap().to_string().contains("read"));
    }
);
