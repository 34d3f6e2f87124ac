//! In no snapshot do the rows that name a live holder exceed its capacity.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use reveille::{
    NewTask, Store, defer, done,
    store::Db,
    trigger::{Answer, Event},
    triggerer::Settings,
    wait::{Signal, Timer},
};
use uuid::Uuid;

use crate::stage::{Gate, Plain, Role, Script, Scripted, Seen, Stage, ms, patient, quick, until};

const CAPACITY: usize = 8;

fn settings() -> Settings {
    Settings { capacity: CAPACITY, ..quick::triggerer("triggerer") }
}

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

/// Many that fire after a few looks, so that slots are taken and given back all the time.
async fn many(stage: &Stage, count: usize) {
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (trigger, _) = Scripted::of(|before| async move {
            Ok(if before < 2 { Answer::NotYet } else { Answer::Fire(Event::succeed(before)?) })
        });
        tasks.push(task().when(defer(trigger.every(ms(5)))));
    }
    // The writers of three processes queue for one SQLite file.
    while stage.store.enqueue_all(tasks.clone()).await.is_err_and(|error| error.is_outage()) {}
}

/// The most that any live replica was said to hold in a snapshot, as long as this lives.
struct Snapshots {
    most: Arc<AtomicI64>,
    taken: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
}

impl Snapshots {
    fn of(store: Store) -> Self {
        let (most, taken, over) =
            (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let (noted, counted, ends) = (Arc::clone(&most), Arc::clone(&taken), Arc::clone(&over));
        tokio::spawn(async move {
            while !ends.load(Ordering::SeqCst) {
                for (_, count) in snapshot(&store).await {
                    noted.fetch_max(count, Ordering::SeqCst);
                }
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        Self { most, taken, over }
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

async fn snapshot(store: &Store) -> HashMap<Uuid, i64> {
    let text = "select t.holder, count(*) from reveille_trigger t join reveille_replica r on r.incarnation = t.holder
                 where r.gone_at is null group by t.holder";
    let mut tx = store.read().await.unwrap();
    let rows: Vec<(Uuid, i64)> = match tx.db() {
        Db::Sqlite(c) => sqlx::query_as(text).fetch_all(c).await.unwrap(),
        Db::Postgres(c) => sqlx::query_as(text).fetch_all(c).await.unwrap(),
    };
    tx.commit().await.unwrap();
    rows.into_iter().collect()
}

async fn all_end(stage: &Stage) {
    until("all to have ended", async || stage.count("select count(*) from reveille_task").await == 0).await;
}

both!(
    async fn no_snapshot_shows_more_than_the_capacity(stage: Stage) {
        let snapshots = Snapshots::of(stage.another().await);
        let _triggerers = [stage.triggerer(settings()).await, stage.triggerer(settings()).await];
        many(&stage, 120).await;
        all_end(&stage).await;
        assert_eq!(snapshots.most(), CAPACITY as i64, "it is reached, and not exceeded");
    }
);

on_postgres!(
    async fn lost_replies_to_leases_exceed_no_capacity(stage: Stage) {
        let snapshots = Snapshots::of(stage.another().await);
        let proxy = stage.proxy().await;
        let cuts: Vec<_> =
            (0..3).map(|_| proxy.cut_after_commit_of("update reveille_trigger t\n   set holder")).collect();
        let fires: Vec<_> = (0..3)
            .map(|_| proxy.cut_after_commit_of("unnest($3::uuid[], $4::integer[], $5::bytea[], $6::uuid[]"))
            .collect();
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, settings());
        many(&stage, 40).await;
        for cut in &cuts {
            cut.happened().await;
        }
        all_end(&stage).await;
        assert_eq!(snapshots.most(), CAPACITY as i64);
        drop(fires);
    }
);

// On SQLite nothing can be leased while an event waits to be stored: there is one writer.
on_postgres!(
    async fn a_slot_is_given_back_when_its_event_is_stored_and_not_before(stage: Stage) {
        let _triggerer = stage.triggerer(Settings { capacity: 1, ..patient::triggerer() }).await;
        let go = Gate::shut();
        let shut = go.clone();
        let (trigger, first) = Scripted::of(move |_| {
            let passed = shut.passed();
            async move {
                passed.await;
                Ok(Answer::Fire(Event::succeed(1)?))
            }
        });
        let fires = stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
        first.until(Seen::Check, 1).await;
        let (trigger, second) = Scripted::never();
        stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
        let held = stage.hold(fires).await;
        go.open();
        stage.pass(ms(800)).await;
        assert_eq!((stage.held().await, second.seen()), (1, vec![]));
        held.commit().await.unwrap();
        second.until(Seen::Check, 1).await;
        stage.succeeded(fires).await;
    }
);

// The client has given up on a lease whose commit is still on its way, and asks what it holds before that arrives.
on_postgres!(
    async fn a_lease_whose_commit_comes_late_exceeds_no_capacity(stage: Stage) {
        let snapshots = Snapshots::of(stage.another().await);
        let proxy = stage.proxy().await;
        let hold = proxy.hold_commit_of("update reveille_trigger t\n   set holder");
        let mut tasks = Vec::new();
        for _ in 0..3 * CAPACITY {
            tasks.push(task().when(defer(Scripted::never().0)));
        }
        stage.store.enqueue_all(tasks).await.unwrap();
        let settings = Settings { lease: ms(30_000), ..settings() };
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, settings);
        hold.reached().await;
        until("it to lease again", async || {
            stage.held().await > 0 || !crate::stage::logged(&["leasing triggers does not work"]).is_empty()
        })
        .await;
        let since = stage.clock().monotonic();
        until("it to have had the time", async || {
            stage.held().await > 0 || stage.clock().monotonic() > since + ms(1_500)
        })
        .await;
        hold.let_go();
        until("it to hold something", async || stage.held().await >= CAPACITY as i64).await;
        stage.pass(ms(500)).await;
        assert_eq!(snapshots.most(), CAPACITY as i64);
    }
);

both!(
    async fn passive_and_dormant_waits_take_no_capacity(stage: Stage) {
        let _triggerer = stage.triggerer(Settings { capacity: 1, horizon: ms(100), ..patient::triggerer() }).await;
        let mut tasks = Vec::new();
        let mut dormant = Vec::new();
        for n in 0..20 {
            tasks.push(task().when(defer(Timer::after(ms(3_600_000)))));
            tasks.push(task().when(defer(Signal::new(format!("never/{n}")))));
            let (trigger, played) = Scripted::never();
            dormant.push(played);
            tasks.push(task().when(defer(trigger.every(ms(3_600_000)))));
        }
        stage.store.enqueue_all(tasks).await.unwrap();
        for played in &dormant {
            played.until(Seen::Check, 1).await;
        }
        until("all to sleep", async || stage.held().await == 0).await;
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(1)?)) });
        let active = stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
        stage.succeeded(active).await;
    }
);

