//! Behind a pooler in transaction mode: few sessions, of which each transaction is lent one that somebody else used before.

use std::process::{Command, Output};

use futures::future::join_all;
use reveille::{
    Error, NewTask, Options, Store, Url,
    clock::timestamp,
    defer, done, done_with,
    store::{replica::Replica, scratch::Scratch, signal::Signal as Sent, wake::Topic},
    trigger::{Answer, Event},
    triggerer,
    vault::Vault,
    wait::{Signal, Timer},
    worker,
};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stage::{
    Gate, LEASE, Lent, Plain, Pooler, Role, Script, Scripted, Stage, logged, ms, patient, quick, result, times, until,
};

/// How many clients there are at once, beside the roles.
const CLIENTS: usize = 10;

/// What nobody has left anything in, as the server begins it.
fn untouched() -> Vec<Lent> {
    let lent = || Lent {
        search_path: "\"$user\", public".to_owned(),
        statement_timeout: "0".to_owned(),
        prepared: 0,
        channels: 0,
        locks: 0,
    };
    vec![lent(), lent()]
}

/// Two triggerers and two workers, each as a process of its own would be, which passes hints on.
struct Four {
    roles: Vec<Role>,
    relays: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Four {
    async fn start(stage: &Stage) -> Self {
        let (mut roles, mut relays, stop) = (Vec::new(), Vec::new(), CancellationToken::new());
        for label in ["one", "two", "three", "four"] {
            let (store, label) = (stage.another().await, label.to_owned());
            roles.push(match label.as_str() {
                "one" | "two" => Role::triggerer(&store, triggerer::Settings { label, ..patient::triggerer() }),
                _ => Role::worker(&store, worker::Settings { label, ..patient::worker() }),
            });
            let stop = stop.clone();
            relays.push(tokio::spawn(async move { store.relay(stop).await }));
        }
        Self { roles, relays, stop }
    }

    async fn stop(self) {
        join_all(self.roles.into_iter().map(Role::stop)).await;
        self.stop.cancel();
        for relay in self.relays {
            relay.await.unwrap();
        }
    }
}

async fn lives(stage: &Stage) -> Vec<Replica> {
    let mut lives = Vec::new();
    for label in ["one", "two", "three", "four"] {
        lives.push(stage.live(label).await);
    }
    lives
}

/// Whatever a task can go through, by one client.
async fn life_cycles(store: Store, stage: Stage, client: usize) {
    let key = format!("client/{client}");
    let script = Script::<Plain>::of(move |step, cx| {
        let key = key.clone();
        async move {
            match step.at {
                0 => Ok(defer(Timer::after(ms(5))).then(step.next())),
                1 => {
                    let (fires, _) = Scripted::fires(());
                    Ok(defer(fires).then(step.next()))
                }
                2 => Ok(defer(Signal::new(key)).then(step.next())),
                _ => Ok(done_with(cx.event::<u64>()?)),
            }
        }
    });
    let steps = store.enqueue(NewTask::of(&script).unwrap().limit(format!("limit/{}", client % 3), 2)).await.unwrap();
    let quick = Script::<Plain>::of(|_, _| async { Ok(done()) });
    let crowd = store.enqueue_all((0..20).map(|_| NewTask::of(&quick).unwrap()).collect()).await.unwrap();
    let waits = NewTask::of(&quick).unwrap().when(defer(Signal::new(format!("never/{client}"))));
    let cancelled = store.enqueue(waits).await.unwrap();
    let soon = timestamp(store.clock().now_ms() + 50);
    let expired = store.enqueue(NewTask::named("nobody", json!(null)).expires(soon)).await.unwrap();

    store.cancel(cancelled, "no more").await.unwrap();
    store.signal(Sent::new(format!("client/{client}"), client)).await.unwrap();
    let whole = stage.succeeded(steps).await;
    assert_eq!(result(&whole), client);
    assert_eq!((times(&whole, "deferred"), times(&whole, "finished")), (3, 1));
    for task in crowd {
        stage.succeeded(task).await;
    }
    stage.until_state(cancelled, "cancelled").await;
    stage.until_state(expired, "skipped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_and_roles_share_two_sessions_and_leave_nothing_in_them() {
    async fn test(stage: Stage) {
        let roles = Four::start(&stage).await;
        lives(&stage).await;
        let stores = join_all((0..CLIENTS).map(|_| stage.another())).await;
        let clients = stores.into_iter().enumerate().map(|(n, store)| life_cycles(store, stage.clone(), n));
        join_all(clients).await;
        let marked = "select count(*) from reveille_replica where session_pid is not null";
        assert_eq!(stage.count(marked).await, 0, "a session of the pooler's says nothing of a replica");
        // One that was given up on in a transaction may still be on its way out.
        let text = "select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'";
        until("all to be on two sessions", async || stage.count(text).await == 2).await;
        roles.stop().await;
        assert!(stage.replicas().await.iter().all(|replica| replica.gone_why.as_deref() == Some("left")));
        assert_eq!(stage.pooler().lent().await, untouched());
        assert_eq!(logged(&["prepared statement"]), [""; 0]);
    }
    crate::stage::run_behind_pooler(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_restarts_moves_nothing() {
    async fn test(stage: Stage) {
        let _roles = Four::start(&stage).await;
        let before = lives(&stage).await;
        // One with sessions of its own, which sees whose end.
        let watcher = stage.directly().await;
        let _watcher =
            Role::triggerer(&watcher, triggerer::Settings { label: "watcher".to_owned(), ..patient::triggerer() });
        stage.live("watcher").await;
        let gate = Gate::shut();
        let (triggers, _played): (Vec<_>, Vec<_>) = (0..20)
            .map(|_| {
                let gate = gate.clone();
                Scripted::of(move |_| {
                    let is_open = gate.is_open();
                    async move { Ok(if is_open { Answer::Fire(Event::resume("seen")?) } else { Answer::NotYet }) }
                })
            })
            .unzip();
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let tasks = triggers.into_iter().map(|trigger| NewTask::of(&task).unwrap().when(defer(trigger))).collect();
        let tasks = stage.store.enqueue_all(tasks).await.unwrap();
        until("all to be held", async || stage.held().await == 20).await;
        let looked = "select count(*) from pg_stat_activity
                       where state = 'idle' and query like '%is_there%'
                         and query_start > (select max(to_timestamp(seen_at / 1000.0)) from reveille_replica)";
        until("the watcher to have looked", async || stage.count(looked).await == 1).await;

        stage.pooler().kill();
        // What fires meanwhile is kept until there is a way to the database.
        gate.open();
        stage.pass(ms(1_500)).await;
        stage.pooler().start().await;
        until("a client to be let in", async || stage.store.census(None).await.is_ok()).await;
        for task in tasks {
            let whole = stage.succeeded(task).await;
            assert_eq!((times(&whole, "event"), times(&whole, "finished")), (1, 1));
        }
        until("everybody to have renewed", async || {
            lives(&stage).await.iter().zip(&before).all(|(now, then)| now.beat > then.beat)
        })
        .await;
        for (now, then) in lives(&stage).await.iter().zip(&before) {
            assert_eq!(now.incarnation, then.incarnation, "{}", then.label);
        }
        assert!(logged(&["declared gone"]).is_empty());
    }
    crate::stage::run_behind_pooler(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_triggerer_killed_behind_a_pooler_is_replaced_when_its_lease_is_over() {
    async fn test(stage: Stage) {
        let killed = stage.process("triggerer", "killed");
        let before = stage.live("killed").await;
        let path = stage.key_file().with_file_name("there.txt");
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let file = || reveille::file::File::at(&*path.to_string_lossy()).every(ms(50)).settle(ms(0));
        let tasks = (0..20).map(|_| NewTask::of(&task).unwrap().when(defer(file()))).collect();
        let tasks = stage.store.enqueue_all(tasks).await.unwrap();
        until("all to be held", async || stage.held().await == 20).await;
        let _heir = stage.triggerer(quick::triggerer("heir")).await;
        stage.live("heir").await;
        killed.kill().await;
        let dead_since = stage.clock().monotonic();
        let text = "select count(*) from reveille_trigger where deaths = 1";
        until("all to be held by the heir", async || stage.count(text).await == 20 && stage.held().await == 20).await;
        let took = stage.clock().monotonic() - dead_since;
        println!("MEASURED taken over after {took:?}, with a lease of {LEASE:?}");
        assert!(took < 4 * LEASE, "{took:?}");
        assert_eq!(stage.gone("killed").await.incarnation, before.incarnation);
        assert_eq!(logged(&["has been silent for a lease"]).len(), 1);
        assert_eq!(logged(&["has lost its session"]), [""; 0]);
        std::fs::write(path, "there").unwrap();
        for task in tasks {
            stage.until_state(task, "ready").await;
        }
    }
    crate::stage::run_behind_pooler(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_from_behind_a_pooler_reach_those_before_it() {
    async fn test(stage: Stage) {
        let (listener, stop) = (stage.directly().await, CancellationToken::new());
        let listens = listener.wake().on(Topic::Ready);
        let relay = tokio::spawn({
            let (listener, stop) = (listener.clone(), stop.clone());
            async move { listener.relay(stop).await }
        });
        listens.await;
        let told = listener.wake().on(Topic::Ready);
        stage.store.enqueue(NewTask::named("nobody", json!(null))).await.unwrap();
        stage.store.tell().await.unwrap();
        assert!(tokio::time::timeout(ms(8_000), told).await.is_ok(), "it was told nothing");
        stop.cancel();
        relay.await.unwrap();
    }
    crate::stage::run_behind_pooler(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_may_migrate_a_schema_of_their_own_through_a_pooler_at_once() {
    async fn test(stage: Stage) {
        let scratch = Scratch::make(stage.store.url(), "pooled").await.unwrap();
        let migrated = join_all((0..5).map(|_| Store::migrate(scratch.url()))).await;
        let mut migrated: Vec<_> = migrated.into_iter().map(Result::unwrap).collect();
        migrated.sort();
        assert_eq!(migrated.concat(), [1]);
        let store = scratch.open().await.unwrap();
        let task = store.enqueue(NewTask::named("nobody", json!(null))).await.unwrap();
        assert!(store.show(task).await.unwrap().is_some());
        assert!(stage.store.show(task).await.unwrap().is_none(), "it is in a schema of its own");
        store.close().await;
        scratch.remove().await.unwrap();
        assert_eq!(stage.pooler().lent().await, untouched());
    }
    crate::stage::run_behind_pooler(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_poolers_is_chosen_without_leaving_anything_in_its_sessions() {
    async fn test(stage: Stage) {
        let store = stage.at(stage.pooler().url_of_two_hosts()).await;
        let role = Role::worker(&store, patient::worker());
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let task = store.enqueue(NewTask::of(&task).unwrap()).await.unwrap();
        stage.succeeded(task).await;
        role.stop().await;
        assert_eq!(stage.pooler().lent().await, untouched());
    }
    crate::stage::run_behind_pooler(test).await;
}

fn reveille(url: &Url, arguments: &[&str], stage: &Stage) -> Output {
    let Url::Postgres(text) = url else { unreachable!() };
    let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
    command.env_clear().args(["--database-url", text, "--key-file"]).arg(stage.key_file()).args(arguments);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_goes_through_a_pooler_and_leaves_nothing() {
    async fn test(stage: Stage) {
        let tables = "select count(*) from pg_class where relkind = 'r'";
        let before = stage.count(tables).await;
        let url = stage.pooler().undeclared_url().behind_pooler().unwrap();
        let demo = reveille(&url, &["demo", "--sleepers", "0", "--json"], &stage);
        assert!(demo.status.success(), "{demo:?}");
        assert_eq!(stage.count(tables).await, before);
        assert_eq!(stage.pooler().lent().await, untouched());
    }
    crate::stage::run_behind_pooler(test).await;
}

on_postgres!(
    async fn a_pooler_that_was_not_declared_is_refused_with_what_to_do(stage: Stage) {
        if Pooler::is_missing() {
            return;
        }
        // One that refuses what it cannot hold its sessions to, and one that was told to overlook it.
        for settings in ["", "ignore_startup_parameters = extra_float_digits, options"] {
            let pooler = Pooler::before(stage.store.url(), settings).await;
            let url = pooler.undeclared_url();
            let vault = Vault::read_or_create(stage.key_file()).unwrap();
            let refusals = [
                Store::connect(Options::new(url.clone(), vault)).await.map(drop),
                Store::migrate(&url).await.map(drop),
            ];
            for refused in refusals {
                let Err(Error::Unusable(said)) = refused else { panic!("it should be unusable, not {refused:?}") };
                assert!(said.contains("add pooler=true to the parameters of the URL"), "{said}");
            }
            let [lame, well] =
                [url.clone(), url.behind_pooler().unwrap()].map(|url| reveille(&url, &["doctor"], &stage));
            let said = String::from_utf8(lame.stdout).unwrap();
            assert!(said.contains("pooler that was not declared") && lame.status.code() == Some(1), "{said}");
            let said = String::from_utf8(well.stdout).unwrap();
            assert!(said.contains("which the key opens"), "{said}");
            assert_eq!(pooler.lent().await, untouched());
        }
    }
);

on_postgres!(
    async fn a_pooler_that_is_declared_and_not_there_harms_nothing(stage: Stage) {
        let url = stage.store.url().clone().behind_pooler().unwrap();
        let store = stage.at(url.clone()).await;
        let _roles = [Role::triggerer(&store, patient::triggerer()), Role::worker(&store, patient::worker())];
        join_all((0..3).map(|n| life_cycles(store.clone(), stage.clone(), n))).await;
        assert_eq!(Store::migrate(&url).await.unwrap(), Vec::<i64>::new());
    }
);
