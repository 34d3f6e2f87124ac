//! Concurrency keys, with real workers: how many are at work, and who lets in whom.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use reveille::{
    NewTask, Priority, Store, TaskError, defer, done,
    store::Db,
    wait::{Signal, Timer},
    worker::Settings,
};

use crate::{
    processes::service,
    stage::{Caller, Gate, Plain, Script, Stage, ms, patient, quick, times, until},
};

const LIMIT: u32 = 3;

/// Has begun and has not ended: it runs, or is past its first step. Those that wait for a slot are at it still.
const AT_WORK: &str = "select count(*) from reveille_task where slot_key = 'api' and (state = 'running' or turn > 0)";

/// The most that were at work in a snapshot, as long as this lives.
struct Snapshots {
    most: Arc<AtomicI64>,
    taken: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
}

impl Snapshots {
    fn of(store: Store) -> Self {
        let (most, taken, over) = (Arc::default(), Arc::default(), Arc::default());
        let own = Self { most: Arc::clone(&most), taken: Arc::clone(&taken), over: Arc::clone(&over) };
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let mut tx = store.read().await.unwrap();
                let count: i64 = match tx.db() {
                    Db::Sqlite(c) => sqlx::query_scalar(AT_WORK).fetch_one(c).await.unwrap(),
                    Db::Postgres(c) => sqlx::query_scalar(AT_WORK).fetch_one(c).await.unwrap(),
                };
                tx.commit().await.unwrap();
                most.fetch_max(count, Ordering::SeqCst);
                taken.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        own
    }

    fn most(&self) -> i64 {
        assert!(self.taken.load(Ordering::SeqCst) > 20, "too few were taken to say anything");
        self.most.load(Ordering::SeqCst)
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Waits, fails once, and ends one way or another.
fn laborious(at_work: &Arc<AtomicI64>, most: &Arc<AtomicI64>, fails: bool) -> NewTask {
    let (at_work, most) = (Arc::clone(at_work), Arc::clone(most));
    let script = Script::<Plain>::of(move |step, cx| {
        let (at_work, most) = (Arc::clone(&at_work), Arc::clone(&most));
        async move {
            if step.at == 0 {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                return Ok(defer(Timer::after(ms(5))).then(step.next()));
            }
            if cx.attempt() == 1 {
                return Err(TaskError::retry("not yet"));
            }
            at_work.fetch_sub(1, Ordering::SeqCst);
            if fails { Err(TaskError::fatal("never")) } else { Ok(done()) }
        }
    });
    NewTask::of(&script).unwrap().limit("api", LIMIT)
}

both!(
    async fn never_more_than_the_limit_are_at_work(stage: Stage) {
        let snapshots = Snapshots::of(stage.another().await);
        let _workers = [stage.worker(patient::worker()).await, stage.worker(patient::worker()).await];
        let (at_work, most) = (Arc::default(), Arc::default());
        let mut ids = Vec::new();
        for number in 0..20 {
            ids.push(stage.store.enqueue(laborious(&at_work, &most, number % 5 == 4)).await.unwrap());
        }
        let ended = "select count(*) from reveille_finished";
        until("all to have ended", async || stage.count(ended).await == 20).await;
        assert_eq!(snapshots.most(), i64::from(LIMIT), "it is reached, and not exceeded");
        assert!(most.load(Ordering::SeqCst) <= i64::from(LIMIT));
        assert_eq!(stage.count("select count(*) from reveille_slot").await, 0);
        assert_eq!(stage.count("select count(*) from reveille_finished where state = 'failed'").await, 4);
        let mut waited = 0;
        for id in ids {
            let whole = stage.whole(id).await;
            assert_eq!(times(&whole, "full"), times(&whole, "slot"));
            waited += times(&whole, "slot");
        }
        assert!(waited >= 10, "only {waited} had to wait");
    }
);

both!(
    async fn a_full_key_holds_up_no_other_task(stage: Stage) {
        let gate = Gate::shut();
        let _worker = stage.worker(Settings { concurrency: 2, ..patient::worker() }).await;
        let behind = gate.clone();
        let holder = Script::<Plain>::of(move |_, _| {
            let passed = behind.passed();
            async move {
                passed.await;
                Ok(done())
            }
        });
        let holder = stage.store.enqueue(NewTask::of(&holder).unwrap().limit("api", 1)).await.unwrap();
        stage.until_state(holder, "running").await;
        let quick = || NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let blocked = (0..40).map(|_| quick().limit("api", 1).priority(Priority::Urgent)).collect();
        let blocked = stage.store.enqueue_all(blocked).await.unwrap();
        let others = vec![quick().priority(Priority::Low), quick().limit("other", 1).priority(Priority::Low)];
        for other in stage.store.enqueue_all(others).await.unwrap() {
            stage.succeeded(other).await;
        }
        for id in &blocked {
            assert_eq!(stage.state_of(*id).await, "deferred");
        }
        gate.open();
        for id in blocked {
            stage.succeeded(id).await;
        }
    }
);

both!(
    async fn calling_one_off_lets_the_next_in(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let waits = Script::<Plain>::of(|step, _| async move {
            Ok(if step.at == 0 { defer(Signal::new("never")).then(step.next()) } else { done() })
        });
        let first = stage.store.enqueue(NewTask::of(&waits).unwrap().limit("api", 1)).await.unwrap();
        stage.until_state(first, "deferred").await;
        let next = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let next = stage.store.enqueue(NewTask::of(&next).unwrap().limit("api", 1)).await.unwrap();
        stage.until_state(next, "deferred").await;
        stage.store.cancel(first, "not needed").await.unwrap();
        stage.succeeded(next).await;
    }
);

both!(
    async fn a_slot_outlives_the_workers_that_are_killed_and_goes_with_the_end(stage: Stage) {
        let (service, calls) = service().await;
        let _watcher = stage.triggerer(quick::triggerer("watcher")).await;
        let caller = || NewTask::of(&Caller { service: service.clone() }).unwrap().limit("api", 1);
        let first = stage.store.enqueue(caller()).await.unwrap();
        let mut second = None;
        for killed in 1..=2 {
            let worker = stage.process("worker", &format!("worker {killed}"));
            until("the call", async || calls.lock().unwrap().len() == killed).await;
            stage.until_state(first, "running").await;
            if second.is_none() {
                let added = stage.store.enqueue(caller()).await.unwrap();
                stage.until_state(added, "deferred").await;
                second = Some(added);
            }
            worker.kill().await;
        }
        let _worker = stage.process("worker", "the last");
        let second = second.unwrap();
        stage.succeeded(first).await;
        stage.succeeded(second).await;
        let calls = calls.lock().unwrap().clone();
        let first = format!("{first}-0");
        assert_eq!(calls, [first.clone(), first.clone(), first, format!("{second}-0")]);
    }
);
