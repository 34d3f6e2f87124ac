//! What comes for waits that look at more than that.

use std::{collections::HashSet, time::Duration};

use reveille::{
    Retry, defer,
    id::{Fence, Incarnation},
    store::{
        arrival,
        signal::Signal as Sent,
        task,
        trigger::{self, Lease, Release},
    },
    trigger::Key,
    wait::{All, Any, Signal, TaskEnd},
};
use serde_json::json;

use crate::stage::{Fake, Stage, lease, scope};

const HOUR: Duration = Duration::from_hours(1);

/// Waits for a signal and for what must be checked.
async fn waiting(stage: &Stage) -> Fence {
    stage.deferred_on(All::default().and("go", Signal::new("go")).and("check", Fake::default())).await
}

impl Stage {
    async fn go(&self, payload: i32) -> usize {
        self.store.signal(Sent::new("go", payload)).await.unwrap()
    }

    async fn leases_all(&self, triggerer: Incarnation) -> Vec<Lease> {
        commit!(self.store, db => lease(db, triggerer, &scope(&["all+fake+signal", "any+fake+signal"]), self.now(), 10))
    }

    /// For how many of its triggers a holder is told that something has come.
    async fn news(&self, triggerer: Incarnation) -> usize {
        let look = commit!(self.store, db => trigger::look(db, triggerer));
        let news = commit!(self.store, db => arrival::news(db, triggerer));
        assert_eq!(look.has_news, !news.is_empty());
        news.len()
    }

    fn opened(&self, lease: Lease) -> Vec<(Key, serde_json::Value)> {
        self.store.open_arrived(lease.arrived).unwrap()
    }
}

fn go(payload: i32) -> Vec<(Key, serde_json::Value)> {
    vec![(Key::Signal("go".to_owned()), json!(payload))]
}

both!(
    async fn what_comes_is_kept_with_the_wait_and_has_it_looked_at(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = waiting(&stage).await;
        assert_eq!(stage.leases_all(triggerer).await.len(), 0, "there is no reason to look");
        assert_eq!(stage.go(1).await, 1);
        assert_eq!(stage.state_of(fence.task).await, "deferred");
        let lease = stage.leases_all(triggerer).await.pop().expect("now there is");
        assert_eq!((lease.fence, stage.opened(lease)), (fence, go(1)));
    }
);

both!(
    async fn what_comes_first_counts_and_what_comes_later_is_for_others(stage: Stage) {
        let fence = waiting(&stage).await;
        assert_eq!((stage.go(1).await, stage.go(2).await), (1, 0));
        let next = stage.deferred_on(Signal::new("go")).await;
        stage.store.match_keys(&["signal:go".to_owned()], None).await.unwrap();
        assert_eq!(stage.payload_of(next.task).await, json!(2));
        let lease = stage.leases_all(stage.triggerer().await).await.pop().unwrap();
        assert_eq!((lease.fence, stage.opened(lease)), (fence, go(1)));
    }
);

both!(
    async fn one_signal_resumes_those_with_nothing_else_and_is_kept_for_the_others(stage: Stage) {
        let (both, alone) = (waiting(&stage).await, stage.deferred_on(Signal::new("go")).await);
        assert_eq!(stage.go(1).await, 2);
        assert_eq!(stage.payload_of(alone.task).await, json!(1));
        let wait = stage.whole(both.task).await.wait.unwrap();
        assert_eq!((wait.keys, wait.arrived), (vec!["signal:go".to_owned()], vec!["signal:go".to_owned()]));
    }
);

both!(
    async fn a_holder_is_told_once_and_the_next_one_is_given_all(stage: Stage) {
        let (first, second) = (stage.triggerer().await, stage.triggerer().await);
        let fence = stage.deferred_on(Any::default().or("go", Signal::new("go")).or("check", Fake::default())).await;
        assert_eq!(stage.leases_all(first).await.len(), 1);
        assert_eq!(stage.news(first).await, 0);
        stage.go(1).await;
        assert_eq!((stage.news(second).await, stage.news(first).await, stage.news(first).await), (0, 1, 0));
        stage.lose(first).await;
        let lease = stage.leases_all(second).await.pop().expect("it is taken over");
        assert_eq!((lease.fence, stage.opened(lease)), (fence, go(1)));
        // And told again after a doubt, to one that runs it and to one that does not.
        let held = async |running| commit!(stage.store, db => trigger::held(db, second, &running));
        let running = held(HashSet::from([fence])).await;
        assert_eq!((running.fences, running.missing.len()), (vec![fence], 0));
        assert_eq!((running.news[0].0, running.news[0].1.len()), (fence, 1));
        let other = held(HashSet::from([Fence { generation: fence.generation + 1, ..fence }])).await;
        assert_eq!((other.fences, other.news.len()), (vec![fence], 0));
        assert_eq!((other.missing[0].fence, other.missing[0].arrived.len()), (fence, 1));
    }
);

both!(
    async fn what_has_come_since_the_last_check_is_not_put_to_sleep(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Any::default().or("go", Signal::new("go")).or("check", Fake::default())).await;
        let release = async |known| {
            let wake_at = stage.now() + 3_600_000;
            commit!(stage.store, db => trigger::release(db, triggerer, &[Release { fence, wake_at, known }]));
            stage.leases_all(triggerer).await.len()
        };
        assert_eq!(stage.leases_all(triggerer).await.len(), 1);
        // It was checked before the signal came; its holder is told meanwhile.
        stage.go(1).await;
        assert_eq!(stage.news(triggerer).await, 1);
        assert_eq!(release(0).await, 1, "it is due at once");
        assert_eq!(release(1).await, 0, "now it was checked with it");
    }
);

both!(
    async fn an_end_is_kept_and_a_wait_that_is_armed_again_keeps_what_has_come(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let other = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let all =
            All::default().and("end", TaskEnd::of(other.0)).and("go", Signal::new("go")).and("check", Fake::default());
        let fence = stage.deferred(&defer(all).deadline(HOUR)).await;
        stage.finish(worker, &claim, &reveille::task::End::succeeded(json!(7))).await;
        stage.store.ended(&[task::Over { task: other, slot: None }]).await.unwrap();
        stage.turn(2 * HOUR);
        let overdue = commit!(stage.store, db => trigger::overdue(db, stage.now(), 0, 10));
        assert_eq!(overdue, [fence]);
        let failed = reveille::WaitFailed { reason: reveille::task::WaitFailure::Deadline, message: "late".to_owned() };
        let verdict = reveille::store::Verdict { fence, failed, holder: None, event: None };
        commit!(stage.store, db => stage.store.fail_waits(db, None, vec![verdict]));
        stage.turn(Retry::default().cap + HOUR / 2);
        let kinds = scope(&["all+fake+signal+task"]);
        let lease = commit!(stage.store, db => lease(db, triggerer, &kinds, stage.now(), 10)).pop().unwrap();
        assert_eq!(lease.fence.generation, fence.generation + 1);
        let arrived = stage.opened(lease);
        assert_eq!((&arrived[0].0, &arrived[0].1["result"]), (&Key::Task(other.0), &json!(7)));
    }
);
