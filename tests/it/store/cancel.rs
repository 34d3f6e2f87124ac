//! Calling tasks off, undoing what they waited for, and expiry.

use std::time::Duration;

use reveille::{
    clock::timestamp,
    defer,
    id::{Fence, TaskId},
    store::{
        Scope,
        history::Why,
        task::{Answer, Cancelled, Claim, Deferring, Over},
        undo::{self, Undo, Undone},
    },
    task::End,
    trigger::{Event, Receipt},
    wait::{Signal, Timer},
};
use serde_json::json;

use crate::stage::{Fake, Stage, scope, work};

const HOUR: Duration = Duration::from_hours(1);

impl Stage {
    async fn undoes(&self, triggerer: reveille::id::Incarnation) -> Vec<Undo> {
        commit!(self.store, db => undo::lease(db, triggerer, &scope(&["fake"]), self.now(), 10))
    }

    async fn settle(&self, triggerer: reveille::id::Incarnation, undo: &Undo, undone: Undone) {
        commit!(self.store, db => undo::settle(db, triggerer, undo.fence, undone, self.now()));
    }

    async fn undo_rows(&self, task: TaskId) -> i64 {
        self.count("select count(*) from reveille_undo where task_id = $1", task.0).await
    }
}

both!(
    async fn a_ready_task_is_cancelled_at_once(stage: Stage) {
        let task = stage.enqueue().await;
        assert_eq!(stage.store.cancel(task, "a mistake").await.unwrap(), Cancelled::Done);
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.end), ("cancelled", Some(End::cancelled("a mistake"))));
        assert_eq!(stage.store.cancel(task, "again").await.unwrap(), Cancelled::Ended);
        assert_eq!(stage.history_of(task).await, ["enqueued", "cancelled"]);
        let worker = stage.worker().await;
        assert!(stage.claims(worker, 10).await.is_empty());
        assert_eq!(stage.store.cancel(TaskId::mint(), "no").await.unwrap(), Cancelled::Unknown);
    }
);

both!(
    async fn a_running_task_is_asked_and_no_longer_defers(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        assert_eq!(stage.store.cancel(task, "no").await.unwrap(), Cancelled::Asked);
        let asked_at = stage.whole(task).await.cancel_requested_at;
        assert_eq!(asked_at, Some(stage.now()));
        stage.turn(HOUR);
        assert_eq!(stage.store.cancel(task, "no").await.unwrap(), Cancelled::Asked);
        assert_eq!(stage.whole(task).await.cancel_requested_at, asked_at, "the first time stands");

        assert!(!stage.defers(worker, stage.deferring(claim.fence, &defer(Fake::default()))).await);
        assert!(!stage.defers(worker, stage.again(&claim, 2, reveille::store::history::Why::Retry, 0)).await);
        assert_eq!(stage.state_of(task).await, "running");
        assert!(stage.finish(worker, &claim, &End::cancelled("no")).await);
        assert_eq!(stage.state_of(task).await, "cancelled");
    }
);

both!(
    async fn a_running_task_may_end_before_it_hears_that_it_is_cancelled(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        stage.store.cancel(task, "no").await.unwrap();
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
        assert_eq!(stage.state_of(task).await, "succeeded");
    }
);

both!(
    async fn a_cancelled_passive_wait_is_gone_with_its_keys_and_leaves_nothing_to_undo(stage: Stage) {
        let worker = stage.worker().await;
        for deferral in [defer(Signal::new("k")), defer(Timer::after(Duration::ZERO))] {
            let fence = stage.deferred(&deferral).await;
            assert_eq!(stage.store.cancel(fence.task, "no").await.unwrap(), Cancelled::Done);
            assert_eq!(
                (stage.state_of(fence.task).await, stage.undo_rows(fence.task).await),
                ("cancelled".to_owned(), 0)
            );
            assert!(stage.whole(fence.task).await.wait.is_none());
            let keys = stage.count("select count(*) from reveille_wait_key where task_id = $1", fence.task.0).await;
            assert_eq!(keys, 0);
        }
        assert_eq!(stage.fire_due(worker).await, 0);
        assert_eq!(stage.store.signal(reveille::store::signal::Signal::new("k", 1)).await.unwrap(), 0);
    }
);

