//! Where these tests arrange: a fresh database, stores on it as separate processes would have them, and roles that run.

#[path = "../it/stage/backend.rs"]
mod backend;
mod child;
#[path = "../it/cluster.rs"]
#[expect(dead_code, reason = "standbys are for the tests of connecting")]
mod cluster;
mod gate;
mod ground;
mod log;
mod pooler;
mod proxy;
mod reach;
mod role;
mod script;
mod scripted;
mod time;

use std::{panic::AssertUnwindSafe, path::PathBuf, sync::Arc, time::Duration};

use futures::FutureExt;
use reveille::{
    NewTask, Options, Store, Url,
    clock::Clock,
    id::{Incarnation, TaskId},
    store::{
        Db, Tx,
        replica::{self, Beat, Card, Replica},
        report::Whole,
    },
    vault::Vault,
};
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;
use uuid::Uuid;

use self::ground::Ground;
pub(crate) use self::{
    backend::Backend,
    child::Caller,
    cluster::Cluster,
    gate::Gate,
    log::logged,
    pooler::{Lent, Pooler},
    proxy::Proxy,
    role::{LEASE, Role, patient, quick},
    script::{Anchored, Crowd, Hasty, Kind, Plain, Script},
    scripted::{Played, Scripted, Seen},
};

/// The longest that a test may take.
const LIMIT: Duration = Duration::from_mins(1);

/// The longest that anything is waited for: far more than it takes, as the host may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// One database, and a store on it for what clients do.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) store: Store,
    home: Arc<Ground>,
    folder: Arc<TempDir>,
}

/// Runs one test on a stage of its own, and clears that whatever comes of it.
pub(crate) async fn run(backend: Backend, test: impl AsyncFnOnce(Stage)) {
    if let Some(orders) = child::orders() {
        return child::obey(orders).await;
    }
    play(Ground::shared(backend).await, test).await;
}

/// Runs one test on a PostgreSQL server of its own, which it may stop and start.
pub(crate) async fn run_on_own_server(test: impl AsyncFnOnce(Stage)) {
    play(Ground::own().await, test).await;
}

/// Runs one test on a PostgreSQL server with a standby, under a URL that names both.
pub(crate) async fn run_with_standby(test: impl AsyncFnOnce(Stage)) {
    play(Ground::pair().await, test).await;
}

/// Runs one test through a pooler, where there is one to start.
pub(crate) async fn run_behind_pooler(test: impl AsyncFnOnce(Stage)) {
    if !Pooler::is_missing() {
        play(Ground::pooled().await, test).await;
    }
}

