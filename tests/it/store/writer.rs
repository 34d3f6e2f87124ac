//! SQLite's one writer: what shares a commit, and what a transaction that is dropped takes with it.

use std::{collections::HashSet, pin::pin};

use futures::future::{join, join_all, poll_immediate};
use reveille::{
    Url,
    id::TaskId,
    store::{Db, Tx},
};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::stage::{Stage, work};

impl Stage {
    /// How many commits lie in the write-ahead log: a frame that ends one names the size of the database after it.
    fn commits(&self) -> usize {
        let Url::Sqlite(path) = self.store.url() else { unreachable!() };
        let log = std::fs::read(format!("{}-wal", path.display())).unwrap();
        let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
        let (page, salt) = (number(8) as usize, (number(16), number(20)));
        let frames = (32..log.len()).step_by(24 + page).take_while(|at| at + 24 + page <= log.len());
        frames.filter(|at| (number(at + 8), number(at + 12)) == salt && number(at + 4) > 0).count()
    }

    /// What a process that comes later finds.
    async fn durable(&self) -> HashSet<TaskId> {
        let Url::Sqlite(path) = self.store.url() else { unreachable!() };
        let mut own = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
        let ids: Vec<uuid::Uuid> =
            sqlx::query_scalar("select id from reveille_task").fetch_all(&mut own).await.unwrap();
        own.close().await.unwrap();
        ids.into_iter().map(TaskId).collect()
    }

    async fn enqueue_in(&self, tx: &mut Tx) -> TaskId {
        self.store.enqueue_in(&mut tx.db(), vec![work()]).await.unwrap()[0]
    }

    /// A write lock held by another process.
    async fn other_process(&self) -> SqliteConnection {
        let Url::Sqlite(path) = self.store.url() else { unreachable!() };
        let mut own = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
        sqlx::query("begin immediate").execute(&mut own).await.unwrap();
        own
    }
}

on_sqlite!(
    async fn many_writes_at_once_share_a_commit_and_all_are_durable(stage: Stage) {
        let first = stage.begin().await;
        let mut writes = Box::pin(join_all((0..50).map(|_| async {
            let id = stage.store.enqueue(work()).await.unwrap();
            assert!(stage.durable().await.contains(&id), "it was answered before it was durable");
            id
        })));
        // All of them wait for the writer.
        assert!(poll_immediate(&mut writes).await.is_none());
        let before = stage.commits();
        let (committed, ids) = join(first.commit(), writes).await;
        committed.unwrap();
        let ids: HashSet<TaskId> = ids.into_iter().collect();
        assert_eq!((ids.len(), stage.durable().await == ids), (50, true));
        let commits = stage.commits() - before;
        assert!((1..=3).contains(&commits), "{commits} commits for 50 writes");
    }
);

on_sqlite!(
    async fn a_transaction_that_is_dropped_takes_only_its_own_work_with_it(stage: Stage) {
        let mut first = stage.begin().await;
        let kept = stage.enqueue_in(&mut first).await;
        let (mut second, mut third) = (pin!(stage.begin()), pin!(stage.begin()));
        assert!(poll_immediate(&mut second).await.is_none() && poll_immediate(&mut third).await.is_none());

        // The first hands the writer on without a commit, and is not answered before there is one.
        let mut committing = pin!(first.commit());
        let mut second = futures::future::select(&mut committing, second).await.into_inner_second();
        let dropped = stage.enqueue_in(&mut second).await;
        assert!(!stage.durable().await.contains(&kept));
        drop(second);
        let mut third = third.await;
        let also_kept = stage.enqueue_in(&mut third).await;
        third.commit().await.unwrap();
        committing.await.unwrap();
        assert_eq!(stage.durable().await, HashSet::from([kept, also_kept]));
        assert!(stage.store.show(dropped).await.unwrap().is_none());
    }
);

on_sqlite!(
    async fn work_that_was_handed_on_is_committed_though_the_next_gives_up(stage: Stage) {
        let mut first = stage.begin().await;
        let kept = stage.enqueue_in(&mut first).await;
        {
            let mut second = Box::pin(stage.begin());
            assert!(poll_immediate(&mut second).await.is_none());
            let mut committing = pin!(first.commit());
            assert!(poll_immediate(&mut committing).await.is_none());
            // It leaves the queue before its turn, or with its turn just begun.
            drop(second);
            committing.await.unwrap();
        }
        assert_eq!(stage.durable().await, HashSet::from([kept]));
    }
);

on_sqlite!(
    async fn a_refused_statement_takes_only_its_own_work_with_it(stage: Stage) {
        let mut first = stage.begin().await;
        let kept = stage.enqueue_in(&mut first).await;
        let mut second = pin!(stage.begin());
        assert!(poll_immediate(&mut second).await.is_none());
        let mut committing = pin!(first.commit());
        let mut second = futures::future::select(&mut committing, second).await.into_inner_second();
        stage.enqueue_in(&mut second).await;
        let Db::Sqlite(c) = second.db() else { unreachable!() };
        sqlx::query("insert into reveille_queue (name) values (null)").execute(c).await.unwrap_err();
        drop(second);
        committing.await.unwrap();
        assert_eq!(stage.durable().await, HashSet::from([kept]));
    }
);

