//! Sessions on PostgreSQL that want the same rows in different orders, and never wait for one another in a circle.

use futures::future::join;
use reveille::{
    Options, Store, Url, defer,
    id::{Fence, TaskId},
    store::{
        Verdict,
        event::Firing,
        history::Why,
        task::{self, Answer, Claim},
        trigger,
    },
    task::{End, WaitFailed, WaitFailure},
    trigger::Event,
};

use serde_json::json;
use tokio::sync::Barrier;

use super::races::accepted;
use crate::stage::{Fake, Stage, work};

const TRIES: usize = 40;

on_postgres!(
    async fn two_who_fire_one_batch_in_opposite_order_never_deadlock(stage: Stage) {
        for _ in 0..TRIES {
            let (holder, fences) = stage.held(60).await;
            let firing = |fence: &Fence| Firing { fence: *fence, event: Event::resume(1).unwrap().into(), holder };
            let forth: Vec<_> = fences.iter().map(firing).collect();
            let back: Vec<_> = fences.iter().rev().map(firing).collect();
            let (a, b) = join(stage.fires(forth), stage.fires(back)).await;
            assert_eq!(accepted(&a) + accepted(&b), fences.len());
        }
    }
);

on_postgres!(
    async fn two_who_fire_under_different_plans_never_deadlock(stage: Stage) {
        // One finds the rows by their ids, the other as they lie: in the opposite order.
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let plan = async |settings: &str| {
            let url = Url::Postgres(format!("{url}?{settings}"));
            Store::connect(Options { url, ..stage.options() }).await.unwrap()
        };
        let stores = [
            plan("options[enable_seqscan]=off&options[enable_bitmapscan]=off").await,
            plan("options[enable_indexscan]=off&options[enable_bitmapscan]=off").await,
        ];
        let holder = stage.triggerer().await;
        for _ in 0..TRIES {
            let mut ids: Vec<TaskId> = (0..60).map(|_| TaskId::mint()).collect();
            ids.sort_by(|a, b| b.cmp(a));
            for id in &ids {
                stage.store.enqueue(work().id(*id).when(defer(Fake::default()))).await.unwrap();
            }
            let fire = async |store: &Store| {
                let firing = |id: &TaskId| Firing {
                    fence: Fence { task: *id, generation: 0 },
                    event: Event::resume(1).unwrap().into(),
                    holder,
                };
                let batch: Vec<_> = ids.iter().map(firing).collect();
                accepted(&commit!(store, db => store.fire(db, &batch)).0)
            };
            let (a, b) = join(fire(&stores[0]), fire(&stores[1])).await;
            assert_eq!(a + b, ids.len());
        }
        for store in stores {
            store.close().await;
        }
    }
);

on_postgres!(
    async fn two_who_fire_different_outcomes_never_deadlock(stage: Stage) {
        for _ in 0..TRIES {
            let (holder, fences) = stage.held(40).await;
            let events: [fn() -> Event; 4] = [
                || Event::resume(1).unwrap(),
                || Event::succeed(1).unwrap(),
                || Event::fail("no"),
                || Event::skip("no"),
            ];
            let batch = |shift: usize| {
                let firing = |(at, fence): (usize, &Fence)| Firing {
                    fence: *fence,
                    event: events[(at + shift) % 4]().into(),
                    holder,
                };
                fences.iter().enumerate().map(firing).collect::<Vec<_>>()
            };
            let late = |fence: &Fence| Verdict {
                fence: *fence,
                failed: WaitFailed { reason: WaitFailure::Deadline, message: "late".to_owned() },
                holder: None,
                event: None,
            };
            let strike = async {
                let mut tx = stage.begin().await;
                let verdicts = fences.iter().rev().map(late).collect();
                let struck = stage.store.fail_waits(&mut tx.db(), None, verdicts).await.unwrap();
                tx.commit().await.unwrap();
                struck.accepted.len()
            };
            let ((a, b), struck) = join(join(stage.fires(batch(0)), stage.fires(batch(1))), strike).await;
            assert_eq!(accepted(&a) + accepted(&b) + struck, fences.len(), "each wait has one outcome");
        }
    }
);

on_postgres!(
    async fn releasing_what_another_fires_never_deadlocks(stage: Stage) {
        for _ in 0..TRIES {
            let (holder, fences) = stage.held(60).await;
            let batch = fences
                .iter()
                .map(|fence| Firing { fence: *fence, event: Event::resume(1).unwrap().into(), holder })
                .collect();
            let release = async {
                let given = |fence: &Fence| trigger::Release { fence: *fence, wake_at: stage.now(), known: 0 };
                let releases: Vec<_> = fences.iter().rev().map(given).collect();
                commit!(stage.store, db => trigger::release(db, holder, &releases));
            };
            let (receipts, ()) = join(stage.fires(batch), release).await;
            assert_eq!(accepted(&receipts), fences.len());
        }
    }
);

on_postgres!(
    async fn batches_of_the_same_new_tasks_in_opposite_order_never_deadlock(stage: Stage) {
        for attempt in 0..TRIES {
            let ids: Vec<TaskId> = (0..30).map(|_| TaskId::mint()).collect();
            let task = |(at, id): (usize, &TaskId)| {
                let task = work().queue(format!("q{}", at % 3));
                if at % 2 == 0 { task.id(*id) } else { task.dedupe(format!("{attempt}-{at}")) }
            };
            let forth: Vec<_> = ids.iter().enumerate().map(task).collect();
            let back = forth.iter().rev().cloned().collect();
            let (a, b) = join(stage.store.enqueue_all(forth), stage.store.enqueue_all(back)).await;
            let mut b = b.unwrap();
            b.reverse();
            assert_eq!(a.unwrap(), b);
        }
        assert_eq!(stage.claims(stage.worker().await, 5_000).await.len(), TRIES * 30);
    }
);

on_postgres!(
    async fn two_workers_who_store_different_answers_never_deadlock(stage: Stage) {
        let (lost, heir) = (stage.worker().await, stage.worker().await);
        for attempt in 0..TRIES {
            stage.store.enqueue_all((0..60).map(|_| work()).collect()).await.unwrap();
            let claims = stage.claims(heir, 60).await;
            // One has lost the tasks to the other, and does not know: every second task is over, the rest wait.
            let answers = |who, shift: usize| {
                let answer = |(at, claim): (usize, &Claim)| {
                    if (at + shift).is_multiple_of(2) {
                        Answer::End(stage.ending(who, claim, &End::succeeded(json!(0))))
                    } else {
                        Answer::Defer(stage.again(claim, 2, Why::Retry, stage.now() + 1_000))
                    }
                };
                claims.iter().enumerate().map(answer).collect::<Vec<_>>()
            };
            let barrier = Barrier::new(3);
            let settle = async |who, answers| {
                let mut tx = stage.begin().await;
                barrier.wait().await;
                let settled = stage.store.settle(&mut tx.db(), who, answers).await.unwrap();
                tx.commit().await.unwrap();
                settled.ended.len() + settled.deferred.len()
            };
            let put_back = async {
                let fences: Vec<_> = claims.iter().rev().map(|claim| claim.fence).collect();
                let mut tx = stage.begin().await;
                barrier.wait().await;
                task::put_back(&mut tx.db(), lost, stage.now(), &fences).await.unwrap();
                tx.commit().await.unwrap();
            };
            let theirs = answers(lost, attempt);
            let ((lost, settled), ()) =
                join(join(settle(lost, theirs), settle(heir, answers(heir, attempt + 1))), put_back).await;
            assert_eq!((lost, settled), (0, 60));
        }
    }
);
