//! Events: one outcome a deferral, and none is lost.

use reveille::{
    Error, Retry, Store, defer,
    id::Fence,
    store::{Verdict, event::Firing, signal},
    task::{End, WaitFailed, WaitFailure, Woken},
    trigger::{Event, Receipt},
    wait::Signal,
};
use serde_json::json;

use crate::stage::{Fake, Stage, work};

const ACCEPTED: Receipt = Receipt::Accepted;
const REFUSED: Receipt = Receipt::Refused;

fn resume(payload: &str) -> Event {
    Event::resume(payload).unwrap()
}

both!(
    async fn a_second_fire_changes_nothing(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.fire(triggerer, fence, resume("first")).await, ACCEPTED);
        for second in
            [resume("second"), Event::succeed("second").unwrap(), Event::skip("second"), Event::fail("second")]
        {
            assert_eq!(stage.fire(triggerer, fence, second).await, REFUSED);
        }
        assert_eq!(
            (stage.state_of(fence.task).await, stage.payload_of(fence.task).await),
            ("ready".to_owned(), json!("first"))
        );
        assert_eq!(stage.history_of(fence.task).await, ["enqueued", "claimed", "deferred", "event"]);
    }
);

both!(
    async fn waits_that_are_over_are_gone_with_their_keys(stage: Stage) {
        // More than one statement of SQLite takes.
        for _ in 0..40 {
            stage.deferred(&defer(Signal::new("k"))).await;
        }
        let other = stage.deferred(&defer(Signal::new("other"))).await;
        assert_eq!(stage.store.signal(signal::Signal::new("k", 1)).await.unwrap(), 40);
        let of_others = "select count(*) from reveille_wait_key where task_id <> $1";
        assert_eq!(stage.count(of_others, other.task.0).await, 0);
        let its_own = "select count(*) from reveille_wait_key where task_id = $1";
        assert_eq!(stage.count(its_own, other.task.0).await, 1);
    }
);

both!(
    async fn an_event_is_stored_in_the_transaction_that_moves_its_task(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        let firing = Firing { fence, event: resume("seen").into(), holder: triggerer };
        let event = json!("seen");
        for committed in [false, true] {
            let mut tx = stage.begin().await;
            let (receipts, _) = within!(tx, db => stage.store.fire(db, std::slice::from_ref(&firing)));
            assert_eq!(receipts, [ACCEPTED]);
            // Until the commit nobody sees any of it: the wait stands, and whoever holds it next looks again.
            let before = stage.whole(fence.task).await;
            assert_eq!((before.brief.state.as_str(), before.event), ("deferred", None));
            assert_eq!(before.wait.map(|wait| wait.holder), Some(None));
            if committed {
                tx.commit().await.unwrap();
            }
        }
        assert_eq!((stage.state_of(fence.task).await, stage.payload_of(fence.task).await), ("ready".to_owned(), event));
        assert!(stage.whole(fence.task).await.wait.is_none());
    }
);

both!(
    async fn an_event_fired_again_was_accepted(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        for event in [resume("once"), Event::succeed("once").unwrap()] {
            let fence = stage.deferred_on(Fake::default()).await;
            assert_eq!(stage.fire(triggerer, fence, event.clone()).await, ACCEPTED);
            assert_eq!(stage.fire(triggerer, fence, event.clone()).await, ACCEPTED);
            if let Some(claim) = stage.claims(worker, 1).await.pop() {
                assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
            }
            assert_eq!(stage.fire(triggerer, fence, event.clone()).await, ACCEPTED, "the task has ended since");
            assert_eq!(stage.history_of(fence.task).await.iter().filter(|why| *why == "event").count(), 1);
        }
    }
);

both!(
    async fn an_event_for_an_older_wait_changes_nothing(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let old = stage.deferred_on(Fake::default()).await;
        stage.fire(triggerer, old, resume("first")).await;
        let claim = stage.claim(worker).await;
        let new = stage.defer(worker, &claim, &defer(Fake::default())).await;
        for event in [resume("late"), Event::succeed("late").unwrap()] {
            assert_eq!(stage.fire(triggerer, old, event).await, REFUSED);
        }
        assert_eq!(stage.count("select count(*) from reveille_finished where id = $1", new.task.0).await, 0);
        assert_eq!(stage.state_of(new.task).await, "deferred");
        assert_eq!(stage.fire(triggerer, new, resume("second")).await, ACCEPTED);
        assert_eq!(stage.payload_of(new.task).await, json!("second"));
    }
);