both!(
    async fn no_snapshot_shows_more_while_triggers_move(stage: Stage) {
        let snapshots = Snapshots::of(stage.another().await);
        let full = [stage.triggerer(settings()).await, stage.triggerer(settings()).await];
        let tasks = (0..2 * CAPACITY).map(|_| task().when(defer(Scripted::never().0.every(ms(50)))));
        stage.store.enqueue_all(tasks.collect()).await.unwrap();
        until("both to be full", async || stage.held().await == 2 * CAPACITY as i64).await;
        let joins = Settings { label: "joins".to_owned(), ..settings() };
        let _joins = stage.triggerer(joins).await;
        until("one that joins to have its share", async || {
            let joined = stage.live("joins").await.incarnation;
            snapshot(&stage.store).await.get(&joined).is_some_and(|held| *held >= 5)
        })
        .await;
        let [leaves, _stays] = full;
        leaves.stop().await;
        until("both to be full again", async || stage.held().await == 2 * CAPACITY as i64).await;
        assert_eq!(snapshots.most(), CAPACITY as i64);
    }
);

both!(
    async fn a_backlog_is_looked_at_as_fast_as_there_is_room(stage: Stage) {
        const COUNT: usize = 200;
        let (never, played) = Scripted::never();
        let never = never.every(Duration::from_mins(5));
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let backlog = (0..COUNT).map(|_| task.clone().when(defer(never.clone()))).collect();
        stage.store.enqueue_all(backlog).await.unwrap();
        // Late enough to be taken for what others had held.
        stage.pass(ms(1_200)).await;
        let _triggerer = stage.triggerer(Settings { capacity: 10, ..patient::triggerer() }).await;
        played.until(Seen::Check, COUNT).await;
    }
);
