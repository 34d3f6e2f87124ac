//! How steps run, fail, and are run again.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use reveille::{
    Error, NewTask, Retry, TaskError, defer, done, done_with, skip, snooze,
    store::signal::Signal as Sent,
    wait::{Signal, Timer},
    worker::Settings,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stage::{Crowd, Hasty, Plain, Script, Stage, error, ms, patient, result, times, until, whys};

both!(
    async fn a_retry_is_the_same_step_with_the_same_event_and_turn(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let task = Script::<Plain>::of(move |step, cx| {
            let seen = Arc::clone(&seen);
            async move {
                if step.at == 0 {
                    return Ok(defer(Signal::new("go")).then(step.next()));
                }
                seen.lock().unwrap().push((cx.idempotency_key(), cx.turn(), cx.attempt(), cx.event::<Value>()?));
                if cx.attempt() < 3 { Err(TaskError::retry("the server said 503")) } else { Ok(done()) }
            }
        });
        let task = stage.enqueue(&task).await;
        stage.store.signal(Sent::new("go", "once")).await.unwrap();
        let whole = stage.succeeded(task).await;
        let expected: Vec<_> = (1..=3).map(|attempt| (format!("{task}-1"), 1, attempt, json!("once"))).collect();
        assert_eq!(*told.lock().unwrap(), expected);
        assert_eq!((times(&whole, "retry"), whole.brief.turn, whole.brief.attempt), (2, 1, 3));
    }
);

both!(
    async fn attempts_are_counted_for_each_turn(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|step, cx| async move {
            match (step.at, cx.attempt()) {
                (_, 1 | 2) => Err(TaskError::retry("not yet")),
                (0, _) => Ok(defer(Timer::after(ms(1))).then(step.next())),
                _ => Ok(done()),
            }
        });
        let whole = stage.succeeded(stage.enqueue(&task).await).await;
        assert_eq!(times(&whole, "retry"), 4);
    }
);

both!(
    async fn the_last_attempt_that_fails_is_the_end(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task =
            Script::<Plain>::of(|_, cx| async move { Err(TaskError::retry(format!("attempt {}", cx.attempt()))) });
        let whole = stage.until_state(stage.enqueue(&task).await, "failed").await;
        assert_eq!((error(&whole).as_str(), whole.brief.attempt), ("attempt 3", 3));
        assert_eq!(whys(&whole).last(), Some(&"failed"));
    }
);

both!(
    async fn a_fatal_error_is_not_tried_again(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, _| async { Err(TaskError::fatal("no such account")) });
        let whole = stage.until_state(stage.enqueue(&task).await, "failed").await;
        assert_eq!((error(&whole).as_str(), whole.brief.attempt), ("no such account", 1));
    }
);

both!(
    async fn a_snooze_costs_no_attempt(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let naps = Arc::new(AtomicUsize::new(0));
        let task = Script::<Plain>::of(move |_, cx| {
            let nap = naps.fetch_add(1, Ordering::SeqCst);
            async move { Ok(if nap < 4 { snooze(ms(5)) } else { done_with((cx.turn(), cx.attempt())) }) }
        });
        let task = NewTask::of(&task).unwrap().retry(Retry::NEVER);
        let whole = stage.succeeded(stage.store.enqueue(task).await.unwrap()).await;
        assert_eq!(result(&whole), json!([0, 1]));
        assert_eq!(times(&whole, "snooze"), 4);
    }
);

both!(
    async fn a_step_past_its_time_out_is_dropped_and_tried_again(stage: Stage) {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let _worker = stage.worker(patient::worker()).await;
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let task = Script::<Hasty>::of(move |_, cx| {
            let guard = Dropped(Arc::clone(&count));
            async move {
                if cx.attempt() < 2 {
                    std::future::pending::<()>().await;
                }
                std::mem::forget(guard);
                Ok(done())
            }
        });
        let whole = stage.succeeded(stage.enqueue(&task).await).await;
        assert_eq!((whole.brief.attempt, dropped.load(Ordering::SeqCst)), (2, 1));
    }
);

