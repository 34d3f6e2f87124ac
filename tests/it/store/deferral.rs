//! Deferring, and waits that are due or end badly.

use std::time::Duration;

use reveille::{
    Retry,
    clock::timestamp,
    defer,
    id::Fence,
    store::{Verdict, history::Why, task, trigger},
    task::{End, WaitFailed, WaitFailure, Woken},
    trigger::{Event, Receipt},
    wait::{Signal, Timer},
};
use serde_json::json;

use crate::stage::{Fake, Stage, lease, scope, work};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// How a wait ends when its time is up, by nobody in particular.
fn late() -> WaitFailed {
    WaitFailed { reason: WaitFailure::Deadline, message: "too late".to_owned() }
}

impl Stage {
    /// Strikes what is past its deadline, as upkeep does; answers how much that was.
    async fn strike(&self) -> usize {
        let mut tx = self.store.begin().await.unwrap();
        let overdue = trigger::overdue(&mut tx.db(), self.now(), 10_000, 100).await.unwrap();
        let verdicts: Vec<_> =
            overdue.into_iter().map(|fence| Verdict { fence, failed: late(), holder: None, event: None }).collect();
        let struck = self.store.fail_waits(&mut tx.db(), None, verdicts).await.unwrap();
        tx.commit().await.unwrap();
        struck.accepted.len()
    }
}

both!(
    async fn a_retry_is_the_same_step_with_the_same_event_in_the_same_turn(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let fence = stage.deferred_on(Fake::default()).await;
        stage.fire(triggerer, fence, Event::resume("seen").unwrap()).await;
        let claim = stage.claim(worker).await;

        assert!(stage.defers(worker, stage.again(&claim, 2, Why::Retry, stage.now() + 1_000)).await);
        assert_eq!((stage.state_of(fence.task).await, stage.fire_due(worker).await), ("deferred".to_owned(), 0));
        stage.turn(Duration::from_secs(1));
        assert_eq!(stage.fire_due(worker).await, 1);

        let again = stage.claim(worker).await;
        assert_eq!((again.turn, again.attempt), (claim.turn, 2));
        assert_eq!(
            (stage.payload_of(fence.task).await, stage.whole(fence.task).await.step),
            (json!("seen"), Some(json!("next")))
        );
        assert_eq!(stage.history_of(fence.task).await[4..], ["claimed", "retry", "due", "claimed"]);
    }
);

both!(
    async fn a_snooze_costs_no_attempt(stage: Stage) {
        let worker = stage.worker().await;
        stage.enqueue().await;
        let claim = stage.claim(worker).await;
        assert!(stage.defers(worker, stage.again(&claim, claim.attempt, Why::Snooze, stage.now())).await);
        assert_eq!(stage.fire_due(worker).await, 1);
        let again = stage.claim(worker).await;
        assert_eq!((again.turn, again.attempt), (0, 1));
    }
);

both!(
    async fn a_next_step_is_a_new_turn_without_the_event_and_crashes_of_the_last(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let fence = stage.deferred_on(Fake::default()).await;
        stage.fire(triggerer, fence, Event::resume("first").unwrap()).await;
        let lost = stage.worker().await;
        stage.claim(lost).await;
        stage.lose(lost).await;
        commit!(stage.store, db => stage.store.rescue(db, worker, 10));
        let claim = stage.claim(worker).await;
        assert_eq!((claim.turn, claim.crashes), (1, 1));

        stage.defer(worker, &claim, &defer(Timer::after(Duration::ZERO))).await;
        assert_eq!(stage.woken(fence.task).await, None);
        assert_eq!(stage.fire_due(worker).await, 1);
        let claim = stage.claim(worker).await;
        assert_eq!((claim.turn, claim.attempt, claim.crashes), (2, 1, 0));
        assert_eq!(stage.woken(fence.task).await, None, "a timer has nothing to say");
    }
);

both!(
    async fn only_the_live_holder_of_the_present_generation_defers(stage: Stage) {
        let (worker, other) = (stage.worker().await, stage.worker().await);
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let deferring = stage.deferring(claim.fence, &defer(Fake::default()));
        let mut older = deferring.clone();
        older.fence.generation -= 1;
        assert!(!stage.defers(other, deferring.clone()).await);
        assert!(!stage.defers(worker, older).await);
        stage.lose(worker).await;
        assert!(!stage.defers(worker, deferring).await);
        assert_eq!((stage.state_of(task).await, stage.history_of(task).await.len()), ("running".to_owned(), 2));
        assert!(stage.whole(task).await.wait.is_none());
    }
);

