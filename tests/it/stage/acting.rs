//! What replicas and callers do, in one line each.

use std::time::Duration;

use reveille::{
    Deferral, NewTask, defer,
    id::{Fence, Incarnation, TaskId},
    store::{
        BATCH, Db, Scope, Tx, Wait,
        event::Firing,
        history::Why,
        replica::{self, Beat, Card, Role},
        report::Whole,
        task::{self, Claim, Deferring, Ending},
        trigger::{self, Lease},
    },
    task::{End, TaskState, Woken},
    trigger::{Event, Receipt, Trigger},
    vault::Purpose,
};
use serde_json::{Value, json};
use sqlx::Row;

use super::Stage;

/// All queues, and these kinds or names.
pub(crate) fn scope(kinds: &[&str]) -> Scope {
    Scope { kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(), ..Scope::default() }
}

/// Looks, and leases.
pub(crate) async fn lease(
    db: &mut Db<'_>,
    me: Incarnation,
    scope: &Scope,
    now: i64,
    limit: usize,
) -> reveille::Result<Vec<Lease>> {
    let look = trigger::look(db, me).await?;
    trigger::lease(db, me, look.left_behind, scope, now, limit).await
}

impl Stage {
    pub(crate) async fn begin(&self) -> Tx {
        self.store.begin().await.unwrap()
    }

    /// A worker that has joined.
    pub(crate) async fn worker(&self) -> Incarnation {
        self.join(Role::Worker, "work").await
    }

    /// A triggerer that has joined.
    pub(crate) async fn triggerer(&self) -> Incarnation {
        self.join(Role::Triggerer, "fake").await
    }

    pub(crate) async fn join(&self, role: Role, kinds: &str) -> Incarnation {
        self.join_with(card(role, kinds)).await
    }

    pub(crate) async fn join_with(&self, card: Card) -> Incarnation {
        commit!(self.store, db => replica::join(db, &card, self.now()));
        card.incarnation
    }

    /// A peer has seen no life in it for too long.
    pub(crate) async fn lose(&self, replica: Incarnation) {
        let row: i64 = self.count("select beat from reveille_replica where incarnation = $1", replica.0).await;
        assert!(
            commit!(self.store, db => replica::declare_gone(db, Beat { incarnation: replica, beat: row }, self.now()))
        );
    }

    /// It stops by itself.
    pub(crate) async fn leave(&self, replica: Incarnation) {
        commit!(self.store, db => replica::leave(db, replica, self.now()));
    }

    /// Adds a task named `work` on the queue `default`.
    pub(crate) async fn enqueue(&self) -> TaskId {
        self.store.enqueue(work()).await.unwrap()
    }

    pub(crate) async fn claims(&self, worker: Incarnation, limit: usize) -> Vec<Claim> {
        commit!(self.store, db => task::claim(db, worker, &scope(&["work"]), self.now(), limit)).mine
    }

    /// The one task that is to be claimed first.
    pub(crate) async fn claim(&self, worker: Incarnation) -> Claim {
        self.claims(worker, 1).await.pop().expect("there is a task to claim")
    }

    /// The ids of what a worker is given.
    pub(crate) async fn claimed(&self, worker: Incarnation, limit: usize) -> Vec<TaskId> {
        self.claims(worker, limit).await.iter().map(|claim| claim.fence.task).collect()
    }

    /// A next step, sealed.
    pub(crate) fn step(&self, step: &str) -> Vec<u8> {
        self.store.seal(Purpose::Step, "step", &json!({ "step": step })).unwrap()
    }

    /// A deferral to the step `next`.
    pub(crate) fn deferring(&self, fence: Fence, deferral: &Deferral) -> Deferring {
        let wait = self.store.arm(deferral).unwrap();
        Deferring { fence, step: Some(self.step("next")), attempt: 1, why: Why::Deferred, wait }
    }

    /// The same step again after a timer, as `attempt`.
    pub(crate) fn again(&self, claim: &Claim, attempt: i32, why: Why, at: i64) -> Deferring {
        Deferring { fence: claim.fence, step: None, attempt, why, wait: Wait::until(at) }
    }

    /// Whether the task was swapped for the wait.
    pub(crate) async fn defers(&self, worker: Incarnation, deferring: Deferring) -> bool {
        !commit!(self.store, db => task::defer(db, worker, self.now(), &[deferring])).is_empty()
    }

    /// A task that waits, as it must be named from then on; its keys are matched as after any deferral.
    pub(crate) async fn deferred(&self, deferral: &Deferral) -> Fence {
        let aside = self.ids("select id from reveille_task where state = 'ready'").await;
        let (task, worker) = (self.enqueue().await, self.worker().await);
        let scope = Scope { aside: aside.into_iter().map(TaskId).collect(), ..scope(&["work"]) };
        let claim = commit!(self.store, db => task::claim(db, worker, &scope, self.now(), 1)).mine.pop().unwrap();
        assert_eq!(claim.fence.task, task);
        self.defer(worker, &claim, deferral).await
    }

    /// A claimed task that waits.
    pub(crate) async fn defer(&self, worker: Incarnation, claim: &Claim, deferral: &Deferral) -> Fence {
        assert!(self.defers(worker, self.deferring(claim.fence, deferral)).await);
        Fence { generation: claim.fence.generation + 1, ..claim.fence }
    }

    /// A task that waits on a trigger.
    pub(crate) async fn deferred_on(&self, trigger: impl Trigger + 'static) -> Fence {
        self.deferred(&defer(trigger)).await
    }

