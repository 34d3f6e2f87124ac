//! One outcome a deferral, and no event lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reveille::{
    NewTask, Retry,
    clock::timestamp,
    defer, done, done_with,
    store::signal::Signal as Sent,
    trigger::{Answer, Error, Event, Receipt},
    wait::Signal,
};
use serde_json::{Value, json};

use crate::stage::{
    Gate, LEASE, Plain, Script, Scripted, Seen, Stage, error, ms, patient, quick, result, times, until, whys,
};

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, cx| async move { Ok(done_with(cx.event::<Value>()?)) })).unwrap()
}

both!(
    async fn an_accepted_event_is_acknowledged_after_it_is_stored(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let go = Gate::shut();
        let shut = go.clone();
        let (trigger, played) = Scripted::of(move |_| {
            let passed = shut.passed();
            async move {
                passed.await;
                Ok(Answer::Fire(Event::resume("seen")?))
            }
        });
        let task = stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        let held = stage.hold(task).await;
        go.open();
        stage.pass(ms(500)).await;
        assert_eq!(played.seen(), [Seen::Check], "it is not stored yet");
        held.commit().await.unwrap();
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.seen(), [Seen::Check, Seen::Settled(Receipt::Accepted), Seen::CleanUp]);
        assert_eq!(stage.state_of(task).await, "ready");
    }
);

both!(
    async fn a_trigger_that_does_not_come_back_from_its_receipt_is_let_go_of(stage: Stage) {
        let triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::fires("seen");
        *played.settles_in.lock().unwrap() = ms(3_600_000);
        let task = stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
        stage.until_state(task, "ready").await;
        triggerer.ask();
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.seen(), [Seen::Check, Seen::CleanUp]);
        triggerer.ended().await;
    }
);

both!(
    async fn an_event_that_comes_too_late_is_given_back_and_changes_nothing(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let go = Gate::shut();
        let shut = go.clone();
        let (trigger, played) = Scripted::of(move |_| {
            let passed = shut.passed();
            async move {
                passed.await;
                Ok(Answer::Fire(Event::resume("too late")?))
            }
        });
        let wait = defer(trigger.clone());
        let id = stage.store.enqueue(task().when(wait)).await.unwrap();
        played.until(Seen::Check, 1).await;
        // Somebody else decides while the check is under way.
        stage.store.cancel(id, "not needed").await.unwrap();
        let before = stage.whole(id).await;
        go.open();
        until("the receipt", async || played.seen().iter().any(|seen| matches!(seen, Seen::Settled(_)))).await;
        assert_eq!(played.times(Seen::Settled(Receipt::Refused)), 1);
        assert_eq!(stage.whole(id).await.history, before.history);
    }
);

both!(
    async fn an_event_too_large_to_store_fails_its_wait_alone(stage: Stage) {
        let _roles = stage.both_roles().await;
        let go = Gate::shut();
        let mut tasks = Vec::new();
        let mut all = Vec::new();
        for n in 0..9 {
            let shut = go.clone();
            let (trigger, played) = Scripted::of(move |_| {
                let passed = shut.passed();
                async move {
                    passed.await;
                    Ok(Answer::Fire(match n {
                        4 => Event::resume("x".repeat(2 << 20))?,
                        5 => Event::fail("x".repeat(2 << 20)),
                        6 => Event::skip("x".repeat(2 << 20)),
                        n => Event::resume(n)?,
                    }))
                }
            });
            all.push(played);
            tasks.push(task().retry(Retry::NEVER).when(defer(trigger)));
        }
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        for played in &all {
            played.until(Seen::Check, 1).await;
        }
        // So that they come in one batch.
        go.open();
        for (n, id) in ids.into_iter().enumerate() {
            if (4..=6).contains(&n) {
                let whole = stage.until_state(id, if n == 6 { "skipped" } else { "failed" }).await;
                assert_eq!(error(&whole).contains("its event cannot be stored"), n == 4, "what is said is cut short");
            } else {
                assert_eq!(result(&stage.succeeded(id).await), json!(n));
            }
            assert_eq!(all[n].times(Seen::Check), 1);
        }
    }
);

both!(
    async fn a_complaint_too_large_to_store_fails_its_wait_alone(stage: Stage) {
        let _roles = stage.both_roles().await;
        let go = Gate::shut();
        let mut tasks = Vec::new();
        for n in 0..4 {
            let shut = go.clone();
            let (trigger, _) = Scripted::of(move |_| {
                let passed = shut.passed();
                async move {
                    passed.await;
                    Err(Error::fatal(if n == 2 { "x".repeat(2 << 20) } else { n.to_string() }))
                }
            });
            tasks.push(task().retry(Retry::NEVER).when(defer(trigger)));
        }
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        until("all to be held", async || stage.held().await == 4).await;
        go.open();
        for (n, id) in ids.into_iter().enumerate() {
            let whole = stage.until_state(id, "failed").await;
            assert!(n == 2 || error(&whole) == n.to_string(), "{}", error(&whole));
        }
    }
);