both!(
    async fn deferring_twice_is_deferring_once(stage: Stage) {
        let worker = stage.worker().await;
        stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let deferring = stage.deferring(claim.fence, &defer(Signal::new("k")));
        assert!(stage.defers(worker, deferring.clone()).await);
        assert!(!stage.defers(worker, deferring).await);
        assert_eq!(stage.history_of(claim.fence.task).await, ["enqueued", "claimed", "deferred"]);
        assert_eq!(stage.whole(claim.fence.task).await.wait.unwrap().keys, ["signal:k"]);
    }
);

both!(
    async fn a_batch_of_deferrals_moves_what_it_may_and_no_other(stage: Stage) {
        let worker = stage.worker().await;
        for _ in 0..3 {
            stage.enqueue().await;
        }
        let claims = stage.claims(worker, 3).await;
        assert!(stage.finish(worker, &claims[1], &End::succeeded(json!(0))).await);
        let batch: Vec<_> = claims
            .iter()
            .zip([defer(Fake::default()), defer(Fake::default()), defer(Signal::new("k"))])
            .map(|(claim, deferral)| stage.deferring(claim.fence, &deferral))
            .collect();
        let mut deferred = commit!(stage.store, db => task::defer(db, worker, stage.now(), &batch));
        deferred.sort();
        let mut expected = [claims[0].fence.task, claims[2].fence.task];
        expected.sort();
        assert_eq!(deferred, expected);
        let waits = [
            stage.whole(claims[0].fence.task).await.wait.unwrap(),
            stage.whole(claims[2].fence.task).await.wait.unwrap(),
        ];
        assert_eq!((waits[0].passive, waits[0].keys.len()), (false, 0));
        assert_eq!((waits[1].passive, waits[1].keys.clone()), (true, vec!["signal:k".to_owned()]));
    }
);

both!(
    async fn what_is_due_is_fired_once_and_what_is_not_is_left(stage: Stage) {
        let worker = stage.worker().await;
        let due = stage.deferred_on(Timer::after(MINUTE)).await;
        let later = stage.deferred_on(Timer::at(timestamp(stage.now() + 60_001))).await;
        let keyed = stage.deferred_on(Signal::new("k")).await;
        let active = stage.deferred_on(Fake::default()).await;
        assert_eq!(commit!(stage.store, db => trigger::next_due(db)), Some(stage.now() + 60_000));
        stage.turn(MINUTE);
        assert_eq!((stage.fire_due(worker).await, stage.fire_due(worker).await), (1, 0));
        assert_eq!(stage.history_of(due.task).await.last().unwrap(), "due");
        assert_eq!(stage.state_of(due.task).await, "ready");
        for fence in [later, keyed, active] {
            assert_eq!(stage.state_of(fence.task).await, "deferred");
        }
        assert_eq!(commit!(stage.store, db => trigger::next_due(db)), Some(stage.now() + 1));
    }
);

both!(
    async fn what_is_due_is_fired_in_batches_the_earliest_first(stage: Stage) {
        let worker = stage.worker().await;
        let mut ids = Vec::new();
        for after in [3, 1, 2] {
            ids.push(stage.store.enqueue(work().after(Duration::from_secs(after))).await.unwrap());
        }
        stage.turn(MINUTE);
        for (count, ready) in [(2, vec![ids[1], ids[2]]), (1, vec![ids[0]]), (0, vec![])] {
            assert_eq!(commit!(stage.store, db => trigger::fire_due(db, worker, stage.now(), 2)), count);
            let mut claimed = stage.claimed(worker, 10).await;
            claimed.sort();
            assert_eq!(claimed, ready);
        }
    }
);

both!(
    async fn a_task_that_starts_from_a_trigger_is_seen_once_that_has_fired(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let task = stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        assert!(stage.claims(worker, 10).await.is_empty());
        let lease = stage.leases(triggerer, 10).await.pop().unwrap();
        assert_eq!((lease.fence.task, lease.fence.generation), (task, 0));
        stage.fire(triggerer, lease.fence, Event::resume(7).unwrap()).await;
        let claim = stage.claim(worker).await;
        assert_eq!((claim.turn, claim.attempt), (0, 1));
        assert_eq!((stage.payload_of(task).await, stage.whole(task).await.step), (json!(7), Some(json!("first"))));
    }
);

