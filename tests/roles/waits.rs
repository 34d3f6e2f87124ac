//! Every kind of wait, and what it leads to.

use reveille::{
    Awaited, Deferral, NewTask, Next, Retry, Task, TaskContext, TaskError, defer, done, done_with,
    file::{File, Found},
    id::TaskId,
    store::signal::Signal as Sent,
    task::WaitFailure,
    trigger::{Answer, Error, Event},
    wait::{EndState, Ended, Signal, TaskEnd, Timer},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

use crate::stage::{Plain, Script, Scripted, Seen, Stage, error, ms, patient, quick, result, times, until, whys};

/// Waits for a number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Place { key: String, or_resume: bool },
    Ship { paid: Awaited<u32> },
}

impl Task for Order {
    const NAME: &'static str = "order";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Place { key, or_resume } => {
                let wait = defer(Signal::new(key));
                let wait = if or_resume { wait.or_resume() } else { wait };
                Ok(wait.then_with(|paid| Self::Ship { paid }))
            }
            Self::Ship { paid } => Ok(match paid.get() {
                Ok(cents) => done_with(json!({ "paid": cents })),
                Err(failed) => done_with(json!({ "why": failed.reason })),
            }),
        }
    }
}

/// A task that waits for each of these in turn, and says what each ended with.
fn journey(waits: Vec<Deferral>) -> Script {
    let heard = std::sync::Mutex::new(Vec::new());
    let waits = std::sync::Arc::new((waits, heard));
    Script::of(move |step, cx| {
        let waits = std::sync::Arc::clone(&waits);
        async move {
            let (waits, heard) = &*waits;
            if step.at > 0 {
                heard.lock().unwrap().push(cx.event::<Value>()?);
            }
            Ok(match waits.get(step.at as usize) {
                Some(wait) => wait.clone().then(step.next()),
                None => done_with(heard.lock().unwrap().clone()),
            })
        }
    })
}

async fn goes_all_the_way(stage: &Stage) {
    let path = std::env::temp_dir().join(format!("{}.txt", TaskId::mint()));
    let other = TaskId::mint();
    let file = File::at(path.to_string_lossy().into_owned()).every(ms(20)).settle(ms(60));
    let (scripted, _) = Scripted::fires("seen");
    let task = stage
        .enqueue(&journey(vec![
            defer(Timer::after(ms(20))),
            defer(Signal::new("go")),
            defer(TaskEnd::of(other.0)),
            defer(file),
            defer(scripted),
        ]))
        .await;
    stage.store.signal(Sent::new("go", "said")).await.unwrap();
    let first = Script::<Plain>::of(|_, _| async { Ok(done_with(42)) });
    stage.store.enqueue(NewTask::of(&first).unwrap().id(other)).await.unwrap();
    std::fs::write(&path, "five!").unwrap();

    let whole = stage.succeeded(task).await;
    std::fs::remove_file(&path).unwrap();
    let [timer, signal, end, file, active] =
        <[Value; 5]>::try_from(result(&whole).as_array().unwrap().clone()).unwrap();
    assert_eq!((timer, signal, active), (Value::Null, json!("said"), json!("seen")));
    let end: Ended = serde_json::from_value(end).unwrap();
    assert_eq!((end.task, end.state, end.result), (other.0, EndState::Succeeded, Some(json!(42))));
    let found: Found = serde_json::from_value(file).unwrap();
    assert_eq!(found.files[0].size, 5);
    assert_eq!(whole.brief.turn, 5);
    assert_eq!(["due", "signal", "task", "event"].map(|why| times(&whole, why)), [1, 1, 1, 2], "{:?}", whys(&whole));
}

both!(
    async fn every_kind_of_wait_leads_to_the_next_step(stage: Stage) {
        let _roles = stage.both_roles().await;
        goes_all_the_way(&stage).await;
    }
);

both!(
    async fn the_roles_need_no_common_process(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let _worker = stage.worker(patient::worker()).await;
        goes_all_the_way(&stage).await;
    }
);

both!(
    async fn passive_waits_need_no_triggerer(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&journey(vec![defer(Timer::after(ms(20))), defer(Signal::new("go"))])).await;
        stage.store.signal(Sent::new("go", 1)).await.unwrap();
        stage.succeeded(task).await;
    }
);

both!(
    async fn passive_waits_need_no_worker(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let task = NewTask::of(&task).unwrap().when(defer(Timer::after(ms(50))));
        let task = stage.store.enqueue(task).await.unwrap();
        stage.until_state(task, "ready").await;
    }
);

both!(
    async fn a_payload_that_fits_is_given_to_the_step(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&Order::Place { key: "paid".to_owned(), or_resume: false }).await;
        stage.store.signal(Sent::new("paid", 42)).await.unwrap();
        assert_eq!(result(&stage.succeeded(task).await), json!({ "paid": 42 }));
    }
);

