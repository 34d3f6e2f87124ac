//! What is dropped by age, and what stays.

use std::time::Duration;

use reveille::{
    defer,
    id::TaskId,
    store::{retention, signal::Signal},
    task::End,
    wait,
};
use serde_json::json;

use crate::stage::{Stage, work};

const DAY: Duration = Duration::from_hours(24);

impl Stage {
    /// A task that has ended today.
    async fn ended(&self, end: &End) -> TaskId {
        let worker = self.worker().await;
        let task = self.enqueue().await;
        let claim = self.claim(worker).await;
        assert_eq!(claim.fence.task, task);
        assert!(self.finish(worker, &claim, end).await);
        task
    }

    async fn drop_old(&self, kept: Duration) {
        while self.store.drop_old(kept).await.unwrap() {}
    }

    async fn is_known(&self, task: TaskId) -> bool {
        self.store.show(task).await.unwrap().is_some()
    }

    async fn history_rows(&self, task: TaskId) -> i64 {
        self.count("select count(*) from reveille_history where task_id = $1", task.0).await
    }
}

both!(
    async fn what_ended_is_kept_as_long_as_said_and_a_day_more_at_most(stage: Stage) {
        let kept = 7 * DAY;
        let mut ended = Vec::new();
        // More than one turn of the ring.
        for day in 0..40_usize {
            ended.push(stage.ended(&End::succeeded(json!(day))).await);
            stage.drop_old(kept).await;
            for (age, task) in ended.iter().rev().enumerate() {
                if age < 7 {
                    assert!(
                        stage.is_known(*task).await && stage.history_rows(*task).await == 3,
                        "{age} days old on day {day}"
                    );
                }
                if age > 8 && age < 12 {
                    assert!(
                        !stage.is_known(*task).await && stage.history_rows(*task).await == 0,
                        "{age} days old on day {day}"
                    );
                }
            }
            stage.turn(DAY);
        }
    }
);

both!(
    async fn the_longest_retention_fits_the_ring(stage: Stage) {
        let kept = retention::LONGEST;
        let mut ended = Vec::new();
        for _ in 0..66 {
            ended.push(stage.ended(&End::succeeded(json!(0))).await);
            stage.drop_old(kept).await;
            stage.turn(DAY);
        }
        stage.drop_old(kept).await;
        for (age, task) in ended.iter().rev().enumerate() {
            // The youngest is a day old by now.
            match age + 1 {
                ..=30 => assert!(stage.is_known(*task).await, "{age}"),
                32.. => assert!(!stage.is_known(*task).await, "{age}"),
                _ => {}
            }
        }
    }
);

both!(
    async fn dead_letters_and_their_history_stay(stage: Stage) {
        let failed = stage.ended(&End::failed("no")).await;
        for _ in 0..70 {
            stage.turn(DAY);
            stage.drop_old(DAY).await;
        }
        let whole = stage.whole(failed).await;
        assert_eq!((whole.brief.state.as_str(), whole.step), ("failed", Some(json!("first"))));
        assert_eq!(
            whole.history.iter().map(|t| t.why.as_str()).collect::<Vec<_>>(),
            ["enqueued", "claimed", "finished"]
        );
    }
);

both!(
    async fn the_history_of_an_unfinished_task_stays_until_it_has_ended(stage: Stage) {
        let waiting = stage.deferred_on(wait::Signal::new("k")).await.task;
        for _ in 0..70 {
            stage.turn(DAY);
            stage.drop_old(DAY).await;
        }
        assert_eq!(stage.history_of(waiting).await, ["enqueued", "claimed", "deferred"]);
        stage.store.cancel(waiting, "no").await.unwrap();
        for _ in 0..3 {
            stage.turn(DAY);
            stage.drop_old(DAY).await;
        }
        assert!(!stage.is_known(waiting).await);
        assert_eq!(stage.history_rows(waiting).await, 0);
    }
);

both!(
    async fn a_dedupe_window_that_is_over_is_dropped_and_a_key_in_use_is_not(stage: Stage) {
        let windowed = stage.store.enqueue(work().dedupe_within("w", DAY)).await.unwrap();
        let keyed = stage.store.enqueue(work().dedupe("k")).await.unwrap();
        stage.turn(2 * DAY);
        stage.drop_old(DAY).await;
        assert_eq!(stage.ids("select task_id from reveille_dedupe").await, [keyed.0]);
        assert!(stage.is_known(windowed).await);
        assert_eq!(stage.store.enqueue(work().dedupe("k")).await.unwrap(), keyed);
    }
);

both!(
    async fn what_has_not_expired_is_not_dropped(stage: Stage) {
        stage.store.signal(Signal::new("k", 1)).await.unwrap();
        stage.turn(DAY - Duration::from_millis(1));
        stage.drop_old(DAY).await;
        let task = stage.store.enqueue(work().when(defer(wait::Signal::new("k")))).await.unwrap();
        assert_eq!(stage.state_of(task).await, "ready");
    }
);

#[test]
fn a_retention_that_the_ring_cannot_hold_is_refused() {
    for (kept, fits) in [(DAY, true), (30 * DAY, true), (DAY / 2, false), (31 * DAY, false)] {
        assert_eq!(retention::validate(kept).is_ok(), fits, "{kept:?}");
    }
}

on_postgres!(
    async fn a_task_that_fails_while_a_day_is_dropped_keeps_its_history(stage: Stage) {
        let dead = stage.ended(&End::failed("no")).await;
        let worker = stage.worker().await;
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        stage.turn(3 * DAY);
        // Moving the dead letter's history waits for this.
        let mut tx = stage.store.begin().await.unwrap();
        let reveille::store::Db::Postgres(c) = tx.db() else { unreachable!() };
        let lock = "select 1 from reveille_history where task_id = $1 for update";
        sqlx::query(lock).bind(dead.0).fetch_all(c).await.unwrap();
        let fail = async {
            stage.blocked(1).await;
            assert!(stage.finish(worker, &claim, &End::failed("no")).await);
            tx.commit().await.unwrap();
        };
        futures::join!(stage.drop_old(DAY), fail);
        assert_eq!(stage.history_of(task).await, ["enqueued", "claimed", "finished"]);
    }
);
