//! What triggerers do.

use reveille::{
    Retry, defer,
    id::TaskId,
    store::replica,
    trigger::{Answer, Event, Receipt},
    triggerer,
};
use serde_json::json;

use super::{Behind, give_up_on, simple, statement, waiter};
use crate::stage::{
    Gate, Plain, Role, Scripted, Seen, Stage, error, logged, ms, patient, quick, result, times, until, whys,
};

on_postgres!(
    async fn a_lease_that_was_not_heard_of_is_adopted(stage: Stage) {
        // At once, and not only when the tenth renewal has it asked for.
        let behind = Behind::patient_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::LEASE);
        let (trigger, played) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Plain>(defer(trigger))).await;
        cut.happened().await;
        assert_eq!(result(&stage.succeeded(task).await), json!([1, "seen"]));
        assert_eq!(played.times(Seen::Check), 1);
    }
);

on_sqlite!(
    async fn a_lease_that_was_given_up_on_is_adopted(stage: Stage) {
        let store = stage.another().await;
        let _triggerer = Role::triggerer(&store, patient::triggerer());
        stage.live("triggerer").await;
        let (trigger, played) = Scripted::never();
        let adding = stage.store.enqueue(simple().when(defer(trigger)));
        let leased = "select count(*) from reveille_trigger where holder is not null";
        let (task, ()) = tokio::join!(adding, give_up_on(&stage, &store, leased));
        played.until(Seen::Check, 1).await;
        assert_eq!(stage.whole(task.unwrap()).await.wait.unwrap().deaths, 0);
    }
);

on_postgres!(
    async fn a_take_over_that_was_not_heard_of_counts_one_death(stage: Stage) {
        let behind = Behind::patient_roles(&stage).await;
        let silent = stage.silent(replica::Role::Triggerer, "silent").await;
        let cut = behind.proxy.cut_after_commit_of(statement::TAKE_OVER);
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        stage.alter("update reveille_trigger set holder = $2 where task_id = $1", &[task.0, silent.0]).await;
        stage.lose("silent").await;
        cut.happened().await;
        let me = stage.live("triggerer").await.incarnation;
        let checks = played.times(Seen::Check);
        played.until(Seen::Check, checks + 2).await;
        let wait = stage.whole(task).await.wait.unwrap();
        assert_eq!((wait.holder, wait.deaths), (Some(me), 1));
    }
);

async fn fires_once(
    stage: &Stage,
    event: impl Fn() -> Event + Send + Sync + 'static,
    cut_at: &'static str,
    state: &str,
) -> TaskId {
    let behind = Behind::both_roles(stage).await;
    let cut = behind.proxy.cut_after_commit_of(cut_at);
    let event = std::sync::Arc::new(event);
    let (trigger, played) = Scripted::of(move |_| {
        let event = event();
        async move { Ok(Answer::Fire(event)) }
    });
    let retry = Retry { max_attempts: 2, backoff: ms(20), cap: ms(20) };
    let task = stage.store.enqueue(simple().retry(retry).when(defer(trigger))).await.unwrap();
    cut.happened().await;
    let whole = stage.until_state(task, state).await;
    let looks = 1 + times(&whole, "rearmed");
    played.until(Seen::CleanUp, looks).await;
    assert_eq!(played.times(Seen::Settled(Receipt::Accepted)), looks, "a repeated fire was accepted the first time");
    assert_eq!(played.times(Seen::Check), looks);
    task
}

on_postgres!(
    async fn an_event_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::resume("seen").unwrap(), statement::FIRE, "succeeded").await;
        assert_eq!(times(&stage.whole(task).await, "event"), 1);
    }
);

on_postgres!(
    async fn an_end_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::succeed(7).unwrap(), statement::END, "succeeded").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "event"]);
    }
);

on_postgres!(
    async fn a_skip_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::skip("a holiday"), statement::END, "skipped").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "event"]);
    }
);

