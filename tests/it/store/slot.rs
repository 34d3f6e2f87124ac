//! Concurrency keys: who gets in, who waits, and what lets them in.

use std::time::Duration;

use futures::future::join_all;
use reveille::{
    Error, NewTask, Priority, Retry, defer,
    id::{Incarnation, TaskId},
    store::{
        Db,
        history::Why,
        task::{self, Claim, Claims, Over},
    },
    task::End,
    trigger::Event,
    wait::Signal,
};
use serde_json::json;

use crate::stage::{Fake, Stage, scope, work};

fn limited(n: u32) -> NewTask {
    work().limit("api", n)
}

impl Stage {
    /// Claims as a worker does: what waits since then is matched after the commit.
    async fn claims_and_matches(&self, worker: Incarnation, limit: usize) -> Claims {
        let claims = commit!(self.store, db => task::claim(db, worker, &scope(&["work"]), self.now(), limit));
        self.store.claimed(&claims, worker).await.unwrap();
        claims
    }

    async fn adds(&self, count: usize, n: u32) -> Vec<TaskId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.store.enqueue(limited(n)).await.unwrap());
            self.turn(Duration::from_millis(1));
        }
        ids
    }

    /// Ends a task as its worker does, and what follows.
    async fn ends_under_a_key(&self, worker: Incarnation, claim: &Claim) {
        let ending = self.ending(worker, claim, &End::succeeded(json!(0)));
        let over = commit!(self.store, db => task::end(db, self.now(), &[ending]));
        assert_eq!(over, [Over { task: claim.fence.task, slot: Some("api".to_owned()) }]);
        self.store.ended(&over).await.unwrap();
    }

    async fn slots(&self) -> i64 {
        self.count("select count(*) from reveille_slot where task_id <> $1", uuid::Uuid::nil()).await
    }

    async fn states(&self, tasks: &[TaskId]) -> Vec<String> {
        join_all(tasks.iter().map(|task| self.state_of(*task))).await
    }
}

fn tasks(claims: &[Claim]) -> Vec<TaskId> {
    claims.iter().map(|claim| claim.fence.task).collect()
}

both!(
    async fn no_more_than_the_limit_are_at_work(stage: Stage) {
        let worker = stage.worker().await;
        let ids = stage.adds(5, 2).await;
        let claims = stage.claims_and_matches(worker, 10).await;
        assert_eq!(tasks(&claims.mine), ids[..2]);
        assert_eq!(claims.turned_away, ids[2..]);
        assert_eq!(claims.keys, ["slot:api"]);
        assert_eq!(stage.states(&ids).await, ["running", "running", "deferred", "deferred", "deferred"]);
        assert_eq!(stage.history_of(ids[2]).await, ["enqueued", "claimed", "full"]);
        let whole = stage.whole(ids[2]).await;
        let wait = whole.wait.unwrap();
        assert_eq!(
            (wait.kind.as_str(), wait.passive, wait.wake_at, wait.keys),
            ("slot", true, None, vec!["slot:api".to_owned()])
        );
        assert_eq!((whole.slot.unwrap().number, stage.whole(ids[1]).await.slot.unwrap().number), (None, Some(2)));

        // Whoever ends lets one in, who came first.
        stage.ends_under_a_key(worker, &claims.mine[1]).await;
        assert_eq!(stage.states(&ids).await, ["running", "succeeded", "ready", "deferred", "deferred"]);
        assert_eq!(stage.history_of(ids[2]).await, ["enqueued", "claimed", "full", "slot"]);
        assert_eq!(stage.whole(ids[2]).await.slot.unwrap().number, Some(2), "it has its slot before it is claimed");
        assert_eq!(tasks(&stage.claims_and_matches(worker, 10).await.mine), [ids[2]]);
        assert!(stage.claims_and_matches(worker, 10).await.mine.is_empty());
        assert_eq!(stage.slots().await, 2);
    }
);

