//! Signals and the ends of tasks, before and after the wait for them.

use std::time::Duration;

use reveille::{
    Error, defer,
    id::{Fence, Incarnation, TaskId},
    store::{
        BATCH,
        signal::{KEPT, Signal},
        task::Over,
    },
    task::{End, Woken},
    wait,
};
use serde_json::json;
use uuid::Uuid;

use crate::stage::{Fake, Stage, work};

impl Stage {
    async fn waits_for(&self, key: &str) -> Fence {
        self.deferred_on(wait::Signal::new(key)).await
    }

    /// As a worker does after it has deferred a task.
    async fn match_key(&self, key: &str) -> usize {
        self.store.match_keys(&[key.to_owned()], None).await.unwrap()
    }

    async fn send(&self, key: &str, payload: &str) -> usize {
        self.store.signal(Signal::new(key, payload)).await.unwrap()
    }

    /// Every page of what waits is matched again, as replicas do each period.
    async fn match_again(&self) {
        let (mut cursor, who) = (None, Incarnation::mint());
        loop {
            cursor = self.store.match_again(who, cursor).await.unwrap();
            if cursor.is_none() {
                break;
            }
        }
    }

    async fn ends(&self, task: TaskId, end: &End) {
        let worker = self.worker().await;
        let claim = self.claim(worker).await;
        assert_eq!(claim.fence.task, task);
        assert!(self.finish(worker, &claim, end).await);
    }
}

both!(
    async fn a_signal_resumes_everybody_who_waits_for_it(stage: Stage) {
        let (first, second, other) =
            (stage.waits_for("k").await, stage.waits_for("k").await, stage.waits_for("kk").await);
        assert_eq!(stage.send("k", "now").await, 2);
        for fence in [first, second] {
            assert_eq!(
                (stage.state_of(fence.task).await, stage.payload_of(fence.task).await),
                ("ready".to_owned(), json!("now"))
            );
            assert_eq!(stage.history_of(fence.task).await.last().unwrap(), "signal");
        }
        assert_eq!(stage.state_of(other.task).await, "deferred");
        let late = stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 0, "it has been taken");
        assert_eq!(stage.state_of(late.task).await, "deferred");
    }
);

both!(
    async fn a_signal_reaches_more_than_a_page_of_waits_and_each_of_them_once(stage: Stage) {
        let waits = (0..BATCH + 10).map(|_| work().when(defer(wait::Signal::new("k")))).collect();
        let ids = stage.store.enqueue_all(waits).await.unwrap();
        assert_eq!(stage.send("k", "now").await, ids.len());
        let told = "select count(*) from reveille_history where why = 'signal' and task_id <> $1";
        assert_eq!(stage.count(told, Uuid::nil()).await, ids.len() as i64);
        stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 0, "it has been taken");
    }
);

both!(
    async fn a_delivery_that_was_cut_short_goes_on_where_it_was(stage: Stage) {
        let waits = (0..4).map(|_| work().when(defer(wait::Signal::new("k")))).collect();
        let mut ids = stage.store.enqueue_all(waits).await.unwrap();
        ids.sort();
        commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", "now")));
        // The first two had been resumed, and wait again.
        let second = stage.literal(ids[1].0);
        stage.meddle(format!("update reveille_signal set taken_at = 1, delivered_to = {second}")).await;
        stage.turn(KEPT);
        stage.store.drop_old(KEPT).await.unwrap();
        stage.match_again().await;
        let mut states = Vec::new();
        for id in &ids {
            states.push(stage.state_of(*id).await);
        }
        assert_eq!(states, ["deferred", "deferred", "ready", "ready"]);
        assert_eq!(stage.match_key("signal:k").await, 0, "it is over");
    }
);

both!(
    async fn a_signal_that_came_first_is_kept_for_the_first_that_waits(stage: Stage) {
        assert_eq!(stage.send("k", "early").await, 0);
        stage.turn(KEPT - Duration::from_millis(1));
        let (first, _) = (stage.waits_for("k").await, stage.waits_for("other").await);
        assert_eq!(stage.match_key("signal:k").await, 1);
        assert_eq!(stage.payload_of(first.task).await, json!("early"));
        stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 0);
    }
);

