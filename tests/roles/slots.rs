//! Waiting in a worker's own slot, for tasks or workers that do not defer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use reveille::{
    NewTask, Priority, Retry, Store, defer, done, done_with,
    id::TaskId,
    store::signal::Signal as Sent,
    trigger::{Answer, Error, Event, Receipt},
    wait::{Any, Signal, TaskEnd, Timer},
    worker::Settings,
};
use serde_json::{Value, json};

use crate::stage::{
    Anchored, Kind, Plain, Role, Script, Scripted, Seen, Stage, error, ms, patient, quick, result, times, until, whys,
};

/// Waits for a trigger, and ends with what came.
fn waiter<K: Kind>(wait: reveille::Deferral) -> Script<K> {
    Script::of(move |step, cx| {
        let wait = wait.clone();
        async move {
            Ok(match step.at {
                0 => wait.then(step.next()),
                _ => done_with(match cx.wait_failed() {
                    Some(failed) => json!(failed.reason),
                    None => cx.event::<Value>()?,
                }),
            })
        }
    })
}

fn narrow() -> Settings {
    Settings { concurrency: 1, ..patient::worker() }
}

both!(
    async fn every_kind_of_wait_can_be_waited_for_in_a_slot(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let other = TaskId::mint();
        let (active, played) = Scripted::of(|before| async move {
            Ok(if before < 2 { Answer::NotYet } else { Answer::Fire(Event::resume("seen")?) })
        });
        let waits = [
            defer(Timer::after(ms(50))),
            defer(Signal::new("go")),
            defer(TaskEnd::of(other.0)),
            defer(active),
            defer(Signal::new("never")).deadline(ms(100)).or_resume(),
        ];
        let mut ids = Vec::new();
        for wait in waits {
            ids.push(stage.enqueue(&waiter::<Anchored>(wait)).await);
        }
        stage.store.signal(Sent::new("go", "said")).await.unwrap();
        let first = Script::<Plain>::of(|_, _| async { Ok(done_with(42)) });
        stage.store.enqueue(NewTask::of(&first).unwrap().id(other)).await.unwrap();
        let mut results = Vec::new();
        for id in ids {
            let whole = stage.succeeded(id).await;
            assert_eq!(
                (whole.brief.turn, times(&whole, "claimed"), times(&whole, "deferred")),
                (1, 1, 0),
                "{:?}",
                whys(&whole)
            );
            results.push(result(&whole));
        }
        assert_eq!(results[2]["result"], 42);
        assert_eq!(
            [&results[0], &results[1], &results[3], &results[4]],
            [&Value::Null, &json!("said"), &json!("seen"), &json!("deadline")]
        );
        assert_eq!(played.times(Seen::Check), 3);
    }
);

both!(
    async fn a_wait_in_a_slot_holds_that_slot(stage: Stage) {
        let _worker = stage.worker(narrow()).await;
        let waits = stage.enqueue(&waiter::<Anchored>(defer(Signal::new("go")))).await;
        stage.until_state(waits, "running").await;
        let ran = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ran);
        let other = Script::<Plain>::of(move |_, _| {
            told.store(true, Ordering::SeqCst);
            async { Ok(done()) }
        });
        let other = stage.store.enqueue(NewTask::of(&other).unwrap().priority(Priority::High)).await.unwrap();
        // Once a signal has passed through the one slot, the other would have too.
        let passed = stage.enqueue(&waiter::<Anchored>(defer(Signal::new("go")))).await;
        until("the store to have been looked at", async || {
            stage.count("select count(*) from reveille_task where state = 'ready'").await == 2
        })
        .await;
        assert!(!ran.load(Ordering::SeqCst));
        stage.store.signal(Sent::new("go", 1)).await.unwrap();
        stage.succeeded(waits).await;
        stage.succeeded(other).await;
        stage.store.signal(Sent::new("go", 2)).await.unwrap();
        stage.succeeded(passed).await;
    }
);

both!(
    async fn a_worker_can_be_told_to_wait_in_its_slots_whatever_the_task(stage: Stage) {
        let _worker = stage.worker(Settings { deferrable: false, ..patient::worker() }).await;
        let (active, _) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Plain>(defer(active))).await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "deferred")), (json!("seen"), 0));
    }
);