both!(
    async fn a_slot_is_kept_through_waits_retries_and_crashes_until_the_end(stage: Stage) {
        let (worker, heir) = (stage.worker().await, stage.worker().await);
        let ids = stage.adds(2, 1).await;
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        let fence = stage.defer(worker, &claim, &defer(Signal::new("go"))).await;
        assert!(stage.claims_and_matches(worker, 10).await.mine.is_empty());
        stage.store.signal(reveille::store::signal::Signal::new("go", 1)).await.unwrap();
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        assert_eq!(claim.fence.task, fence.task);
        let later = stage.now() + 1_000;
        assert!(stage.defers(worker, stage.again(&claim, 2, Why::Retry, later)).await);
        stage.turn(Duration::from_secs(1));
        assert_eq!(stage.fire_due(worker).await, 1);
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        commit!(stage.store, db => task::put_back(db, worker, stage.now(), &[claim.fence]));
        stage.claims_and_matches(worker, 10).await.mine.remove(0);
        stage.lose(worker).await;
        commit!(stage.store, db => stage.store.rescue(db, heir, 10));
        assert_eq!((stage.states(&ids).await, stage.slots().await), (vec!["ready".into(), "deferred".into()], 1));
        let claim = stage.claims_and_matches(heir, 10).await.mine.remove(0);
        assert_eq!(claim.fence.task, ids[0]);
        stage.ends_under_a_key(heir, &claim).await;
        assert_eq!(tasks(&stage.claims_and_matches(heir, 10).await.mine), ids[1..]);
    }
);

both!(
    async fn whatever_ends_a_task_gives_its_slot_back(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let next = |claims: Claims| claims.mine.into_iter().next().expect("the slot is free");

        // Its worker, with a failure.
        stage.adds(7, 1).await;
        let claim = next(stage.claims_and_matches(worker, 1).await);
        let failed = stage.ending(worker, &claim, &End::failed("no"));
        let over = commit!(stage.store, db => task::end(db, stage.now(), &[failed]));
        stage.store.ended(&over).await.unwrap();
        // A trigger's event.
        let claim = next(stage.claims_and_matches(worker, 1).await);
        let fence = stage.defer(worker, &claim, &defer(Fake::default())).await;
        assert_eq!(stage.leased(triggerer, 1).await, [fence.task]);
        let firing =
            reveille::store::event::Firing { fence, event: Event::succeed(1).unwrap().into(), holder: triggerer };
        let (_, over) = commit!(stage.store, db => stage.store.fire(db, &[firing]));
        stage.store.ended(&over).await.unwrap();
        // A deadline.
        let claim = next(stage.claims_and_matches(worker, 1).await);
        let deferral = defer(Signal::new("never")).deadline(Duration::from_secs(1));
        let fence = stage.defer(worker, &claim, &deferral).await;
        let late = |fence| reveille::store::Verdict {
            fence,
            failed: reveille::WaitFailed { reason: reveille::task::WaitFailure::Deadline, message: "late".to_owned() },
            holder: None,
            event: None,
        };
        stage.meddle("update reveille_task set max_attempts = 1").await;
        let struck = commit!(stage.store, db => stage.store.fail_waits(db, None, vec![late(fence)]));
        stage.store.ended(&struck.ended).await.unwrap();
        // Being called off while it waits.
        let claim = next(stage.claims_and_matches(worker, 1).await);
        stage.defer(worker, &claim, &defer(Signal::new("never"))).await;
        stage.store.cancel(claim.fence.task, "no").await.unwrap();
        // Being called off while it runs.
        let claim = next(stage.claims_and_matches(worker, 1).await);
        stage.store.cancel(claim.fence.task, "no").await.unwrap();
        let answer = task::Answer::Defer(stage.again(&claim, 1, Why::Snooze, stage.now()));
        let settled = commit!(stage.store, db => stage.store.settle(db, worker, vec![answer]));
        stage.store.ended(&settled.ended).await.unwrap();
        // A crash too many.
        let claim = next(stage.claims_and_matches(worker, 1).await);
        stage.meddle("update reveille_task set crashes = 4 where state = 'running'").await;
        stage.lose(worker).await;
        let heir = stage.worker().await;
        let (_, over) = commit!(stage.store, db => stage.store.rescue(db, heir, 10));
        assert_eq!(over.iter().map(|over| over.task).collect::<Vec<_>>(), [claim.fence.task]);
        stage.store.ended(&over).await.unwrap();

        let last = next(stage.claims_and_matches(heir, 1).await);
        stage.ends_under_a_key(heir, &last).await;
        assert_eq!(stage.slots().await, 0);
    }
);

both!(
    async fn a_wait_for_a_slot_can_be_called_off_and_expire_like_any_other(stage: Stage) {
        let worker = stage.worker().await;
        let first = stage.store.enqueue(limited(1)).await.unwrap();
        stage.turn(Duration::from_millis(1));
        let at = reveille::clock::timestamp(stage.now() + 60_000);
        let expires = stage.store.enqueue(limited(1).expires(at)).await.unwrap();
        let called_off = stage.store.enqueue(limited(1)).await.unwrap();
        let begins = stage.store.enqueue(work().limit("other", 1).expires(at)).await.unwrap();
        let claims = stage.claims_and_matches(worker, 10).await;
        assert_eq!(tasks(&claims.mine), [first, begins]);
        stage.store.cancel(called_off, "no").await.unwrap();
        stage.turn(Duration::from_mins(1));
        let (_, over) = commit!(stage.store, db => stage.store.expire(db, worker, 10));
        assert_eq!(over, [Over { task: expires, slot: Some("api".to_owned()) }], "the other has begun");
        stage.store.ended(&over).await.unwrap();
        assert_eq!(stage.states(&[first, expires, called_off]).await, ["running", "skipped", "cancelled"]);
        assert_eq!(stage.slots().await, 2);
        stage.ends_under_a_key(worker, &claims.mine[0]).await;
        assert_eq!(stage.slots().await, 1);
    }
);

