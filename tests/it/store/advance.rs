//! Moving on in the worker's own slot, and telling of progress.

use reveille::{
    defer,
    id::{Fence, Incarnation},
    store::{
        advance::{Arrival, Moved},
        history::Why,
        signal::Signal,
    },
    task::{End, Woken},
    wait,
};
use serde_json::json;
use uuid::Uuid;

use crate::stage::{Fake, Stage};

impl Stage {
    async fn advance(&self, worker: Incarnation, fence: Fence, arrival: &Arrival) -> Option<Moved> {
        let turn = self.whole(fence.task).await.brief.turn;
        self.advance_from(turn, worker, fence, arrival).await
    }

    async fn advance_from(&self, turn: i32, worker: Incarnation, fence: Fence, arrival: &Arrival) -> Option<Moved> {
        let step = self.step("next");
        commit!(self.store, db => self.store.advance(db, worker, fence, turn, &step, arrival))
    }

    async fn progresses(&self, worker: Incarnation, fence: Fence, progress: u32) {
        let progress = json!(progress);
        commit!(self.store, db => self.store.set_progress(db, worker, fence, &progress));
    }
}

fn woken(payload: &str) -> Arrival {
    let woken = Some(Woken::Payload(json!(payload)));
    Arrival::Woken { woken, event: Uuid::now_v7(), why: Why::Event, taking: Vec::new() }
}

both!(
    async fn a_wait_in_the_slot_leads_to_the_next_turn_in_the_same_hands(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        stage.progresses(worker, claim.fence, 50).await;
        assert_eq!(stage.whole(task).await.progress, Some(json!(50)));

        let moved = stage.advance(worker, claim.fence, &woken("seen")).await;
        assert!(matches!(moved, Some(Moved::To(Some(Woken::Payload(seen)))) if seen == json!("seen")));
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.brief.turn, whole.brief.attempt), ("running", 1, 1));
        assert_eq!((whole.generation, whole.holder), (claim.fence.generation, Some(worker.0)));
        assert_eq!((whole.step, whole.progress), (Some(json!("next")), None));
        assert_eq!(stage.payload_of(task).await, json!("seen"));
        assert_eq!(stage.history_of(task).await, ["enqueued", "claimed", "event"]);

        // The reply was lost: the same again moves nothing, and answers the same.
        let again = stage.advance_from(0, worker, claim.fence, &woken("seen")).await;
        assert!(matches!(again, Some(Moved::To(Some(Woken::Payload(seen)))) if seen == json!("seen")));
        assert_eq!(stage.history_of(task).await, ["enqueued", "claimed", "event"]);
        for turn in [-1, 2] {
            assert!(matches!(stage.advance_from(turn, worker, claim.fence, &woken("x")).await, Some(Moved::NotMine)));
        }
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
    }
);

both!(
    async fn only_the_live_holder_moves_on_and_nothing_is_taken_for_another(stage: Stage) {
        let (worker, other) = (stage.worker().await, stage.worker().await);
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        stage.store.signal(Signal::new("k", "kept")).await.unwrap();
        let key = Arrival::Key("signal:k".to_owned());
        let older = Fence { generation: claim.fence.generation - 1, ..claim.fence };
        for (who, fence) in [(other, claim.fence), (worker, older)] {
            assert!(matches!(stage.advance(who, fence, &key).await, Some(Moved::NotMine)));
        }
        stage.lose(worker).await;
        assert!(matches!(stage.advance(worker, claim.fence, &key).await, Some(Moved::NotMine)));
        assert_eq!(stage.whole(task).await.brief.turn, 0);

        let waiting = stage.deferred_on(wait::Signal::new("k")).await;
        assert_eq!(stage.store.match_keys(&["signal:k".to_owned()], None).await.unwrap(), 1);
        assert_eq!(stage.payload_of(waiting.task).await, json!("kept"));
    }
);

both!(
    async fn a_signal_and_the_end_of_a_task_reach_a_wait_in_the_slot(stage: Stage) {
        let worker = stage.worker().await;
        let awaited = stage.enqueue().await;
        let ended = stage.claim(worker).await;
        stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let (signal, end) = (Arrival::Key("signal:k".to_owned()), Arrival::Key(format!("task:{awaited}")));
        for key in [&signal, &end] {
            assert!(stage.advance(worker, claim.fence, key).await.is_none(), "nothing has come");
        }
        for payload in ["first", "second"] {
            stage.store.signal(Signal::new("k", payload)).await.unwrap();
            stage.turn(std::time::Duration::from_secs(1));
        }
        assert!(stage.finish(worker, &ended, &End::succeeded(json!(7))).await);
        let mut seen = Vec::new();
        for key in [&signal, &end, &signal] {
            stage.advance(worker, claim.fence, key).await.unwrap();
            seen.push(stage.payload_of(claim.fence.task).await);
        }
        assert_eq!(
            seen,
            [json!("first"), json!({"task": awaited, "state": "succeeded", "result": 7}), json!("second")]
        );
        assert!(stage.advance(worker, claim.fence, &signal).await.is_none(), "both are taken");
    }
);

both!(
    async fn progress_is_told_by_the_live_holder_and_belongs_to_its_step(stage: Stage) {
        let (worker, other) = (stage.worker().await, stage.worker().await);
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let progress = async || stage.whole(task).await.progress;
        stage.progresses(other, claim.fence, 1).await;
        stage.progresses(worker, Fence { generation: 0, ..claim.fence }, 2).await;
        assert_eq!(progress().await, None);
        stage.progresses(worker, claim.fence, 3).await;

        assert!(stage.defers(worker, stage.again(&claim, 2, Why::Retry, stage.now())).await);
        assert_eq!((stage.fire_due(worker).await, progress().await), (1, Some(json!(3))));
        let claim = stage.claim(worker).await;
        assert_eq!(progress().await, None, "an attempt begins afresh");
        stage.lose(worker).await;
        stage.progresses(worker, claim.fence, 4).await;
        assert_eq!(progress().await, None);
        commit!(stage.store, db => stage.store.rescue(db, other, 10));
        let claim = stage.claim(other).await;
        stage.progresses(other, claim.fence, 5).await;
        stage.defer(other, &claim, &defer(Fake::default())).await;
        assert_eq!(progress().await, None);
    }
);

both!(
    async fn turns_of_one_moment_are_told_in_their_order(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        for _ in 0..2 {
            stage.advance(worker, claim.fence, &woken("seen")).await;
        }
        // As whoever drops old days moves the history of the unfinished.
        stage.meddle("update reveille_history set day = day + 1 where turn = 1").await;
        let turns: Vec<i32> = stage.whole(task).await.history.iter().map(|told| told.turn).collect();
        assert_eq!(turns, [0, 0, 1, 2]);
    }
);
