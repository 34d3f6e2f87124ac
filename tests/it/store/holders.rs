//! Replicas: leases, what the gone leave behind, and who is gone.

use std::{collections::HashSet, time::Duration};

use reveille::{
    Priority, Retry, defer,
    id::Incarnation,
    store::{
        Scope,
        task::{self, MOST_CRASHES, Over},
        trigger,
    },
    task::End,
    trigger::{Event, Receipt},
};
use serde_json::json;

use crate::stage::{Fake, OtherFake, Stage, lease, scope, work};

const MINUTE: Duration = Duration::from_mins(1);

impl Stage {
    pub(super) async fn rescue(&self, who: Incarnation) -> usize {
        commit!(self.store, db => self.store.rescue(db, who, 100)).0
    }
}

both!(
    async fn what_is_urgent_is_leased_first_and_then_what_is_due_longest(stage: Stage) {
        let mut ids = Vec::new();
        for (queue, priority) in [
            ("a", Priority::Low),
            ("a", Priority::Normal),
            ("b", Priority::Normal),
            ("a", Priority::Normal),
            ("b", Priority::Urgent),
            ("c", Priority::High),
            ("a", Priority::High),
        ] {
            stage.turn(MINUTE);
            let task = work().queue(queue).priority(priority).when(defer(Fake::default()));
            ids.push(stage.store.enqueue(task).await.unwrap());
        }
        let triggerer = stage.triggerer().await;
        let mut leased = Vec::new();
        for _ in 0..7 {
            leased.extend(stage.leased(triggerer, 1).await);
        }
        let expected: Vec<_> = [4, 5, 6, 1, 2, 3, 0].into_iter().map(|at: usize| ids[at]).collect();
        assert_eq!(leased, expected);
    }
);

both!(
    async fn no_more_is_leased_than_asked_for(stage: Stage) {
        for queue in ["a", "b", "c"] {
            for _ in 0..4 {
                stage.store.enqueue(work().queue(queue).when(defer(Fake::default()))).await.unwrap();
                stage.store.enqueue(work().queue(queue).when(defer(OtherFake {}))).await.unwrap();
            }
        }
        let (first, second) = (stage.triggerer().await, stage.triggerer().await);
        let scope = scope(&["fake", "other_fake"]);
        let lease = async |who, limit| commit!(stage.store, db => lease(db, who, &scope, stage.now(), limit)).len();
        assert_eq!(lease(first, 5).await, 5);
        assert_eq!(commit!(stage.store, db => trigger::held(db, first, &HashSet::new())).missing.len(), 5);
        // What a gone holder left behind counts against the limit, and what is free tops it up.
        stage.leave(first).await;
        assert_eq!(lease(second, 7).await, 7);
        assert_eq!(lease(second, 0).await, 0);
        assert_eq!(lease(second, 100).await, 17);
    }
);

both!(
    async fn no_more_is_taken_over_than_asked_for(stage: Stage) {
        for _ in 0..5 {
            stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        }
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(gone, 5).await.len(), 5);
        stage.lose(gone).await;
        for expected in [2, 2, 1, 0] {
            assert_eq!(stage.leased(next, 2).await.len(), expected);
        }
    }
);

both!(
    async fn a_dormant_trigger_is_not_leased_before_it_wakes(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let triggerer = stage.triggerer().await;
        assert_eq!(stage.leased(triggerer, 10).await, [fence.task]);
        commit!(stage.store, db => trigger::release(db, triggerer, &[trigger::Release { fence, wake_at: stage.now() + 60_000, known: 0 }]));
        assert!(commit!(stage.store, db => trigger::held(db, triggerer, &HashSet::new())).fences.is_empty());
        stage.turn(MINUTE - Duration::from_millis(1));
        assert!(stage.leased(triggerer, 10).await.is_empty());
        stage.turn(Duration::from_millis(1));
        assert_eq!(stage.leased(triggerer, 10).await, [fence.task]);
    }
);

both!(
    async fn a_trigger_is_released_by_its_holder_alone(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(holder, 10).await, [fence.task]);
        let mut older = fence;
        older.generation -= 1;
        commit!(stage.store, db => trigger::release(db, other, &[trigger::Release { fence, wake_at: 0, known: 0 }]));
        commit!(stage.store, db => trigger::release(db, holder, &[trigger::Release { fence: older, wake_at: 0, known: 0 }]));
        let held = commit!(stage.store, db => trigger::held(db, holder, &HashSet::new()));
        assert_eq!(
            held.missing.iter().map(|lease| (lease.fence, lease.wake_at)).collect::<Vec<_>>(),
            [(fence, stage.now())]
        );
    }
);