both!(
    async fn evidence_is_taken_from_whoever_comes_first(stage: Stage) {
        let (holder, other, gone) = (stage.triggerer().await, stage.triggerer().await, stage.triggerer().await);
        stage.lose(gone).await;
        for (sender, event, state) in [
            (other, resume("seen"), "ready"),
            (gone, resume("seen"), "ready"),
            (gone, Event::succeed("seen").unwrap(), "succeeded"),
        ] {
            let fence = stage.deferred_on(Fake::default()).await;
            assert_eq!(stage.leased(holder, 10).await, [fence.task]);
            assert_eq!(stage.fire(sender, fence, event).await, ACCEPTED);
            assert_eq!(stage.state_of(fence.task).await, state);
            let worker = stage.worker().await;
            stage.claims(worker, 10).await;
        }
    }
);

both!(
    async fn a_verdict_is_taken_from_the_live_holder_alone(stage: Stage) {
        let verdicts = || [Event::fail("no"), Event::skip("no")];
        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        let fence = stage.deferred_on(Fake::default()).await;
        for verdict in verdicts() {
            assert_eq!(stage.fire(holder, fence, verdict).await, REFUSED, "nobody holds it");
        }
        assert_eq!(stage.leased(holder, 10).await, [fence.task]);
        for verdict in verdicts() {
            assert_eq!(stage.fire(other, fence, verdict).await, REFUSED, "another holds it");
        }
        stage.lose(holder).await;
        for verdict in verdicts() {
            assert_eq!(stage.fire(holder, fence, verdict).await, REFUSED, "its holder is gone");
        }
        assert_eq!(stage.whole(fence.task).await.generation, fence.generation);
        assert_eq!(stage.leased(other, 10).await, [fence.task]);
        let [fail, skip] = verdicts();
        assert_eq!(stage.fire(other, fence, skip).await, ACCEPTED);
        assert_eq!(stage.state_of(fence.task).await, "skipped");

        let fence = stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.leased(other, 10).await, [fence.task]);
        assert_eq!(stage.fire(other, fence, fail).await, ACCEPTED);
        assert_eq!(stage.history_of(fence.task).await.last().unwrap(), "rearmed");
    }
);

both!(
    async fn a_bad_end_is_taken_from_the_live_holder_alone(stage: Stage) {
        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        let fence = stage.deferred(&defer(Fake::default()).or_resume()).await;
        let failed = WaitFailed { reason: WaitFailure::Fatal, message: "no such bucket".to_owned() };
        let says = async |who| {
            let verdict = Verdict { fence, failed: failed.clone(), holder: Some(who), event: None };
            !commit!(stage.store, db => stage.store.fail_waits(db, Some(who), vec![verdict])).accepted.is_empty()
        };
        assert!(!says(holder).await);
        assert_eq!(stage.leased(holder, 10).await, [fence.task]);
        assert!(!says(other).await);
        stage.lose(holder).await;
        assert!(!says(holder).await);
        assert_eq!(stage.leased(other, 10).await, [fence.task]);
        assert!(says(other).await);
        assert_eq!(stage.woken(fence.task).await, Some(Woken::Failed(failed.clone())));
        assert!(!says(other).await);
    }
);

both!(
    async fn a_failure_fired_again_was_accepted_and_costs_one_attempt(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.leased(triggerer, 10).await, [fence.task]);
        let event = Event::fail("no");
        assert_eq!(stage.fire(triggerer, fence, event.clone()).await, ACCEPTED);
        assert_eq!(stage.fire(triggerer, fence, event).await, ACCEPTED);
        assert_eq!(stage.whole(fence.task).await.brief.attempt, 2);
    }
);

both!(
    async fn a_failure_is_retried_and_is_a_dead_letter_in_the_end(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let task = work().when(defer(Fake::default())).retry(Retry { max_attempts: 3, ..Retry::NEVER });
        let task = stage.store.enqueue(task).await.unwrap();
        for _ in 0..3 {
            let lease = stage.leases(triggerer, 10).await.pop().unwrap();
            assert_eq!(stage.fire(triggerer, lease.fence, Event::fail("no")).await, ACCEPTED);
        }
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.end), ("failed", Some(End::failed("no"))));
        assert_eq!(whole.step, Some(json!("first")), "a dead letter keeps what it needs to be redriven");
        assert_eq!(stage.history_of(task).await, ["enqueued", "rearmed", "rearmed", "wait_failed"]);
    }
);