both!(
    async fn a_cancelled_active_wait_is_undone(stage: Stage) {
        let fence = stage.deferred_on(Fake { marker: "remote job".to_owned() }).await;
        let (holder, triggerer) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(holder, 10).await, [fence.task]);
        let since = stage.now();
        stage.turn(HOUR);
        assert_eq!(stage.store.cancel(fence.task, "no").await.unwrap(), Cancelled::Done);
        assert_eq!(stage.fire(holder, fence, Event::resume(1).unwrap()).await, Receipt::Refused);
        assert_eq!(stage.state_of(fence.task).await, "cancelled");

        let undo = stage.undoes(triggerer).await.pop().unwrap();
        assert_eq!((undo.fence, undo.kinds.as_str(), undo.since, undo.attempt), (fence, "fake", since, 1));
        let again = stage.undoes(triggerer).await.pop().expect("the first answer may have been lost");
        assert_eq!((again.fence, again.attempt), (fence, 1));
        assert!(stage.undoes(holder).await.is_empty(), "another has it");
        stage.settle(holder, &undo, Undone::Done).await;
        assert_eq!(stage.undo_rows(fence.task).await, 1, "it is not the other's to settle");
        stage.settle(triggerer, &undo, Undone::Done).await;
        assert_eq!(stage.undo_rows(fence.task).await, 0);
    }
);

both!(
    async fn undoing_is_tried_again_and_given_up_in_the_end(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let triggerer = stage.triggerer().await;
        stage.store.cancel(fence.task, "no").await.unwrap();
        let undo = stage.undoes(triggerer).await.pop().unwrap();
        stage.settle(triggerer, &undo, Undone::Again(stage.now() + 3_600_000)).await;
        stage.turn(HOUR - Duration::from_millis(1));
        assert!(stage.undoes(triggerer).await.is_empty());
        stage.turn(Duration::from_millis(1));
        let undo = stage.undoes(triggerer).await.pop().unwrap();
        assert_eq!(undo.attempt, 2);
        stage.settle(triggerer, &undo, Undone::Dead).await;
        stage.turn(HOUR);
        assert!(stage.undoes(triggerer).await.is_empty());
        assert_eq!(stage.undo_rows(fence.task).await, 1, "it is kept for an operator");
        let findings = stage.store.examine().await.unwrap();
        assert!(findings.iter().any(|finding| finding.what.contains("could not be undone")), "{findings:?}");
    }
);

both!(
    async fn what_cannot_be_read_is_left_to_others_at_no_cost_of_attempts(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (older, newer) = (stage.triggerer().await, stage.triggerer().await);
        stage.store.cancel(fence.task, "no").await.unwrap();
        let undo = stage.undoes(older).await.pop().unwrap();
        stage.settle(older, &undo, Undone::Unread(stage.now() + 60_000)).await;
        assert!(stage.undoes(older).await.is_empty());
        stage.turn(Duration::from_mins(1));
        assert_eq!(stage.undoes(newer).await.pop().unwrap().attempt, 1);
    }
);

both!(
    async fn what_a_gone_triggerer_was_undoing_is_taken_over(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        stage.store.cancel(fence.task, "no").await.unwrap();
        let first = stage.undoes(gone).await.pop().unwrap();
        stage.lose(gone).await;
        assert!(stage.undoes(gone).await.is_empty(), "the gone are given nothing");
        let second = stage.undoes(next).await.pop().unwrap();
        assert_eq!(second.fence, first.fence);
        stage.settle(gone, &first, Undone::Done).await;
        assert_eq!(stage.undo_rows(fence.task).await, 1, "its holder is another by now");
    }
);

both!(
    async fn what_was_undone_is_told_by_its_live_holder_alone(stage: Stage) {
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        let again = Undone::Again(stage.now());
        for undone in [Undone::Done, again, Undone::Unread(stage.now() + 1), Undone::Dead] {
            let fence = stage.deferred_on(Fake::default()).await;
            stage.store.cancel(fence.task, "no").await.unwrap();
            let undo = stage.undoes(gone).await.pop().unwrap();
            stage.settle(next, &undo, undone).await;
            // It is as it was: still the holder's, at its first attempt.
            let same = stage.undoes(gone).await.pop().unwrap();
            assert_eq!((same.fence, same.attempt), (undo.fence, 1), "{undone:?}");
            assert!(stage.undoes(next).await.is_empty());
            stage.settle(gone, &undo, Undone::Done).await;
            assert_eq!(stage.undo_rows(fence.task).await, 0);
        }
    }
);

both!(
    async fn what_is_said_to_be_mine_to_undo_is_given_to_me_again(stage: Stage) {
        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        let fence = stage.deferred_on(Fake::default()).await;
        stage.store.cancel(fence.task, "no").await.unwrap();
        for _ in 0..2 {
            // The answer to the first may have been lost.
            let undo = stage.undoes(holder).await.pop().unwrap();
            assert_eq!((undo.fence.task, undo.attempt), (fence.task, 1));
            assert!(stage.undoes(other).await.is_empty());
        }
    }
);

both!(
    async fn what_is_to_be_undone_is_left_by_those_who_cannot(stage: Stage) {
        let task = stage.store.enqueue(work().queue("here").when(defer(Fake::default()))).await.unwrap();
        stage.store.cancel(task, "no").await.unwrap();
        let triggerer = stage.triggerer().await;
        let there = Scope { queues: Some(vec!["there".to_owned()]), ..scope(&["fake"]) };
        let here = Scope { queues: Some(vec!["here".to_owned()]), ..scope(&["fake"]) };
        for (scope, expected) in [(scope(&["other_fake"]), 0), (there, 0), (here, 1)] {
            let undoes = commit!(stage.store, db => undo::lease(db, triggerer, &scope, stage.now(), 10));
            assert_eq!(undoes.len(), expected, "{scope:?}");
        }
    }
);