both!(
    async fn a_signal_and_a_wait_that_commit_before_either_matches_meet_once(stage: Stage) {
        let worker = stage.worker().await;
        for signal_first in [true, false] {
            let task = stage.enqueue().await;
            let claim = stage.claim(worker).await;
            let send = async || commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", 1)));
            if signal_first {
                send().await;
            }
            stage.defer(worker, &claim, &defer(wait::Signal::new("k"))).await;
            if !signal_first {
                send().await;
            }
            assert_eq!(stage.state_of(task).await, "deferred");
            assert_eq!([stage.match_key("signal:k").await, stage.match_key("signal:k").await], [1, 0]);
            let claim = stage.claim(worker).await;
            assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
            assert_eq!(stage.history_of(task).await.iter().filter(|why| *why == "signal").count(), 1);
        }
    }
);

both!(
    async fn a_task_that_starts_from_a_signal_finds_one_that_came_first(stage: Stage) {
        stage.send("k", "early").await;
        let task = stage.store.enqueue(work().when(defer(wait::Signal::new("k")))).await.unwrap();
        assert_eq!((stage.state_of(task).await, stage.payload_of(task).await), ("ready".to_owned(), json!("early")));
    }
);

both!(
    async fn a_signal_expires(stage: Stage) {
        stage.store.signal(Signal { kept: Duration::from_mins(1), ..Signal::new("k", "early") }).await.unwrap();
        stage.turn(Duration::from_mins(1));
        stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 0);
        stage.match_again().await;
        stage.store.drop_old(Duration::from_hours(24)).await.unwrap();
        assert_eq!(stage.count("select count(*) from reveille_signal where id <> $1", Uuid::nil()).await, 0);
    }
);

both!(
    async fn a_signal_sent_twice_is_sent_once(stage: Stage) {
        let signal = Signal::new("k", "once");
        assert_eq!(stage.store.signal(signal.clone()).await.unwrap(), 0);
        assert_eq!(stage.store.signal(Signal { payload: "twice", ..signal.clone() }).await.unwrap(), 0);
        let first = stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 1);
        assert_eq!(stage.payload_of(first.task).await, json!("once"));
        stage.waits_for("k").await;
        assert_eq!(stage.store.signal(signal).await.unwrap(), 0, "it has been taken, and is remembered");
    }
);

both!(
    async fn signals_are_taken_oldest_first_one_by_each_wait(stage: Stage) {
        for payload in ["first", "second"] {
            stage.send("k", payload).await;
            stage.turn(Duration::from_secs(1));
        }
        for payload in ["first", "second"] {
            let fence = stage.waits_for("k").await;
            assert_eq!(stage.match_key("signal:k").await, 1);
            assert_eq!(stage.payload_of(fence.task).await, json!(payload));
            stage.claims(stage.worker().await, 10).await;
        }
    }
);

both!(
    async fn a_signal_goes_to_everybody_even_past_a_full_batch_and_a_stale_key(stage: Stage) {
        let waits = (0..700).map(|_| work().when(defer(wait::Signal::new("k")))).collect();
        let ids = stage.store.enqueue_all(waits).await.unwrap();
        // One of them is being moved by somebody else, who has not committed.
        stage
            .meddle(format!("update reveille_wait_key set generation = 99 where task_id = {}", stage.literal(ids[0].0)))
            .await;
        assert_eq!(stage.send("k", "all").await, 699);
    }
);

both!(
    async fn a_key_or_a_payload_that_cannot_be_stored_is_refused(stage: Stage) {
        for key in [String::new(), "a\nb".to_owned(), "x".repeat(513)] {
            assert!(matches!(stage.store.signal(Signal::new(key, 1)).await, Err(Error::Invalid(_))));
        }
        let large = stage.store.signal(Signal::new("k", "x".repeat(1 << 20))).await;
        assert!(matches!(large, Err(Error::TooLarge { .. })));
        assert_eq!(stage.send(&"é".repeat(256), "fits").await, 0);
    }
);

both!(
    async fn the_end_of_a_task_resumes_those_who_wait_for_it(stage: Stage) {
        let awaited = stage.enqueue().await;
        let worker = stage.worker().await;
        let claim = stage.claim(worker).await;
        let waits = [
            stage.deferred_on(wait::TaskEnd::of(awaited.0)).await,
            stage.deferred_on(wait::TaskEnd::of(awaited.0)).await,
        ];
        assert_eq!(stage.match_key(&format!("task:{awaited}")).await, 0);
        assert!(stage.finish(worker, &claim, &End::succeeded(json!({"rows": 7}))).await);
        stage.store.ended(&[Over { task: awaited, slot: None }]).await.unwrap();
        for fence in waits {
            assert_eq!(
                stage.payload_of(fence.task).await,
                json!({"task": awaited, "state": "succeeded", "result": {"rows": 7}})
            );
            assert_eq!(stage.history_of(fence.task).await.last().unwrap(), "task");
        }
    }
);