both!(
    async fn those_who_wait_go_by_priority_and_then_by_the_time_of_being_ready(stage: Stage) {
        let worker = stage.worker().await;
        let holder = stage.adds(1, 1).await[0];
        let claim = stage.claims_and_matches(worker, 1).await.mine.remove(0);
        assert_eq!(claim.fence.task, holder);
        let mut ids = Vec::new();
        for priority in [Priority::Low, Priority::High, Priority::Normal, Priority::Urgent, Priority::High] {
            ids.push(stage.store.enqueue(limited(1).priority(priority)).await.unwrap());
            stage.turn(Duration::from_millis(1));
        }
        assert_eq!(stage.claims_and_matches(worker, 10).await.turned_away.len(), 5);
        let mut claim = claim;
        let mut order = Vec::new();
        for _ in 0..5 {
            stage.ends_under_a_key(worker, &claim).await;
            claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
            order.push(claim.fence.task);
        }
        assert_eq!(order, [ids[3], ids[1], ids[4], ids[2], ids[0]]);
    }
);

both!(
    async fn who_comes_later_does_not_pass_those_who_wait(stage: Stage) {
        let worker = stage.worker().await;
        let ids = stage.adds(2, 1).await;
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        // Its end is committed, and nobody has matched yet.
        let ending = stage.ending(worker, &claim, &End::succeeded(json!(0)));
        let over = commit!(stage.store, db => task::end(db, stage.now(), &[ending]));
        let late = stage.adds(1, 1).await[0];
        let claims = commit!(stage.store, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 10));
        assert_eq!((claims.mine.len(), claims.turned_away), (0, vec![late]));
        stage.store.ended(&over).await.unwrap();
        assert_eq!(stage.states(&[ids[1], late]).await, ["ready", "deferred"]);
    }
);

both!(
    async fn a_match_that_was_never_made_is_made_by_the_next_look(stage: Stage) {
        let worker = stage.worker().await;
        let ids = stage.adds(3, 1).await;
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        assert_eq!(stage.store.match_again(worker, None).await.unwrap(), None);
        assert_eq!(stage.states(&ids).await, ["running", "deferred", "deferred"], "the key is full");
        // Whoever ended it is lost before what follows.
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(0))).await);
        stage.store.match_again(worker, None).await.unwrap();
        assert_eq!(stage.states(&ids).await, ["succeeded", "ready", "deferred"]);

        // Whoever turned tasks away is lost before what follows.
        let stuck = stage.store.enqueue(work().limit("other", 1)).await.unwrap();
        stage
            .meddle("insert into reveille_slot (key, n, task_id) select 'other', 1, task_id from reveille_wait_key")
            .await;
        let claims = commit!(stage.store, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 10));
        assert!(claims.turned_away.contains(&stuck));
        stage.meddle("delete from reveille_slot where key = 'other'").await;
        stage.store.match_again(worker, None).await.unwrap();
        assert_eq!(stage.state_of(stuck).await, "ready");
    }
);

both!(
    async fn a_full_key_holds_up_nobody_else(stage: Stage) {
        let worker = stage.worker().await;
        stage.adds(1, 1).await;
        assert_eq!(stage.claims_and_matches(worker, 1).await.mine.len(), 1);
        let blocked = (0..1_200).map(|_| limited(1).priority(Priority::Urgent)).collect();
        let blocked = stage.store.enqueue_all(blocked).await.unwrap();
        let others = [stage.enqueue().await, stage.store.enqueue(work().limit("other", 1)).await.unwrap()];
        // With room for one, it looks again at once as long as somebody was turned away.
        let (mut turns, mut got) = (0, Vec::new());
        while got.len() < others.len() {
            let claims = stage.claims_and_matches(worker, 1).await;
            assert_eq!(claims.mine.len() + claims.turned_away.len(), 1, "a full batch, after {turns} turns");
            got.extend(tasks(&claims.mine));
            turns += 1;
        }
        assert!(turns < 10, "it took {turns} turns to get past {} tasks", blocked.len());
        got.sort();
        assert_eq!(got, others);
        assert!(stage.states(&blocked[..20]).await.iter().all(|state| state == "deferred"));
    }
);