both!(
    async fn a_payload_that_does_not_fit_fails_the_wait(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&Order::Place { key: "paid".to_owned(), or_resume: false }).await;
        stage.store.signal(Sent::new("paid", "forty-two")).await.unwrap();
        let whole = stage.until_state(task, "failed").await;
        assert!(error(&whole).contains("does not fit the type that the next step awaits"), "{}", error(&whole));
        assert_eq!(whys(&whole).last(), Some(&"wait_failed"));
    }
);

both!(
    async fn a_payload_that_does_not_fit_is_told_to_a_step_that_asked(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&Order::Place { key: "paid".to_owned(), or_resume: true }).await;
        stage.store.signal(Sent::new("paid", "forty-two")).await.unwrap();
        assert_eq!(result(&stage.succeeded(task).await), json!({ "why": "misfit" }));
    }
);

/// Waits on a trigger and says how that ended badly; the number of times that the step that defers has run is counted.
fn pessimist(wait: Deferral, runs: &std::sync::Arc<std::sync::atomic::AtomicUsize>) -> Script {
    let runs = std::sync::Arc::clone(runs);
    Script::of(move |step, cx| {
        if step.at == 0 {
            runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        let wait = wait.clone();
        async move {
            Ok(match step.at {
                0 => wait.then(step.next()),
                _ => done_with(cx.wait_failed().map(|failed| (failed.reason, failed.message.clone()))),
            })
        }
    })
}

both!(
    async fn a_fatal_check_arms_the_same_wait_again_and_then_fails_the_task(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, played) = Scripted::of(|_| async { Err(Error::fatal("the bucket was deleted")) });
        let runs = std::sync::Arc::default();
        let task = stage.enqueue(&pessimist(defer(trigger), &runs)).await;
        let whole = stage.until_state(task, "failed").await;
        assert_eq!(error(&whole), "the bucket was deleted");
        assert_eq!((played.times(Seen::Check), times(&whole, "rearmed"), whole.brief.attempt), (3, 2, 3));
        assert_eq!(runs.load(std::sync::atomic::Ordering::SeqCst), 1, "the step that deferred ran again");
        played.until(Seen::CleanUp, 3).await;
    }
);

both!(
    async fn a_fatal_check_is_told_to_a_step_that_asked(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, played) = Scripted::of(|_| async { Err(Error::fatal("the bucket was deleted")) });
        let task = stage.enqueue(&pessimist(defer(trigger).or_resume(), &std::sync::Arc::default())).await;
        let whole = stage.succeeded(task).await;
        assert_eq!(result(&whole), json!([WaitFailure::Fatal, "the bucket was deleted"]));
        assert_eq!(played.times(Seen::Check), 1);
    }
);

both!(
    async fn a_deadline_comes_after_a_last_check(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, played) = Scripted::never();
        let trigger = trigger.every(Duration::from_secs(30));
        let task = Script::<Plain>::of(move |step, _| {
            let wait = defer(trigger.clone()).deadline(ms(600));
            async move { Ok(wait.then(step.next())) }
        });
        let task = stage.store.enqueue(NewTask::of(&task).unwrap().retry(Retry::NEVER)).await.unwrap();
        let whole = stage.until_state(task, "failed").await;
        assert_eq!(whys(&whole).last(), Some(&"deadline"));
        assert_eq!(played.times(Seen::Check), 2, "the second is at the deadline");
    }
);

both!(
    async fn what_happens_by_the_last_check_is_not_too_late(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, _) = Scripted::of(|before| async move {
            Ok(if before == 0 { Answer::NotYet } else { Answer::Fire(Event::resume("just in time")?) })
        });
        let wait = defer(trigger.every(Duration::from_secs(30))).deadline(ms(600));
        let task = stage.enqueue(&journey(vec![wait])).await;
        assert_eq!(result(&stage.succeeded(task).await), json!(["just in time"]));
    }
);

both!(
    async fn a_deadline_that_nobody_holds_is_struck_by_whoever_is_there(stage: Stage) {
        let _worker = stage.worker(quick::worker("worker")).await;
        let (trigger, played) = Scripted::never();
        let runs = std::sync::Arc::default();
        let active = stage.enqueue(&pessimist(defer(trigger).deadline(ms(100)).or_resume(), &runs)).await;
        let passive = stage.enqueue(&pessimist(defer(Signal::new("never")).deadline(ms(100)).or_resume(), &runs)).await;
        for task in [active, passive] {
            assert_eq!(result(&stage.succeeded(task).await)[0], json!(WaitFailure::Deadline));
        }
        assert_eq!(played.seen(), []);
    }
);

