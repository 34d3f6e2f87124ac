//! Showing life, and watching the others, without a common clock.

use reveille::{
    NewTask, defer, done,
    store::replica,
    trigger::{Answer, Event},
    triggerer::Settings,
};

use crate::stage::{Gate, LEASE, Plain, Role, Script, Scripted, Seen, Stage, logged, ms, patient, quick, until};

fn waiting_on(trigger: Scripted) -> NewTask {
    let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
    NewTask::of(&task).unwrap().when(defer(trigger))
}

on_postgres!(
    async fn renewals_go_on_while_every_thread_of_the_role_is_blocked(stage: Stage) {
        let released = Gate::shut();
        let blocking = released.clone();
        let (trigger, played) = Scripted::of(move |before| {
            let released = blocking.clone();
            async move {
                if before == 0 {
                    while !released.is_open() {
                        #[expect(clippy::disallowed_methods, reason = "a check that does what it must not")]
                        std::thread::sleep(ms(5));
                    }
                }
                Ok(Answer::Fire(Event::succeed(before)?))
            }
        });
        let on = |queue: &str| Some(vec![queue.to_owned()]);
        // As in a process whose runtime has one thread.
        let (over, its_stage) = (Gate::shut(), stage.clone());
        let is_over = over.passed();
        let process = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let settings = Settings { queues: on("its own"), ..quick::triggerer("blocked") };
                let role = its_stage.triggerer(settings).await;
                is_over.await;
                role.stop().await;
            });
        });
        let _watcher = stage.triggerer(Settings { queues: on("another"), ..quick::triggerer("watcher") }).await;
        stage.live("watcher").await;
        let blocked = stage.live("blocked").await;
        let task = stage.store.enqueue(waiting_on(trigger).queue("its own")).await.unwrap();
        played.until(Seen::Check, 1).await;
        let beat = stage.live("blocked").await.beat;
        until("three leases of beats", async || stage.live("blocked").await.beat >= beat + 9).await;
        assert_eq!(stage.live("blocked").await.incarnation, blocked.incarnation);
        released.open();
        stage.succeeded(task).await;
        over.open();
        tokio::task::spawn_blocking(|| process.join()).await.unwrap().unwrap();
    }
);

both!(
    async fn the_database_is_asked_for_the_time_at_every_renewal(stage: Stage) {
        let store = stage.another().await;
        let _worker = Role::worker(&store, quick::worker("worker"));
        stage.live("worker").await;
        let clock = store.clock();
        // As after a host whose clock was wrong was put right, or a fail-over to one with another time.
        let now = clock.monotonic();
        clock.learn(stage.clock().now_ms() + 3_600_000, now, now);
        until("the time to be learned", async || (clock.now_ms() - stage.clock().now_ms()).abs() < 100).await;
    }
);

both!(
    async fn liveness_is_told_by_beats_and_not_by_clocks(stage: Stage) {
        let _watchers = [stage.triggerer(quick::triggerer("one")).await, stage.worker(quick::worker("two")).await];
        let (one, two) = (stage.live("one").await, stage.live("two").await);
        // Whatever time is written in a row says nothing: one that was seen in the future, and has no beat, is gone.
        let silent = stage.silent(replica::Role::Worker, "silent").await;
        stage
            .alter("update reveille_replica set seen_at = seen_at + 3600000 where incarnation = $1", &[silent.0])
            .await;
        let text = "update reveille_replica set seen_at = 0 where incarnation = $1";
        let gone = async {
            let gone = stage.gone("silent").await;
            assert_eq!(gone.gone_why.as_deref(), Some("lost"));
        };
        let ancient = async {
            loop {
                stage.alter(text, &[one.incarnation]).await;
                stage.alter(text, &[two.incarnation]).await;
                stage.clock().sleep(ms(50)).await;
            }
        };
        tokio::select! {
            () = gone => {}
            never = ancient => never,
        }
        assert_eq!(
            (stage.live("one").await.incarnation, stage.live("two").await.incarnation),
            (one.incarnation, two.incarnation)
        );
    }
);