both!(
    async fn only_a_cancelled_wait_is_undone(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let expiring = work().when(defer(Fake::default())).expires(timestamp(stage.now()));
        let expiring = stage.store.enqueue(expiring).await.unwrap();
        let fired = stage.deferred_on(Fake::default()).await;
        stage.fire(triggerer, fired, Event::succeed(1).unwrap()).await;
        commit!(stage.store, db => stage.store.expire(db, triggerer, 10));
        assert_eq!(stage.state_of(expiring).await, "skipped");
        assert!(stage.undoes(triggerer).await.is_empty());
    }
);

both!(
    async fn a_task_that_had_not_begun_by_its_expiry_is_skipped(stage: Stage) {
        let worker = stage.worker().await;
        let at = timestamp(stage.now() + 3_600_000);
        let waiting = stage.store.enqueue(work().expires(at)).await.unwrap();
        let delayed = stage.store.enqueue(work().expires(at).after(2 * HOUR)).await.unwrap();
        let keyed = stage.store.enqueue(work().expires(at).when(defer(Signal::new("k")))).await.unwrap();
        let other = stage.enqueue().await;
        let expire = async || {
            let (count, mut ended) = commit!(stage.store, db => stage.store.expire(db, worker, 10));
            ended.sort();
            (count, ended)
        };
        stage.turn(HOUR - Duration::from_millis(1));
        assert_eq!(expire().await, (0, vec![]));
        stage.turn(Duration::from_millis(1));
        assert_eq!(
            expire().await,
            (3, {
                let mut ids = vec![waiting, delayed, keyed];
                ids.sort();
                ids.into_iter().map(|task| Over { task, slot: None }).collect()
            })
        );
        for task in [waiting, delayed, keyed] {
            let whole = stage.whole(task).await;
            assert_eq!(
                (whole.brief.state.as_str(), whole.history.last().unwrap().why.as_str()),
                ("skipped", "expired")
            );
        }
        assert_eq!(stage.state_of(other).await, "ready");
        assert_eq!(stage.store.signal(reveille::store::signal::Signal::new("k", 1)).await.unwrap(), 0);
    }
);

both!(
    async fn a_task_past_its_expiry_is_not_begun_though_nobody_has_skipped_it_yet(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.store.enqueue(work().expires(timestamp(stage.now() + 1_000))).await.unwrap();
        stage.turn(Duration::from_secs(1));
        assert!(stage.claims(worker, 10).await.is_empty());
        assert_eq!(stage.state_of(task).await, "ready");
    }
);

both!(
    async fn a_task_that_has_begun_does_not_expire(stage: Stage) {
        let worker = stage.worker().await;
        stage.store.enqueue(work().expires(timestamp(stage.now() + 1_000))).await.unwrap();
        let claim = stage.claim(worker).await;
        stage.turn(HOUR);
        assert_eq!(commit!(stage.store, db => stage.store.expire(db, worker, 10)).0, 0);
        stage.defer(worker, &claim, &defer(Timer::after(HOUR))).await;
        stage.turn(HOUR);
        assert_eq!(commit!(stage.store, db => stage.store.expire(db, worker, 10)).0, 0);
        assert_eq!(stage.fire_due(worker).await, 1);
        assert_eq!(stage.claimed(worker, 10).await, [claim.fence.task]);
    }
);

both!(
    async fn a_deferral_of_what_was_called_off_ends_it_among_other_answers(stage: Stage) {
        let worker = stage.worker().await;
        stage.store.enqueue_all(vec![work(), work(), work(), work()]).await.unwrap();
        let claims = stage.claims(worker, 4).await;
        stage.store.cancel(claims[1].fence.task, "no").await.unwrap();
        let again = |claim: &Claim| stage.again(claim, 2, Why::Retry, stage.now() + 1_000);
        let stale = Fence { generation: 7, ..claims[3].fence };
        let answers = vec![
            Answer::Defer(again(&claims[0])),
            Answer::Defer(again(&claims[1])),
            Answer::End(stage.ending(worker, &claims[2], &End::succeeded(json!(0)))),
            Answer::Defer(Deferring { fence: stale, ..again(&claims[3]) }),
        ];
        let settled = commit!(stage.store, db => stage.store.settle(db, worker, answers));
        assert_eq!((settled.deferred.len(), settled.ended.len()), (1, 2));
        let mut states = Vec::new();
        for claim in &claims {
            states.push(stage.state_of(claim.fence.task).await);
        }
        assert_eq!(states, ["deferred", "cancelled", "succeeded", "running"]);
    }
);
