//! Two sessions at once on PostgreSQL, held at the worst moment. SQLite has one writer, so none of these can happen there.

use std::time::Duration;

use futures::future::{join, join_all};
use reveille::{
    Retry, defer,
    id::{Fence, Incarnation, TaskId},
    store::{
        Db, Tx, Verdict,
        event::Firing,
        history::Why,
        replica::{self, Beat},
        signal::Signal,
        task::{self, Cancelled},
        trigger,
    },
    task::{End, TaskState, WaitFailed, WaitFailure},
    trigger::{Event, Receipt},
    wait,
};
use serde_json::json;

use crate::stage::{Fake, Stage, lease, scope, work};

impl Stage {
    /// Tasks that wait on active triggers which one triggerer holds.
    pub(super) async fn held(&self, count: usize) -> (Incarnation, Vec<Fence>) {
        let tasks = (0..count).map(|_| work().when(defer(Fake::default())).retry(Retry::NEVER)).collect();
        let ids = self.store.enqueue_all(tasks).await.unwrap();
        let holder = self.triggerer().await;
        assert_eq!(self.leases(holder, count).await.len(), count);
        (holder, ids.into_iter().map(|task| Fence { task, generation: 0 }).collect())
    }

    pub(super) async fn fires(&self, batch: Vec<Firing>) -> Vec<Receipt> {
        let mut tx = self.begin().await;
        let receipts = self.store.fire(&mut tx.db(), &batch).await.unwrap().0;
        tx.commit().await.unwrap();
        receipts
    }

    /// Runs `second` until it waits for a lock that `first` holds, commits `first`, and lets `second` end.
    async fn overtaken<T>(&self, first: Tx, second: impl Future<Output = T>) -> T {
        let commit = async {
            self.blocked(1).await;
            first.commit().await.unwrap();
        };
        join(second, commit).await.0
    }
}

pub(super) fn accepted(receipts: &[Receipt]) -> usize {
    receipts.iter().filter(|receipt| **receipt == Receipt::Accepted).count()
}

on_postgres!(
    async fn a_signal_and_a_wait_at_once_meet_once_whoever_commits_first(stage: Stage) {
        let keys = ["signal:k".to_owned()];
        for signal_first in [true, false] {
            let worker = stage.worker().await;
            let task = stage.enqueue().await;
            let claim = stage.claim(worker).await;
            let (mut sending, mut waiting) = (stage.begin().await, stage.begin().await);
            within!(sending, db => stage.store.signal_in(db, &Signal::new("k", 1)));
            let deferring = stage.deferring(claim.fence, &defer(wait::Signal::new("k")));
            assert_eq!(within!(waiting, db => task::defer(db, worker, stage.now(), &[deferring])).len(), 1);

            let mut resumed = 0;
            for tx in if signal_first { [sending, waiting] } else { [waiting, sending] } {
                assert_eq!(resumed, 0, "only what has committed is matched");
                tx.commit().await.unwrap();
                resumed += stage.store.match_keys(&keys, None).await.unwrap();
            }
            assert_eq!((resumed, stage.state_of(task).await), (1, "ready".to_owned()));
            assert_eq!(stage.store.match_keys(&keys, None).await.unwrap(), 0);
            let claim = stage.claim(worker).await;
            assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        }
    }
);

