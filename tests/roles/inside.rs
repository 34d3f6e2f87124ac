//! Triggers with others inside: what they wait for together, wherever the task waits and whoever holds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reveille::{
    Deferral, NewTask,
    clock::Clock,
    defer, done, done_with,
    id::TaskId,
    store::signal::Signal as Sent,
    trigger::{Answer, Error, Event, Receipt, Trigger},
    triggerer::Settings,
    wait::{Absent, All, Any, NotBefore, Signal, TaskEnd, Timer},
};
use serde_json::{Value, json};

use crate::stage::{
    Anchored, Kind, Plain, Played, Role, Script, Scripted, Seen, Stage, error, logged, ms, patient, quick, result,
    until,
};

const HOUR: Duration = Duration::from_hours(1);

/// Waits, and ends with what came.
fn waiter<K: Kind>(wait: impl Fn() -> Deferral + Send + Sync + 'static) -> Script<K> {
    Script::of(move |step, cx| {
        let wait = wait();
        async move {
            Ok(match step.at {
                0 => wait.then(step.next()),
                _ => done_with(cx.event::<Value>()?),
            })
        }
    })
}

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

async fn begin(stage: &Stage, trigger: impl Trigger + 'static) -> TaskId {
    stage.store.enqueue(task().when(defer(trigger))).await.unwrap()
}

async fn send(stage: &Stage, key: &str, payload: impl serde::Serialize) {
    stage.store.signal(Sent::new(key, payload)).await.unwrap();
}

async fn has_arrived(stage: &Stage, task: TaskId) {
    until("it to arrive", async || stage.whole(task).await.wait.is_some_and(|wait| !wait.arrived.is_empty())).await;
}

/// Cannot tell until it is let, and then fires.
fn held_back() -> (Scripted, Arc<AtomicBool>) {
    let let_go = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&let_go);
    let (trigger, _) = Scripted::of(move |_| {
        let may = may.load(Ordering::SeqCst);
        async move { Ok(if may { Answer::Fire(Event::resume("checked")?) } else { Answer::NotYet }) }
    });
    (trigger, let_go)
}

both!(
    async fn the_first_of_several_ends_the_wait_under_its_name(stage: Stage) {
        let _roles = stage.both_roles().await;
        let any = |key: &'static str| {
            move || {
                let never = Scripted::never().0;
                defer(Any::default().or("paid", Signal::new(key)).or("late", Timer::after(HOUR)).or("never", never))
            }
        };
        let deferred = stage.enqueue(&waiter::<Plain>(any("deferred"))).await;
        let in_slot = stage.enqueue(&waiter::<Anchored>(any("in slot"))).await;
        stage.until_state(deferred, "deferred").await;
        stage.until_state(in_slot, "running").await;
        send(&stage, "deferred", 1).await;
        send(&stage, "in slot", 2).await;
        assert_eq!(result(&stage.succeeded(deferred).await), json!({ "paid": 1 }));
        assert_eq!(result(&stage.succeeded(in_slot).await), json!({ "paid": 2 }));
        let left = "select count(*) from reveille_signal where taken_at is null";
        assert_eq!(stage.count(left).await, 0, "each signal is taken");
    }
);

both!(
    async fn all_of_several_end_the_wait_with_what_each_fired(stage: Stage) {
        let _roles = stage.both_roles().await;
        // One signal comes before the task defers, the other after.
        for early in ["a", "b"] {
            send(&stage, &format!("{early}/early"), early).await;
        }
        let all = |key: &'static str| {
            move || {
                let early = Signal::new(format!("{key}/early"));
                let late = Signal::new(format!("{key}/late"));
                defer(All::default().and("early", early).and("late", late).and("timer", Timer::after(ms(50))))
            }
        };
        let deferred = stage.enqueue(&waiter::<Plain>(all("a"))).await;
        let in_slot = stage.enqueue(&waiter::<Anchored>(all("b"))).await;
        for (task, key) in [(deferred, "a"), (in_slot, "b")] {
            send(&stage, &format!("{key}/late"), 2).await;
            assert_eq!(result(&stage.succeeded(task).await), json!({ "early": key, "late": 2, "timer": null }));
        }
    }
);

both!(
    async fn nothing_is_checked_while_another_part_has_yet_to_come(stage: Stage) {
        let _triggerer = stage.triggerer(Settings { capacity: 1, ..patient::triggerer() }).await;
        let mut waits = Vec::new();
        for number in 0..3 {
            let (check, played) = Scripted::fires(number);
            let all = All::default().and("go", Signal::new(format!("go/{number}"))).and("check", check);
            waits.push((begin(&stage, all).await, played));
        }
        // It takes up the whole capacity, and comes to its end.
        let other = begin(&stage, Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(1)?)) }).0).await;
        stage.succeeded(other).await;
        for (number, (task, played)) in waits.iter().enumerate() {
            assert_eq!((stage.state_of(*task).await, played.times(Seen::Check)), ("deferred".to_owned(), 0));
            send(&stage, &format!("go/{number}"), ()).await;
            played.until(Seen::Check, 1).await;
            stage.until_state(*task, "ready").await;
            assert_eq!(played.times(Seen::Check), 1);
        }
    }
);

