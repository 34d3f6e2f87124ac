//! A database that is slow, full, or has no connection to spare.

use std::{sync::Arc, time::Duration};

use reveille::{
    NewTask, Store,
    clock::millis,
    defer, done,
    id::TaskId,
    store::{
        Db,
        replica::{self, Replica},
    },
    tally::Tally,
    trigger::{Answer, Event},
    triggerer::Settings,
    worker,
};

use crate::stage::{
    Gate, Plain, Played, Role, Script, Scripted, Seen, Stage, logged, ms, patient, quick, times, until,
};

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

fn fires_when(gate: &Gate) -> (Scripted, Arc<Played>) {
    let gate = gate.clone();
    Scripted::of(move |_| {
        let is_open = gate.is_open();
        async move { Ok(if is_open { Answer::Fire(Event::resume("seen")?) } else { Answer::NotYet }) }
    })
}

on_postgres!(
    async fn a_burst_on_a_slow_database_costs_no_lease(stage: Stage) {
        const COUNT: usize = 4_000;
        let proxy = stage.proxy().await;
        let slow = stage.through(&proxy).await;
        let lease = Duration::from_secs(3);
        let busy = Settings { lease, capacity: COUNT, ..quick::triggerer("busy") };
        let _busy = Role::triggerer(&slow, busy);
        let life = stage.live("busy").await;
        let gate = Gate::shut();
        let (trigger, _played) = fires_when(&gate);
        let task = task();
        let waiting = (0..COUNT).map(|_| task.clone().when(defer(trigger.clone().every(ms(500))))).collect();
        let tasks = stage.store.enqueue_all(waiting).await.unwrap();
        until("all to be held", async || stage.held().await == COUNT as i64).await;
        // Whoever misses a renewal for a lease is declared gone by this one, which takes no share of what there is.
        let queues = Some(vec!["another".to_owned()]);
        let _watcher = stage.triggerer(Settings { lease, queues, ..quick::triggerer("watcher") }).await;
        stage.live("watcher").await;
        proxy.slow_down(ms(200));
        gate.open();
        until("all events to be stored", async || stage.count("select count(*) from reveille_trigger").await == 0)
            .await;
        assert_eq!(stage.live("busy").await.incarnation, life.incarnation);
        for words in ["declared gone", "parked"] {
            assert!(logged(&[&life.incarnation.to_string(), words]).is_empty(), "{words}");
        }
        let _worker = stage.worker(patient::worker()).await;
        for task in tasks.iter().step_by(COUNT / 20) {
            assert_eq!(times(&stage.succeeded(*task).await, "event"), 1);
        }
    }
);

/// Adds 49 more tasks like each that there is, which takes far less time than to add them one by one.
const FIFTY_OF_EACH: [&str; 4] = [
    "create table copy as select id as of, gen_random_uuid() as id from reveille_task, generate_series(1, 49)",
    "insert into reveille_task
     select k.* from copy c join reveille_task o on o.id = c.of,
            lateral jsonb_populate_record(o, jsonb_build_object('id', c.id)) k",
    "insert into reveille_trigger
     select t.* from copy c join reveille_trigger o on o.task_id = c.of,
            lateral jsonb_populate_record(o, jsonb_build_object('task_id', c.id)) t",
    "analyze reveille_task, reveille_trigger",
];

/// Notes when each replica renews, by the database's own clock.
const RENEWALS: &str = "
    create table renewal (incarnation uuid not null, at timestamptz not null);
    create function renewal() returns trigger language plpgsql as $$ begin
        insert into renewal values (new.incarnation, clock_timestamp());
        return null;
    end $$;
    create trigger renewal after update on reveille_replica for each row
        when (new.beat <> old.beat) execute function renewal()";

