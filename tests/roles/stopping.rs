//! Stopping in the order that hands over well.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use reveille::{
    NewTask, defer, done, done_with,
    trigger::{Answer, Event, Receipt, typetag},
    triggerer, worker,
};

use crate::stage::{
    Gate, Plain, Played, Role, Script, Scripted, Seen, Stage, ms, patient, quick, result, times, until,
};

fn waiting_on(trigger: Scripted) -> NewTask {
    let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
    NewTask::of(&task).unwrap().when(defer(trigger))
}

/// A task that runs until it is told to end, and tells the test when it runs.
fn held_up(end: &Gate) -> Script {
    let end = end.clone();
    Script::of(move |_, cx| {
        let end = end.passed();
        async move {
            end.await;
            Ok(done_with(cx.attempt()))
        }
    })
}

/// A trigger that fires as soon as its check is let through.
fn fires_after(end: &Gate) -> (Scripted, Arc<Played>) {
    let end = end.clone();
    Scripted::of(move |_| {
        let end = end.passed();
        async move {
            end.await;
            Ok(Answer::Fire(Event::resume("seen")?))
        }
    })
}

both!(
    async fn a_stopping_triggerer_settles_what_fired_and_hands_over_the_rest_at_once(stage: Stage) {
        let label = |label: &str| triggerer::Settings { label: label.to_owned(), ..patient::triggerer() };
        let leaving = stage.triggerer(label("leaving")).await;
        stage.live("leaving").await;
        let (triggers, played): (Vec<_>, Vec<_>) = (0..20).map(|_| Scripted::never()).unzip();
        let tasks = triggers.into_iter().map(waiting_on).collect();
        let tasks = stage.store.enqueue_all(tasks).await.unwrap();
        let waiting: Vec<_> = tasks.into_iter().zip(played).collect();
        for (_, played) in &waiting {
            played.until(Seen::Check, 1).await;
        }
        let (fires, fired) = Scripted::fires("seen");
        *fired.settles_in.lock().unwrap() = ms(300);
        let task = stage.store.enqueue(waiting_on(fires)).await.unwrap();
        fired.until(Seen::Check, 1).await;
        leaving.stop().await;
        // Whoever fired has been told before the role ended.
        assert_eq!(fired.seen(), [Seen::Check, Seen::Settled(Receipt::Accepted), Seen::CleanUp]);
        stage.until_state(task, "ready").await;
        assert_eq!(stage.gone("leaving").await.gone_why.as_deref(), Some("left"));
        for (_, played) in &waiting {
            assert_eq!((played.times(Seen::CleanUp), played.times(Seen::OnCancel)), (1, 0));
        }

        // No lease passes before others have them: theirs are of 30 s.
        let _heirs = [stage.triggerer(label("one")).await, stage.triggerer(label("two")).await];
        for (task, played) in waiting {
            played.until(Seen::Check, 2).await;
            assert_eq!(stage.whole(task).await.wait.unwrap().deaths, 0, "leaving is not dying");
        }
    }
);

both!(
    async fn a_replica_is_marked_gone_before_it_cleans_up(stage: Stage) {
        let leaving =
            stage.triggerer(triggerer::Settings { label: "leaving".to_owned(), ..patient::triggerer() }).await;
        stage.live("leaving").await;
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let task = stage.store.enqueue(task.when(defer(CleansUpSlowly { every: 1 }))).await.unwrap();
        until("it to be held", async || stage.held().await == 1).await;
        leaving.ask();
        // While it still cleans up, it is gone, and its trigger can be had.
        until("it to clean up", async || CLEANING.load(Ordering::SeqCst)).await;
        assert_eq!(stage.gone("leaving").await.gone_why.as_deref(), Some("left"));
        assert_eq!(stage.held().await, 0);
        CLEANED.open();
        leaving.ended().await;
        assert_eq!(stage.state_of(task).await, "deferred");
    }
);

static CLEANING: AtomicBool = AtomicBool::new(false);
static CLEANED: std::sync::LazyLock<Gate> = std::sync::LazyLock::new(Gate::shut);

/// Is not done with cleaning up before the test says so.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct CleansUpSlowly {
    every: u64,
}

#[typetag::serde(name = "cleans_up_slowly")]
#[reveille::trigger::async_trait]
impl reveille::trigger::Trigger for CleansUpSlowly {
    async fn check(&self, _: &reveille::trigger::Context) -> Result<Answer, reveille::trigger::Error> {
        Ok(Answer::NotYet)
    }

