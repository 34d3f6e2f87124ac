//! What fails is made to fail here, as the plan says, each replica by one fault at a time.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, future, stream::FuturesUnordered};
use reveille::clock::{Clock, millis};
use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::{
    door::now_ms,
    plan::{Fault, LEASE, Plan, REPLICAS},
    proxy::{Mode, Proxy},
    record::Pause,
    replica::{Replica, name},
    server::Server,
};

/// How long one that goes on after a pause may take to show life: whoever is about to declare it gone waits no longer.
const SHOWS_LIFE: Duration = Duration::from_millis(200);

pub(crate) struct Faults<'a> {
    server: &'a Server,
    /// What stands between whoever acts from outside and the database.
    outside: &'a Proxy,
    replicas: &'a [Arc<Replica>],
    clock: Clock,
    /// Who strikes one replica; the last two are for the database and for whoever acts from outside.
    turns: [Mutex<()>; REPLICAS + 2],
    /// Who was frozen from when to when, in milliseconds.
    pauses: std::sync::Mutex<Vec<Pause>>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(server: &'a Server, outside: &'a Proxy, replicas: &'a [Arc<Replica>]) -> Self {
        Self {
            server,
            outside,
            replicas,
            clock: Clock::system(),
            turns: std::array::from_fn(|_| Mutex::default()),
            pauses: std::sync::Mutex::default(),
        }
    }

    pub(crate) fn into_pauses(self) -> Vec<Pause> {
        self.pauses.into_inner().unwrap()
    }

    /// Lets everything fail that the plan has, and mends it again: when this returns, nothing fails any more.
    pub(crate) async fn strike(&self, plan: &Plan) {
        let begun = self.clock.monotonic();
        let mut striking = FuturesUnordered::new();
        for (at, fault) in &plan.faults {
            striking.push(async move {
                self.clock.sleep((begun + *at).saturating_sub(self.clock.monotonic())).await;
                let _turn = self.turns[fault.place()].lock().await;
                eprintln!("{:6.1} s  {fault:?}", (self.clock.monotonic() - begun).as_secs_f64());
                self.one(*fault).await;
            });
        }
        while striking.next().await.is_some() {}
    }

    async fn one(&self, fault: Fault) {
        match fault {
            Fault::Kill { replica, down } => self.replicas[replica].kill(down),
            Fault::Freeze { replica, frozen } => {
                self.frozen(replica, self.clock.sleep(frozen)).await;
            }
            Fault::Brink { replica } => self.to_the_brink(replica).await,
            Fault::Restart { replica } => self.replicas[replica].stop_softly().await,
            Fault::CutOff { replica, silent } => self.reach(&[replica], Mode::Silent, silent).await,
            Fault::Refuse { replica, closed } => self.reach(&[replica], Mode::Closed, closed).await,
            Fault::Slow { replica, slow, by } => self.reach(&[replica], Mode::Slow(by), slow).await,
            Fault::SlowDatabase { slow, by } => {
                self.reach(&std::array::from_fn::<_, REPLICAS, _>(|replica| replica), Mode::Slow(by), slow).await;
            }
            Fault::LoseCommits { whom, long } => {
                let proxy = self.replicas.get(whom).map_or(self.outside, |replica| &replica.proxy);
                proxy.set(Mode::Losing);
                self.clock.sleep(long).await;
                proxy.set(Mode::Open);
            }
            Fault::StopDatabase { down } => {
                self.server.stop().await;
                self.clock.sleep(down).await;
                self.server.begin().await;
            }
            Fault::KillBackend => self.until_done(async || self.server.kill_backend().await).await,
            Fault::ClockForward { by } => self.until_done(async || self.server.turn(millis(by)).await).await,
            Fault::ClockBack { by } => self.until_done(async || self.server.turn(-millis(by)).await).await,
        }
    }

    /// Stops one replica while something else goes on.
    async fn frozen<T>(&self, replica: usize, meanwhile: impl Future<Output = T>) -> T {
        let from = now_ms();
        self.replicas[replica].signal(Signal::STOP);
        let done = meanwhile.await;
        self.replicas[replica].signal(Signal::CONT);
        self.pauses.lock().unwrap().push(Pause { label: name(replica), from, to: now_ms() });
        done
    }

    /// Freezes a replica until somebody is about to declare it gone, and lets that arrive only once it has shown life.
    async fn to_the_brink(&self, replica: usize) {
        let others = || self.replicas.iter().enumerate().filter(move |(number, _)| *number != replica);
        others().for_each(|(_, other)| other.proxy.set(Mode::Undeclared));
        let declared = future::select_all(others().map(|(_, other)| Box::pin(other.proxy.holds_a_declaration())));
        // Nobody declares one that has just ended by itself.
        drop(self.frozen(replica, tokio::time::timeout(LEASE * 3, declared)).await);
        self.clock.sleep(SHOWS_LIFE).await;
        others().for_each(|(_, other)| other.proxy.set(Mode::Open));
    }

    /// Whatever stands between replicas and the database behaves otherwise for a while.
    async fn reach(&self, replicas: &[usize], mode: Mode, how_long: Duration) {
        replicas.iter().for_each(|replica| self.replicas[*replica].proxy.set(mode));
        self.clock.sleep(how_long).await;
        replicas.iter().for_each(|replica| self.replicas[*replica].proxy.set(Mode::Open));
    }

    /// The server may still be recovering from the fault before.
    async fn until_done(&self, verb: impl AsyncFn() -> Result<(), sqlx::Error>) {
        while verb().await.is_err() {
            self.clock.sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Fault {
    /// What it strikes: a replica, or the database, which comes after these.
    fn place(&self) -> usize {
        match self {
            Self::Kill { replica, .. }
            | Self::Freeze { replica, .. }
            | Self::Restart { replica }
            | Self::Brink { replica }
            | Self::CutOff { replica, .. }
            | Self::Refuse { replica, .. }
            | Self::Slow { replica, .. } => *replica,
            Self::SlowDatabase { .. }
            | Self::StopDatabase { .. }
            | Self::KillBackend
            | Self::ClockForward { .. }
            | Self::ClockBack { .. } => REPLICAS,
            Self::LoseCommits { whom: REPLICAS, .. } => REPLICAS + 1,
            Self::LoseCommits { whom, .. } => *whom,
        }
    }
}