both!(
    async fn a_task_that_starts_from_a_trigger_may_end_without_a_worker(stage: Stage) {
        let triggerer = stage.triggerer().await;
        for (event, state, why) in [
            (Event::succeed(1).unwrap(), "succeeded", "event"),
            (Event::skip("not today"), "skipped", "event"),
            (Event::fail("never"), "failed", "wait_failed"),
        ] {
            let task = work().when(defer(Fake::default())).retry(Retry::NEVER);
            let task = stage.store.enqueue(task).await.unwrap();
            let lease = stage.leases(triggerer, 10).await.pop().unwrap();
            assert_eq!(stage.fire(triggerer, lease.fence, event).await, Receipt::Accepted);
            let whole = stage.whole(task).await;
            assert_eq!((whole.brief.state.as_str(), whole.history.last().unwrap().why.as_str()), (state, why));
            assert!(whole.wait.is_none());
        }
    }
);

both!(
    async fn a_deadline_of_the_calendar_stays_when_the_wait_is_armed_again(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let retry = Retry { max_attempts: 5, backoff: MINUTE, cap: MINUTE };
        let deferral = || defer(Fake::default()).deadline_at(stage.clock.now() + HOUR);
        let deadline_at = stage.now() + 3_600_000;
        stage.store.enqueue(work().retry(retry)).await.unwrap();
        let claim = stage.claim(worker).await;
        let fences = [
            stage.defer(worker, &claim, &deferral()).await,
            Fence { task: stage.store.enqueue(work().retry(retry).when(deferral())).await.unwrap(), generation: 0 },
        ];
        assert_eq!(stage.leased(triggerer, 10).await.len(), 2);
        for fence in fences {
            stage.fire(triggerer, fence, Event::fail("not today")).await;
            let whole = stage.whole(fence.task).await;
            assert_eq!((whole.brief.attempt, whole.wait.unwrap().deadline_at), (2, Some(deadline_at)));
        }
        stage.turn(HOUR + Duration::from_secs(10));
        assert_eq!(stage.strike().await, 2);
        for fence in fences {
            let whole = stage.whole(fence.task).await;
            assert_eq!((whole.brief.state.as_str(), whole.brief.attempt), ("failed", 2), "no attempt could be in time");
        }
    }
);

both!(
    async fn a_deadline_arms_the_same_wait_again_and_at_last_fails_the_task(stage: Stage) {
        let retry = Retry { max_attempts: 2, backoff: MINUTE, cap: MINUTE };
        let task = stage.store.enqueue(work().retry(retry)).await.unwrap();
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let claim = stage.claim(worker).await;
        stage.defer(worker, &claim, &defer(Fake::default()).deadline(HOUR)).await;
        let begun = stage.now();
        assert_eq!(stage.leased(triggerer, 10).await, [task]);

        stage.turn(HOUR - Duration::from_millis(1));
        assert_eq!(stage.strike().await, 0, "it is not past the deadline");
        stage.turn(Duration::from_millis(1));
        assert_eq!(stage.strike().await, 0, "its holder has time for a last check");
        stage.turn(Duration::from_secs(10));
        assert_eq!(stage.strike().await, 1);

        let whole = stage.whole(task).await;
        let wait = whole.wait.unwrap();
        assert_eq!((whole.brief.state.as_str(), whole.brief.attempt, whole.brief.turn), ("deferred", 2, 1));
        assert_eq!((wait.kind.as_str(), wait.holder), ("fake", None));
        let at = wait.since;
        assert!(
            (begun + 3_610_000 + 30_000..=begun + 3_610_000 + 60_000).contains(&at),
            "the back-off is from 30 to 60 s"
        );
        assert_eq!((wait.wake_at, wait.deadline_at), (Some(at), Some(at + 3_600_000)));
        assert_eq!(whole.history.last().map(|t| (t.why.as_str(), t.attempt)), Some(("rearmed", 2)));

        assert!(stage.leases(triggerer, 10).await.is_empty(), "it is not due before the back-off is over");
        stage.turn(MINUTE);
        let lease = stage.leases(triggerer, 10).await.pop().unwrap();
        assert_eq!((lease.fence.generation, lease.since), (whole.generation, at));
        stage.turn(2 * HOUR);
        assert_eq!(stage.strike().await, 1);
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), whole.end), ("failed", Some(End::failed("too late"))));
        assert_eq!(whole.history.last().unwrap().why, "deadline");
    }
);

