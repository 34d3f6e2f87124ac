//! Claiming: who is given what, and in which order.

use std::time::Duration;

use reveille::{
    NewTask, Priority,
    clock::timestamp,
    store::{Scope, queue, task},
    task::End,
    trigger::Event,
};
use serde_json::json;

use crate::stage::{Fake, Stage, scope, work};

const SECOND: Duration = Duration::from_secs(1);

both!(
    async fn what_is_urgent_goes_first_and_then_what_is_oldest(stage: Stage) {
        let mut ids = Vec::new();
        for (queue, name, priority) in [
            ("b", "low", Priority::Low),
            ("a", "work", Priority::Normal),
            ("b", "work", Priority::Normal),
            ("a", "low", Priority::Normal),
            ("a", "low", Priority::Urgent),
            ("b", "work", Priority::High),
            ("a", "work", Priority::Urgent),
        ] {
            stage.turn(SECOND);
            ids.push(
                stage.store.enqueue(NewTask::named(name, json!(0)).queue(queue).priority(priority)).await.unwrap(),
            );
        }
        let expected: Vec<_> = [4, 6, 5, 1, 2, 3, 0].into_iter().map(|at: usize| ids[at]).collect();
        let worker = stage.worker().await;
        let claim = async |limit| {
            let scope = scope(&["low", "work"]);
            let claims = commit!(stage.store, db => task::claim(db, worker, &scope, stage.now(), limit)).mine;
            claims.iter().map(|claim| claim.fence.task).collect::<Vec<_>>()
        };
        let (one, two, rest) = (claim(1).await, claim(2).await, claim(10).await);
        assert_eq!((one.len(), two.len()), (1, 2));
        assert_eq!([one, two, rest].concat(), expected);
    }
);

both!(
    async fn a_limit_is_kept(stage: Stage) {
        for name in ["a", "b", "c"] {
            for _ in 0..4 {
                stage.store.enqueue(NewTask::named(name, json!(0)).queue(name)).await.unwrap();
            }
        }
        let worker = stage.worker().await;
        let claims = commit!(stage.store, db => task::claim(db, worker, &scope(&["a", "b", "c"]), stage.now(), 5)).mine;
        assert_eq!(claims.len(), 5);
        assert_eq!(commit!(stage.store, db => task::held(db, worker)).len(), 5);
    }
);

both!(
    async fn what_resumes_goes_before_what_is_newer(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        stage.turn(SECOND);
        let newer = stage.enqueue().await;
        stage.turn(SECOND);
        stage.fire(triggerer, fence, Event::resume(()).unwrap()).await;
        let worker = stage.worker().await;
        assert_eq!(stage.claimed(worker, 10).await, [fence.task, newer]);
    }
);

both!(
    async fn what_is_retried_goes_before_what_is_newer(stage: Stage) {
        let worker = stage.worker().await;
        let first = stage.enqueue().await;
        stage.turn(SECOND);
        let claim = stage.claim(worker).await;
        let newer = stage.enqueue().await;
        assert!(stage.defers(worker, stage.again(&claim, 2, reveille::store::history::Why::Retry, stage.now())).await);
        assert_eq!(stage.fire_due(worker).await, 1);
        assert_eq!(stage.claimed(worker, 10).await, [first, newer]);
    }
);

both!(
    async fn a_paused_queue_is_not_claimed_from_until_it_goes_on(stage: Stage) {
        let (paused, free) = (stage.enqueue().await, stage.store.enqueue(work().queue("free")).await.unwrap());
        assert!(stage.store.set_paused("default", Some(stage.now())).await.unwrap());
        let worker = stage.worker().await;
        assert_eq!(stage.claimed(worker, 10).await, [free]);
        assert!(stage.store.set_paused("default", None).await.unwrap());
        assert_eq!(stage.claimed(worker, 10).await, [paused]);
        assert!(!stage.store.set_paused("nowhere", None).await.unwrap());
    }
);

both!(
    async fn pausing_twice_keeps_the_first_time(stage: Stage) {
        stage.enqueue().await;
        for at in [1, 2] {
            assert!(stage.store.set_paused("default", Some(at)).await.unwrap());
        }
        let mut tx = stage.store.read().await.unwrap();
        let queues = queue::list(&mut tx.db()).await.unwrap();
        assert_eq!(
            queues.iter().map(|q| (q.name.as_str(), q.paused_at, q.ready)).collect::<Vec<_>>(),
            [("default", Some(1), 1)]
        );
    }
);

both!(
    async fn a_name_or_a_queue_that_is_not_asked_for_stays_untouched(stage: Stage) {
        let task = stage.store.enqueue(work().queue("here")).await.unwrap();
        let worker = stage.worker().await;
        let claim = async |names: &[&str], queues: Option<&[&str]>| {
            let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            let scope = Scope { queues: queues.map(words), kinds: words(names), aside: Vec::new() };
            commit!(stage.store, db => task::claim(db, worker, &scope, stage.now(), 10)).mine.len()
        };
        assert_eq!(claim(&["other", "worker", "wor"], None).await, 0);
        assert_eq!(claim(&[], None).await, 0);
        assert_eq!(claim(&["work"], Some(&[])).await, 0);
        assert_eq!(claim(&["work"], Some(&["there"])).await, 0);
        assert_eq!((stage.state_of(task).await, stage.whole(task).await.generation), ("ready".to_owned(), 0));
        assert_eq!(claim(&["other", "work"], Some(&["there", "here"])).await, 1);
    }
);

