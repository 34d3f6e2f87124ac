//! What is done from outside: tasks are added, signalled and called off, and files are written.
//!
//! The rule: whatever is not acknowledged is done again under the same id, until it is. What is acknowledged is noted, and
//! the run is held to it.

use std::{path::Path, sync::Mutex, time::Duration};

use futures::{StreamExt as _, stream};
use reveille::{
    Error, Store,
    clock::Clock,
    id::TaskId,
    store::{signal::Signal, task},
};
use uuid::Uuid;

use crate::{
    door::Door,
    plan::{Plan, TOGETHER},
    record::{Asked, Cancelled},
    tasks::{Adding, Deed},
};

/// How soon what was not acknowledged is done again.
const AGAIN: Duration = Duration::from_millis(100);

/// Whoever does things, and what was acknowledged.
pub(crate) struct Outside<'a> {
    store: &'a Store,
    clock: Clock,
    folder: &'a Path,
    door: &'a Door,
    asked: Mutex<Vec<Asked>>,
}

/// Something to be done to a task that is there.
struct Due {
    at: Duration,
    /// Which of those that were acknowledged.
    asked: usize,
    task: TaskId,
    deed: Deed,
}

impl<'a> Outside<'a> {
    pub(crate) fn new(store: &'a Store, folder: &'a Path, door: &'a Door) -> Self {
        Self { store, clock: Clock::system(), folder, door, asked: Mutex::default() }
    }

    pub(crate) fn into_asked(self) -> Vec<Asked> {
        self.asked.into_inner().unwrap()
    }

    /// Adds all tasks of the plan, spread over its time but for that which the last of them may wait, and does what is to
    /// be done to them.
    pub(crate) async fn act(&self, plan: &Plan) {
        let begun = self.clock.monotonic();
        let (due, dues) = tokio::sync::mpsc::unbounded_channel();
        let adding = async move {
            let transactions = plan.tasks.chunks(TOGETHER);
            let apart = (plan.lasts - plan.longest_wait) / u32::try_from(transactions.len()).unwrap();
            for (number, planned) in transactions.enumerate() {
                self.sleep_until(begun + apart * u32::try_from(number).unwrap()).await;
                let mut before = None;
                let mut adding = Vec::with_capacity(planned.len());
                for (at, planned) in planned.iter().enumerate() {
                    let one = Adding::of(planned, number * TOGETHER + at, self.folder, before);
                    before = Some(TaskId(one.asked.task));
                    adding.push(one);
                }
                for one in self.add(adding).await {
                    due.send(one).expect("somebody does what is due");
                }
            }
        };
        let doing = stream::unfold(dues, async |mut dues| dues.recv().await.map(|one| (one, dues)))
            .for_each_concurrent(None, async |due: Due| self.do_one(due).await);
        tokio::join!(adding, doing);
    }

    /// Adds tasks in one transaction, again and again until that is acknowledged.
    async fn add(&self, adding: Vec<Adding>) -> Vec<Due> {
        let new: Vec<_> = adding.iter().map(|one| one.new.clone()).collect();
        // Its clock carries the database's on, and is told now and then how far that has jumped.
        self.until_acknowledged(async || self.store.learn_the_time().await).await;
        let ids = self.until_acknowledged(async || self.store.enqueue_all(new.clone()).await).await;
        let now = self.clock.monotonic();
        let mut asked = self.asked.lock().unwrap();
        let mut dues = Vec::new();
        for (one, id) in adding.into_iter().zip(ids) {
            assert_eq!(one.asked.task, id.0, "a task keeps the id that it was given");
            let at = now + one.after;
            dues.extend(one.deeds.into_iter().map(|deed| Due { at, asked: asked.len(), task: id, deed }));
            asked.push(one.asked);
        }
        dues
    }

    async fn do_one(&self, due: Due) {
        self.sleep_until(due.at).await;
        match due.deed {
            Deed::Signal { key, words } => {
                for word in words {
                    let id = Uuid::now_v7();
                    let send =
                        async || self.store.signal(Signal { id, ..Signal::new(key.clone(), word.clone()) }).await;
                    self.until_acknowledged(send).await;
                    self.asked.lock().unwrap()[due.asked].signals.push(id);
                }
            }
            Deed::Open(path) => self.door.open(path),
            Deed::Write(path) => std::fs::write(path, "x").unwrap(),
            Deed::Cancel => {
                let answer =
                    self.until_acknowledged(async || self.store.cancel(due.task, "of no more use").await).await;
                let answer = match answer {
                    task::Cancelled::Done => Cancelled::Done,
                    task::Cancelled::Asked => Cancelled::Asked,
                    task::Cancelled::Ended => Cancelled::Ended,
                    // That it is lost is found when all is over.
                    task::Cancelled::Unknown => return,
                };
                self.asked.lock().unwrap()[due.asked].cancelled = Some(answer);
            }
        }
    }

    /// Does it again after an outage, and only after that.
    async fn until_acknowledged<T>(&self, verb: impl AsyncFn() -> Result<T, Error>) -> T {
        loop {
            match verb().await {
                Ok(answer) => return answer,
                Err(error) if error.is_outage() => self.clock.sleep(AGAIN).await,
                Err(error) => panic!("refused: {}", error.chain()),
            }
        }
    }

    async fn sleep_until(&self, at: Duration) {
        self.clock.sleep(at.saturating_sub(self.clock.monotonic())).await;
    }
}