    pub(crate) async fn leases(&self, triggerer: Incarnation, limit: usize) -> Vec<Lease> {
        commit!(self.store, db => lease(db, triggerer, &scope(&["fake"]), self.now(), limit))
    }

    /// The tasks whose triggers a triggerer is given.
    pub(crate) async fn leased(&self, triggerer: Incarnation, limit: usize) -> Vec<TaskId> {
        self.leases(triggerer, limit).await.iter().map(|lease| lease.fence.task).collect()
    }

    pub(crate) async fn fire(&self, holder: Incarnation, fence: Fence, event: Event) -> Receipt {
        self.fire_all(&[Firing { fence, event: event.into(), holder }]).await[0]
    }

    pub(crate) async fn fire_all(&self, batch: &[Firing]) -> Vec<Receipt> {
        commit!(self.store, db => self.store.fire(db, batch)).0
    }

    /// Fires whatever is passively due; answers how much.
    pub(crate) async fn fire_due(&self, who: Incarnation) -> usize {
        commit!(self.store, db => trigger::fire_due(db, who, self.now(), BATCH))
    }

    /// Whether a worker's end of a task was taken.
    pub(crate) async fn finish(&self, worker: Incarnation, claim: &Claim, end: &End) -> bool {
        let ending = self.ending(worker, claim, end);
        !commit!(self.store, db => task::end(db, self.now(), &[ending])).is_empty()
    }

    pub(crate) fn ending(&self, worker: Incarnation, claim: &Claim, end: &End) -> Ending {
        let ending = self.store.ending(claim.fence, TaskState::Running, end, Why::Finished).unwrap();
        Ending { holder: Some(worker), who: Some(worker), ..ending }
    }

    pub(crate) async fn whole(&self, task: TaskId) -> Whole {
        self.store.show(task).await.unwrap().expect("the task is known")
    }

    pub(crate) async fn state_of(&self, task: TaskId) -> String {
        self.whole(task).await.brief.state
    }

    /// What the last wait of a task ended with.
    pub(crate) async fn woken(&self, task: TaskId) -> Option<Woken> {
        self.whole(task).await.event
    }

    /// The payload that a task was resumed with.
    pub(crate) async fn payload_of(&self, task: TaskId) -> Value {
        match self.woken(task).await {
            Some(Woken::Payload(payload)) => payload,
            other => panic!("the task was not resumed with a payload but with {other:?}"),
        }
    }

    /// Why a task moved, oldest first.
    pub(crate) async fn history_of(&self, task: TaskId) -> Vec<String> {
        self.whole(task).await.history.into_iter().map(|transition| transition.why).collect()
    }

    /// Comes back once this many sessions on the database wait for a lock.
    pub(crate) async fn blocked(&self, sessions: i64) {
        let text =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let another = self.another().await;
        loop {
            let mut tx = another.begin().await.unwrap();
            let reveille::store::Db::Postgres(c) = tx.db() else {
                panic!("SQLite has one writer, which nothing waits for")
            };
            let blocked: i64 = sqlx::query_scalar(text).fetch_one(c).await.unwrap();
            tx.commit().await.unwrap();
            if blocked >= sessions {
                return another.close().await;
            }
        }
    }

    /// The ids that a statement answers.
    pub(crate) async fn ids(&self, text: &'static str) -> Vec<uuid::Uuid> {
        let mut tx = self.store.read().await.unwrap();
        match tx.db() {
            reveille::store::Db::Sqlite(c) => sqlx::query_scalar(text).fetch_all(c).await.unwrap(),
            reveille::store::Db::Postgres(c) => sqlx::query_scalar(text).fetch_all(c).await.unwrap(),
        }
    }

    /// A number that a statement answers, given one id.
    pub(crate) async fn count(&self, text: &'static str, id: uuid::Uuid) -> i64 {
        let mut tx = self.store.read().await.unwrap();
        match tx.db() {
            reveille::store::Db::Sqlite(c) => sqlx::query(text).bind(id).fetch_one(c).await.unwrap().get(0),
            reveille::store::Db::Postgres(c) => sqlx::query(text).bind(id).fetch_one(c).await.unwrap().get(0),
        }
    }

    /// An id as it is written in a statement.
    pub(crate) fn literal(&self, id: uuid::Uuid) -> String {
        match self.store.url() {
            reveille::Url::Sqlite(_) => format!("x'{}'", id.simple()),
            reveille::Url::Postgres(_) => format!("'{id}'"),
        }
    }

    /// Changes the database behind the store's back.
    pub(crate) async fn meddle(&self, text: impl Into<String>) {
        let text = sqlx::AssertSqlSafe(text.into());
        let mut tx = self.store.begin().await.unwrap();
        match tx.db() {
            reveille::store::Db::Sqlite(c) => drop(sqlx::raw_sql(text).execute(c).await.unwrap()),
            reveille::store::Db::Postgres(c) => drop(sqlx::raw_sql(text).execute(c).await.unwrap()),
        }
        tx.commit().await.unwrap();
    }
}

/// A task named `work`, on the queue `default`.
pub(crate) fn work() -> NewTask {
    NewTask::named("work", json!("first"))
}

/// A replica that serves all queues.
pub(crate) fn card(role: Role, kinds: &str) -> Card {
    Card {
        incarnation: Incarnation::mint(),
        role,
        label: "here".to_owned(),
        lease: Duration::from_secs(10),
        capacity: 100,
        kinds: kinds.split(',').map(ToOwned::to_owned).collect(),
        queues: None,
    }
}