    fn spacing(&self) -> reveille::trigger::Spacing {
        reveille::trigger::Spacing::every(ms(self.every))
    }

    async fn cleanup(&self, _: &reveille::trigger::Context) {
        CLEANING.store(true, Ordering::SeqCst);
        CLEANED.passed().await;
    }
}

both!(
    async fn a_stopping_triggerer_leases_nothing_more(stage: Stage) {
        let leaving =
            stage.triggerer(triggerer::Settings { label: "leaving".to_owned(), ..patient::triggerer() }).await;
        stage.live("leaving").await;
        let (fires, fired) = Scripted::fires("seen");
        *fired.settles_in.lock().unwrap() = ms(500);
        stage.store.enqueue(waiting_on(fires)).await.unwrap();
        fired.until(Seen::Check, 1).await;
        leaving.ask();
        let (late, played) = Scripted::never();
        stage.store.enqueue(waiting_on(late)).await.unwrap();
        leaving.ended().await;
        assert_eq!(played.seen(), []);
    }
);

both!(
    async fn a_stopping_worker_finishes_what_runs_under_its_own_life(stage: Stage) {
        let worker = stage.worker(worker::Settings { label: "leaving".to_owned(), ..patient::worker() }).await;
        let me = stage.live("leaving").await.incarnation;
        let end = Gate::shut();
        let task = stage.enqueue(&held_up(&end)).await;
        stage.until_state(task, "running").await;
        worker.ask();
        let late = stage.enqueue(&held_up(&end)).await;
        stage.pass(ms(400)).await;
        assert_eq!(stage.live("leaving").await.incarnation, me, "it leaves only then");
        end.open();
        worker.ended().await;
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.state.as_str(), times(&whole, "claimed")), ("succeeded", 1));
        assert_eq!(whole.history.last().unwrap().who, Some(me));
        assert_eq!(stage.state_of(late).await, "ready", "it took nothing new");
        assert_eq!(stage.gone("leaving").await.gone_why.as_deref(), Some("left"));
    }
);

