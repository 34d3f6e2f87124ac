//! The benchmark: what a replica does on this machine and with this database, and what that costs.
//!
//! A scenario a file. Each works in a database of its own, which is removed afterwards whatever came of it; what plays
//! the outside is in processes of its own, so that CPU and memory are those of the replica alone.

mod burst;
mod chart;
mod cycle;
mod delay;
mod equals;
mod floor;
mod pickup;
mod poll;
mod replica;
mod report;
mod series;
mod shares;
mod soak;
mod stuck;
mod takeover;
mod timers;
mod usage;

use std::{future::Future, path::PathBuf, time::Duration};

pub use self::{
    burst::{Burst, Waiting},
    chart::{shown, svg},
    equals::Share,
    poll::{Kind, Poll},
    report::Report,
    series::{Flat, Sample, Series, Unit, series},
    shares::{Settled, Shares},
    stuck::Beside,
    takeover::{Fault, Takeover},
    timers::Timers,
};
use futures::{FutureExt, StreamExt, TryStreamExt};
use tracing::Span;

use self::delay::Detour;
use crate::{
    error::{Error, Result},
    id::TaskId,
    life::{self, Stop},
    store::{NewTask, Store, Url, scratch::Scratch},
    tally::Tally,
    triggerer,
    worker::{self, Tasks},
};

/// What the names of schemas and folders begin with.
const PREFIX: &str = "reveille_bench";

/// How many tasks are added at once, and by how many at a time.
const BATCH: usize = 1_000;
const WRITERS: usize = 3;

/// For how long a server may not take tasks, as while it writes a checkpoint, and how soon it is asked again.
const PATIENCE: Duration = Duration::from_mins(1);
const AGAIN: Duration = Duration::from_secs(1);

/// How often something is looked for, and for how long at most.
const LOOK: Duration = Duration::from_millis(5);
/// How often the database is asked: that takes of what is measured.
const QUERY: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_mins(5);

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A server, on which a schema is made; or a file, which is left alone for a fresh one.
    pub database: Url,
    /// What the schema is called; without a name, none is made where tasks are that are not finished.
    pub schema: Option<String>,
    /// This program, to play the outside.
    pub program: PathBuf,
    /// How long to measure.
    pub lasting: Duration,
    /// How much longer than it takes a round trip to the server is to take.
    pub delay: Option<Duration>,
    /// How many tasks sleep beside those that are measured.
    pub asleep: usize,
    /// What to measure.
    pub scenario: Scenario,
}

/// What can be measured.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Waits that are all over at one instant.
    Burst(Burst),
    /// So many free triggers, and a triggerer that comes.
    Pickup(usize),
    /// So many tasks that go all the way.
    Cycle(usize),
    /// Timers that come due one after the other.
    Timers(Timers),
    /// Many tasks that wait for the same.
    Share(Share),
    /// So many URLs, each of which is asked so seldom that holding them is all that there is to do.
    Hold(usize),
    /// The same, given back in between.
    Dormant(usize),
    /// Active triggers that are checked again and again.
    Poll(Poll),
    /// A fleet that shares triggers.
    Shares(Shares),
    /// A replica that is lost, or leaves.
    Takeover(Takeover),
    /// Rows that cannot run beside those that can: so many that sleep, and a tenth as many of each other sort.
    Stuck(usize),
    /// So many tasks a second, for as long as is measured: whether anything grows.
    Soak(usize),
}

/// Measures; `None` if it was stopped before it was done.
///
/// # Errors
/// If the database cannot be used, or left as it was.
pub async fn run(settings: Settings, stop: &Stop) -> Result<Option<Report>> {
    if let (Some(_), Url::Sqlite(_)) = (settings.delay, &settings.database) {
        return Err(Error::Invalid(
            "there is no network before SQLite that could be slow: name a PostgreSQL server by --database-url, or leave out --delay".to_owned(),
        ));
    }
    if let (Some(_), Url::Sqlite(_)) = (&settings.schema, &settings.database) {
        return Err(Error::Invalid(
            "SQLite has no schemas, and a fresh file is used anyway: name a PostgreSQL server by --database-url, or leave out --schema".to_owned(),
        ));
    }
    if settings.schema.is_none()
        && let Some(schema) = Scratch::in_use(&settings.database, PREFIX).await?
    {
        return Err(Error::Invalid(format!(
            "schema {schema} of this database holds tasks that are not finished, and to measure takes from what serves them: name another database by --database-url, or say --schema NAME to measure beside them, in a schema of that name"
        )));
    }
    let scratch = Scratch::named(&settings.database, PREFIX, settings.schema.as_deref()).await?;
    let measured = measure(&settings, &scratch, stop).await;
    scratch.remove().await?;
    let delay_ms = settings.delay.map(|delay| delay.as_millis() as u64);
    let asleep = Some(settings.asleep).filter(|count| *count > 0);
    Ok(measured?.map(|report| Report { delay_ms, asleep, ..report }))
}