both!(
    async fn a_silent_replica_is_declared_gone_once_and_its_work_goes_to_the_others(stage: Stage) {
        // Two that watch, and one that took a trigger and a task and then never showed life again.
        let silent = stage.silent(replica::Role::Triggerer, "silent triggerer").await;
        let silent_worker = stage.silent(replica::Role::Worker, "silent worker").await;
        let (trigger, played) = Scripted::fires("seen");
        let waits = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.alter("update reveille_trigger set holder = $2 where task_id = $1", &[waits.0, silent.0]).await;
        let runs = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done()) })).await;
        stage
            .alter(
                "update reveille_task set state = 'running', generation = 1, holder = $2 where id = $1",
                &[runs.0, silent_worker.0],
            )
            .await;

        let begun = stage.clock().monotonic();
        let _watchers = [
            stage.triggerer(quick::triggerer("one")).await,
            stage.triggerer(quick::triggerer("two")).await,
            stage.worker(quick::worker("three")).await,
        ];
        let whole = stage.succeeded(runs).await;
        assert_eq!((whole.crashes, whole.brief.attempt), (1, 1), "a crash is counted apart from attempts");
        stage.succeeded(waits).await;
        assert!(stage.clock().monotonic() - begun >= LEASE);
        assert_eq!(played.times(Seen::Check), 1);
        for label in ["silent triggerer", "silent worker"] {
            let gone = stage.gone(label).await;
            assert_eq!(gone.gone_why.as_deref(), Some("lost"));
            assert_eq!(logged(&[&gone.incarnation.to_string(), "has been silent for a lease: declared gone"]).len(), 1);
        }
    }
);

both!(
    async fn a_replica_that_is_declared_gone_takes_a_new_life(stage: Stage) {
        let _roles =
            [stage.triggerer(quick::triggerer("triggerer")).await, stage.worker(quick::worker("worker")).await];
        for label in ["triggerer", "worker"] {
            let lost = stage.lose(label).await;
            until("a new incarnation", async || stage.live(label).await.incarnation != lost.incarnation).await;
        }
        let (trigger, _) = Scripted::fires("seen");
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.succeeded(task).await;
    }
);

both!(
    async fn a_worker_that_is_found_gone_drops_what_it_runs_and_runs_it_anew(stage: Stage) {
        let _worker = stage.worker(quick::worker("worker")).await;
        let (runs, dropped) = (Gate::shut(), Gate::shut());
        let (begun, told) = (runs.clone(), dropped.clone());
        let task = Script::<Plain>::of(move |_, cx| {
            let (again, told) = (begun.is_open(), told.clone());
            begun.open();
            async move {
                if again {
                    return Ok(done());
                }
                let _told = scopeguard(move || {
                    if cx.is_cancelled() {
                        told.open();
                    }
                });
                std::future::pending().await
            }
        });
        let task = stage.enqueue(&task).await;
        runs.passed().await;
        let lost = stage.lose("worker").await;
        dropped.passed().await;
        assert_ne!(stage.live("worker").await.incarnation, lost.incarnation);
        assert_eq!(stage.succeeded(task).await.crashes, 1);
    }
);

/// Does it when it is dropped.
fn scopeguard(then: impl FnMut()) -> impl Drop {
    struct Guard<F: FnMut()>(F);
    impl<F: FnMut()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(then)
}

both!(
    async fn a_zombies_answer_changes_nothing(stage: Stage) {
        // The zombie is at a step when it is declared gone, and the step ends before it finds out.
        let _zombie =
            stage.worker(reveille::worker::Settings { label: "zombie".to_owned(), ..patient::worker() }).await;
        let gate = Gate::shut();
        let shut = gate.clone();
        let task = Script::<Plain>::of(move |_, _| {
            let (who, passed) = (if shut.is_open() { "the heir" } else { "the zombie" }, shut.passed());
            async move {
                passed.await;
                Ok(reveille::done_with(who))
            }
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        stage.lose("zombie").await;
        gate.open();
        stage.pass(ms(300)).await;
        assert_eq!(stage.state_of(task).await, "running");
        let _heir = stage.worker(quick::worker("heir")).await;
        let whole = stage.succeeded(task).await;
        assert_eq!(crate::stage::result(&whole), "the heir");
        assert_eq!(crate::stage::times(&whole, "finished"), 1);
    }
);