on_postgres!(
    async fn a_failure_fired_again_costs_one_attempt(stage: Stage) {
        let task = fires_once(&stage, || Event::fail("no such bucket"), statement::REARM, "failed").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "rearmed", "wait_failed"]);
    }
);

on_postgres!(
    async fn a_verdict_given_again_costs_one_attempt(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::REARM);
        let (trigger, played) = Scripted::of(|_| async { Err(reveille::trigger::Error::fatal("no such bucket")) });
        let retry = Retry { max_attempts: 2, backoff: ms(20), cap: ms(20) };
        let task = stage.store.enqueue(simple().retry(retry).when(defer(trigger))).await.unwrap();
        cut.happened().await;
        let whole = stage.until_state(task, "failed").await;
        assert_eq!((error(&whole).as_str(), times(&whole, "rearmed")), ("no such bucket", 1));
        assert_eq!(played.times(Seen::Check), 2);
    }
);

on_postgres!(
    async fn a_trigger_given_back_again_is_dormant_once(stage: Stage) {
        let proxy = stage.proxy().await;
        let settings = triggerer::Settings { horizon: ms(100), capacity: 1, ..quick::triggerer("triggerer") };
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, settings);
        let cut = proxy.cut_after_commit_of(statement::RELEASE);
        let (trigger, played) = Scripted::of(|before| async move {
            Ok(if before == 0 { Answer::NotYet } else { Answer::Fire(Event::succeed(before)?) })
        });
        let task = stage.store.enqueue(simple().when(defer(trigger.every(ms(1_500))))).await.unwrap();
        cut.happened().await;
        // The only slot is free meanwhile.
        let (other, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let other = stage.store.enqueue(simple().when(defer(other))).await.unwrap();
        stage.succeeded(other).await;
        assert_eq!(result(&stage.succeeded(task).await), json!(1));
        assert_eq!(played.times(Seen::Check), 2);
    }
);

on_postgres!(
    async fn an_undo_that_was_not_heard_of_is_carried_out(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        let cut = behind.proxy.cut_after_commit_of(statement::UNDO);
        stage.store.cancel(task, "not needed").await.unwrap();
        cut.happened().await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

on_postgres!(
    async fn an_undo_settled_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::UNDONE);
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        stage.store.cancel(task, "not needed").await.unwrap();
        cut.happened().await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        // Another is undone after it: the loop goes on.
        let (trigger, later) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        later.until(Seen::Check, 1).await;
        stage.store.cancel(task, "not needed").await.unwrap();
        later.until(Seen::OnCancel, 1).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

on_postgres!(
    async fn an_undo_put_off_again_costs_one_attempt(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::UNDO_AGAIN);
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        played.undoes(|before| async move {
            if before == 0 { Err(reveille::trigger::Error::again("not now")) } else { Ok(()) }
        });
        stage.store.cancel(task, "not needed").await.unwrap();
        cut.happened().await;
        assert_eq!(stage.count("select cast(attempt as bigint) from reveille_undo").await, 2);
        stage.alter("update reveille_undo set wake_at = 0 where task_id = $1", &[task.0]).await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 2);
    }
);

// The server refuses what it was asked, and the trigger is held by us as before.
on_postgres!(
    async fn an_undo_whose_outcome_could_not_be_stored_is_carried_out_again(stage: Stage) {
        let proxy = stage.proxy().await;
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, patient::triggerer());
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        let cut = Gate::shut();
        let shut = cut.clone();
        played.undoes(move |_| {
            let cut = shut.passed();
            async move {
                cut.await;
                Ok(())
            }
        });
        stage.store.cancel(task, "not needed").await.unwrap();
        played.until(Seen::OnCancel, 1).await;
        proxy.close();
        cut.open();
        until("it to be noticed", async || !logged(&["undoing does not work"]).is_empty()).await;
        proxy.open();
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
    }
);
