//! Clocks that are wrong, and clocks that are put right: the database's decides when, and nobody's decides who lives.

use std::time::Duration;

use reveille::{
    NewTask, Store,
    clock::Clock,
    defer, done,
    id::TaskId,
    trigger::Trigger,
    triggerer::Settings,
    wait::{Any, Timer},
};

use crate::stage::{Plain, Role, Script, Scripted, Seen, Stage, logged, patient, quick, until};

const HOUR: Duration = Duration::from_hours(1);

async fn begin(store: &Store, trigger: impl Trigger + 'static) -> TaskId {
    let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
    store.enqueue(task.when(defer(trigger))).await.unwrap()
}

/// Waits until that store knows how late it is.
async fn has_learned(stage: &Stage, store: &Store, ahead: bool, by: Duration) {
    let expected = || stage.clock().now_ms() + if ahead { 1 } else { -1 } * by.as_millis() as i64;
    until("the time to be learned", async || (store.clock().now_ms() - expected()).abs() < 200).await;
}

on_postgres!(
    async fn a_database_clock_that_is_set_moves_no_trigger_and_stops_no_check(stage: Stage) {
        stage.own_clock().await;
        let [one, two, three] = [stage.another().await, stage.another().await, stage.another().await];
        let _roles = [
            Role::triggerer(&one, quick::triggerer("one")),
            Role::triggerer(&two, quick::triggerer("two")),
            Role::worker(&three, quick::worker("three")),
        ];
        let mut lives = Vec::new();
        for label in ["one", "two", "three"] {
            lives.push(stage.live(label).await);
        }
        // One that only asks, and one that notes for itself when each of those inside is due.
        let (plain, plainly) = Scripted::never();
        let ((left, on_the_left), (right, on_the_right)) = (Scripted::never(), Scripted::never());
        begin(&one, plain).await;
        begin(&one, Any::default().or("left", left).or("right", right)).await;
        until("both to be held", async || stage.held().await == 2).await;
        let where_they_are = "select count(*) from reveille_trigger t join reveille_replica r on r.incarnation = t.holder \
                              where r.gone_at is null and t.deaths = 0";
        let in_half_an_hour = begin(&one, Timer::after(HOUR / 2)).await;

        for (ahead, by) in [(true, HOUR), (true, HOUR - Duration::from_secs(15)), (false, HOUR), (true, Duration::ZERO)]
        {
            stage.set_clock(ahead, by).await;
            for store in [&one, &two, &three] {
                has_learned(&stage, store, ahead, by).await;
            }
            // The timer's time has come with the first of them, by the clock that decides.
            stage.succeeded(in_half_an_hour).await;
            for played in [&plainly, &on_the_left, &on_the_right] {
                played.until(Seen::Check, played.times(Seen::Check) + 3).await;
            }
            stage.succeeded(begin(&two, Timer::after(Duration::from_millis(100))).await).await;
            assert_eq!(stage.count(where_they_are).await, 2);
        }
        for life in lives {
            assert_eq!(stage.live(&life.label).await.incarnation, life.incarnation);
            assert!(logged(&[&life.incarnation.to_string(), "declared gone"]).is_empty());
        }
    }
);

both!(
    async fn a_host_whose_clock_is_hours_off_goes_by_the_databases(stage: Stage) {
        let clock = Clock::system();
        let now = clock.monotonic();
        clock.learn(clock.now_ms() + 3 * 3_600_000, now, now);
        let wrong = stage.another_at(clock).await;
        let right = &stage.store;
        let due = begin(right, Timer::after(2 * HOUR)).await;
        let (trigger, played) = Scripted::never();
        let late = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let late = right.enqueue(late.when(defer(trigger).deadline(2 * HOUR))).await.unwrap();
        let settings = |label: &str| Settings { label: label.to_owned(), ..patient::triggerer() };
        let _wrong = Role::triggerer(&wrong, settings("wrong"));
        stage.live("wrong").await;
        played.until(Seen::Check, 3).await;
        has_learned(&stage, &wrong, true, Duration::ZERO).await;
        for task in [due, late] {
            assert_eq!(stage.state_of(task).await, "deferred");
        }
    }
);
