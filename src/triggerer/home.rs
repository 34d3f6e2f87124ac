//! Where triggers live, as the triggerer sees it: above sealing, decoding and SQL.
//!
//! Our own database is one home. Another system's, or a lease service over a network, can be others.

use std::{collections::HashSet, fmt, sync::Arc};

use async_trait::async_trait;
use reveille_trigger::{Arrived, Receipt, Trigger};

use super::share::{Fleet, Member};
use crate::{
    aside::Aside,
    clock::timestamp,
    error::Result,
    id::{Fence, Incarnation},
    kind,
    store::{
        Db, MOST, Scope, Store, Url, Verdict, arrival,
        check::Report,
        event::Firing,
        fleet, json_size, parts,
        task::Over,
        trigger::{self, Lease, Look, Release},
        undo::{self, Undone},
        wake::Topic,
        within,
    },
    vault::Purpose,
};

/// How many leases are read at a time: what takes a millisecond.
const LOT: usize = 100;

/// A trigger that this replica may run.
#[derive(Debug)]
pub struct Leased {
    /// The task that waits.
    pub fence: Fence,
    /// The trigger itself.
    pub trigger: Box<dyn Trigger>,
    /// When the task deferred, in milliseconds of the database's time.
    pub since: i64,
    /// When it was due for a look.
    pub wake_at: i64,
    /// It was taken over from a holder that is gone.
    pub inherited: bool,
    /// When the wait ends badly.
    pub deadline_at: Option<i64>,
    /// How many checks in a row may fail to tell.
    pub error_budget: Option<u32>,
    /// The spec of one that shares its checks with its equals.
    pub shared: Option<Spec>,
    /// What has come under its keys.
    pub arrived: Arrived,
}

impl Leased {
    /// One that has begun to wait, as if at the epoch, with nothing said of how.
    pub(super) fn new(fence: Fence, trigger: Box<dyn Trigger>) -> Self {
        Self {
            fence,
            trigger,
            since: 0,
            wake_at: 0,
            inherited: false,
            deadline_at: None,
            error_budget: None,
            shared: None,
            arrived: Arrived::default(),
        }
    }
}

/// A spec as it is stored, opened: equal triggers have equal ones.
pub type Spec = Arc<[u8]>;

/// What leasing answers with, not read yet: the next can be asked for meanwhile.
pub struct Taken<'a> {
    /// How many triggers were leased.
    pub count: usize,
    lots: Box<dyn Iterator<Item = Leases> + Send + 'a>,
}

impl<'a> Taken<'a> {
    /// What is read so, a lot at a time.
    pub fn new(count: usize, lots: impl Iterator<Item = Leases> + Send + 'a) -> Self {
        Self { count, lots: Box::new(lots) }
    }
}

impl Iterator for Taken<'_> {
    type Item = Leases;

    /// Opens and decodes a lot.
    fn next(&mut self) -> Option<Leases> {
        self.lots.next()
    }
}

impl Default for Taken<'_> {
    fn default() -> Self {
        Self::new(0, std::iter::empty())
    }
}

/// What is leased, or held, read.
#[derive(Debug, Default)]
pub struct Leases {
    /// What can be run.
    pub readable: Vec<Leased>,
    /// What cannot be read here.
    pub unreadable: Vec<Unreadable>,
    /// What was held before, and for which something has come: all that has.
    pub news: Vec<(Fence, Arrived)>,
}

/// A trigger that this replica was given and cannot read. It is left as it was.
#[derive(Debug)]
pub struct Unreadable {
    /// The task that waits.
    pub fence: Fence,
    /// Its kinds.
    pub kinds: String,
    /// When it is due for a look.
    pub wake_at: i64,
    /// Why it cannot be read.
    pub error: crate::Error,
}

impl Unreadable {
    /// As it was, for others.
    pub(super) fn given_back(&self) -> Release {
        Release { fence: self.fence, wake_at: self.wake_at, known: 0 }
    }
}

/// Something that a cancelled wait has yet to undo.
#[derive(Debug)]
pub struct Undoing {
    /// The task as it was.
    pub fence: Fence,
    /// The trigger, or why it cannot be read.
    pub trigger: Result<Box<dyn Trigger>>,
    /// When the task had deferred.
    pub since: i64,
    /// Which attempt this is, from 1.
    pub attempt: i32,
}