on_sqlite!(
    async fn a_transaction_dropped_while_it_begins_leaves_the_writer_usable(stage: Stage) {
        let Url::Sqlite(path) = stage.store.url() else { unreachable!() };
        let mut other = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
        for polls in 1..8 {
            {
                let mut begun = Box::pin(stage.begin());
                for _ in 0..polls {
                    if poll_immediate(&mut begun).await.is_some() {
                        break;
                    }
                }
            }
            let task = stage.enqueue().await;
            assert!(stage.durable().await.contains(&task), "after {polls} polls");
            // Nor is the file locked for other processes.
            sqlx::query("begin immediate").execute(&mut other).await.unwrap();
            sqlx::query("rollback").execute(&mut other).await.unwrap();
        }
    }
);

on_sqlite!(
    async fn a_commit_whose_caller_gives_up_is_made_all_the_same(stage: Stage) {
        // At each step of the way: after so many polls the caller is gone.
        for polls in 1..12 {
            let mut tx = stage.begin().await;
            let given_up = stage.enqueue_in(&mut tx).await;
            {
                let mut committing = Box::pin(tx.commit());
                for _ in 0..polls {
                    if poll_immediate(&mut committing).await.is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            // Whatever became of it, the next are not harmed.
            let next = stage.enqueue().await;
            let durable = stage.durable().await;
            assert!(durable.contains(&next) && durable.contains(&given_up), "after {polls} polls");
        }
    }
);

on_sqlite!(
    async fn those_who_share_a_commit_are_not_harmed_by_one_who_gives_up(stage: Stage) {
        for polls in 1..12 {
            let mut first = stage.begin().await;
            let kept = stage.enqueue_in(&mut first).await;
            let mut second = pin!(stage.begin());
            assert!(poll_immediate(&mut second).await.is_none());
            let mut committing = pin!(first.commit());
            let mut second = futures::future::select(&mut committing, second).await.into_inner_second();
            stage.enqueue_in(&mut second).await;
            {
                let mut leaving = Box::pin(second.commit());
                for _ in 0..polls {
                    if poll_immediate(&mut leaving).await.is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            committing.await.unwrap();
            assert!(stage.durable().await.contains(&kept), "after {polls} polls");
        }
    }
);

on_sqlite!(
    async fn a_begin_that_waits_too_long_for_another_process_is_an_outage_and_harms_nobody(stage: Stage) {
        let mut other = stage.other_process().await;
        let outage = stage.store.enqueue(work()).await.unwrap_err();
        assert!(outage.is_outage(), "{outage:?}");
        sqlx::query("rollback").execute(&mut other).await.unwrap();
        let task = stage.enqueue().await;
        assert_eq!(stage.durable().await, HashSet::from([task]));
    }
);

on_sqlite!(
    async fn two_processes_write_to_one_file(stage: Stage) {
        let other = stage.another().await;
        let writes = (0..60).map(|at| if at % 2 == 0 { stage.store.enqueue(work()) } else { other.enqueue(work()) });
        let ids: HashSet<TaskId> = join_all(writes).await.into_iter().map(Result::unwrap).collect();
        assert_eq!((ids.len(), stage.durable().await == ids), (60, true));
        let (mine, theirs) = (stage.worker().await, stage.worker().await);
        let (a, b) = futures::join!(stage.claimed(mine, 100), async {
            let mut tx = other.begin().await.unwrap();
            let scope = crate::stage::scope(&["work"]);
            let claims =
                reveille::store::task::claim(&mut tx.db(), theirs, &scope, stage.now(), 100).await.unwrap().mine;
            tx.commit().await.unwrap();
            claims.iter().map(|claim| claim.fence.task).collect::<Vec<_>>()
        });
        assert_eq!((a.len() + b.len(), a.into_iter().chain(b).collect::<HashSet<_>>()), (60, ids));
    }
);

on_sqlite!(
    async fn closing_commits_what_was_handed_on(stage: Stage) {
        let other = stage.another().await;
        let mut first = other.begin().await.unwrap();
        let kept = other.enqueue_in(&mut first.db(), vec![work()]).await.unwrap()[0];
        let mut closing = pin!(other.close());
        assert!(poll_immediate(&mut closing).await.is_none());
        first.commit().await.unwrap();
        closing.await;
        assert_eq!(stage.durable().await, HashSet::from([kept]));
    }
);

/// The one of two that came first was the second.
trait Second {
    type Second;

    fn into_inner_second(self) -> Self::Second;
}

impl<A, B, F, G> Second for futures::future::Either<(A, G), (B, F)> {
    type Second = B;

    fn into_inner_second(self) -> B {
        match self {
            Self::Right((second, _)) => second,
            Self::Left(_) => panic!("the first was answered before the second had begun"),
        }
    }
}