both!(
    async fn a_deadline_that_nobody_holds_is_struck_at_once_if_nothing_is_to_be_checked(stage: Stage) {
        let passive = stage.deferred(&defer(Signal::new("k")).deadline(HOUR)).await;
        let free = stage.deferred(&defer(Fake::default()).deadline(HOUR)).await;
        let attempts = async || {
            let attempt = async |fence: Fence| stage.whole(fence.task).await.brief.attempt;
            (attempt(passive).await, attempt(free).await)
        };
        stage.turn(HOUR);
        assert_eq!((stage.strike().await, attempts().await), (1, (2, 1)));
        // Nobody has taken it for a last check within one lease.
        stage.turn(Duration::from_secs(11));
        assert_eq!((stage.strike().await, attempts().await), (1, (2, 2)));
    }
);

both!(
    async fn a_rearmed_signal_is_heard_and_a_rearmed_timer_counts_afresh(stage: Stage) {
        let worker = stage.worker().await;
        let signal = stage.deferred(&defer(Signal::new("k")).deadline(HOUR)).await;
        let timer = stage.deferred(&defer(Timer::after(3 * HOUR)).deadline(HOUR)).await;
        stage.turn(HOUR);
        assert_eq!(stage.strike().await, 2);
        let wait = stage.whole(timer.task).await.wait.unwrap();
        assert_eq!(wait.wake_at, Some(wait.since + 3 * 3_600_000));

        assert_eq!(stage.store.signal(reveille::store::signal::Signal::new("k", "late")).await.unwrap(), 1);
        assert_eq!(stage.payload_of(signal.task).await, json!("late"));
        stage.turn(4 * HOUR);
        assert_eq!(stage.fire_due(worker).await, 1);
        assert_eq!(stage.state_of(timer.task).await, "ready");
    }
);

both!(
    async fn a_wait_that_ends_badly_resumes_a_task_that_asked_to_see(stage: Stage) {
        let fence = stage.deferred(&defer(Signal::new("k")).deadline(HOUR).or_resume()).await;
        stage.turn(HOUR);
        assert_eq!(stage.strike().await, 1);
        let whole = stage.whole(fence.task).await;
        assert_eq!((whole.brief.state.as_str(), whole.event), ("ready", Some(Woken::Failed(late()))));
        assert_eq!(whole.history.last().unwrap().why, "deadline");
        assert!(whole.wait.is_none());
        assert_eq!(stage.store.signal(reveille::store::signal::Signal::new("k", 1)).await.unwrap(), 0);
    }
);

both!(
    async fn a_verdict_on_an_older_wait_changes_nothing(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let old = stage.deferred_on(Fake::default()).await;
        stage.fire(triggerer, old, Event::resume(1).unwrap()).await;
        let claim = stage.claim(worker).await;
        let new = stage.defer(worker, &claim, &defer(Fake::default())).await;
        assert_eq!(stage.leased(triggerer, 1).await, [new.task]);
        for holder in [None, Some(triggerer)] {
            let verdict = Verdict { fence: old, failed: late(), holder, event: None };
            let struck = commit!(stage.store, db => stage.store.fail_waits(db, None, vec![verdict]));
            assert!(struck.accepted.is_empty());
        }
        assert_eq!(
            (stage.state_of(new.task).await, stage.whole(new.task).await.generation),
            ("deferred".to_owned(), new.generation)
        );
    }
);

both!(
    async fn a_set_of_kinds_is_known_from_its_first_wait_on(stage: Stage) {
        let kinds = async || commit!(stage.store, db => trigger::kind_sets(db));
        assert!(kinds().await.is_empty());
        stage.deferred_on(Fake::default()).await;
        stage.store.enqueue(work().when(defer(crate::stage::OtherFake {}))).await.unwrap();
        stage.store.enqueue(work().when(defer(Fake::default()))).await.unwrap();
        assert_eq!(kinds().await, ["fake", "other_fake"]);
    }
);

both!(
    async fn a_kind_that_is_not_asked_for_stays_untouched(stage: Stage) {
        let task = stage.store.enqueue(work().when(defer(crate::stage::OtherFake {}))).await.unwrap();
        let triggerer = stage.triggerer().await;
        for kinds in [&["fake"][..], &["other"], &["other_fake+fake"], &[]] {
            assert!(commit!(stage.store, db => lease(db, triggerer, &scope(kinds), stage.now(), 10)).is_empty());
        }
        let leases = commit!(stage.store, db => lease(db, triggerer, &scope(&["fake", "other_fake"]), stage.now(), 10));
        assert_eq!(leases.iter().map(|lease| lease.fence.task).collect::<Vec<_>>(), [task]);
    }
);