both!(
    async fn what_others_would_claim_is_left_to_them(stage: Stage) {
        let worker = stage.worker().await;
        stage.adds(2, 1).await;
        let unknown = stage.store.enqueue(NewTask::named("unknown", json!(0)).limit("api", 1)).await.unwrap();
        let paused = stage.store.enqueue(limited(1).queue("paused")).await.unwrap();
        stage.store.set_paused("paused", Some(stage.now())).await.unwrap();
        let claims = stage.claims_and_matches(worker, 10).await;
        assert_eq!((claims.mine.len(), claims.turned_away.len()), (1, 1));
        assert_eq!(stage.states(&[unknown, paused]).await, ["ready", "ready"], "they would have a slot, and nobody");
    }
);

both!(
    async fn a_task_that_begins_deferred_takes_its_slot_when_it_is_claimed_and_keeps_its_event(stage: Stage) {
        let worker = stage.worker().await;
        let waits = stage.store.enqueue(limited(1).when(defer(Signal::new("go")))).await.unwrap();
        let sleeps = stage.store.enqueue(limited(1).after(Duration::from_hours(1))).await.unwrap();
        let first = stage.adds(1, 1).await[0];
        let claim = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        assert_eq!((claim.fence.task, stage.slots().await), (first, 1));
        stage.store.signal(reveille::store::signal::Signal::new("go", "said")).await.unwrap();
        assert_eq!(stage.claims_and_matches(worker, 10).await.turned_away, [waits]);
        stage.ends_under_a_key(worker, &claim).await;
        assert_eq!(stage.states(&[waits, sleeps]).await, ["ready", "deferred"]);
        assert_eq!(stage.payload_of(waits).await, json!("said"));
        let again = stage.claims_and_matches(worker, 10).await.mine.remove(0);
        assert_eq!((again.turn, again.attempt), (0, 1));
    }
);

both!(
    async fn tasks_that_disagree_on_the_limit_are_each_held_to_their_own(stage: Stage) {
        let worker = stage.worker().await;
        let three = [limited(3), limited(3), limited(3)].to_vec();
        stage.store.enqueue_all(three).await.unwrap();
        let claims = stage.claims_and_matches(worker, 10).await;
        assert_eq!(claims.mine.len(), 3);
        let narrow = stage.adds(1, 1).await[0];
        let wide = stage.adds(1, 3).await[0];
        assert_eq!(stage.claims_and_matches(worker, 10).await.turned_away, [narrow, wide]);
        // The third slot is not for the first in line, and nobody passes it by.
        stage.ends_under_a_key(worker, &claims.mine[2]).await;
        assert_eq!(stage.states(&[narrow, wide]).await, ["deferred", "deferred"]);
        stage.ends_under_a_key(worker, &claims.mine[0]).await;
        assert_eq!(stage.states(&[narrow, wide]).await, ["ready", "ready"]);
    }
);

both!(
    async fn a_limit_that_could_never_hold_is_refused(stage: Stage) {
        for (key, n, words) in [
            ("", 1, "1 to 200 bytes"),
            ("a\nb", 1, "no control characters"),
            (&*"x".repeat(201), 1, "1 to 200 bytes"),
            ("k", 0, "1 to 10000 slots"),
            ("k", 10_001, "1 to 10000 slots"),
        ] {
            let refused = stage.store.enqueue(work().limit(key, n)).await.unwrap_err();
            assert!(matches!(&refused, Error::Invalid(why) if why.contains(words)), "{refused:?}");
        }
        let most = stage.store.enqueue(work().limit("x".repeat(200), 10_000)).await.unwrap();
        let worker = stage.worker().await;
        assert_eq!(tasks(&stage.claims_and_matches(worker, 1).await.mine), [most]);
    }
);

both!(
    async fn two_workers_at_once_do_not_exceed_the_limit(stage: Stage) {
        let workers = [stage.worker().await, stage.worker().await, stage.worker().await];
        let keys = ["a", "b", "c"];
        let tasks = (0..90).map(|at| work().limit(keys[at % 3], 4).retry(Retry::NEVER)).collect();
        stage.store.enqueue_all(tasks).await.unwrap();
        let mut ended = 0;
        while ended < 90 {
            let claims = join_all(workers.map(|worker| stage.claims_and_matches(worker, 20))).await;
            let taken = stage.ids("select task_id from reveille_slot where key = 'a'").await;
            assert!(taken.len() <= 4, "{taken:?}");
            for (worker, claims) in workers.iter().zip(claims) {
                for claim in claims.mine {
                    let ending = stage.ending(*worker, &claim, &End::succeeded(json!(0)));
                    let over = commit!(stage.store, db => task::end(db, stage.now(), &[ending]));
                    stage.store.ended(&over).await.unwrap();
                    ended += over.len();
                }
            }
            stage.store.match_again(workers[0], None).await.unwrap();
        }
        assert_eq!((stage.slots().await, stage.ids("select task_id from reveille_wait_key").await.len()), (0, 0));
    }
);