on_postgres!(
    async fn an_end_and_a_wait_for_it_at_once_meet_once_whoever_commits_first(stage: Stage) {
        for end_first in [true, false] {
            let worker = stage.worker().await;
            let (awaited, task) = (stage.enqueue().await, stage.enqueue().await);
            let claims = [stage.claim(worker).await, stage.claim(worker).await];
            let (mut ending, mut waiting) = (stage.begin().await, stage.begin().await);
            let end = stage.ending(worker, &claims[0], &End::succeeded(json!(1)));
            within!(ending, db => task::end(db, stage.now(), &[end]));
            let deferring = stage.deferring(claims[1].fence, &defer(wait::TaskEnd::of(awaited.0)));
            within!(waiting, db => task::defer(db, worker, stage.now(), &[deferring]));

            for tx in if end_first { [ending, waiting] } else { [waiting, ending] } {
                assert_ne!(stage.state_of(task).await, "ready", "only what has committed is matched");
                tx.commit().await.unwrap();
                stage.store.match_keys(&[format!("task:{awaited}")], None).await.unwrap();
            }
            assert_eq!(stage.state_of(task).await, "ready");
            assert_eq!(stage.history_of(task).await.iter().filter(|why| *why == "task").count(), 1);
            let claim = stage.claim(worker).await;
            assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        }
    }
);

on_postgres!(
    async fn many_who_match_one_key_deliver_a_signal_once(stage: Stage) {
        let waits = (0..50).map(|_| work().when(defer(wait::Signal::new("k")))).collect();
        stage.store.enqueue_all(waits).await.unwrap();
        for _ in 0..2 {
            commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", 1)));
        }
        let keys = ["signal:k".to_owned()];
        let matched = join_all((0..10).map(|_| stage.store.match_keys(&keys, None))).await;
        assert_eq!(matched.into_iter().map(Result::unwrap).sum::<usize>(), 50);
        stage.store.enqueue(work().when(defer(wait::Signal::new("k")))).await.unwrap();
        assert_eq!(stage.claims(stage.worker().await, 100).await.len(), 51, "the second was kept for who came next");
    }
);

on_postgres!(
    async fn a_signal_that_is_being_taken_is_not_taken_again(stage: Stage) {
        commit!(stage.store, db => stage.store.signal_in(db, &Signal::new("k", 1)));
        let first = stage.deferred_on(wait::Signal::new("k")).await;
        // Somebody has looked and holds the signal.
        let mut tx = stage.begin().await;
        let Db::Postgres(c) = tx.db() else { unreachable!() };
        sqlx::query("update reveille_signal set taken_at = 1").execute(c).await.unwrap();
        let keys = ["signal:k".to_owned()];
        assert_eq!(stage.overtaken(tx, stage.store.match_keys(&keys, None)).await.unwrap(), 0);
        assert_eq!(stage.state_of(first.task).await, "deferred");
    }
);

on_postgres!(
    async fn of_two_events_at_once_one_decides(stage: Stage) {
        let (holder, fences) = stage.held(1).await;
        let firing = |payload| vec![Firing { fence: fences[0], event: Event::resume(payload).unwrap().into(), holder }];
        let mut first = stage.begin().await;
        let receipts = within!(first, db => stage.store.fire(db, &firing("first"))).0;
        assert_eq!(receipts, [Receipt::Accepted]);
        assert_eq!(stage.overtaken(first, stage.fires(firing("second"))).await, [Receipt::Refused]);
        assert_eq!(stage.payload_of(fences[0].task).await, json!("first"));
    }
);

on_postgres!(
    async fn an_event_that_comes_while_the_task_is_cancelled_is_refused(stage: Stage) {
        let (holder, fences) = stage.held(1).await;
        let mut first = stage.begin().await;
        let Fence { task, generation } = fences[0];
        let end = stage
            .store
            .ending(Fence { task, generation }, TaskState::Deferred, &End::cancelled("no"), Why::Cancelled)
            .unwrap();
        within!(first, db => task::end(db, stage.now(), &[end]));
        let firing = Firing { fence: fences[0], event: Event::resume(1).unwrap().into(), holder };
        assert_eq!(stage.overtaken(first, stage.fires(vec![firing])).await, [Receipt::Refused]);
        assert_eq!(stage.state_of(task).await, "cancelled");
        assert_eq!(stage.count("select count(*) from reveille_undo where task_id = $1", task.0).await, 1);
    }
);

