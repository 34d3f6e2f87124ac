//! How long it takes from a deferral to the next step, when the wait is already over. Printed, and bounded loosely: the
//! host of a test may be busy.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use reveille::{
    Store, defer, done,
    store::signal::Signal as Sent,
    wait::{Signal, Timer},
};

use crate::stage::{Plain, Role, Script, Scripted, Stage, ms, patient};

/// Takes so many turns, and notes how long each was in coming.
async fn laps(
    stage: &Stage,
    store: &Store,
    what: &str,
    laps: u32,
    wait: impl Fn(u32) -> reveille::Deferral + Send + Sync + 'static,
) {
    let took = Arc::new(Mutex::new(Vec::new()));
    let (clock, noted) = (stage.clock().clone(), Arc::clone(&took));
    let since = Arc::new(Mutex::new(None));
    let task = Script::<Plain>::of(move |step, _| {
        let now = clock.monotonic();
        if let Some(since) = since.lock().unwrap().replace(now) {
            noted.lock().unwrap().push(now - since);
        }
        let wait = wait(step.at);
        // The deferral itself is in the time: from here to the next step.
        async move { Ok(if step.at == laps { done() } else { wait.then(step.next()) }) }
    });
    let task = store.enqueue(reveille::NewTask::of(&task).unwrap()).await.unwrap();
    stage.succeeded(task).await;
    let mut took = took.lock().unwrap().clone();
    took.sort();
    let quantile = |of: f64| took[((took.len() - 1) as f64 * of) as usize];
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    println!("MEASURED {what}: p50 {p50:?}, p99 {p99:?}, of {} rounds", took.len());
    assert!(p99 < Duration::from_secs(2), "{p99:?}");
}

async fn signal_ahead(stage: &Stage, laps: u32) {
    for lap in 0..laps {
        stage.store.signal(Sent::new(format!("lap/{lap}"), lap)).await.unwrap();
    }
}

both!(
    async fn a_wait_that_is_over_resumes_at_once_in_one_process(stage: Stage) {
        let store = stage.another().await;
        let _roles = [Role::triggerer(&store, patient::triggerer()), Role::worker(&store, patient::worker())];
        stage.live("triggerer").await;
        laps(&stage, &store, &format!("one process, {}, timer", store.url().backend()), 100, |_| {
            defer(Timer::after(ms(0)))
        })
        .await;
        signal_ahead(&stage, 100).await;
        laps(&stage, &store, &format!("one process, {}, signal", store.url().backend()), 100, |lap| {
            defer(Signal::new(format!("lap/{lap}")))
        })
        .await;
        let (active, _) = Scripted::fires(());
        laps(&stage, &store, &format!("one process, {}, active", store.url().backend()), 200, move |_| {
            defer(active.clone())
        })
        .await;
    }
);

both!(
    async fn a_wait_that_is_over_resumes_within_a_period_where_no_hint_comes(stage: Stage) {
        let (one, two) = (stage.another().await, stage.another().await);
        let _roles = [Role::triggerer(&one, patient::triggerer()), Role::worker(&two, patient::worker())];
        stage.live("triggerer").await;
        let (active, _) = Scripted::fires(());
        laps(&stage, &two, &format!("two processes without hints, {}, active", one.url().backend()), 8, move |_| {
            defer(active.clone())
        })
        .await;
    }
);

on_postgres!(
    async fn hints_pass_between_processes(stage: Stage) {
        let (one, two) = (stage.another().await, stage.another().await);
        let stop = reveille::life::Stop::new();
        for store in [&one, &two] {
            let (store, stop) = (store.clone(), stop.soft().clone());
            tokio::spawn(async move { store.relay(stop).await });
        }
        let _roles = [Role::triggerer(&one, patient::triggerer()), Role::worker(&two, patient::worker())];
        stage.live("triggerer").await;
        let (active, _) = Scripted::fires(());
        laps(&stage, &two, "two processes with hints, postgres, active", 60, move |_| defer(active.clone())).await;
        stop.hard().cancel();
    }
);