on_postgres!(
    async fn fifty_thousand_events_that_wait_to_be_committed_cost_no_lease(stage: Stage) {
        const COUNT: usize = 50_000;
        stage.run(RENEWALS).await;
        let gate = Gate::shut();
        let (trigger, _played) = fires_when(&gate);
        let task = task().when(defer(trigger.shared().every(ms(1_000))));
        stage.store.enqueue_all(vec![task; COUNT / 50]).await.unwrap();
        for statement in FIFTY_OF_EACH {
            stage.run(statement).await;
        }
        let lease = Duration::from_secs(3);
        let tally = Tally::default();
        let busy = Settings { lease, capacity: COUNT, tally: tally.clone(), ..quick::triggerer("busy") };
        let _busy = stage.triggerer(busy).await;
        let life = stage.live("busy").await;
        let queues = Some(vec!["another".to_owned()]);
        let _watcher = stage.triggerer(Settings { lease, queues, ..quick::triggerer("watcher") }).await;
        stage.live("watcher").await;
        for part in 1..=5 {
            until("more to be leased", async || tally.leased_so_far() >= COUNT as u64 * part / 5).await;
        }
        assert_eq!(stage.held().await, COUNT as i64);

        let mut tx = stage.store.begin().await.unwrap();
        let Db::Postgres(c) = tx.db() else { panic!("this is PostgreSQL") };
        sqlx::query("lock table reveille_history in share row exclusive mode").execute(c).await.unwrap();
        gate.open();
        // Longer than a lease, and than any statement may wait.
        stage.pass(ms(6_000)).await;
        assert_eq!(tally.fired_so_far(), 0, "all of them wait to be committed");
        tx.commit().await.unwrap();
        until("all events to be stored", async || tally.fired_so_far() == COUNT as u64).await;

        assert_eq!(stage.count("select count(*) from reveille_trigger").await, 0);
        let fired =
            "select count(*) from reveille_history where was = 'deferred' and became = 'ready' and why = 'event'";
        assert_eq!(stage.count(fired).await, COUNT as i64);
        let twice = "select count(*) from (select 1 from reveille_history where was = 'deferred' group by task_id having count(*) > 1) t";
        assert_eq!(stage.count(twice).await, 0);
        still_live(&stage, &[life]).await;
        let longest = "select (max(extract(epoch from after - at)) * 1000)::bigint from
                         (select at, lead(at) over (partition by incarnation order by at) as after from renewal) t";
        let longest = stage.count(longest).await;
        assert!(longest < millis(lease * 2 / 3), "{longest} ms between two renewals");
    }
);

/// Two triggerers and a worker on a store, with one trigger that fires when it is let.
async fn at_work(stage: &Stage, store: &Store) -> ([Role; 3], Vec<Replica>, TaskId, Gate) {
    let label = |label: &str| Settings { label: label.to_owned(), ..patient::triggerer() };
    let roles = [
        Role::triggerer(store, label("one")),
        Role::triggerer(store, label("two")),
        Role::worker(store, worker::Settings { label: "three".to_owned(), ..patient::worker() }),
    ];
    let mut lives = Vec::new();
    for label in ["one", "two", "three"] {
        lives.push(stage.live(label).await);
    }
    let gate = Gate::shut();
    let (trigger, played) = fires_when(&gate);
    let task = stage.store.enqueue(task().when(defer(trigger))).await.unwrap();
    played.until(Seen::Check, 1).await;
    (roles, lives, task, gate)
}

async fn still_live(stage: &Stage, lives: &[Replica]) {
    for life in lives {
        assert_eq!(stage.live(&life.label).await.incarnation, life.incarnation);
        assert!(logged(&[&life.incarnation.to_string(), "declared gone"]).is_empty(), "{}", life.label);
    }
}

on_postgres!(
    async fn what_a_full_database_refuses_is_stored_once_it_has_room(stage: Stage) {
        let store = stage.another().await;
        let (_roles, lives, task, gate) = at_work(&stage, &store).await;
        stage
            .run(
                "create function no_room() returns trigger language plpgsql as
                 'begin raise exception ''could not extend file: No space left on device'' using errcode = ''disk_full''; end';
                 create trigger no_room before insert on reveille_history execute function no_room()",
            )
            .await;
        gate.open();
        let said = || logged(&["firing does not work", "No space left on device"]).len();
        until("it to be said", async || said() > 0).await;
        // Tried a few more times.
        stage.pass(ms(2_000)).await;
        assert_eq!(said(), 1, "it is said once, however often it is tried");
        assert_eq!(stage.state_of(task).await, "deferred");
        stage.run("drop function no_room() cascade").await;
        assert_eq!(times(&stage.succeeded(task).await, "event"), 1);
        still_live(&stage, &lives).await;
    }
);

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_no_connection_to_spare_moves_nothing() {
    async fn test(stage: Stage) {
        stage.run("create role app login; grant all on schema public to app; grant all on all tables in schema public to app").await;
        let store = stage.another_as("app").await;
        let (_roles, lives, task, gate) = at_work(&stage, &store).await;
        stage.run("alter role app connection limit 0").await;
        stage.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'").await;
        gate.open();
        let why = || logged(&["renewing does not work", "too many connections for role"]).len();
        until("the reason to be said by each", async || why() == lives.len()).await;
        until("the event to wait", async || !logged(&["firing does not work"]).is_empty()).await;
        assert_eq!(stage.state_of(task).await, "deferred");
        stage.run("alter role app connection limit -1").await;
        assert_eq!(times(&stage.succeeded(task).await, "event"), 1);
        still_live(&stage, &lives).await;
    }
    crate::stage::run_on_own_server(test).await;
}

on_postgres!(
    async fn a_slow_database_keeps_nobody_from_seeing_who_is_silent(stage: Stage) {
        stage.silent(replica::Role::Worker, "silent").await;
        let proxy = stage.proxy().await;
        let slow = stage.through(&proxy).await;
        let _watcher = Role::triggerer(&slow, quick::triggerer("watcher"));
        stage.live("watcher").await;
        proxy.slow_down(ms(40));
        stage.gone("silent").await;
    }
);