both!(
    async fn what_has_arrived_stays_when_the_holder_is_lost(stage: Stage) {
        let _first = stage.triggerer(quick::triggerer("first")).await;
        let (check, let_go) = held_back();
        let timer = Timer::after(ms(10));
        let all = All::default().and("go", Signal::new("go")).and("check", check).and("timer", timer);
        let waits = begin(&stage, all).await;
        send(&stage, "go", "came").await;
        has_arrived(&stage, waits).await;
        until("it to be held", async || stage.whole(waits).await.wait.is_some_and(|wait| wait.holder.is_some())).await;
        let lost = stage.lose("first").await;
        let _second = stage.triggerer(quick::triggerer("second")).await;
        until("it to change hands", async || {
            let holder = stage.whole(waits).await.wait.and_then(|wait| wait.holder);
            holder.is_some_and(|holder| holder != lost.incarnation)
        })
        .await;
        let_go.store(true, Ordering::SeqCst);
        let whole = stage.until_state(waits, "ready").await;
        let event = serde_json::to_value(whole.event.unwrap()).unwrap();
        assert_eq!(event, json!({ "payload": { "go": "came", "check": "checked", "timer": null } }));
    }
);

both!(
    async fn a_check_that_lasts_does_not_keep_its_holder_from_what_comes(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (listens, played) = Scripted::of(|_| std::future::pending());
        let any = Any::default().or("heard", listens.time_out(None)).or("stop", Signal::new("stop"));
        let waits = begin(&stage, any).await;
        played.until(Seen::Check, 1).await;
        send(&stage, "stop", "enough").await;
        let whole = stage.until_state(waits, "ready").await;
        let event = serde_json::to_value(whole.event.unwrap()).unwrap();
        assert_eq!(event, json!({ "payload": { "stop": "enough" } }));
    }
);

both!(
    async fn a_check_that_lasts_does_not_keep_the_clock_from_the_others(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (listens, _) = Scripted::of(|_| std::future::pending());
        let (often, played) = Scripted::of(|before| async move {
            Ok(if before < 5 { Answer::NotYet } else { Answer::Fire(Event::resume(5)?) })
        });
        let any = Any::default().or("heard", listens.time_out(None)).or("often", often);
        stage.until_state(begin(&stage, any).await, "ready").await;
        assert_eq!(played.times(Seen::Check), 6);
    }
);

both!(
    async fn the_end_of_a_task_counts_inside(stage: Stage) {
        let _roles = stage.both_roles().await;
        let first = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done_with(42)) })).await;
        stage.succeeded(first).await;
        let second = TaskId::mint();
        let all = move || defer(All::default().and("first", TaskEnd::of(first.0)).and("second", TaskEnd::of(second.0)));
        let [deferred, in_slot] =
            [stage.enqueue(&waiter::<Plain>(all)).await, stage.enqueue(&waiter::<Anchored>(all)).await];
        let failing = Script::<Plain>::of(|_, _| async { Err(reveille::TaskError::fatal("no luck")) });
        stage.store.enqueue(NewTask::of(&failing).unwrap().id(second)).await.unwrap();
        for task in [deferred, in_slot] {
            let ends = result(&stage.succeeded(task).await);
            assert_eq!((&ends["first"]["result"], &ends["second"]["state"]), (&json!(42), &json!("failed")));
        }
    }
);

both!(
    async fn a_cancelled_wait_undoes_all_that_was_inside(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let ((one, first), (other, second)) = (Scripted::never(), Scripted::never());
        let waits = begin(&stage, Any::default().or("one", one).or("nested", NotBefore::after(ms(1), other))).await;
        first.until(Seen::Check, 1).await;
        stage.store.cancel(waits, "not needed").await.unwrap();
        first.until(Seen::OnCancel, 1).await;
        second.until(Seen::OnCancel, 1).await;
    }
);

both!(
    async fn the_losers_are_let_go_of_and_not_undone(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let ((wins, winner), (loses, loser)) = (Scripted::fires(1), Scripted::never());
        begin(&stage, Any::default().or("wins", wins).or("loses", loses)).await;
        winner.until(Seen::CleanUp, 1).await;
        loser.until(Seen::CleanUp, 1).await;
        assert_eq!(winner.seen(), [Seen::Check, Seen::Settled(Receipt::Accepted), Seen::CleanUp]);
        assert_eq!(loser.times(Seen::OnCancel), 0);
        assert!(loser.seen().iter().all(|seen| !matches!(seen, Seen::Settled(_))));
    }
);