/// Where triggers are leased from, and what became of them is stored. Renewing is its replica's own affair.
#[async_trait]
pub trait Home: fmt::Debug + Send + Sync {
    /// Leases up to `limit` triggers, none of those set aside, and tells what has come for those that I hold.
    async fn lease<'a>(&'a self, limit: usize, aside: &Aside) -> Result<Taken<'a>>;
    /// How much could be leased now, counted up to about `most`.
    async fn free(&self, most: usize, aside: &Aside) -> Result<usize>;
    /// Those whom I share with, and what there is to share; none while there is nobody else.
    async fn fleet(&self, aside: &Aside) -> Result<Option<Fleet>>;
    /// How many triggers I am said to hold.
    async fn count_held(&self) -> Result<usize>;
    /// What I am said to hold, who run these: all of it, what of it I do not run, and what has come for the others.
    async fn held(&self, running: &HashSet<Fence>) -> Result<(Vec<Fence>, Leases)>;
    /// Stores events; a receipt each, in order.
    async fn fire(&self, batch: Vec<Firing>) -> Result<Vec<Receipt>>;
    /// Stores bad ends.
    async fn fail(&self, batch: Vec<Verdict>) -> Result<()>;
    /// Gives triggers back; answers how many: some may stay mine, which somebody is about to change.
    async fn release(&self, batch: &[Release]) -> Result<usize>;
    /// Keeps what checks have come to, for those who ask. Nothing depends on it.
    async fn report(&self, batch: &[Report]) -> Result<()>;
    /// Leases what cancelled waits have yet to undo.
    async fn cancelled(&self, limit: usize) -> Result<Vec<Undoing>>;
    /// Stores what became of undoing.
    async fn undone(&self, fence: Fence, undone: Undone) -> Result<()>;
}

/// Our own database as a home, for one incarnation.
#[derive(Debug)]
pub struct DatabaseHome {
    store: Store,
    me: Incarnation,
    queues: Option<Vec<String>>,
}

impl DatabaseHome {
    /// The home of the triggers in these queues; none means all.
    pub fn new(store: Store, me: Incarnation, queues: Option<Vec<String>>) -> Self {
        Self { store, me, queues }
    }

    /// What this binary has whole, among the sets of kinds that were ever stored.
    fn scope(&self, stored: Vec<String>) -> Result<Scope> {
        let (mut kinds, have) = (stored, kind::kinds()?);
        kinds.retain(|kinds| kind::has_whole(have, kinds));
        Ok(Scope { queues: self.queues.clone(), kinds, aside: Vec::new() })
    }

    /// The same without what is set aside.
    fn scope_without(&self, aside: &Aside, stored: Vec<String>) -> Result<Scope> {
        let mut scope = self.scope(stored)?;
        scope.kinds.retain(|kinds| !aside.leaves(kinds));
        scope.aside = aside.rows();
        Ok(scope)
    }

    async fn count_free(&self, db: &mut Db<'_>, most: usize, aside: &Aside) -> Result<usize> {
        let scope = self.scope_without(aside, trigger::kind_sets(db).await?)?;
        let free = fleet::free(db, &scope, self.store.clock().now_ms(), most).await?;
        Ok(free.try_into().unwrap_or_default())
    }

    /// How many events or reports one transaction stores. SQLite has one writer, whom renewals wait for.
    fn at_once(&self) -> usize {
        match self.store.url() {
            Url::Sqlite(_) => 64,
            Url::Postgres(_) => MOST,
        }
    }

    fn open(&self, spec: Vec<u8>) -> Result<Box<dyn Trigger>> {
        kind::join(&self.store.open_bytes(Purpose::Spec, spec)?)
    }

    /// A trigger, and its spec if its checks are to be shared.
    fn open_to_check(&self, spec: Vec<u8>, since: i64) -> Result<(Box<dyn Trigger>, Option<Spec>)> {
        let spec = self.store.open_bytes(Purpose::Spec, spec)?;
        let trigger = kind::join(&spec)?;
        let shared = kind::shares(&*trigger, timestamp(since)).then(|| Spec::from(spec));
        Ok((trigger, shared))
    }