both!(
    async fn a_cancellation_reaches_what_still_runs_while_its_worker_stops(stage: Stage) {
        let worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, cx| async move {
            cx.cancelled().await;
            Err(reveille::TaskError::retry("called off"))
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        worker.ask();
        stage.store.cancel(task, "not needed").await.unwrap();
        stage.until_state(task, "cancelled").await;
        worker.ended().await;
    }
);

both!(
    async fn what_runs_past_the_drain_limit_is_run_by_others_and_is_no_crash(stage: Stage) {
        let drain = ms(200);
        let leaving = stage.worker(worker::Settings { drain, label: "leaving".to_owned(), ..patient::worker() }).await;
        stage.live("leaving").await;
        let end = Gate::shut();
        let task = stage.enqueue(&held_up(&end)).await;
        stage.until_state(task, "running").await;
        leaving.stop().await;
        assert_eq!(stage.gone("leaving").await.gone_why.as_deref(), Some("left"));
        end.open();
        let _heir = stage.worker(patient::worker()).await;
        let whole = stage.succeeded(task).await;
        assert_eq!((whole.crashes, times(&whole, "released"), times(&whole, "crashed")), (0, 1, 0));
        assert_eq!(result(&whole), 1, "it is the same attempt");
    }
);

both!(
    async fn a_hard_stop_drops_what_runs(stage: Stage) {
        let store = stage.another().await;
        let worker = Role::worker(&store, patient::worker());
        let triggerer = Role::triggerer(&store, patient::triggerer());
        let end = Gate::shut();
        let task = stage.enqueue(&held_up(&end)).await;
        let (trigger, played) = Scripted::of(|_| std::future::pending());
        let waits = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.until_state(task, "running").await;
        played.until(Seen::Check, 1).await;
        let begun = stage.clock().monotonic();
        tokio::join!(worker.drop_hard(), triggerer.drop_hard());
        assert!(stage.clock().monotonic() - begun < ms(5_000));
        assert_eq!(played.times(Seen::CleanUp), 1);
        for label in ["worker", "triggerer"] {
            assert_eq!(stage.gone(label).await.gone_why.as_deref(), Some("left"));
        }
        for (task, state) in [(task, "succeeded"), (waits, "ready")] {
            assert_ne!(stage.state_of(task).await, state);
        }
    }
);

on_postgres!(
    async fn a_hard_stop_amid_what_is_being_stored_says_that_it_leaves(stage: Stage) {
        let store = stage.another().await;
        let roles =
            [Role::worker(&store, quick::worker("worker")), Role::triggerer(&store, quick::triggerer("triggerer"))];
        let end = Gate::shut();
        let task = stage.enqueue(&held_up(&end)).await;
        let (fires, fired) = fires_after(&end);
        let waits = stage.store.enqueue(waiting_on(fires)).await.unwrap();
        stage.until_state(task, "running").await;
        fired.until(Seen::Check, 1).await;
        let (_task_held, _wait_held) = (stage.hold(task).await, stage.hold(waits).await);
        end.open();
        until("both to wait for a row", async || {
            let text =
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            stage.count(text).await == 2
        })
        .await;
        for role in roles {
            role.drop_hard().await;
        }
        for label in ["worker", "triggerer"] {
            assert_eq!(stage.gone(label).await.gone_why.as_deref(), Some("left"));
        }
    }
);

on_postgres!(
    async fn a_hard_stop_does_not_wait_for_a_database_that_is_away(stage: Stage) {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        let roles =
            [Role::worker(&store, quick::worker("worker")), Role::triggerer(&store, quick::triggerer("triggerer"))];
        let end = Gate::shut();
        let task = stage.enqueue(&held_up(&end)).await;
        let (fires, fired) = fires_after(&end);
        stage.store.enqueue(waiting_on(fires)).await.unwrap();
        stage.until_state(task, "running").await;
        fired.until(Seen::Check, 1).await;
        proxy.close();
        end.open();
        until("both to be waiting for the database", async || {
            ["firing does not work", "storing what steps answered does not work"]
                .iter()
                .all(|said| !crate::stage::logged(&[said]).is_empty())
        })
        .await;
        let begun = stage.clock().monotonic();
        for role in roles {
            role.drop_hard().await;
        }
        assert!(stage.clock().monotonic() - begun < ms(8_000), "{:?}", stage.clock().monotonic() - begun);
    }
);

both!(
    async fn a_rolling_restart_loses_nothing(stage: Stage) {
        let keys = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for _ in 0..60 {
            let keys = Arc::clone(&keys);
            let (trigger, _) = Scripted::of(|before| async move {
                Ok(if before < 5 { Answer::NotYet } else { Answer::Fire(Event::resume(before)?) })
            });
            let task = Script::<Plain>::of(move |step, cx| {
                let (wait, keys) = (defer(trigger.clone()), Arc::clone(&keys));
                async move {
                    keys.lock().unwrap().push(cx.idempotency_key());
                    reveille::clock::Clock::system().sleep(ms(20)).await;
                    Ok(if step.at < 3 { wait.then(step.next()) } else { done() })
                }
            });
            tasks.push(NewTask::of(&task).unwrap());
        }
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        let mut roles = stage.both_roles().await;
        for _ in 0..4 {
            stage.pass(ms(150)).await;
            let next = stage.both_roles().await;
            for role in std::mem::replace(&mut roles, next) {
                role.stop().await;
            }
        }
        for id in ids {
            let whole = stage.succeeded(id).await;
            assert_eq!((whole.brief.turn, whole.crashes), (3, 0));
        }
        let mut keys = keys.lock().unwrap().clone();
        assert_eq!(keys.len(), 240, "a graceful stop runs nothing twice");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 240);
    }
);

both!(
    async fn a_trigger_that_panics_while_it_cleans_up_harms_nobody(stage: Stage) {
        let leaving = stage.triggerer(patient::triggerer()).await;
        let mut all = Vec::new();
        for n in 0..4 {
            let (trigger, played) = Scripted::never();
            played.cleans_up_badly.store(n % 2 == 0, Ordering::SeqCst);
            stage.store.enqueue(waiting_on(trigger)).await.unwrap();
            played.until(Seen::Check, 1).await;
            all.push(played);
        }
        leaving.stop().await;
        assert!(all.iter().all(|played| played.times(Seen::CleanUp) == 1));
        assert_eq!(stage.gone("triggerer").await.gone_why.as_deref(), Some("left"));
    }
);