async fn measure(settings: &Settings, scratch: &Scratch, stop: &Stop) -> Result<Option<Report>> {
    let detour = settings.delay.map(|by| Detour::before(scratch.url(), by)).transpose()?;
    let url = detour.as_ref().map_or_else(|| scratch.url().clone(), |(_, url)| url.clone());
    let bench = Bench { settings, scratch, stop, store: scratch.open_at(url).await? };
    if settings.asleep > 0 {
        tokio::select! {
            laid_out = bench.lay_out_asleep() => laid_out?,
            () = stop.soft().cancelled() => return Ok(None),
        }
    }
    let measured = match &settings.scenario {
        Scenario::Burst(burst) => burst::run(&bench, *burst).await,
        Scenario::Pickup(triggers) => pickup::run(&bench, *triggers).await,
        Scenario::Cycle(tasks) => cycle::run(&bench, *tasks).await,
        Scenario::Timers(timers) => timers::run(&bench, *timers).await,
        Scenario::Share(share) => equals::run(&bench, *share).await,
        Scenario::Hold(triggers) => poll::run(&bench, &Poll::hold(*triggers), "hold").await,
        Scenario::Dormant(triggers) => poll::run(&bench, &Poll::dormant(*triggers), "dormant").await,
        Scenario::Poll(poll) => poll::run(&bench, poll, "poll").await,
        Scenario::Shares(shares) => shares::run(&bench, shares).await,
        Scenario::Takeover(takeover) => takeover::run(&bench, takeover).await,
        Scenario::Stuck(triggers) => stuck::run(&bench, *triggers).await,
        Scenario::Soak(rate) => soak::run(&bench, *rate).await,
    };
    bench.store.close().await;
    measured
}

/// Tasks by their numbers, cut into batches.
fn batches(count: usize, task: impl Fn(usize) -> NewTask) -> impl Iterator<Item = Vec<NewTask>> {
    (0..count).step_by(BATCH).map(move |from| (from..count.min(from + BATCH)).map(&task).collect())
}

/// What a scenario works with.
struct Bench<'a> {
    settings: &'a Settings,
    scratch: &'a Scratch,
    stop: &'a Stop,
    store: Store,
}

impl Bench<'_> {
    async fn lay_out_asleep(&self) -> Result<()> {
        self.store.lay_out_asleep(self.settings.asleep).await?;
        self.store.vacuum().await
    }

    /// Adds tasks by their numbers.
    async fn add(&self, count: usize, task: impl Fn(usize) -> NewTask) -> Result<()> {
        let batches = batches(count, task).map(|tasks| self.store.enqueue_all(tasks).map(|added| added.map(drop)));
        futures::stream::iter(batches).buffer_unordered(WRITERS).try_collect().await
    }

    /// The same where that is not measured: what the server does not take in time is given to it again.
    async fn lay_out(&self, count: usize, task: impl Fn(usize) -> NewTask) -> Result<()> {
        let batches = batches(count, |number| task(number).id(TaskId::mint())).map(|tasks| self.persist(tasks));
        futures::stream::iter(batches).buffer_unordered(WRITERS).try_collect().await
    }

    async fn persist(&self, tasks: Vec<NewTask>) -> Result<()> {
        let clock = self.store.clock();
        let began = clock.monotonic();
        loop {
            match self.store.enqueue_all(tasks.clone()).await {
                Err(error) if error.is_outage() && clock.monotonic() - began < PATIENCE => clock.sleep(AGAIN).await,
                added => return added.map(drop),
            }
        }
    }

    async fn until_leased(&self, tally: &Tally, count: usize) -> Result<()> {
        self.until("all triggers are held", LOOK, LIMIT, async || Ok(tally.leased_so_far() >= count as u64)).await
    }

    /// Runs both roles in this process until stopped.
    async fn both(
        &self,
        triggerer: triggerer::Settings,
        worker: worker::Settings,
        tasks: Tasks,
        stop: Stop,
    ) -> Result<()> {
        let checking = triggerer::run(self.store.clone(), triggerer, stop.clone());
        let working = worker::run(self.store.clone(), tasks, worker, stop.clone());
        life::together(&stop, [(Span::none(), checking.boxed()), (Span::none(), working.boxed())]).await
    }

    /// Runs a triggerer in this process until stopped.
    async fn triggerer(&self, settings: triggerer::Settings, stop: Stop) -> Result<()> {
        life::alone(&stop, triggerer::run(self.store.clone(), settings, stop.clone())).await
    }

    /// Waits until no task is left that does not sleep.
    async fn until_over(&self, limit: Duration) -> Result<()> {
        self.until("all tasks are over", QUERY, limit, async || Ok(!self.store.has_unfinished().await?)).await
    }

    /// Waits for something that is looked at every so often.
    async fn until(
        &self,
        what: &str,
        every: Duration,
        limit: Duration,
        mut claim: impl AsyncFnMut() -> Result<bool>,
    ) -> Result<()> {
        let clock = self.store.clock();
        let began = clock.monotonic();
        while !claim().await? {
            if clock.monotonic() - began > limit {
                return Err(Error::Unusable(format!("waited {} s in vain until {what}", limit.as_secs())));
            }
            clock.sleep(every).await;
        }
        Ok(())
    }

    /// Runs `body` beside roles, which are stopped, gracefully, once it is over; `None` if it was stopped before that.
    async fn beside<T, R: Future<Output = Result<()>>>(
        &self,
        roles: impl FnOnce(Stop) -> R,
        body: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        let stop = Stop::new();
        let body = async {
            let done = tokio::select! {
                done = body => done.map(Some),
                () = self.stop.soft().cancelled() => Ok(None),
            };
            stop.soft().cancel();
            Ok(done)
        };
        // A role that ends before it is stopped has an error to tell of, and `body` would wait for it in vain.
        let ((), done) = tokio::try_join!(roles(stop.clone()), body)?;
        done
    }
}