both!(
    async fn a_step_that_panics_has_failed_and_holds_up_no_other(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, _| async { panic!("the disk is full") });
        let panics = stage.enqueue(&task).await;
        let other = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done()) })).await;
        stage.succeeded(other).await;
        let whole = stage.until_state(panics, "failed").await;
        assert_eq!((error(&whole).as_str(), whole.brief.attempt), ("the step panicked: the disk is full", 3));
    }
);

both!(
    async fn steps_run_together_up_to_as_many_as_their_task_likes(stage: Stage) {
        let crowd = Uuid::now_v7();
        let tasks = (0..8).map(|number| NewTask::of(&Crowd { crowd, number }).unwrap()).collect();
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        for (number, id) in ids.into_iter().enumerate() {
            if number == 7 {
                assert_eq!(error(&stage.until_state(id, "failed").await), "seven is out");
            } else {
                assert_eq!(result(&stage.succeeded(id).await), json!(number), "each gets its own answer");
            }
        }
        let mut sizes: Vec<_> = Crowd::calls(crowd).iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [2, 3, 3]);
    }
);

both!(
    async fn a_worker_runs_no_more_at_once_than_its_concurrency(stage: Stage) {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..30)
            .map(|_| {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let task = Script::<Plain>::of(move |_, cx| {
                    let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                    async move {
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        reveille::clock::Clock::system().sleep(ms(5)).await;
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok(done_with(cx.attempt()))
                    }
                });
                NewTask::of(&task).unwrap()
            })
            .collect();
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        let _worker = stage.worker(Settings { concurrency: 4, ..patient::worker() }).await;
        until("no more than 4 rows to be running", async || {
            assert!(stage.count("select count(*) from reveille_task where state = 'running'").await <= 4);
            stage.count("select count(*) from reveille_task").await == 0
        })
        .await;
        for id in ids {
            stage.succeeded(id).await;
        }
        assert!(most.load(Ordering::SeqCst) <= 4);
    }
);

both!(
    async fn a_result_is_kept_and_a_skip_says_why(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let with_result =
            stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done_with(json!({ "rows": 7 }))) })).await;
        let skipped = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(skip("nothing new")) })).await;
        assert_eq!(result(&stage.succeeded(with_result).await), json!({ "rows": 7 }));
        assert_eq!(error(&stage.until_state(skipped, "skipped").await), "nothing new");
    }
);

both!(
    async fn an_answer_too_large_to_store_fails_its_task_alone(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let large = "x".repeat(2 << 20);
        let (result, payload, complaint) = (large.clone(), large.clone(), large);
        let result = Script::<Plain>::of(move |_, _| {
            let large = result.clone();
            async move { Ok(done_with(large)) }
        });
        let wait = Script::<Plain>::of(move |step, _| {
            let large = payload.clone();
            async move { Ok(defer(reveille::file::File::at(format!("/{large}"))).then(step.next())) }
        });
        let complaint = Script::<Plain>::of(move |_, _| {
            let large = complaint.clone();
            async move { Err(TaskError::fatal(large)) }
        });
        let fine = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let tasks = [&result, &wait, &complaint, &fine].map(|task| NewTask::of(task).unwrap()).to_vec();
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        stage.succeeded(ids[3]).await;
        for (id, why) in [(ids[0], "over the limit"), (ids[1], "over the limit"), (ids[2], "")] {
            let whole = stage.until_state(id, "failed").await;
            assert!(error(&whole).contains(why), "{}", error(&whole));
            assert_eq!(times(&whole, "claimed"), 1, "it ran again");
        }
    }
);

both!(
    async fn a_task_that_could_never_wait_is_refused_when_it_is_added(stage: Stage) {
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let never = NewTask::of(&task).unwrap().when(defer(Signal::new("")));
        assert!(matches!(stage.store.enqueue(never).await, Err(Error::BadSpec { .. })));
        assert_eq!(stage.count("select count(*) from reveille_task").await, 0);
    }
);

both!(
    async fn a_step_that_can_never_wait_fails_its_task_at_once(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|step, _| async { Ok(defer(Signal::new("")).then(step.next())) });
        let whole = stage.until_state(stage.enqueue(&task).await, "failed").await;
        assert!(error(&whole).contains("`key` is empty"), "{}", error(&whole));
    }
);
