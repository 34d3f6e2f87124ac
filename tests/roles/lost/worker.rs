//! What workers do.

use reveille::{
    TaskError, defer, done_with,
    id::TaskId,
    snooze,
    store::signal::Signal as Sent,
    trigger::{Answer, Event},
    wait::{Signal, TaskEnd, Timer},
};
use serde_json::json;

use super::{Behind, give_up_on, simple, statement, waiter};
use crate::stage::{Anchored, Gate, Plain, Role, Script, Scripted, Seen, Stage, ms, patient, result, times, whys};

on_postgres!(
    async fn a_claim_that_was_not_heard_of_is_put_back(stage: Stage) {
        // At once, and not only when the tenth renewal has it asked for.
        let behind = Behind::patient_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::CLAIM);
        let task = stage.store.enqueue(simple()).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released", "claimed", "finished"]);
        assert_eq!((result(&whole), whole.crashes), (json!(1), 0), "it costs no attempt and is no crash");
    }
);

on_sqlite!(
    async fn a_claim_that_was_given_up_on_is_put_back(stage: Stage) {
        let store = stage.another().await;
        let _worker = Role::worker(&store, patient::worker());
        stage.live("worker").await;
        let adding = stage.store.enqueue(simple());
        let claimed = "select count(*) from reveille_task where state = 'running'";
        let (task, ()) = tokio::join!(adding, give_up_on(&stage, &store, claimed));
        let whole = stage.succeeded(task.unwrap()).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released", "claimed", "finished"]);
    }
);

on_postgres!(
    async fn putting_back_again_changes_nothing(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let claim = behind.proxy.cut_after_commit_of(statement::CLAIM);
        let back = behind.proxy.cut_after_commit_of(statement::PUT_BACK);
        let task = stage.store.enqueue(simple()).await.unwrap();
        claim.happened().await;
        back.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released", "claimed", "finished"]);
    }
);

on_postgres!(
    async fn a_deferral_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let (trigger, _) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Plain>(defer(trigger))).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "deferred", "event", "claimed", "finished"]);
        assert_eq!(result(&whole), json!([1, "seen"]));
    }
);

on_postgres!(
    async fn a_deferral_on_a_signal_that_was_not_heard_of_is_matched_all_the_same(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        stage.store.signal(Sent::new("go", "early")).await.unwrap();
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let task = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        cut.happened().await;
        assert_eq!(result(&stage.succeeded(task).await), json!([1, "early"]));
    }
);

on_postgres!(
    async fn a_retry_stored_again_costs_one_attempt(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let task = Script::<Plain>::of(|_, cx| async move {
            if cx.attempt() == 1 { Err(TaskError::retry("again")) } else { Ok(done_with(cx.attempt())) }
        });
        let task = stage.enqueue(&task).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "retry")), (json!(2), 1));
    }
);

on_postgres!(
    async fn a_snooze_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let naps = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let task = Script::<Plain>::of(move |_, cx| {
            let nap = naps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { Ok(if nap == 0 { snooze(ms(5)) } else { done_with((nap, cx.attempt())) }) }
        });
        let task = stage.enqueue(&task).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "snooze")), (json!([1, 1]), 1));
    }
);

on_postgres!(
    async fn an_end_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let first = TaskId::mint();
        let waits = stage.enqueue(&waiter::<Plain>(defer(TaskEnd::of(first.0)))).await;
        stage.until_state(waits, "deferred").await;
        stage.store.enqueue(simple().id(first)).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(first).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "finished"]);
        assert_eq!(stage.count("select count(*) from reveille_finished").await, 1);
        // Whoever waits for it hears of it, though the worker was not told.
        stage.succeeded(waits).await;
        // And its slots are free.
        for _ in 0..4 {
            stage.succeeded(stage.store.enqueue(simple()).await.unwrap()).await;
        }
    }
);

on_postgres!(
    async fn progress_told_again_is_told_once_and_stops_nothing(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::PROGRESS);
        let over = Gate::shut();
        let ends = over.clone();
        let task = Script::<Plain>::of(move |_, cx| {
            let over = ends.passed();
            async move {
                cx.progress(json!({ "rows": 1 }));
                over.await;
                Ok(done_with(cx.attempt()))
            }
        });
        let task = stage.enqueue(&task).await;
        cut.happened().await;
        assert_eq!(stage.whole(task).await.progress, Some(json!({ "rows": 1 })));
        over.open();
        assert_eq!(whys(&stage.succeeded(task).await), ["enqueued", "claimed", "finished"]);
    }
);

on_postgres!(
    async fn asking_again_what_is_held_changes_nothing(stage: Stage) {
        // Each role asks while it holds something.
        let behind = Behind::both_roles(&stage).await;
        let over = Gate::shut();
        let (ends, fires) = (over.clone(), over.clone());
        let task = Script::<Plain>::of(move |_, cx| {
            let over = ends.passed();
            async move {
                over.await;
                Ok(done_with(cx.attempt()))
            }
        });
        let (trigger, played) = Scripted::of(move |_| {
            let fires = fires.is_open();
            async move { Ok(if fires { Answer::Fire(Event::resume("seen")?) } else { Answer::NotYet }) }
        });
        let runs = stage.enqueue(&task).await;
        let waits = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        stage.until_state(runs, "running").await;
        played.until(Seen::Check, 1).await;
        for _ in 0..6 {
            behind.proxy.cut_after_commit_of(statement::HELD).happened().await;
        }
        over.open();
        assert_eq!(whys(&stage.succeeded(runs).await), ["enqueued", "claimed", "finished"]);
        assert_eq!(whys(&stage.succeeded(waits).await), ["enqueued", "event", "claimed", "finished"]);
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_advances_once_when_its_timer_is_due(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::ADVANCE);
        let task = stage.enqueue(&waiter::<Anchored>(defer(Timer::after(ms(50))))).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), whole.brief.turn), (json!([1, null]), 1), "{:?}", whys(&whole));
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_takes_its_signal_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::ADVANCE);
        let task = stage.enqueue(&waiter::<Anchored>(defer(Signal::new("go")))).await;
        stage.until_state(task, "running").await;
        stage.store.signal(Sent::new("go", "first")).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), whole.brief.turn), (json!([1, "first"]), 1));
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_that_ends_from_its_trigger_ends_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(7)?)) });
        let task = stage.enqueue(&waiter::<Anchored>(defer(trigger))).await;
        cut.happened().await;
        assert_eq!(whys(&stage.succeeded(task).await), ["enqueued", "claimed", "event"]);
    }
);