async fn play(ground: Ground, test: impl AsyncFnOnce(Stage)) {
    log::listen();
    let stage = Stage::new(ground).await;
    let outcome = AssertUnwindSafe(tokio::time::timeout(LIMIT, test(stage.clone()))).catch_unwind().await;
    stage.store.close().await;
    stage.home.clear().await;
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("the test was not over after {} s", LIMIT.as_secs()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Stage {
    async fn new(home: Ground) -> Self {
        let folder = TempDir::new().unwrap();
        let store = open(home.url(), Clock::system(), &folder).await;
        Self { store, home: Arc::new(home), folder: Arc::new(folder) }
    }

    /// The server, if it is this test's own.
    pub(crate) fn server(&self) -> &Cluster {
        self.home.server()
    }

    /// What everybody goes through.
    pub(crate) fn pooler(&self) -> &Pooler {
        self.home.pooler()
    }

    /// The primary ends at once, and its standby takes its place.
    pub(crate) fn fail_over(&self) {
        self.home.fail_over();
    }

    /// A store as another process would have it.
    pub(crate) async fn another(&self) -> Store {
        open(self.home.url(), Clock::system(), &self.folder).await
    }

    /// The same, on a host whose clock tells another time.
    pub(crate) async fn another_at(&self, clock: Clock) -> Store {
        open(self.home.url(), clock, &self.folder).await
    }

    /// The same, by another URL of the same database.
    pub(crate) async fn another_by(&self, url: Url) -> Store {
        open(url, Clock::system(), &self.folder).await
    }

    /// The same, as another user of the database.
    pub(crate) async fn another_as(&self, user: &str) -> Store {
        let Url::Postgres(url) = self.home.url() else { panic!("a file knows no users") };
        let (_, rest) = url.split_once('@').expect("the URL names a user");
        self.another_by(Url::Postgres(format!("postgres://{user}@{rest}"))).await
    }

    /// A store that sees the database through a proxy.
    pub(crate) async fn through(&self, proxy: &Proxy) -> Store {
        self.at(proxy.url()).await
    }

    /// A store that reaches the database by this URL.
    pub(crate) async fn at(&self, url: Url) -> Store {
        open(url, Clock::system(), &self.folder).await
    }

    /// A store that goes past the pooler.
    pub(crate) async fn directly(&self) -> Store {
        self.at(self.home.direct_url()).await
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("reveille.key")
    }

    /// What stands between the database and whoever goes through it.
    pub(crate) async fn proxy(&self) -> Proxy {
        Proxy::before(&self.home.url()).await
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// Lets time pass, where it is claimed that something does not happen meanwhile.
    pub(crate) async fn pass(&self, how_long: Duration) {
        self.clock().sleep(how_long).await;
    }

    pub(crate) async fn whole(&self, task: TaskId) -> Whole {
        self.store.show(task).await.unwrap().expect("the task is known")
    }

    pub(crate) async fn state_of(&self, task: TaskId) -> String {
        self.whole(task).await.brief.state
    }

    /// Waits until a task is in a state; answers what is known of it then.
    pub(crate) async fn until_state(&self, task: TaskId, state: &str) -> Whole {
        let mut last = None;
        let reached = async {
            loop {
                let whole = self.whole(task).await;
                if whole.brief.state == state {
                    return whole;
                }
                last = Some(whole);
                self.clock().sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(whole) => whole,
            Err(elapsed) => panic!("task {task} was never {state} ({elapsed}): {last:#?}"),
        }
    }

    pub(crate) async fn succeeded(&self, task: TaskId) -> Whole {
        self.until_state(task, "succeeded").await
    }

    pub(crate) async fn enqueue<T: reveille::Task>(&self, step: &T) -> TaskId {
        self.store.enqueue(NewTask::of(step).unwrap()).await.unwrap()
    }

    /// The replica of this label that is not gone, once there is one.
    pub(crate) async fn live(&self, label: &str) -> Replica {
        self.replica(label, |replica| replica.gone_at.is_none()).await
    }

    /// The replica of this label that is gone, once there is one.
    pub(crate) async fn gone(&self, label: &str) -> Replica {
        self.replica(label, |replica| replica.gone_at.is_some()).await
    }

    async fn replica(&self, label: &str, which: impl Fn(&Replica) -> bool) -> Replica {
        let mut found = None;
        until(&format!("the replica {label}"), async || {
            found = self.replicas().await.into_iter().find(|replica| replica.label == label && which(replica));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    pub(crate) async fn replicas(&self) -> Vec<Replica> {
        let mut tx = self.store.read().await.unwrap();
        let list = replica::list(&mut tx.db()).await.unwrap();
        tx.commit().await.unwrap();
        list
    }

    /// Declares a live replica gone, as a peer does that has seen no beat of it for a lease. It finds out at its second
    /// renewal or later: the first comes as soon as it has joined.
    pub(crate) async fn lose(&self, label: &str) -> Replica {
        loop {
            let replica = self.replica(label, |replica| replica.gone_at.is_none() && replica.beat > 0).await;
            let beat = Beat { incarnation: replica.incarnation.into(), beat: replica.beat };
            let now = self.clock().now_ms();
            // It may beat in between.
            if commit!(self.store, db => replica::declare_gone(db, beat, now)) {
                return replica;
            }
        }
    }

    /// A replica that has joined, with the shortest lease, has renewed once and never shows life again.
    pub(crate) async fn silent(&self, role: replica::Role, label: &str) -> Incarnation {
        let card = Card {
            incarnation: Incarnation::mint(),
            role,
            label: label.to_owned(),
            capacity: 1,
            kinds: Vec::new(),
            queues: None,
            lease: LEASE,
        };
        commit!(self.store, db => replica::join(db, &card, self.clock().now_ms()));
        commit!(self.store, db => replica::renew(db, card.incarnation, 0, self.clock().now_ms()));
        card.incarnation
    }

    /// A number that a statement answers.
    pub(crate) async fn count(&self, text: &'static str) -> i64 {
        let mut tx = self.store.read().await.unwrap();
        let count = match tx.db() {
            Db::Sqlite(c) => sqlx::query(text).fetch_one(c).await.unwrap().get(0),
            Db::Postgres(c) => sqlx::query(text).fetch_one(c).await.unwrap().get(0),
        };
        tx.commit().await.unwrap();
        count
    }

    /// Changes rows behind the store's back; `$1` and `$2` are an id and some bytes.
    pub(crate) async fn meddle(&self, text: &'static str, id: Uuid, bytes: &[u8]) -> u64 {
        let mut tx = self.store.begin().await.unwrap();
        let rows = match tx.db() {
            Db::Sqlite(c) => sqlx::query(text).bind(id).bind(bytes).execute(c).await.unwrap().rows_affected(),
            Db::Postgres(c) => sqlx::query(text).bind(id).bind(bytes).execute(c).await.unwrap().rows_affected(),
        };
        tx.commit().await.unwrap();
        rows
    }

    /// Changes rows that an id names.
    pub(crate) async fn alter(&self, text: &'static str, ids: &[Uuid]) -> u64 {
        let mut tx = self.store.begin().await.unwrap();
        macro_rules! run {
            ($c:expr) => {
                ids.iter()
                    .fold(sqlx::query(text), |query, id| query.bind(id))
                    .execute($c)
                    .await
                    .unwrap()
                    .rows_affected()
            };
        }
        let rows = match tx.db() {
            Db::Sqlite(c) => run!(c),
            Db::Postgres(c) => run!(c),
        };
        tx.commit().await.unwrap();
        rows
    }

    /// Until this transaction is over, nobody can move the task.
    pub(crate) async fn hold(&self, task: TaskId) -> Tx {
        let text = "update reveille_task set priority = priority where id = $1";
        let mut tx = self.store.begin().await.unwrap();
        let held = match tx.db() {
            Db::Sqlite(c) => sqlx::query(text).bind(task.0).execute(c).await.unwrap().rows_affected(),
            Db::Postgres(c) => sqlx::query(text).bind(task.0).execute(c).await.unwrap().rows_affected(),
        };
        assert_eq!(held, 1);
        tx
    }

    /// Runs statements that no verb has.
    pub(crate) async fn run(&self, text: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let text = AssertSqlSafe(text);
        match tx.db() {
            Db::Sqlite(c) => drop(sqlx::raw_sql(text).execute(c).await.unwrap()),
            Db::Postgres(c) => drop(sqlx::raw_sql(text).execute(c).await.unwrap()),
        }
        tx.commit().await.unwrap();
    }

    /// How many triggers are held by a replica that is not gone.
    pub(crate) async fn held(&self) -> i64 {
        self.count("select count(*) from reveille_trigger t join reveille_replica r on r.incarnation = t.holder where r.gone_at is null").await
    }
}

async fn open(url: Url, clock: Clock, folder: &TempDir) -> Store {
    let vault = Vault::read_or_create(folder.path().join("reveille.key")).unwrap();
    Store::connect(Options { clock, connections: 6, ..Options::new(url, vault) }).await.unwrap()
}

/// Waits until a claim holds.
pub(crate) async fn until(what: &str, mut claim: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    let held = async {
        while !claim().await {
            clock.sleep(LOOK).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, held).await.is_ok(), "waited too long for {what}");
}

/// Why a task moved, oldest first.
pub(crate) fn whys(whole: &Whole) -> Vec<&str> {
    whole.history.iter().map(|transition| transition.why.as_str()).collect()
}

/// How often a task moved for this reason.
pub(crate) fn times(whole: &Whole, why: &str) -> usize {
    whole.history.iter().filter(|transition| transition.why == why).count()
}

/// What a task that succeeded has to say.
pub(crate) fn result(whole: &Whole) -> serde_json::Value {
    whole.end.as_ref().and_then(|end| end.result.clone()).unwrap_or_default()
}

/// Why a task did not succeed.
pub(crate) fn error(whole: &Whole) -> String {
    whole.end.as_ref().and_then(|end| end.error.clone()).unwrap_or_default()
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