on_postgres!(
    async fn a_verdict_that_comes_while_the_trigger_is_taken_over_is_refused(stage: Stage) {
        let failed = WaitFailed { reason: WaitFailure::Fatal, message: "no".to_owned() };
        for (deferral, retry, skips) in [
            (defer(Fake::default()), Retry::default(), false),
            (defer(Fake::default()), Retry::NEVER, false),
            (defer(Fake::default()).or_resume(), Retry::NEVER, false),
            (defer(Fake::default()), Retry::NEVER, true),
        ] {
            let task = stage.store.enqueue(work().when(deferral).retry(retry)).await.unwrap();
            let fence = Fence { task, generation: 0 };
            let (gone, next) = (stage.triggerer().await, stage.triggerer().await);
            assert_eq!(stage.leased(gone, 10).await, [task]);
            let mut taking = stage.begin().await;
            let beat = Beat { incarnation: gone, beat: 0 };
            assert!(within!(taking, db => replica::declare_gone(db, beat, stage.now())));
            let leases = within!(taking, db => lease(db, next, &scope(&["fake"]), stage.now(), 10));
            assert_eq!(leases.len(), 1);
            let verdict = async {
                if skips {
                    return stage.fire(gone, fence, Event::skip("no")).await == Receipt::Accepted;
                }
                let verdict = Verdict { fence, failed: failed.clone(), holder: Some(gone), event: None };
                let struck = commit!(stage.store, db => stage.store.fail_waits(db, Some(gone), vec![verdict]));
                !struck.accepted.is_empty()
            };
            assert!(!stage.overtaken(taking, verdict).await);
            assert_eq!(stage.state_of(task).await, "deferred");
            assert_eq!(stage.fire(next, fence, Event::succeed(1).unwrap()).await, Receipt::Accepted);
        }
    }
);

on_postgres!(
    async fn a_cancellation_that_comes_while_the_task_moves_finds_it_where_it_is_then(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let mut claiming = stage.begin().await;
        assert_eq!(within!(claiming, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 1)).mine.len(), 1);
        let cancelled = stage.overtaken(claiming, stage.store.cancel(task, "no")).await.unwrap();
        assert_eq!((cancelled, stage.state_of(task).await), (Cancelled::Asked, "running".to_owned()));

        let claim = task::held(&mut stage.begin().await.db(), worker).await.unwrap()[0];
        let mut ending = stage.begin().await;
        let end =
            stage.store.ending(claim.fence, TaskState::Running, &End::succeeded(json!(1)), Why::Finished).unwrap();
        within!(ending, db => task::end(db, stage.now(), &[end]));
        let cancelled = stage.overtaken(ending, stage.store.cancel(task, "no")).await.unwrap();
        assert_eq!((cancelled, stage.state_of(task).await), (Cancelled::Ended, "succeeded".to_owned()));
    }
);

on_postgres!(
    async fn a_deferral_that_comes_while_the_task_is_called_off_is_refused(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let mut asking = stage.begin().await;
        let Db::Postgres(c) = asking.db() else { unreachable!() };
        sqlx::query("update reveille_task set cancel_requested_at = 1").execute(c).await.unwrap();
        let deferring = stage.deferring(claim.fence, &defer(Fake::default()));
        assert!(!stage.overtaken(asking, stage.defers(worker, deferring)).await);
        assert_eq!(stage.state_of(task).await, "running");
    }
);

on_postgres!(
    async fn a_task_enqueued_again_while_it_ends_stays_ended(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let mut ending = stage.begin().await;
        let end = stage.ending(worker, &claim, &End::succeeded(json!(1)));
        within!(ending, db => task::end(db, stage.now(), &[end]));
        // It is there, and nobody has to wait to know that.
        assert_eq!(stage.store.enqueue(work().id(task)).await.unwrap(), task);
        ending.commit().await.unwrap();
        assert_eq!(stage.store.enqueue(work().id(task)).await.unwrap(), task);
        assert_eq!(stage.state_of(task).await, "succeeded");
        assert!(stage.claims(worker, 10).await.is_empty(), "it would run twice");
    }
);