both!(
    async fn a_task_that_ended_first_is_found_by_the_wait(stage: Stage) {
        let awaited = stage.enqueue().await;
        stage.ends(awaited, &End::failed("no")).await;
        let early = stage.store.enqueue(work().when(defer(wait::TaskEnd::of(awaited.0)))).await.unwrap();
        assert_eq!(stage.payload_of(early).await, json!({"task": awaited, "state": "failed", "error": "no"}));
    }
);

both!(
    async fn a_cancelled_task_has_ended_too(stage: Stage) {
        let awaited = stage.enqueue().await;
        let waiting = stage.store.enqueue(work().when(defer(wait::TaskEnd::of(awaited.0)))).await.unwrap();
        stage.store.cancel(awaited, "a mistake").await.unwrap();
        assert_eq!(
            stage.payload_of(waiting).await,
            json!({"task": awaited, "state": "cancelled", "error": "a mistake"})
        );
    }
);

both!(
    async fn what_was_committed_and_never_matched_is_found_by_the_next_look(stage: Stage) {
        let awaited = stage.enqueue().await;
        stage.ends(awaited, &End::succeeded(json!(1))).await;
        let (signal, task) = (stage.waits_for("k").await, stage.deferred_on(wait::TaskEnd::of(awaited.0)).await);
        let untouched = stage.waits_for("never").await;
        commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", "lost")));
        stage.match_again().await;
        for fence in [signal, task] {
            assert_eq!(stage.state_of(fence.task).await, "ready");
        }
        assert_eq!(stage.state_of(untouched.task).await, "deferred");
    }
);

both!(
    async fn a_look_goes_through_all_keys_page_by_page(stage: Stage) {
        let waits = (0..1_050).map(|at| work().when(defer(wait::Signal::new(format!("k{at:04}"))))).collect();
        let ids = stage.store.enqueue_all(waits).await.unwrap();
        for at in [0, 999, 1_000, 1_049] {
            commit!(stage.store, db => stage.store.signal_in(db, &Signal::new(format!("k{at:04}"), at)));
        }
        stage.match_again().await;
        for at in [0, 999, 1_000, 1_049] {
            assert_eq!(stage.payload_of(ids[at]).await, json!(at));
        }
        assert_eq!(stage.state_of(ids[1]).await, "deferred");
    }
);

both!(
    async fn an_end_that_cannot_be_read_does_not_hold_up_the_other_waits(stage: Stage) {
        let awaited = stage.enqueue().await;
        stage.ends(awaited, &End::succeeded(json!(1))).await;
        let broken = match stage.store.url() {
            reveille::Url::Sqlite(_) => "x'00'",
            reveille::Url::Postgres(_) => r"'\x00'",
        };
        stage.meddle(format!("update reveille_finished set result = {broken}")).await;
        let unreadable = stage.deferred_on(wait::TaskEnd::of(awaited.0)).await;
        let signal = stage.waits_for("k").await;
        let other = stage.waits_for("z").await;
        commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", "fine")));
        let zulu = Signal::new("z", "fine");
        commit!(stage.store, db => stage.store.signal_in(db, &zulu));
        stage.match_again().await;
        for fence in [signal, other] {
            assert_eq!(stage.state_of(fence.task).await, "ready");
        }
        assert_eq!(stage.state_of(unreadable.task).await, "deferred", "what cannot be read stays untouched");
    }
);

both!(
    async fn a_wait_that_has_moved_on_takes_no_signal(stage: Stage) {
        let worker = stage.worker().await;
        let claimed = stage.deferred_on(wait::Signal::new("k")).await;
        assert_eq!(stage.send("k", "first").await, 1);
        let claim = stage.claim(worker).await;
        stage.defer(worker, &claim, &defer(Fake::default())).await;
        assert_eq!(stage.send("k", "second").await, 0);
        assert_eq!(stage.state_of(claimed.task).await, "deferred");
        assert_eq!(stage.woken(claimed.task).await, None);
        let next = stage.waits_for("k").await;
        assert_eq!(stage.match_key("signal:k").await, 1);
        assert_eq!(stage.woken(next.task).await, Some(Woken::Payload(json!("second"))));
    }
);