on_postgres!(
    async fn a_key_that_somebody_else_has_in_hand_is_not_waited_for(stage: Stage) {
        let (slow, worker) = (stage.worker().await, stage.worker().await);
        let ids = stage.adds(2, 2).await;
        let plain = stage.enqueue().await;
        let mut claiming = stage.begin().await;
        let claims = within!(claiming, db => task::claim(db, slow, &scope(&["work"]), stage.now(), 1));
        assert_eq!(tasks(&claims.mine), ids[..1]);

        // The other claim takes what has no key, and has the rest wait; its match gives up on the key soon.
        let claims = stage.claims_and_matches(worker, 10).await;
        assert_eq!((tasks(&claims.mine), claims.turned_away), (vec![plain], vec![ids[1]]));
        assert_eq!(stage.state_of(ids[1]).await, "deferred");
        claiming.commit().await.unwrap();
        stage.store.match_again(worker, None).await.unwrap();
        assert_eq!(tasks(&stage.claims_and_matches(worker, 10).await.mine), ids[1..]);
    }
);

on_postgres!(
    async fn an_end_and_a_claim_at_once_meet_whoever_commits_first(stage: Stage) {
        for end_first in [true, false] {
            let worker = stage.worker().await;
            let ids = stage.adds(2, 1).await;
            let claim = stage.claims_and_matches(worker, 1).await.mine.remove(0);
            let (mut ending, mut claiming) = (stage.begin().await, stage.begin().await);
            let end = stage.ending(worker, &claim, &End::succeeded(json!(1)));
            let over = within!(ending, db => task::end(db, stage.now(), &[end]));
            let claims = within!(claiming, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 1));
            assert_eq!(claims.turned_away, ids[1..], "the slot is not free before the end is committed");
            if end_first {
                ending.commit().await.unwrap();
                stage.store.ended(&over).await.unwrap();
                claiming.commit().await.unwrap();
                stage.store.claimed(&claims, worker).await.unwrap();
            } else {
                claiming.commit().await.unwrap();
                stage.store.claimed(&claims, worker).await.unwrap();
                assert_eq!(stage.state_of(ids[1]).await, "deferred");
                ending.commit().await.unwrap();
                stage.store.ended(&over).await.unwrap();
            }
            assert_eq!(stage.state_of(ids[1]).await, "ready");
            let claim = stage.claims_and_matches(worker, 1).await.mine.remove(0);
            stage.ends_under_a_key(worker, &claim).await;
        }
    }
);

on_postgres!(
    async fn a_number_that_was_taken_behind_the_back_of_the_lock_lets_nobody_in(stage: Stage) {
        let worker = stage.worker().await;
        let ids = stage.adds(1, 1).await;
        let mut taking = stage.begin().await;
        let Db::Postgres(c) = taking.db() else { unreachable!() };
        let text = "insert into reveille_slot (key, n, task_id) values ('api', 1, gen_random_uuid())";
        sqlx::query(text).execute(c).await.unwrap();
        let claim = async {
            let mut tx = stage.begin().await;
            let claims = within!(tx, db => task::claim(db, worker, &scope(&["work"]), stage.now(), 1));
            tx.commit().await.unwrap();
            claims
        };
        let commit = async {
            stage.blocked(1).await;
            taking.commit().await.unwrap();
        };
        let (claims, ()) = futures::future::join(claim, commit).await;
        assert_eq!((claims.mine.len(), claims.turned_away), (0, ids), "the constraint has the last word");
    }
);

both!(
    async fn other_waits_under_a_key_of_the_same_name_are_not_mixed_up_with_slots(stage: Stage) {
        let worker = stage.worker().await;
        stage.adds(2, 1).await;
        stage.claims_and_matches(worker, 10).await;
        let waits = stage.deferred_on(Signal::new("api")).await;
        assert_eq!(stage.store.signal(reveille::store::signal::Signal::new("api", 1)).await.unwrap(), 1);
        assert_eq!(stage.state_of(waits.task).await, "ready");
    }
);
