//! What `cargo bench` reaches of a triggerer, and nobody else: holding and firing, with a home that takes anything.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use reveille_trigger::{Config, Event, Receipt, Trigger};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    checks::{Finding, What},
    firing::Firing,
    holding::Holdings,
    home::{Home, Leased, Leases, Taken, Undoing},
    share::Fleet,
};
use crate::{
    aside::Aside,
    error::Result,
    id::{Fence, Incarnation, TaskId},
    presence::Presence,
    store::{
        Reach, Store, Verdict,
        check::Report,
        event,
        replica::{Card, Role},
        trigger::Release,
        undo::Undone,
    },
    tally::Tally,
};

/// A triggerer without loops.
#[derive(Debug)]
pub struct Rig {
    store: Store,
    presence: Arc<Presence>,
    holdings: Arc<Holdings>,
}

impl Rig {
    /// With a replica's row in this store, and room for so many triggers.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn new(store: Store, capacity: usize) -> Result<Self> {
        let lease = Duration::from_secs(10);
        let card = Card {
            incarnation: Incarnation::mint(),
            role: Role::Triggerer,
            label: "speed".to_owned(),
            lease,
            capacity: i32::MAX,
            kinds: Vec::new(),
            queues: None,
        };
        let presence = Arc::new(Presence::join(&store, card, lease).await?);
        Ok(Self { store, presence, holdings: Arc::new(Holdings::new(capacity, Config::default())) })
    }

    /// Holds a trigger.
    pub fn hold(&self, trigger: Box<dyn Trigger>) -> Fence {
        let fence = Fence { task: TaskId::mint(), generation: 1 };
        self.holdings.hold(Leased::new(fence, trigger));
        fence
    }

    /// Lets go of one that is held.
    pub fn free(&self, fence: Fence) {
        self.holdings.free(self.holdings.found(fence));
    }

    /// Fires what is held: gathered in batches, stored nowhere, and let go of. Answers how many batches it took.
    pub async fn fire(&self, held: Vec<Fence>, event: &Event) -> usize {
        let event = Arc::new(event.clone());
        let home = Arc::new(Nowhere::default());
        let firing = Firing::new(
            self.store.clock().clone(),
            Arc::clone(&self.presence),
            Arc::<Nowhere>::clone(&home),
            Arc::clone(&self.holdings),
            Arc::default(),
            Tally::default(),
            Reach::on(self.store.url()),
        );
        let (found, findings) = mpsc::channel(held.len().max(1));
        for fence in held {
            let what = What::Fire(Arc::clone(&event));
            let finding = Finding { fence, hold: self.holdings.found(fence), what, after: None };
            found.try_send(finding).expect("there is room for all");
        }
        drop(found);
        firing.run(findings, TaskTracker::new()).await;
        home.batches.load(Ordering::Relaxed)
    }
}

/// Takes anything, and has nothing.
#[derive(Debug, Default)]
struct Nowhere {
    batches: AtomicUsize,
}

#[async_trait]
impl Home for Nowhere {
    async fn lease<'a>(&'a self, _: usize, _: &Aside) -> Result<Taken<'a>> {
        Ok(Taken::default())
    }

    async fn free(&self, _: usize, _: &Aside) -> Result<usize> {
        Ok(0)
    }

    async fn fleet(&self, _: &Aside) -> Result<Option<Fleet>> {
        Ok(None)
    }

    async fn count_held(&self) -> Result<usize> {
        Ok(0)
    }

    async fn held(&self, _: &HashSet<Fence>) -> Result<(Vec<Fence>, Leases)> {
        Ok((Vec::new(), Leases::default()))
    }

    async fn fire(&self, batch: Vec<event::Firing>) -> Result<Vec<Receipt>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        Ok(vec![Receipt::Accepted; batch.len()])
    }

    async fn fail(&self, _: Vec<Verdict>) -> Result<()> {
        Ok(())
    }

    async fn release(&self, batch: &[Release]) -> Result<usize> {
        Ok(batch.len())
    }

    async fn report(&self, _: &[Report]) -> Result<()> {
        Ok(())
    }

    async fn cancelled(&self, _: usize) -> Result<Vec<Undoing>> {
        Ok(Vec::new())
    }

    async fn undone(&self, _: Fence, _: Undone) -> Result<()> {
        Ok(())
    }
}
