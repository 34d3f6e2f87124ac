//! What any replica does.

use reveille::{
    NewTask, Retry, defer,
    store::{replica, signal::Signal as Sent},
    trigger::{Answer, Event},
    wait::{Signal, TaskEnd},
};

use super::{Behind, simple, statement};
use crate::stage::{Role, Scripted, Stage, ms, quick, times, until, whys};

on_postgres!(
    async fn what_was_due_and_not_heard_of_is_fired_once(stage: Stage) {
        // It is due, and only then the roles begin: the statement says the same whether it fired something or not.
        let task = stage.store.enqueue(simple().after(ms(1))).await.unwrap();
        let mut behind = Behind::client(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DUE);
        behind.begin(&stage).await;
        cut.happened().await;
        assert_eq!(times(&stage.succeeded(task).await, "due"), 1);
    }
);

on_postgres!(
    async fn a_deadline_struck_again_is_struck_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let wait = defer(Signal::new("never")).deadline(ms(50));
        let task = stage.store.enqueue(simple().retry(Retry::NEVER).when(wait)).await.unwrap();
        cut.happened().await;
        assert_eq!(times(&stage.until_state(task, "failed").await, "deadline"), 1);
    }
);

on_postgres!(
    async fn a_rescue_that_was_not_heard_of_counts_one_crash(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let silent = stage.silent(replica::Role::Worker, "silent").await;
        let cut = behind.proxy.cut_after_commit_of(statement::PUT_BACK);
        let task = stage.store.enqueue(simple().queue("nowhere").after(ms(3_600_000))).await.unwrap();
        stage.alter("delete from reveille_trigger where task_id = $1", &[task.0]).await;
        let taken =
            "update reveille_task set state = 'running', generation = 1, ready_at = 0, holder = $2 where id = $1";
        stage.alter(taken, &[task.0, silent.0]).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((whole.crashes, times(&whole, "crashed")), (1, 1));
    }
);

on_postgres!(
    async fn a_rescue_that_ends_a_task_ends_it_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let silent = stage.silent(replica::Role::Worker, "silent").await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let task = stage.store.enqueue(NewTask::named("nobody", 1.into())).await.unwrap();
        let taken = "update reveille_task set state = 'running', generation = 1, holder = $2, cancel_requested_at = 0
                      where id = $1";
        stage.alter(taken, &[task.0, silent.0]).await;
        cut.happened().await;
        assert_eq!(whys(&stage.until_state(task, "cancelled").await), ["enqueued", "cancelled"]);
    }
);

on_postgres!(
    async fn what_expired_and_was_not_heard_of_is_skipped_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let task = NewTask::named("nobody", 1.into()).expires(stage.clock().now());
        let task = stage.store.enqueue(task).await.unwrap();
        // Whoever waits for its end hears of it, though the replica was not told.
        let waits = simple().when(defer(TaskEnd::of(task.0)));
        let waits = stage.store.enqueue(waits).await.unwrap();
        cut.happened().await;
        assert_eq!(whys(&stage.until_state(task, "skipped").await), ["enqueued", "expired"]);
        assert_eq!(times(&stage.succeeded(waits).await, "task"), 1);
    }
);

on_postgres!(
    async fn a_signal_matched_by_a_sweep_that_was_not_heard_of_is_taken_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::TAKE_SIGNAL);
        let task = stage.store.enqueue(simple().when(defer(Signal::new("go")))).await.unwrap();
        // Whoever sent it is lost before they match.
        commit!(stage.store, db => stage.store.signal_in(db, &Sent::new("go", "once")));
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(times(&whole, "signal"), 1);
        let second = stage.store.enqueue(simple().when(defer(Signal::new("go")))).await.unwrap();
        assert_eq!(stage.state_of(second).await, "deferred");
    }
);

on_postgres!(
    async fn what_is_old_and_was_dropped_unheard_is_dropped_once(stage: Stage) {
        let gone = stage.silent(replica::Role::Worker, "long gone").await;
        stage
            .alter("update reveille_replica set gone_at = 0, gone_why = 'left' where incarnation = $1", &[gone.0])
            .await;
        stage.store.signal(Sent::new("nobody", 1)).await.unwrap();
        stage.alter("update reveille_signal set expires_at = 0 where id <> $1", &[gone.0]).await;
        // What is old is looked for as soon as a replica begins, and again after what failed.
        let mut behind = Behind::client(&stage).await;
        let cuts = [statement::FORGET, statement::DROP].map(|text| behind.proxy.cut_after_commit_of(text));
        behind.begin(&stage).await;
        for cut in cuts {
            cut.happened().await;
        }
        assert_eq!(stage.count("select count(*) from reveille_signal").await, 0);
        assert!(stage.replicas().await.iter().all(|replica| replica.label != "long gone"));
        stage.succeeded(stage.store.enqueue(simple()).await.unwrap()).await;
    }
);

on_postgres!(
    async fn a_renewal_that_was_not_heard_of_is_made_again(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let (worker, triggerer) = (stage.live("worker").await, stage.live("triggerer").await);
        for _ in 0..3 {
            behind.proxy.cut_after_commit_of(statement::RENEW).happened().await;
        }
        until("more beats", async || stage.live("worker").await.beat > worker.beat + 6).await;
        assert_eq!(stage.live("worker").await.incarnation, worker.incarnation);
        assert_eq!(stage.live("triggerer").await.incarnation, triggerer.incarnation);
    }
);

on_postgres!(
    async fn one_that_joined_and_was_not_told_joins_again(stage: Stage) {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        let cut = proxy.cut_after_commit_of(statement::JOIN);
        let _triggerer = Role::triggerer(&store, quick::triggerer("triggerer"));
        cut.happened().await;
        // The life that nobody leads is over before long, and the one after it works.
        assert_eq!(stage.gone("triggerer").await.gone_why.as_deref(), Some("lost"));
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        stage.succeeded(task).await;
    }
);

on_postgres!(
    async fn one_that_left_and_was_not_told_has_left(stage: Stage) {
        let proxy = stage.proxy().await;
        let triggerer = Role::triggerer(&stage.through(&proxy).await, quick::triggerer("triggerer"));
        stage.live("triggerer").await;
        let cut = proxy.cut_after_commit_of(statement::LEAVE);
        triggerer.stop().await;
        cut.happened().await;
        assert_eq!(stage.gone("triggerer").await.gone_why.as_deref(), Some("left"));
    }
);

on_postgres!(
    async fn a_peer_declared_gone_by_one_that_was_not_told_is_gone(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DECLARE);
        let silent = stage.silent(replica::Role::Triggerer, "silent").await;
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let task = stage.store.enqueue(simple().queue("nowhere").when(defer(trigger))).await.unwrap();
        stage.alter("update reveille_trigger set holder = $2 where task_id = $1", &[task.0, silent.0]).await;
        cut.happened().await;
        stage.succeeded(task).await;
    }
);
