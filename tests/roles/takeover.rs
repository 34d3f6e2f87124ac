//! Taking over at once from processes that have ended, and from nobody else.
//!
//! Leases are of 30 s here: what happens sooner, happens by the sessions that replicas renew by.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use reveille::{NewTask, Url, defer, done, file::File, store::wake::Topic, triggerer};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    processes::service,
    stage::{Caller, Plain, Script, Scripted, Stage, logged, ms, patient, times, until},
};

/// Far more than it takes, as the host of a test may be busy, and far less than a lease.
const SOON: Duration = Duration::from_secs(8);

/// Longer than a suspect is given.
const SUSPENSE: Duration = ms(1_500);

fn named(label: &str) -> triggerer::Settings {
    triggerer::Settings { label: label.to_owned(), ..patient::triggerer() }
}

/// One replica that is not gone: its life, and by which session it renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    incarnation: Uuid,
    session: i32,
}

/// Connects anew, as what was there before may have been cut.
async fn connect(stage: &Stage) -> sqlx::Result<PgConnection> {
    let Url::Postgres(text) = stage.store.url() else { panic!("only PostgreSQL has sessions") };
    PgConnection::connect_with(&PgConnectOptions::from_str(text)?).await
}

/// Those replicas that are not gone, once each of them renews by a session that the server has, and has looked at the
/// others since the last of them was seen to present its own. By label.
///
/// That a session began before a look is not enough: it is presented only after it has begun, and who looked in between
/// has not seen it.
async fn settled(stage: &Stage, labels: &[&str]) -> BTreeMap<String, Life> {
    let text = "select r.label, r.incarnation, r.session_pid,
                       (extract(epoch from clock_timestamp()) * 1000000)::bigint,
                       case when a.state = 'idle' and a.query like '%is_there%'
                            then (extract(epoch from a.query_start) * 1000000)::bigint end
                  from reveille_replica r join pg_stat_activity a on a.pid = r.session_pid
                 where r.gone_at is null";
    let mut lives = BTreeMap::new();
    let mut presented_at = None;
    until("everybody to have seen everybody", async || {
        let Ok(mut connection) = connect(stage).await else { return false };
        let rows: Result<Vec<Look>, _> = sqlx::query_as(text).fetch_all(&mut connection).await;
        // The server may be on its way down or up.
        let rows = rows.unwrap_or_default();
        let seen = rows.iter().map(|look| (look.0.clone(), Life { incarnation: look.1, session: look.2 })).collect();
        if lives != seen {
            (lives, presented_at) = (seen, rows.iter().map(|look| look.3).max());
        }
        let has_looked = |label: &&str| rows.iter().any(|look| look.0 == **label && look.4 > presented_at);
        labels.iter().all(has_looked)
    })
    .await;
    lives
}

/// A replica's label, life and session, the database's time, and when it looked at the others, if it did nothing since;
/// in microseconds.
type Look = (String, Uuid, i32, i64, Option<i64>);

fn nobody_was_declared_gone(lives: &BTreeMap<String, Life>) {
    for (label, life) in lives {
        assert!(logged(&[&life.incarnation.to_string(), "declared gone"]).is_empty(), "{label}");
    }
}

on_postgres!(
    async fn a_triggerer_that_is_killed_is_replaced_long_before_its_lease_is_over(stage: Stage) {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(format!("{n}.txt")).to_string_lossy().into_owned();
        let killed = stage.patient_process("triggerer", "killed");
        settled(&stage, &["killed"]).await;
        let task = |n| {
            let wait = defer(File::at(path(n)).every(ms(50)).settle(ms(0)));
            NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap().when(wait)
        };
        let ids = stage.store.enqueue_all((0..20).map(task).collect()).await.unwrap();
        until("all to be held", async || stage.held().await == 20).await;
        let _heirs = [stage.triggerer(named("one")).await, stage.triggerer(named("two")).await];
        let lives = settled(&stage, &["killed", "one", "two"]).await;
        killed.kill().await;
        let dead_since = stage.clock().monotonic();
        until("all to be held by the heirs", async || {
            stage.count("select count(*) from reveille_trigger where deaths = 1").await == 20
                && stage.held().await == 20
        })
        .await;
        let took = stage.clock().monotonic() - dead_since;
        println!("MEASURED taken over after {took:?} from a triggerer that was killed");
        assert!(took < SOON, "{took:?}");
        let gone = stage.gone("killed").await;
        assert_eq!((gone.incarnation, gone.gone_why.as_deref()), (lives["killed"].incarnation, Some("lost")));
        assert_eq!(logged(&[&gone.incarnation.to_string(), "has lost its session and shows no life"]).len(), 1);
        for (n, id) in ids.into_iter().enumerate() {
            std::fs::write(path(n), "there").unwrap();
            stage.until_state(id, "ready").await;
        }
    }
);