both!(
    async fn of_two_events_for_one_wait_in_a_batch_the_first_decides(stage: Stage) {
        let holder = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        let (first, second) = (resume("first"), Event::succeed("second").unwrap());
        let firing = |event: &Event| Firing { fence, event: event.clone().into(), holder };
        let receipts = stage.fire_all(&[firing(&first), firing(&second), firing(&first)]).await;
        assert_eq!(receipts, [ACCEPTED, REFUSED, ACCEPTED]);
        assert_eq!(stage.payload_of(fence.task).await, json!("first"));

        let fence = stage.deferred_on(Fake::default()).await;
        let firing = |event: &Event| Firing { fence, event: event.clone().into(), holder };
        assert_eq!(stage.fire_all(&[firing(&first), firing(&second)]).await, [ACCEPTED, REFUSED]);
        assert_eq!(stage.state_of(fence.task).await, "ready");
    }
);

both!(
    async fn an_event_for_an_older_wait_does_not_keep_out_the_present_one(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let old = stage.deferred_on(Fake::default()).await;
        let accepted = resume("first");
        stage.fire(triggerer, old, accepted.clone()).await;
        let claim = stage.claim(worker).await;
        let new = stage.defer(worker, &claim, &defer(Fake::default())).await;
        let firing = |fence: Fence, event: &Event| Firing { fence, event: event.clone().into(), holder: triggerer };
        let (late, present) = (resume("late"), resume("present"));
        let batch = [firing(old, &late), firing(old, &accepted), firing(new, &present)];
        assert_eq!(stage.fire_all(&batch).await, [REFUSED, ACCEPTED, ACCEPTED]);
        assert_eq!(stage.payload_of(new.task).await, json!("present"));
    }
);

both!(
    async fn a_batch_of_all_outcomes_moves_each_as_it_says(stage: Stage) {
        let holder = stage.triggerer().await;
        let mut batch = Vec::new();
        let states = ["ready", "succeeded", "skipped", "deferred"];
        for event in [resume("go"), Event::succeed(1).unwrap(), Event::skip("no"), Event::fail("no")] {
            let task = stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
            batch.push(Firing { fence: Fence { task, generation: 0 }, event: event.into(), holder });
        }
        assert_eq!(stage.leases(holder, 10).await.len(), 4);
        assert_eq!(stage.fire_all(&batch).await, [ACCEPTED; 4]);
        for (firing, state) in batch.iter().zip(states) {
            assert_eq!(stage.state_of(firing.fence.task).await, state);
        }
        assert_eq!(stage.fire_all(&batch).await, [ACCEPTED; 4], "the answer may have been lost");
    }
);

both!(
    async fn a_batch_larger_than_a_statement_is_fired_whole(stage: Stage) {
        let holder = stage.triggerer().await;
        let tasks = (0..1_100).map(|_| work().when(defer(Fake::default()))).collect();
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        let firing = |task| Firing { fence: Fence { task, generation: 0 }, event: resume("go").into(), holder };
        let batch: Vec<_> = ids.iter().rev().map(|task| firing(*task)).collect();
        assert!(stage.fire_all(&batch).await.iter().all(|receipt| *receipt == ACCEPTED));
        let worker = stage.worker().await;
        assert_eq!(stage.claims(worker, 2_000).await.len(), 1_100);
    }
);

both!(
    async fn an_event_over_the_payload_limit_is_named_and_its_wait_stands(stage: Stage) {
        let holder = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        let small = Store::connect(reveille::Options { payload_limit: 100, ..stage.options() }).await.unwrap();
        let mut tx = small.begin().await.unwrap();
        let firing = Firing { fence, event: resume(&"x".repeat(100)).into(), holder };
        let refused = small.fire(&mut tx.db(), &[firing]).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { limit: 100, .. }), "{refused:?}");
        drop(tx);
        assert_eq!(stage.state_of(fence.task).await, "deferred");
    }
);