both!(
    async fn a_wait_in_a_slot_that_ends_badly_is_a_failed_attempt(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let (fatal, played) = Scripted::of(|_| async { Err(Error::fatal("no such bucket")) });
        let fatal = stage.enqueue(&waiter::<Anchored>(defer(fatal))).await;
        let late =
            NewTask::of(&waiter::<Anchored>(defer(Signal::new("never")).deadline(ms(50)))).unwrap().retry(Retry::NEVER);
        let late = stage.store.enqueue(late).await.unwrap();
        let whole = stage.until_state(fatal, "failed").await;
        assert_eq!((error(&whole).as_str(), whole.brief.attempt, played.times(Seen::Check)), ("no such bucket", 3, 3));
        assert_eq!(error(&stage.until_state(late, "failed").await), "nothing had fired by the deadline");
    }
);

both!(
    async fn a_trigger_can_end_its_task_from_a_slot(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let (succeeds, played) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(7)?)) });
        let task = stage.enqueue(&waiter::<Anchored>(defer(succeeds))).await;
        assert_eq!(result(&stage.succeeded(task).await), json!(7));
        played.until(Seen::CleanUp, 1).await;
    }
);

both!(
    async fn a_trigger_in_a_slot_learns_what_became_of_its_event(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let (active, played) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Anchored>(defer(active))).await;
        stage.succeeded(task).await;
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.seen(), [Seen::Check, Seen::Settled(Receipt::Accepted), Seen::CleanUp]);
    }
);

both!(
    async fn a_wait_in_a_slot_is_cancelled_with_its_task_and_undone(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let (active, played) = Scripted::never();
        let tasks = [defer(active), defer(Signal::new("never")), defer(Timer::after(ms(3_600_000)))];
        let mut ids = Vec::new();
        for wait in tasks {
            ids.push(stage.enqueue(&waiter::<Anchored>(wait)).await);
        }
        played.until(Seen::Check, 1).await;
        for id in &ids {
            stage.until_state(*id, "running").await;
            stage.store.cancel(*id, "not needed").await.unwrap();
        }
        for id in ids {
            stage.until_state(id, "cancelled").await;
        }
        assert_eq!((played.times(Seen::OnCancel), played.times(Seen::CleanUp)), (1, 1));
    }
);

// The signal is sent after its waiter has lost the task, and before it knows.
both!(
    async fn a_worker_that_has_lost_its_task_takes_no_signal_from_it(stage: Stage) {
        let zombie: Store = stage.another().await;
        let _zombie = Role::worker(&zombie, Settings { label: "zombie".to_owned(), ..patient::worker() });
        let task = stage.enqueue(&waiter::<Anchored>(defer(Signal::new("go")))).await;
        stage.until_state(task, "running").await;
        stage.lose("zombie").await;
        // A look that began before is over once we have had the task's row.
        stage.hold(task).await.commit().await.unwrap();
        stage.store.signal(Sent::new("go", "once")).await.unwrap();
        // It looks four times a second.
        stage.pass(ms(800)).await;
        assert_eq!(
            stage.count("select count(*) from reveille_signal where taken_at is null").await,
            1,
            "it was taken, and is lost"
        );
        let _heir = stage.worker(Settings { label: "heir".to_owned(), ..quick::worker("heir") }).await;
        assert_eq!(result(&stage.succeeded(task).await), json!("once"));
    }
);

both!(
    async fn a_check_that_lasts_ends_at_its_deadline_and_hears_what_comes(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let lasting = || Scripted::of(|_| std::future::pending()).0.time_out(None);
        let (one, two) = (lasting(), lasting());
        let late = Script::<Anchored>::of(move |step, _| {
            let one = one.clone();
            async move {
                Ok(match step.at {
                    0 => defer(one).deadline(ms(300)).or_resume().then(step.next()),
                    _ => done(),
                })
            }
        });
        let stopped = Script::<Anchored>::of(move |step, cx| {
            let any = Any::default().or("heard", two.clone()).or("stop", Signal::new("stop"));
            async move {
                Ok(match step.at {
                    0 => defer(any).then(step.next()),
                    _ => done_with(cx.event::<Value>()?),
                })
            }
        });
        let (late, stopped) = (stage.enqueue(&late).await, stage.enqueue(&stopped).await);
        stage.succeeded(late).await;
        stage.store.signal(Sent::new("stop", 1)).await.unwrap();
        assert_eq!(result(&stage.succeeded(stopped).await), json!({ "stop": 1 }));
    }
);