on_postgres!(
    async fn a_task_of_a_worker_that_is_killed_is_ready_long_before_its_lease_is_over(stage: Stage) {
        let (service, calls) = service().await;
        let _watcher = stage.triggerer(named("watcher")).await;
        let killed = stage.patient_process("worker", "killed");
        settled(&stage, &["killed", "watcher"]).await;
        let task = stage.enqueue(&Caller { service }).await;
        until("the call", async || calls.lock().unwrap().len() == 1).await;
        stage.until_state(task, "running").await;
        killed.kill().await;
        let dead_since = stage.clock().monotonic();
        let whole = stage.until_state(task, "ready").await;
        let took = stage.clock().monotonic() - dead_since;
        println!("MEASURED ready after {took:?} from a worker that was killed");
        assert!(took < SOON, "{took:?}");
        assert_eq!((whole.crashes, times(&whole, "crashed")), (1, 1));
    }
);

on_postgres!(
    async fn a_replica_whose_connection_is_cut_renews_by_another_at_once_and_keeps_what_it_has(stage: Stage) {
        let _roles = [
            stage.triggerer(named("cut")).await,
            stage.triggerer(named("watching")).await,
            stage.triggerer(named("watching too")).await,
        ];
        let labels = ["cut", "watching", "watching too"];
        let (triggers, _played): (Vec<_>, Vec<_>) = (0..6).map(|_| Scripted::never()).unzip();
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let tasks = triggers.into_iter().map(|trigger| NewTask::of(&task).unwrap().when(defer(trigger)));
        stage.store.enqueue_all(tasks.collect()).await.unwrap();
        until("all to be held", async || stage.held().await == 6).await;
        let before = settled(&stage, &labels).await;
        for _ in 0..3 {
            let cut = settled(&stage, &labels).await["cut"].session;
            let ended: bool = sqlx::query_scalar("select pg_terminate_backend($1)")
                .bind(cut)
                .fetch_one(&mut connect(&stage).await.unwrap())
                .await
                .unwrap();
            assert!(ended);
            until("it to renew by another", async || settled(&stage, &labels).await["cut"].session != cut).await;
            stage.pass(SUSPENSE).await;
        }
        let after = settled(&stage, &labels).await;
        for label in labels {
            assert_eq!(after[label].incarnation, before[label].incarnation, "{label}");
        }
        nobody_was_declared_gone(&before);
        assert_eq!(stage.count("select max(deaths)::bigint from reveille_trigger").await, 0);
    }
);

/// What becomes of a server.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It is stopped in this mode, and started after a while.
    Stopped(&'static str),
    /// One of its processes is killed: it ends all sessions and starts anew, and its start time stays as it was.
    Crashed,
}

impl Fate {
    async fn befalls(self, stage: &Stage) {
        match self {
            Self::Stopped(mode) => {
                stage.server().stop(mode);
                // Long enough for the replicas to back off, each for another while.
                stage.pass(ms(2_500)).await;
                stage.server().start();
            }
            Self::Crashed => {
                let mut connection = connect(stage).await.unwrap();
                let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
                kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_makes_nobody_suspect() {
    async fn test(stage: Stage) {
        let labels = ["one", "two", "three"];
        let _roles = [
            stage.triggerer(named("one")).await,
            stage.triggerer(named("two")).await,
            stage.worker(reveille::worker::Settings { label: "three".to_owned(), ..patient::worker() }).await,
        ];
        let (trigger, _played) = Scripted::never();
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        until("it to be held", async || stage.held().await == 1).await;
        // One that comes back later than the others.
        let late = stage.patient_process("triggerer", "late");
        let all = ["one", "two", "three", "late"];
        let before = settled(&stage, &all).await;
        for fate in [Fate::Stopped("fast"), Fate::Stopped("immediate"), Fate::Crashed] {
            let was = settled(&stage, &all).await;
            late.signal(Signal::STOP);
            fate.befalls(&stage).await;
            until("everybody to renew by another session", async || {
                let now = settled(&stage, &labels).await;
                labels.iter().all(|label| now[*label].session != was[*label].session)
            })
            .await;
            stage.pass(SUSPENSE).await;
            late.signal(Signal::CONT);
            let after = settled(&stage, &all).await;
            for label in all {
                assert_eq!(after[label].incarnation, before[label].incarnation, "{label} after {fate:?}");
            }
        }
        nobody_was_declared_gone(&before);
        let text = "select deaths::bigint from reveille_trigger where holder is not null";
        let deaths: i64 = sqlx::query_scalar(text).fetch_one(&mut connect(&stage).await.unwrap()).await.unwrap();
        assert_eq!(deaths, 0);
    }
    crate::stage::run_on_own_server(test).await;
}

on_postgres!(
    async fn whoever_leaves_tells_the_others_itself(stage: Stage) {
        // It passes no hints on: a process that is told to stop ends that first.
        let leaving = stage.triggerer(named("leaving")).await;
        settled(&stage, &["leaving"]).await;
        let (heir, stop) = (stage.another().await, CancellationToken::new());
        let listens = heir.wake().on(Topic::Gone);
        let relay = tokio::spawn({
            let (heir, stop) = (heir.clone(), stop.clone());
            async move { heir.relay(stop).await }
        });
        listens.await;
        let told = [heir.wake().on(Topic::Gone), heir.wake().on(Topic::Waiting), heir.wake().on(Topic::Ready)];
        leaving.stop().await;
        let told = tokio::time::timeout(SOON, futures::future::join_all(told)).await;
        assert!(told.is_ok(), "it left, and told nobody");
        stop.cancel();
        relay.await.unwrap();
    }
);
