//! Tasks that begin or end without a worker: ending from a trigger is ending.

use reveille::{
    NewTask, Retry,
    clock::timestamp,
    defer, done,
    trigger::{Answer, Event},
};
use serde_json::json;

use crate::stage::{Plain, Script, Scripted, Seen, Stage, error, ms, patient, result, times, whys};

fn never_run() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { panic!("no worker was to run this") })).unwrap()
}

both!(
    async fn a_trigger_ends_a_task_with_no_worker(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (succeeds, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(json!({ "rows": 7 }))?)) });
        let (skips, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::skip("a holiday"))) });
        let succeeds = stage.store.enqueue(never_run().when(defer(succeeds))).await.unwrap();
        let skips = stage.store.enqueue(never_run().when(defer(skips))).await.unwrap();
        assert_eq!(result(&stage.succeeded(succeeds).await), json!({ "rows": 7 }));
        let skipped = stage.until_state(skips, "skipped").await;
        assert_eq!(error(&skipped), "a holiday");
        assert_eq!(whys(&skipped), ["enqueued", "event"]);
        assert!(skipped.history[1].event.is_some(), "the event is kept by its id");
    }
);

both!(
    async fn a_failure_from_a_trigger_has_its_retries_and_is_a_dead_letter_then(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (fails, played) =
            Scripted::of(|before| async move { Ok(Answer::Fire(Event::fail(format!("look {before}")))) });
        let retry = Retry { max_attempts: 3, backoff: ms(20), cap: ms(20) };
        let task = stage.store.enqueue(never_run().retry(retry).when(defer(fails))).await.unwrap();
        let whole = stage.until_state(task, "failed").await;
        assert_eq!(error(&whole), "look 2");
        assert_eq!(whys(&whole), ["enqueued", "rearmed", "rearmed", "wait_failed"]);
        assert_eq!(played.times(Seen::Check), 3);
        assert_eq!(stage.count("select count(*) from reveille_finished where day = -1").await, 1);
        assert!(whole.step.is_some(), "a dead letter keeps what it takes to put it back to work");
    }
);

both!(
    async fn a_task_that_begins_deferred_is_run_once_its_wait_is_over(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, _) = Scripted::fires("started");
        let task = Script::<Plain>::of(|_, cx| async move { Ok(reveille::done_with(cx.event::<String>()?)) });
        let task = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), whole.brief.turn), (json!("started"), 0));
    }
);

both!(
    async fn a_task_that_nobody_began_in_time_is_skipped(stage: Stage) {
        let soon = timestamp(stage.clock().now_ms() + 100);
        let waiting = never_run().after(ms(60_000)).expires(soon);
        let unknown = NewTask::named("nobody", json!(null)).expires(soon);
        let ids = stage.store.enqueue_all(vec![waiting, unknown]).await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        for id in ids {
            let whole = stage.until_state(id, "skipped").await;
            assert_eq!(whys(&whole).last(), Some(&"expired"));
        }
    }
);

both!(
    async fn a_delayed_task_starts_when_it_is_due(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let task = stage.store.enqueue(NewTask::of(&task).unwrap().after(ms(300))).await.unwrap();
        let whole = stage.succeeded(task).await;
        let claimed = whole.history.iter().find(|transition| transition.why == "claimed").unwrap();
        assert!(claimed.at - whole.brief.enqueued_at >= 300, "{:?}", whole.history);
        assert_eq!(times(&whole, "due"), 1);
    }
);