both!(
    async fn a_passive_wait_is_never_leased(stage: Stage) {
        stage.deferred_on(reveille::wait::Timer::after(Duration::ZERO)).await;
        stage.deferred_on(reveille::wait::Signal::new("k")).await;
        let triggerer = stage.triggerer().await;
        let leases = commit!(stage.store, db => lease(db, triggerer, &scope(&["timer", "signal"]), stage.now(), 10));
        assert!(leases.is_empty());
    }
);

both!(
    async fn a_queue_that_is_not_served_and_a_row_set_aside_stay_untouched(stage: Stage) {
        let task = stage.store.enqueue(work().queue("here").when(defer(Fake::default()))).await.unwrap();
        let (gone, triggerer) = (stage.triggerer().await, stage.triggerer().await);
        let lease = async |queues: Option<&[&str]>, aside: bool| {
            let scope = Scope {
                queues: queues.map(|queues| queues.iter().map(|&queue| queue.to_owned()).collect()),
                aside: if aside { vec![task] } else { Vec::new() },
                ..scope(&["fake"])
            };
            commit!(stage.store, db => lease(db, triggerer, &scope, stage.now(), 10)).len()
        };
        assert_eq!(lease(Some(&["there"]), false).await, 0);
        assert_eq!(lease(None, true).await, 0);
        assert_eq!(stage.leased(gone, 10).await, [task]);
        stage.leave(gone).await;
        assert_eq!(lease(Some(&["there"]), false).await, 0);
        assert_eq!(lease(None, true).await, 0);
        assert_eq!(lease(Some(&["here"]), false).await, 1);
    }
);

both!(
    async fn a_triggerer_that_is_gone_is_given_nothing(stage: Stage) {
        let held = stage.deferred_on(Fake::default()).await;
        let (holder, gone) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(holder, 10).await, [held.task]);
        stage.deferred_on(Fake::default()).await;
        stage.leave(holder).await;
        stage.lose(gone).await;
        assert!(stage.leased(gone, 10).await.is_empty());
        assert!(stage.leased(holder, 10).await.is_empty());
        assert!(stage.leased(Incarnation::mint(), 10).await.is_empty());
    }
);

both!(
    async fn what_a_live_holder_has_is_not_taken(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (holder, other) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(holder, 10).await, [fence.task]);
        stage.turn(Duration::from_hours(1_000));
        assert!(stage.leased(other, 10).await.is_empty());
        assert!(stage.leased(holder, 10).await.is_empty(), "what I hold is not given to me twice");
    }
);

both!(
    async fn what_the_gone_leave_behind_is_taken_over_and_only_losses_count(stage: Stage) {
        let tasks = [stage.deferred_on(Fake::default()).await, stage.deferred_on(Fake::default()).await];
        let (lost, left, next) = (stage.triggerer().await, stage.triggerer().await, stage.triggerer().await);
        assert_eq!(stage.leased(lost, 1).await, [tasks[0].task]);
        assert_eq!(stage.leased(left, 1).await, [tasks[1].task]);
        stage.lose(lost).await;
        stage.leave(left).await;
        let deaths = |leases: Vec<trigger::Lease>| {
            let mut deaths: Vec<_> = leases.iter().map(|lease| (lease.fence, lease.deaths)).collect();
            deaths.sort();
            deaths
        };
        assert_eq!(deaths(stage.leases(next, 10).await), [(tasks[0], 1), (tasks[1], 0)]);
        assert_eq!(
            deaths(commit!(stage.store, db => trigger::held(db, next, &HashSet::new())).missing),
            [(tasks[0], 1), (tasks[1], 0)]
        );
        assert!(commit!(stage.store, db => trigger::held(db, lost, &HashSet::new())).fences.is_empty());
        stage.lose(next).await;
        let last = stage.triggerer().await;
        assert_eq!(deaths(stage.leases(last, 10).await), [(tasks[0], 2), (tasks[1], 1)]);
    }
);

both!(
    async fn a_dormant_trigger_that_was_not_yet_released_is_taken_over(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        stage.leased(gone, 10).await;
        stage.meddle("update reveille_trigger set wake_at = wake_at + 1000000").await;
        stage.leave(gone).await;
        assert_eq!(stage.leased(next, 10).await, [fence.task]);
    }
);

both!(
    async fn a_kind_that_is_not_asked_for_is_not_taken_over(stage: Stage) {
        stage.store.enqueue(work().when(defer(OtherFake {}))).await.unwrap();
        let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
        assert_eq!(commit!(stage.store, db => lease(db, gone, &scope(&["other_fake"]), stage.now(), 10)).len(), 1);
        stage.lose(gone).await;
        assert!(stage.leases(next, 10).await.is_empty());
        assert_eq!(commit!(stage.store, db => trigger::held(db, gone, &HashSet::new())).fences.len(), 1);
    }
);

