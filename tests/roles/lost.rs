//! A connection that is cut after a commit and before the reply, for every verb: it took effect once, and nothing is stuck.
//!
//! The role or client is not told what has become of its transaction, and does what it always does about that: it tries
//! again, or asks what it holds.

mod client;
mod replica;
mod triggerer;
mod worker;

use reveille::{
    NewTask, Store, done_with,
    store::{Db, TIME_OUT},
    worker as role,
};
use serde_json::{Value, json};

use crate::stage::{Kind, Plain, Proxy, Role, Script, Stage, ms, patient, quick};

/// Text that only the statement of one verb has.
mod statement {
    pub(super) const ENQUEUE: &str = "insert into reveille_task (";
    pub(super) const CLAIM: &str = "'ready', 'running', 'claimed'";
    pub(super) const DEFER: &str = "'running', 'deferred', why";
    pub(super) const END: &str = "insert into reveille_finished (";
    pub(super) const LEASE: &str = "update reveille_trigger t\n   set holder";
    pub(super) const FIRE: &str = "'deferred', 'ready', why, event_id";
    pub(super) const DUE: &str = "'deferred', 'ready', 'due'";
    pub(super) const REARM: &str = "set generation = generation + 1, holder = null, since";
    pub(super) const RELEASE: &str = "set holder = null, wake_at";
    pub(super) const PUT_BACK: &str = "set state = 'ready', holder = null";
    pub(super) const RENEW: &str = "set beat = beat + 1";
    pub(super) const JOIN: &str = "insert into reveille_replica";
    pub(super) const LEAVE: &str = "gone_why = 'left'";
    pub(super) const DECLARE: &str = "gone_why = 'lost' where";
    pub(super) const SIGNAL: &str = "insert into reveille_signal";
    pub(super) const TAKE_SIGNAL: &str = "update reveille_signal set taken_at";
    pub(super) const ASK_TO_CANCEL: &str = "set cancel_requested_at";
    pub(super) const ADVANCE: &str = "turn = turn + 1, attempt = 1";
    pub(super) const UNDO: &str = "update reveille_undo u set holder";
    pub(super) const UNDONE: &str = "delete from reveille_undo";
    pub(super) const UNDO_AGAIN: &str = "set holder = null, attempt = attempt + 1";
    pub(super) const TAKE_OVER: &str = "set holder = $3, deaths";
    pub(super) const HELD: &str = "select pg_advisory_xact_lock";
    pub(super) const PROGRESS: &str = "set progress =";
    pub(super) const PAUSE: &str = "update reveille_queue set paused_at";
    pub(super) const FORGET: &str = "delete from reveille_replica";
    pub(super) const DROP: &str = "delete from reveille_signal";
}

/// A worker and a triggerer behind a proxy, which cut what they are told to.
struct Behind {
    proxy: Proxy,
    store: Store,
    roles: Vec<Role>,
}

impl Behind {
    async fn both_roles(stage: &Stage) -> Self {
        let mut behind = Self::client(stage).await;
        behind.begin(stage).await;
        behind
    }

    /// With leases so long that what they do by the tenth renewal is not done while a test runs.
    async fn patient_roles(stage: &Stage) -> Self {
        let mut behind = Self::client(stage).await;
        behind.roles =
            vec![Role::triggerer(&behind.store, patient::triggerer()), Role::worker(&behind.store, patient::worker())];
        stage.live("triggerer").await;
        stage.live("worker").await;
        behind
    }

    async fn begin(&mut self, stage: &Stage) {
        self.roles = vec![
            Role::triggerer(&self.store, quick::triggerer("triggerer")),
            Role::worker(&self.store, role::Settings { concurrency: 4, ..quick::worker("worker") }),
        ];
        stage.live("triggerer").await;
        stage.live("worker").await;
    }

    async fn client(stage: &Stage) -> Self {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        Self { proxy, store, roles: Vec::new() }
    }
}

/// On SQLite an answer is lost where a commit is shared with one who takes too long: whoever wrote before has given up.
async fn give_up_on(stage: &Stage, store: &Store, written: &'static str) {
    loop {
        let first = store.begin().await.unwrap();
        // Meanwhile the loops of the role queue behind it, and then we again, behind them.
        stage.pass(ms(600)).await;
        let mut second = Box::pin(store.begin());
        assert!(futures::future::poll_immediate(&mut second).await.is_none());
        let committing = tokio::spawn(first.commit());
        let mut second = second.await.unwrap();
        let Db::Sqlite(c) = second.db() else { panic!("only SQLite's commits are shared") };
        let is_written: i64 = sqlx::query_scalar(written).fetch_one(c).await.unwrap();
        if is_written > 0 {
            stage.pass(TIME_OUT + ms(500)).await;
        }
        second.commit().await.unwrap();
        committing.await.unwrap().unwrap();
        if is_written > 0 {
            return;
        }
    }
}

/// Waits for a trigger, and ends with what came.
fn waiter<K: Kind>(wait: reveille::Deferral) -> Script<K> {
    Script::of(move |step, cx| {
        let wait = wait.clone();
        async move {
            Ok(match step.at {
                0 => wait.then(step.next()),
                _ => done_with(json!([cx.turn(), cx.event::<Value>()?])),
            })
        }
    })
}

fn simple() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, cx| async move { Ok(done_with(cx.attempt())) })).unwrap()
}