both!(
    async fn a_check_that_panics_is_made_again(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, played) = Scripted::of(|before| async move {
            assert!(before > 1, "not ready for this");
            Ok(Answer::Fire(Event::resume(before)?))
        });
        let task = stage.enqueue(&journey(vec![defer(trigger)])).await;
        assert_eq!(result(&stage.succeeded(task).await), json!([2]));
        assert_eq!(played.times(Seen::Check), 3);
    }
);

both!(
    async fn a_check_that_hangs_is_given_up_and_holds_up_no_other(stage: Stage) {
        let _roles = stage.both_roles().await;
        let (trigger, _) = Scripted::of(|before| async move {
            if before == 0 {
                std::future::pending::<()>().await;
            }
            Ok(Answer::Fire(Event::resume(before)?))
        });
        let hanging = stage.enqueue(&journey(vec![defer(trigger.time_out(Some(ms(1_500))))])).await;
        let (other, _) = Scripted::fires("meanwhile");
        let other = stage.enqueue(&journey(vec![defer(other)])).await;
        stage.succeeded(other).await;
        assert_eq!(stage.state_of(hanging).await, "deferred");
        assert_eq!(result(&stage.succeeded(hanging).await), json!([1]));
    }
);

both!(
    async fn a_trigger_that_sleeps_long_is_dormant_and_held_by_nobody(stage: Stage) {
        let settings = reveille::triggerer::Settings { horizon: ms(200), capacity: 1, ..patient::triggerer() };
        let _triggerer = stage.triggerer(settings).await;
        let _worker = stage.worker(patient::worker()).await;
        let (sleeper, slept) = Scripted::of(|before| async move {
            Ok(if before < 2 { Answer::NotYet } else { Answer::Fire(Event::resume(before)?) })
        });
        let asleep = stage.enqueue(&journey(vec![defer(sleeper.every(ms(600)))])).await;
        slept.until(Seen::Check, 1).await;
        until("it to be given back", async || stage.held().await == 0).await;
        // The only slot is free for another.
        let (other, _) = Scripted::fires(());
        let other = stage.enqueue(&journey(vec![defer(other)])).await;
        stage.succeeded(other).await;
        assert_eq!(result(&stage.succeeded(asleep).await), json!([2]));
        assert_eq!(slept.times(Seen::CleanUp), 3, "it lets go whenever it sleeps");
    }
);

both!(
    async fn no_signal_is_lost_whichever_comes_first(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let tasks: Vec<_> = (0..100).map(|n| journey(vec![defer(Signal::new(format!("key/{n}")))])).collect();
        let enqueue = async {
            let mut ids = Vec::new();
            for task in &tasks {
                ids.push(stage.enqueue(task).await);
            }
            ids
        };
        let signal = async {
            for n in 0..100 {
                stage.store.signal(Sent::new(format!("key/{n}"), n)).await.unwrap();
            }
        };
        let (ids, ()) = tokio::join!(enqueue, signal);
        for (n, id) in ids.into_iter().enumerate() {
            assert_eq!(result(&stage.succeeded(id).await), json!([n]));
        }
    }
);

both!(
    async fn a_wait_finds_at_once_what_came_before_it(stage: Stage) {
        const WAITS: u32 = 20;
        let _worker = stage.worker(patient::worker()).await;
        for n in 0..WAITS {
            stage.store.signal(Sent::new(format!("key/{n}"), n)).await.unwrap();
        }
        let waits = (0..WAITS).map(|n| defer(Signal::new(format!("key/{n}")))).collect();
        let begun = stage.clock().monotonic();
        let whole = stage.succeeded(stage.enqueue(&journey(waits)).await).await;
        let took = stage.clock().monotonic() - begun;
        assert_eq!(result(&whole), json!((0..WAITS).collect::<Vec<_>>()));
        // What every replica does again each period would find one a second.
        assert!(took < ms(500) * WAITS, "{took:?}");
    }
);

both!(
    async fn a_role_with_settings_that_cannot_work_says_so(stage: Stage) {
        use reveille::{life::Stop, triggerer, worker};
        let store = stage.store.clone();
        let nothing = triggerer::Settings { capacity: 0, ..patient::triggerer() };
        let refused = triggerer::run(store.clone(), nothing, Stop::new()).await.unwrap_err();
        assert!(refused.to_string().contains("give it at least 1"), "{refused}");
        let nothing = worker::Settings { concurrency: 0, ..patient::worker() };
        let refused = worker::run(store.clone(), worker::Tasks::new(), nothing, Stop::new()).await.unwrap_err();
        assert!(refused.to_string().contains("give it at least 1"), "{refused}");
        let unknown = worker::Settings { names: Some(vec!["nobody".to_owned()]), ..patient::worker() };
        let refused = worker::run(store, worker::Tasks::new().with::<Order>(), unknown, Stop::new()).await.unwrap_err();
        assert!(refused.to_string().contains("it has order"), "{refused}");
    }
);