on_postgres!(
    async fn a_lease_that_commits_after_its_replica_was_declared_gone_is_taken_over(stage: Stage) {
        let fence = stage.deferred_on(Fake::default()).await;
        let (late, next) = (stage.triggerer().await, stage.triggerer().await);
        let mut tx = stage.store.begin().await.unwrap();
        let leases = within!(tx, db => lease(db, late, &scope(&["fake"]), stage.now(), 10));
        assert_eq!(leases.len(), 1);
        stage.lose(late).await;
        assert!(stage.leased(next, 10).await.is_empty(), "it is locked, and nobody waits for it");
        tx.commit().await.unwrap();
        assert_eq!(stage.leased(next, 10).await, [fence.task]);
    }
);

both!(
    async fn the_tasks_of_a_worker_that_is_gone_are_ready_again(stage: Stage) {
        let (lost, left, live) = (stage.worker().await, stage.worker().await, stage.worker().await);
        let ids = [stage.enqueue().await, stage.enqueue().await, stage.enqueue().await];
        let claims = [stage.claim(lost).await, stage.claim(left).await, stage.claim(live).await];
        assert_eq!(stage.rescue(live).await, 0);
        stage.lose(lost).await;
        stage.leave(left).await;
        assert_eq!(stage.rescue(live).await, 2);
        assert_eq!(stage.rescue(live).await, 0);
        for (id, crashes, why) in [(ids[0], 1, "crashed"), (ids[1], 0, "released")] {
            let whole = stage.whole(id).await;
            assert_eq!(
                (whole.brief.state.as_str(), whole.crashes, whole.brief.attempt, whole.holder),
                ("ready", crashes, 1, None)
            );
            assert_eq!(whole.history.last().map(|t| (t.why.as_str(), t.who)), Some((why, Some(live.0))));
        }
        assert_eq!(stage.state_of(ids[2]).await, "running");
        // The zombie is told by every answer.
        let end = End::succeeded(json!(1));
        assert!(!stage.finish(lost, &claims[0], &end).await);
        assert!(!stage.defers(lost, stage.deferring(claims[0].fence, &defer(Fake::default()))).await);
        let again = stage.claim(live).await;
        assert_eq!((again.fence.task, again.crashes), (ids[0], 1));
        assert!(!stage.finish(lost, &claims[0], &end).await);
        assert!(stage.finish(live, &again, &end).await);
    }
);

both!(
    async fn a_zombie_ends_nothing_before_the_rescue_either(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let other = stage.worker().await;
        assert!(!stage.finish(other, &claim, &End::succeeded(json!(1))).await, "another holds it");
        stage.lose(worker).await;
        assert!(!stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
        assert_eq!(stage.state_of(task).await, "running");
    }
);

both!(
    async fn a_task_that_keeps_losing_workers_is_a_dead_letter(stage: Stage) {
        let task = stage.store.enqueue(work().retry(Retry { max_attempts: 100, ..Retry::default() })).await.unwrap();
        let live = stage.worker().await;
        for crash in 1..=MOST_CRASHES {
            let worker = stage.worker().await;
            assert_eq!(stage.claim(worker).await.crashes, crash - 1);
            stage.lose(worker).await;
            let (count, ended) = commit!(stage.store, db => stage.store.rescue(db, live, 100));
            assert_eq!((count, ended.iter().any(|over| over.task == task)), (1, crash == MOST_CRASHES));
        }
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.history.last().unwrap().why.as_str()), ("failed", "crashed"));
    }
);

both!(
    async fn a_task_that_was_cancelled_while_its_worker_was_lost_is_cancelled(stage: Stage) {
        let (lost, live) = (stage.worker().await, stage.worker().await);
        let task = stage.enqueue().await;
        stage.claim(lost).await;
        stage.store.cancel(task, "no").await.unwrap();
        stage.lose(lost).await;
        let rescued = commit!(stage.store, db => stage.store.rescue(db, live, 100));
        assert_eq!(rescued, (1, vec![Over { task, slot: None }]));
        assert_eq!(stage.state_of(task).await, "cancelled");
    }
);

both!(
    async fn no_more_is_rescued_than_asked_for(stage: Stage) {
        let (lost, live) = (stage.worker().await, stage.worker().await);
        for _ in 0..5 {
            stage.enqueue().await;
        }
        stage.claims(lost, 5).await;
        stage.lose(lost).await;
        for expected in [2, 2, 1, 0] {
            assert_eq!(commit!(stage.store, db => stage.store.rescue(db, live, 2)).0, expected);
        }
    }
);

both!(
    async fn an_end_in_the_slot_of_a_trigger_needs_no_lease(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.fire(triggerer, fence, Event::succeed(1).unwrap()).await, Receipt::Accepted);
        assert!(commit!(stage.store, db => task::held(db, triggerer)).is_empty());
    }
);