on_postgres!(
    async fn enqueuing_what_is_there_holds_up_nobody(stage: Stage) {
        let worker = stage.worker().await;
        let task = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        let over = stage.store.enqueue(work().dedupe_within("w", Duration::from_secs(1))).await.unwrap();
        let mut calling = stage.begin().await;
        let again = vec![work().id(task), work().dedupe("k"), work().dedupe_within("w", Duration::from_secs(9))];
        let known = within!(calling, db => stage.store.enqueue_in(db, again));
        assert_eq!(known, [task, task, over]);

        // The caller goes on with something else, and its transaction stays open.
        for claim in stage.claims(worker, 10).await {
            assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        }
        let next = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        assert_ne!(next, task, "the key is free with the end of its task");
        stage.turn(Duration::from_secs(1));
        assert_ne!(stage.store.enqueue(work().dedupe_within("w", Duration::from_secs(9))).await.unwrap(), over);
        calling.commit().await.unwrap();
        assert_eq!(stage.claims(worker, 10).await.len(), 2);
    }
);

on_postgres!(
    async fn one_id_from_two_at_once_is_one_task_whatever_becomes_of_the_first(stage: Stage) {
        for (commits, ends) in [(true, false), (true, true), (false, false)] {
            let (id, worker) = (TaskId::mint(), stage.worker().await);
            let mut first = stage.begin().await;
            within!(first, db => stage.store.enqueue_in(db, vec![work().id(id)]));
            if ends {
                let claims = within!(first, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 1)).mine;
                let end = stage.ending(worker, &claims[0], &End::succeeded(json!(0)));
                within!(first, db => task::end(db, stage.now(), &[end]));
            }
            stage.turn(Duration::from_millis(1));
            let over = async {
                stage.blocked(1).await;
                if commits { first.commit().await.unwrap() } else { drop(first) }
            };
            let (second, ()) = join(stage.store.enqueue(work().id(id).dedupe("k")), over).await;
            assert_eq!(second.unwrap(), id);

            let expected: &[&str] = if ends { &["enqueued", "claimed", "finished"] } else { &["enqueued"] };
            assert_eq!(stage.history_of(id).await, expected);
            let other = stage.store.enqueue(work().dedupe("k")).await.unwrap();
            assert_eq!(other == id, !commits, "what adds nothing takes no key");
            for claim in stage.claims(worker, 10).await {
                assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
            }
        }
    }
);

on_postgres!(
    async fn a_key_that_is_over_goes_to_one_of_two_at_once(stage: Stage) {
        let second = Duration::from_secs(1);
        stage.store.enqueue(work().dedupe_within("k", second)).await.unwrap();
        stage.turn(second);
        let mut first = stage.begin().await;
        let taken = within!(first, db => stage.store.enqueue_in(db, vec![work().dedupe_within("k", second)]))[0];
        let late = stage.overtaken(first, stage.store.enqueue(work().dedupe_within("k", second))).await;
        assert_eq!(late.unwrap(), taken);
    }
);

on_postgres!(
    async fn what_another_takes_over_is_not_waited_for_by_who_drops_it(stage: Stage) {
        let (second, kept) = (Duration::from_secs(1), Duration::from_hours(24));
        for key in ["k", "l"] {
            stage.store.enqueue(work().dedupe_within(key, second)).await.unwrap();
        }
        stage.turn(second);
        let mut taking = stage.begin().await;
        let taken = within!(taking, db => stage.store.enqueue_in(db, vec![work().dedupe_within("k", second)]))[0];
        stage.store.drop_old(kept).await.unwrap();
        taking.commit().await.unwrap();
        let nobody = uuid::Uuid::nil();
        assert_eq!(stage.count("select count(*) from reveille_dedupe where task_id <> $1", nobody).await, 1);
        assert_eq!(stage.store.enqueue(work().dedupe_within("k", second)).await.unwrap(), taken);
    }
);