both!(
    async fn nobody_looks_before_the_time(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (clock, begun) = (stage.clock().clone(), stage.clock().now_ms());
        let (trigger, _) = Scripted::of(move |_| {
            let waited = clock.now_ms() - begun;
            async move { Ok(Answer::Fire(Event::resume(waited)?)) }
        });
        let waits = begin(&stage, NotBefore::after(ms(400), trigger)).await;
        let whole = stage.until_state(waits, "ready").await;
        let event = serde_json::to_value(whole.event.unwrap()).unwrap();
        assert!(event["payload"].as_i64().is_some_and(|waited| waited >= 400), "{event}");
    }
);

both!(
    async fn what_is_absent_at_its_time_fires_and_what_is_there_ends_the_task(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let absent = begin(&stage, Absent::after(ms(200), Scripted::never().0)).await;
        let there = begin(&stage, Absent::after(HOUR, Scripted::fires(1).0)).await;
        let signalled = begin(&stage, Absent::after(HOUR, Signal::new("alive"))).await;
        send(&stage, "alive", ()).await;
        // The looks at the time itself cannot tell, and prove nothing.
        let (blind, played) = Scripted::of(|before| async move {
            if before < 3 { Err(Error::again("cannot tell")) } else { Ok(Answer::NotYet) }
        });
        let unclear = begin(&stage, Absent::after(ms(1), blind)).await;
        stage.until_state(absent, "ready").await;
        for task in [there, signalled] {
            let whole = stage.until_state(task, "skipped").await;
            assert!(error(&whole).contains("is there"), "{}", error(&whole));
        }
        stage.until_state(unclear, "ready").await;
        assert_eq!(played.times(Seen::Check), 4);
    }
);

/// Takes a second, and then fires.
fn slow() -> (Scripted, Arc<Played>) {
    Scripted::of(|_| async {
        Clock::system().sleep(ms(1_000)).await;
        Ok(Answer::Fire(Event::resume("done")?))
    })
}

both!(
    async fn a_check_that_knows_all_that_has_come_is_left_to_end(stage: Stage) {
        // In one process, so that each cancellation is heard of: then it is compared what is held.
        let _triggerer = Role::triggerer(&stage.store, patient::triggerer());
        let _worker = stage.worker(patient::worker()).await;
        stage.live("triggerer").await;
        let (slow, played) = slow();
        let task = begin(&stage, All::default().and("slow", slow).and("go", Signal::new("go"))).await;
        send(&stage, "go", ()).await;
        played.until(Seen::Check, 1).await;
        let over = async { stage.succeeded(task).await };
        let cancelling = async {
            loop {
                let other = begin(&stage, Signal::new("never")).await;
                stage.store.cancel(other, "no").await.unwrap();
                stage.clock().sleep(ms(100)).await;
            }
        };
        tokio::select! {
            _ = over => {}
            never = cancelling => never,
        }
        assert_eq!(played.times(Seen::Check), 1);
    }
);

both!(
    async fn one_wait_that_is_told_of_twice_at_once_is_told_of(stage: Stage) {
        let settings = Settings { lease: Duration::from_secs(6), ..patient::triggerer() };
        let _triggerer = stage.triggerer(settings).await;
        let told = "select count(*) from reveille_check";
        let dormant = "select count(*) from reveille_trigger where holder is null and wake_at > since + 1000000";
        let first = begin(&stage, All::default().and("a", Signal::new("a")).and("b", Signal::new("b"))).await;
        send(&stage, "a", ()).await;
        until("the first to be told of", async || stage.count(told).await == 1).await;
        // It goes dormant after each, and is leased again, within one period of telling.
        let all = ["c", "d", "e", "f"].map(|key| (key, Signal::new(key)));
        let second =
            begin(&stage, all.into_iter().fold(All::default(), |all, (key, signal)| all.and(key, signal))).await;
        for (count, key) in ["c", "d", "e"].into_iter().enumerate() {
            send(&stage, key, ()).await;
            let arrived = async || stage.whole(second).await.wait.is_some_and(|wait| wait.arrived.len() == count + 1);
            until("it to arrive", arrived).await;
            until("it to be dormant again", async || stage.count(dormant).await == 2).await;
        }
        until("both to be told of", async || stage.count(told).await == 2).await;
        assert!(logged(&["telling of checks does not work"]).is_empty());
        for task in [first, second] {
            stage.store.cancel(task, "enough").await.unwrap();
        }
    }
);
