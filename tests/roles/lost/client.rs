//! What clients do: they are told of an outage, and do it again.

use reveille::{
    Error, TaskError, defer,
    id::TaskId,
    store::{signal::Signal as Sent, task::Cancelled},
    wait::Signal,
};
use serde_json::json;

use super::{Behind, simple, statement, waiter};
use crate::stage::{Plain, Script, Scripted, Seen, Stage, patient, result, times, until, whys};

on_postgres!(
    async fn enqueuing_again_adds_nothing(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::ENQUEUE);
        let id = TaskId::mint();
        let add = || client.store.enqueue(simple().id(id));
        assert!(matches!(add().await, Err(Error::Outage { .. })));
        cut.happened().await;
        assert_eq!(add().await.unwrap(), id);
        assert_eq!(whys(&stage.whole(id).await), ["enqueued"]);
        let _worker = stage.worker(patient::worker()).await;
        stage.succeeded(id).await;
        assert_eq!(add().await.unwrap(), id, "also when it has ended");
        assert_eq!(stage.count("select count(*) from reveille_task").await, 0);
    }
);

on_postgres!(
    async fn enqueuing_a_wait_again_arms_it_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::ENQUEUE);
        stage.store.signal(Sent::new("go", 1)).await.unwrap();
        let id = TaskId::mint();
        let add = || client.store.enqueue(simple().id(id).when(defer(Signal::new("go"))));
        assert!(add().await.is_err());
        cut.happened().await;
        add().await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        let whole = stage.succeeded(id).await;
        assert_eq!(times(&whole, "signal"), 1);
    }
);

on_postgres!(
    async fn a_signal_sent_again_is_one_signal(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::SIGNAL);
        let signal = Sent::new("go", "once");
        assert!(client.store.signal(signal.clone()).await.is_err());
        cut.happened().await;
        client.store.signal(signal).await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        let first = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.succeeded(first).await;
        let second = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.until_state(second, "deferred").await;
        assert_eq!(stage.count("select count(*) from reveille_signal").await, 1);
    }
);

on_postgres!(
    async fn a_signal_taken_by_a_match_that_was_not_heard_of_is_taken_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::TAKE_SIGNAL);
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.until_state(task, "deferred").await;
        let signal = Sent::new("go", "once");
        assert!(client.store.signal(signal.clone()).await.is_err());
        cut.happened().await;
        client.store.signal(signal).await.unwrap();
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "signal")), (json!([1, "once"]), 1));
    }
);

on_postgres!(
    async fn cancelling_again_is_cancelling_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let (trigger, played) = Scripted::never();
        let waits = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        let cut = client.proxy.cut_after_commit_of(statement::END);
        assert!(client.store.cancel(waits, "not needed").await.is_err());
        cut.happened().await;
        assert_eq!(client.store.cancel(waits, "not needed").await.unwrap(), Cancelled::Ended);
        assert_eq!(whys(&stage.whole(waits).await), ["enqueued", "cancelled"]);
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

on_postgres!(
    async fn pausing_a_queue_again_is_pausing_it_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let task = stage.store.enqueue(simple().queue("q")).await.unwrap();
        for (paused_at, state) in [(Some(7), "ready"), (None, "succeeded")] {
            let cut = client.proxy.cut_after_commit_of(statement::PAUSE);
            assert!(client.store.set_paused("q", paused_at).await.is_err());
            cut.happened().await;
            assert!(client.store.set_paused("q", paused_at.map(|at| at + 1)).await.unwrap());
            let first = stage.count("select coalesce(max(paused_at), 0) from reveille_queue").await;
            assert_eq!(first, paused_at.unwrap_or(0), "it is paused since the first time");
            let _worker = stage.worker(patient::worker()).await;
            stage.succeeded(stage.store.enqueue(simple()).await.unwrap()).await;
            stage.until_state(task, state).await;
        }
    }
);

on_postgres!(
    async fn asking_a_running_task_to_cancel_again_is_asking_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, cx| async move {
            cx.cancelled().await;
            Err(TaskError::retry("called off"))
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        let cut = client.proxy.cut_after_commit_of(statement::ASK_TO_CANCEL);
        assert!(client.store.cancel(task, "not needed").await.is_err());
        cut.happened().await;
        client.store.cancel(task, "not needed").await.unwrap();
        assert_eq!(times(&stage.until_state(task, "cancelled").await, "cancelled"), 1);
    }
);