both!(
    async fn what_is_set_aside_is_left_to_others(stage: Stage) {
        let (unreadable, next) = (stage.enqueue().await, stage.enqueue().await);
        let worker = stage.worker().await;
        let aside = Scope { aside: vec![unreadable], ..scope(&["work"]) };
        let claims = commit!(stage.store, db => task::claim(db, worker, &aside, stage.now(), 10)).mine;
        assert_eq!(claims.iter().map(|claim| claim.fence.task).collect::<Vec<_>>(), [next]);
        assert_eq!(stage.claimed(worker, 10).await, [unreadable]);
    }
);

both!(
    async fn a_delayed_task_is_not_seen_before_its_time(stage: Stage) {
        let worker = stage.worker().await;
        let at = stage.store.enqueue(work().at(timestamp(stage.now() + 1_000))).await.unwrap();
        let after = stage.store.enqueue(work().after(2 * SECOND)).await.unwrap();
        assert_eq!(
            (stage.state_of(at).await, stage.whole(at).await.brief.wake_at),
            ("deferred".to_owned(), Some(stage.now() + 1_000))
        );
        for (id, early) in [(at, 999), (after, 999)] {
            stage.turn(Duration::from_millis(early));
            assert_eq!(stage.fire_due(worker).await, 0);
            assert!(stage.claims(worker, 10).await.is_empty());
            stage.turn(Duration::from_millis(1));
            assert_eq!(stage.fire_due(worker).await, 1);
            let claim = stage.claim(worker).await;
            assert_eq!((claim.fence.task, claim.turn, claim.attempt), (id, 0, 1));
            assert_eq!(stage.history_of(id).await, ["enqueued", "due", "claimed"]);
            assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        }
    }
);

both!(
    async fn a_worker_that_is_gone_is_given_nothing(stage: Stage) {
        let task = stage.enqueue().await;
        let (left, lost) = (stage.worker().await, stage.worker().await);
        stage.leave(left).await;
        stage.lose(lost).await;
        assert!(stage.claims(left, 10).await.is_empty());
        assert!(stage.claims(lost, 10).await.is_empty());
        assert!(stage.claims(reveille::id::Incarnation::mint(), 10).await.is_empty());
        assert_eq!(stage.state_of(task).await, "ready");
    }
);

both!(
    async fn what_is_held_is_told(stage: Stage) {
        let (mine, theirs) = (stage.worker().await, stage.worker().await);
        for _ in 0..3 {
            stage.enqueue().await;
        }
        let mut claims = stage.claims(mine, 2).await;
        stage.claims(theirs, 2).await;
        let held = async || {
            let mut held = commit!(stage.store, db => task::held(db, mine));
            held.sort_by_key(|held| held.fence);
            held.into_iter().map(|held| (held.fence, held.cancelled)).collect::<Vec<_>>()
        };
        claims.sort_by_key(|claim| claim.fence);
        assert_eq!(held().await, [(claims[0].fence, false), (claims[1].fence, false)]);
        stage.store.cancel(claims[0].fence.task, "no").await.unwrap();
        assert_eq!(held().await, [(claims[0].fence, true), (claims[1].fence, false)]);
        stage.finish(mine, &claims[0], &End::cancelled("no")).await;
        assert_eq!(held().await, [(claims[1].fence, false)]);
    }
);

both!(
    async fn what_is_put_back_is_as_it_was(stage: Stage) {
        let (worker, other) = (stage.worker().await, stage.worker().await);
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        commit!(stage.store, db => task::put_back(db, other, stage.now(), &[claim.fence]));
        assert_eq!(stage.state_of(task).await, "running", "it is not the other's");
        commit!(stage.store, db => task::put_back(db, worker, stage.now(), &[claim.fence]));
        let whole = stage.whole(task).await;
        assert_eq!(
            (whole.brief.state.as_str(), whole.brief.attempt, whole.crashes, whole.holder),
            ("ready", 1, 0, None)
        );
        assert_eq!(stage.history_of(task).await, ["enqueued", "claimed", "released"]);

        let again = stage.claim(other).await;
        assert!(again.fence.generation > claim.fence.generation);
        assert!(!stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
    }
);

both!(
    async fn a_task_that_was_claimed_by_nobody_live_is_claimed_once(stage: Stage) {
        let task = stage.enqueue().await;
        let workers = [stage.worker().await, stage.worker().await, stage.worker().await];
        let claims = futures::future::join_all(workers.map(|worker| stage.claims(worker, 10))).await;
        assert_eq!(claims.concat().iter().map(|claim| claim.fence.task).collect::<Vec<_>>(), [task]);
    }
);

on_postgres!(
    async fn claimers_in_step_each_get_their_own(stage: Stage) {
        for _ in 0..10 {
            stage.enqueue().await;
        }
        let mut open = Vec::new();
        let mut claimed = std::collections::HashSet::new();
        for _ in 0..10 {
            let worker = stage.worker().await;
            let mut tx = stage.store.begin().await.unwrap();
            let claims = within!(tx, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 1)).mine;
            claimed.extend(claims.iter().map(|claim| claim.fence.task));
            open.push(tx);
        }
        assert_eq!(claimed.len(), 10, "a claimer came away with nothing while there was something to claim");
    }
);