both!(
    async fn a_burst_of_events_is_stored_while_renewals_stay_on_time(stage: Stage) {
        const BURST: usize = 5_000;
        let settings =
            reveille::triggerer::Settings { capacity: BURST, checks: BURST, ..quick::triggerer("triggerer") };
        // On SQLite, renewals take their turn with batches of 500: a lease of 1 s is not for bursts there.
        let settings = reveille::triggerer::Settings { lease: 3 * LEASE, ..settings };
        let _triggerer = stage.triggerer(settings).await;
        let _watcher = stage
            .worker(reveille::worker::Settings { names: Some(vec!["order".to_owned()]), ..quick::worker("watcher") })
            .await;
        let me = stage.live("triggerer").await.incarnation;
        let go = Gate::shut();
        let held = Arc::new(AtomicUsize::new(0));
        // One script for all: what counts is how many rows there are.
        let step = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let (shut, counted) = (go.clone(), Arc::clone(&held));
        let (trigger, _) = Scripted::of(move |_| {
            let passed = shut.passed();
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                passed.await;
                Ok(Answer::Fire(Event::resume("now")?))
            }
        });
        for _ in 0..BURST / 500 {
            let tasks = (0..500).map(|_| NewTask::of(&step).unwrap().when(defer(trigger.clone()))).collect();
            stage.store.enqueue_all(tasks).await.unwrap();
        }
        until("all to be held", async || held.load(Ordering::SeqCst) == BURST).await;
        let beats = stage.live("triggerer").await.beat;
        let begun = stage.clock().monotonic();
        go.open();
        until("all to be stored", async || {
            stage.count("select count(*) from reveille_task where state = 'ready'").await == BURST as i64
        })
        .await;
        let took = stage.clock().monotonic() - begun;
        let now = stage.live("triggerer").await;
        assert_eq!(now.incarnation, me, "it was declared gone");
        // Three a lease, if none is late.
        let due = (took.as_millis() / 1_200) as i64;
        assert!(now.beat - beats >= due, "{} of {due} beats in {took:?}", now.beat - beats);
        println!("MEASURED {BURST} events stored in {took:?}, with {} beats", now.beat - beats);
        assert_eq!(stage.count("select count(*) from reveille_history where why = 'event'").await, BURST as i64);
    }
);

both!(
    async fn of_event_deadline_and_cancellation_one_decides(stage: Stage) {
        let _roles = [stage.both_roles().await, stage.both_roles().await];
        let begin = stage.clock().now_ms() + 700;
        // All of them are due at the same moment, which is another for each task.
        let due_at = |n: i64| begin + 10 * n;
        let mut tasks = Vec::new();
        for n in 0..90 {
            let (clock, at) = (stage.clock().clone(), due_at(n));
            let (trigger, _) = Scripted::of(move |_| {
                let now = clock.now_ms() >= at;
                async move { Ok(if now { Answer::Fire(Event::resume("event")?) } else { Answer::NotYet }) }
            });
            let wait = if n % 2 == 0 { defer(trigger.every(ms(5))) } else { defer(Signal::new(format!("key/{n}"))) };
            tasks.push(task().retry(Retry::NEVER).when(wait.deadline_at(timestamp(at + 5))));
        }
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        let clients = ids.iter().zip(0..).map(async |(id, n)| {
            stage.pass(ms((due_at(n) - stage.clock().now_ms()).max(0) as u64)).await;
            if n % 2 == 1 {
                stage.store.signal(Sent::new(format!("key/{n}"), "signal")).await.unwrap();
            }
            if n % 3 == 0 {
                stage.store.cancel(*id, "not needed").await.unwrap();
            }
        });
        futures::future::join_all(clients).await;
        let mut outcomes = BTreeMap::new();
        for id in ids {
            until("it to have ended", async || stage.whole(id).await.end.is_some()).await;
            let whole = stage.whole(id).await;
            // What was decided for the wait comes second; a task that goes on from it may be cancelled as ready.
            let decided = ["event", "signal", "deadline"].map(|why| times(&whole, why)).iter().sum::<usize>();
            let outcome = whys(&whole)[1].to_owned();
            assert_eq!(decided + usize::from(outcome == "cancelled"), 1, "{:?}", whys(&whole));
            *outcomes.entry(outcome).or_insert(0) += 1;
        }
        println!("MEASURED outcomes: {outcomes:?}");
    }
);

both!(
    async fn an_event_of_an_earlier_wait_does_not_end_a_later_one(stage: Stage) {
        let _triggerer = stage.triggerer(quick::triggerer("triggerer")).await;
        let _worker = stage.worker(quick::worker("worker")).await;
        let go = Gate::shut();
        let shut = go.clone();
        let (trigger, played) = Scripted::of(move |_| {
            let passed = shut.passed();
            async move {
                passed.await;
                Ok(Answer::Fire(Event::resume("of the first wait")?))
            }
        });
        // The first wait is over while a check for it is under way; the second waits for something else.
        let script = Script::<Plain>::of(move |step, _| {
            let wait = match step.at {
                0 => defer(trigger.clone()).deadline(ms(300)).or_resume(),
                _ => defer(Signal::new("never")),
            };
            async move { Ok(wait.then(step.next())) }
        });
        let task = stage.enqueue(&script).await;
        played.until(Seen::Check, 1).await;
        until("the second wait", async || times(&stage.whole(task).await, "deferred") == 2).await;
        let before = stage.whole(task).await;
        go.open();
        stage.pass(ms(500)).await;
        let after = stage.whole(task).await;
        assert_eq!((after.brief.state.as_str(), after.history), ("deferred", before.history));
        assert_eq!(played.times(Seen::Settled(Receipt::Accepted)), 0);
    }
);

both!(
    async fn an_event_that_cannot_be_stored_is_refused_to_its_trigger(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::fires("x".repeat(2 << 20));
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        stage.store.enqueue(task.when(defer(trigger))).await.unwrap();
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.seen()[..3], [Seen::Check, Seen::Settled(Receipt::Refused), Seen::CleanUp]);
    }
);