    fn open_arrived(&self, came: Vec<arrival::Sealed>) -> Result<Arrived> {
        // An empty slice would be given memory of its own.
        if came.is_empty() {
            return Ok(Arrived::default());
        }
        Ok(self.store.open_arrived(came)?.into())
    }

    fn read(&self, leases: impl IntoIterator<Item = Lease>) -> Leases {
        let mut read = Leases::default();
        for lease in leases {
            let opened = self.open_to_check(lease.spec, lease.since);
            match opened.and_then(|opened| Ok((opened, self.open_arrived(lease.arrived)?))) {
                Ok(((trigger, shared), arrived)) => read.readable.push(Leased {
                    fence: lease.fence,
                    trigger,
                    since: lease.since,
                    wake_at: lease.wake_at,
                    inherited: lease.inherited,
                    deadline_at: lease.deadline_at,
                    error_budget: lease.error_budget.and_then(|checks| checks.try_into().ok()),
                    shared,
                    arrived,
                }),
                Err(error) => read.unreadable.push(Unreadable {
                    fence: lease.fence,
                    kinds: lease.kinds,
                    wake_at: lease.wake_at,
                    error,
                }),
            }
        }
        read
    }
}

#[async_trait]
impl Home for DatabaseHome {
    async fn lease<'a>(&'a self, limit: usize, aside: &Aside) -> Result<Taken<'a>> {
        let (leases, news) = within("leasing triggers", async {
            let mut tx = self.store.begin().await?;
            let (mut news, mut leases) = (Vec::new(), Vec::new());
            let Look { kinds, left_behind, has_news } = trigger::look(&mut tx.db(), self.me).await?;
            if has_news {
                news = arrival::news(&mut tx.db(), self.me).await?;
            }
            if limit > 0 {
                let scope = self.scope_without(aside, kinds)?;
                let now = self.store.clock().now_ms();
                leases = trigger::lease(&mut tx.db(), self.me, left_behind, &scope, now, limit).await?;
            }
            tx.commit().await?;
            Ok((leases, news))
        })
        .await?;
        let (count, mut leases) = (leases.len(), leases.into_iter());
        let news = std::iter::once_with(|| Leases { news: self.read_news(news), ..Leases::default() });
        let lots = std::iter::from_fn(move || {
            let lot = self.read(leases.by_ref().take(LOT));
            (!lot.readable.is_empty() || !lot.unreadable.is_empty()).then_some(lot)
        });
        Ok(Taken::new(count, lots.chain(news)))
    }

    async fn free(&self, most: usize, aside: &Aside) -> Result<usize> {
        self.store.reading("counting what is free", async |db| self.count_free(db, most, aside).await).await
    }

    async fn fleet(&self, aside: &Aside) -> Result<Option<Fleet>> {
        let look = async |db: &mut Db<'_>| {
            let (have, queues) = (kind::kinds()?, self.queues.as_deref());
            let mut rows = fleet::members(db, self.me, self.store.clock().now_ms()).await?;
            rows.retain(|row| row.incarnation == self.me.0 || row.takes_all(have, queues));
            if rows.len() < 2 {
                return Ok(None);
            }
            // What is leased between the two counts is in neither: nobody takes it for more than there is.
            let held = fleet::held(db).await?;
            let most = rows.iter().map(|row| row.capacity.cast_unsigned() as usize).sum();
            let free = self.count_free(db, most, aside).await?;
            let member = |row: fleet::Member| Member {
                incarnation: row.incarnation.into(),
                capacity: row.capacity.cast_unsigned() as usize,
                held: held.get(&row.incarnation).map_or(0, |held| (*held).try_into().unwrap_or_default()),
                joined_at: row.joined_at,
            };
            let (mine, peers): (Vec<_>, Vec<_>) =
                rows.into_iter().map(member).partition(|row| row.incarnation == self.me);
            Ok(mine.first().map(|me| Fleet { me: *me, peers, free }))
        };
        self.store.reading("looking at the fleet", look).await
    }

    async fn count_held(&self) -> Result<usize> {
        Ok(self.store.held_by(self.me.0).await?.try_into().unwrap_or_default())
    }

    async fn held(&self, running: &HashSet<Fence>) -> Result<(Vec<Fence>, Leases)> {
        let held = within("asking what is held", async {
            let mut tx = self.store.begin().await?;
            let held = trigger::held(&mut tx.db(), self.me, running).await?;
            tx.commit().await?;
            Ok(held)
        })
        .await?;
        Ok((held.fences, Leases { news: self.read_news(held.news), ..self.read(held.missing) }))
    }

    async fn fire(&self, batch: Vec<Firing>) -> Result<Vec<Receipt>> {
        let (mut receipts, mut ended) = (Vec::with_capacity(batch.len()), Vec::new());
        // After an error the whole batch comes again: what was stored of it was accepted.
        for part in parts(batch, self.at_once(), |firing| json_size(&firing.event)) {
            let fired = within("firing", async {
                let mut tx = self.store.begin().await?;
                let fired = self.store.fire(&mut tx.db(), &part).await?;
                tx.commit().await?;
                Ok(fired)
            });
            let (taken, over) = fired.await?;
            receipts.extend(taken);
            ended.extend(over);
        }
        self.store.wake().hint(Topic::Ready);
        self.store.wake().hint(Topic::Waiting);
        self.resume_those_who_wait_for(&ended).await;
        Ok(receipts)
    }

    async fn fail(&self, batch: Vec<Verdict>) -> Result<()> {
        let struck = within("failing waits", async {
            let mut tx = self.store.begin().await?;
            let struck = self.store.fail_waits(&mut tx.db(), Some(self.me), batch.clone()).await?;
            tx.commit().await?;
            Ok(struck)
        })
        .await?;
        self.store.wake().hint(Topic::Ready);
        self.resume_those_who_wait_for(&struck.ended).await;
        Ok(())
    }

    async fn release(&self, batch: &[Release]) -> Result<usize> {
        within("releasing triggers", async {
            let mut tx = self.store.begin().await?;
            let released = trigger::release(&mut tx.db(), self.me, batch).await?;
            tx.commit().await?;
            Ok(released)
        })
        .await
    }

    async fn report(&self, batch: &[Report]) -> Result<()> {
        for batch in batch.chunks(self.at_once()) {
            within("telling of checks", async {
                let mut tx = self.store.begin().await?;
                self.store.tell_of_checks(&mut tx.db(), self.me, batch).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }

    async fn cancelled(&self, limit: usize) -> Result<Vec<Undoing>> {
        let undos = within("leasing what is to be undone", async {
            let mut tx = self.store.begin().await?;
            let scope = self.scope(trigger::kind_sets(&mut tx.db()).await?)?;
            let now = self.store.clock().now_ms();
            let undos = undo::lease(&mut tx.db(), self.me, &scope, now, limit as i64).await?;
            tx.commit().await?;
            Ok(undos)
        })
        .await?;
        let read = |undo: undo::Undo| Undoing {
            fence: undo.fence,
            trigger: self.open(undo.spec),
            since: undo.since,
            attempt: undo.attempt,
        };
        Ok(undos.into_iter().map(read).collect())
    }

    async fn undone(&self, fence: Fence, undone: Undone) -> Result<()> {
        within("settling what was undone", async {
            let mut tx = self.store.begin().await?;
            undo::settle(&mut tx.db(), self.me, fence, undone, self.store.clock().now_ms()).await?;
            tx.commit().await
        })
        .await
    }
}

impl DatabaseHome {
    fn read_news(&self, news: Vec<(Fence, Vec<arrival::Sealed>)>) -> Vec<(Fence, Arrived)> {
        let read = |(fence, came)| match self.open_arrived(came) {
            Ok(arrived) => Some((fence, arrived)),
            Err(error) => {
                let Fence { task, .. } = fence;
                tracing::warn!(task.id = %task, "cannot read what has come for task {task}: {}", error.chain());
                None
            }
        };
        news.into_iter().filter_map(read).collect()
    }

    /// The event itself is stored; if this fails, the next period's match does it.
    async fn resume_those_who_wait_for(&self, ended: &[Over]) {
        if let Err(error) = self.store.ended(ended).await {
            tracing::debug!("those who wait for what ended are resumed later: {}", error.chain());
        }
    }
}