on_postgres!(
    async fn a_key_whose_taker_undoes_its_transaction_is_free(stage: Stage) {
        for commits in [true, false] {
            let key = format!("{commits}");
            let mut first = stage.begin().await;
            let taken = stage.store.enqueue_in(&mut first.db(), vec![work().dedupe(&key)]).await.unwrap()[0];
            let finish = async {
                stage.blocked(1).await;
                if commits { first.commit().await.unwrap() } else { drop(first) }
            };
            let (second, ()) = join(stage.store.enqueue(work().dedupe(&key)), finish).await;
            assert_eq!(second.unwrap() == taken, commits);
        }
    }
);

on_postgres!(
    async fn a_lease_waits_for_nobody(stage: Stage) {
        let (holder, fences) = stage.held(1).await;
        let free = stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        let locked = stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        let mut firing = stage.begin().await;
        let events: Vec<_> = [fences[0], Fence { task: locked, generation: 0 }]
            .map(|fence| Firing { fence, event: Event::resume(1).unwrap().into(), holder })
            .into();
        within!(firing, db => stage.store.fire(db, &events));
        stage.lose(holder).await;
        let next = stage.triggerer().await;
        assert_eq!(stage.leased(next, 10).await, [free]);
        firing.commit().await.unwrap();
    }
);

on_postgres!(
    async fn two_who_fire_what_is_due_fire_each_once(stage: Stage) {
        let tasks = (0..300).map(|_| work().after(Duration::from_secs(1))).collect();
        stage.store.enqueue_all(tasks).await.unwrap();
        stage.turn(Duration::from_secs(1));
        let replicas = [stage.worker().await, stage.worker().await, stage.triggerer().await];
        let fired: usize = join_all(replicas.map(|who| stage.fire_due(who))).await.into_iter().sum();
        assert_eq!(fired + stage.fire_due(replicas[0]).await, 300);
        assert_eq!(stage.claims(replicas[0], 1_000).await.len(), 300);
    }
);

on_postgres!(
    async fn a_reading_transaction_sees_one_moment(stage: Stage) {
        let task = stage.enqueue().await;
        let mut reading = stage.store.read().await.unwrap();
        let ready = async |tx: &mut Tx| {
            let filter = reveille::store::report::Filter { limit: 10, ..Default::default() };
            reveille::store::report::list(&mut tx.db(), &filter)
                .await
                .unwrap()
                .iter()
                .map(|brief| brief.state.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut reading).await, ["ready"]);
        stage.store.cancel(task, "no").await.unwrap();
        assert_eq!(ready(&mut reading).await, ["ready"]);
        reading.commit().await.unwrap();
        assert_eq!(ready(&mut stage.store.read().await.unwrap()).await, ["cancelled"]);
    }
);

on_postgres!(
    async fn asking_what_is_held_waits_for_what_is_being_taken(stage: Stage) {
        // A claim, a lease and a take-over whose commits are under way when their replica asks.
        let worker = stage.worker().await;
        stage.enqueue().await;
        let mut claiming = stage.begin().await;
        within!(claiming, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 10));
        let held = async { commit!(stage.store, db => task::held(db, worker)).len() };
        assert_eq!(stage.overtaken(claiming, held).await, 1);

        stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        let (first, second) = (stage.triggerer().await, stage.triggerer().await);
        for (taker, before) in [(first, None), (second, Some(first))] {
            if let Some(before) = before {
                stage.lose(before).await;
            }
            let mut leasing = stage.begin().await;
            within!(leasing, db => lease(db, taker, &scope(&["fake"]), stage.now(), 10));
            let held = async {
                commit!(stage.store, db => trigger::held(db, taker, &std::collections::HashSet::new())).fences.len()
            };
            assert_eq!(stage.overtaken(leasing, held).await, 1);
        }
    }
);
