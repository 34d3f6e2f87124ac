//! What fails is made to fail here, as the plan says, each replica by one fault at a time.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use reveille::clock::{Clock, millis};
use rustix::process::Signal;
use tokio::sync::Mutex;

use crate::{
    plan::{Fault, Plan, REPLICAS},
    proxy::Mode,
    replica::Replica,
    server::Server,
};

pub(crate) struct Faults<'a> {
    server: &'a Server,
    replicas: &'a [Arc<Replica>],
    clock: Clock,
    /// Who strikes one replica; the last is for the database.
    turns: [Mutex<()>; REPLICAS + 1],
}

impl<'a> Faults<'a> {
    pub(crate) fn new(server: &'a Server, replicas: &'a [Arc<Replica>]) -> Self {
        Self { server, replicas, clock: Clock::system(), turns: std::array::from_fn(|_| Mutex::default()) }
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
                self.replicas[replica].signal(Signal::STOP);
                self.clock.sleep(frozen).await;
                self.replicas[replica].signal(Signal::CONT);
            }
            Fault::Restart { replica } => self.replicas[replica].stop_softly().await,
            Fault::CutOff { replica, silent } => self.reach(&[replica], Mode::Silent, silent).await,
            Fault::Refuse { replica, closed } => self.reach(&[replica], Mode::Closed, closed).await,
            Fault::Slow { replica, slow, by } => self.reach(&[replica], Mode::Slow(by), slow).await,
            Fault::SlowDatabase { slow, by } => {
                self.reach(&std::array::from_fn::<_, REPLICAS, _>(|replica| replica), Mode::Slow(by), slow).await;
            }
            Fault::StopDatabase { down } => {
                self.server.stop();
                self.clock.sleep(down).await;
                self.server.begin().await;
            }
            Fault::KillBackend => self.until_done(async || self.server.kill_backend().await).await,
            Fault::ClockForward { by } => self.until_done(async || self.server.turn(millis(by)).await).await,
            Fault::ClockBack { by } => self.until_done(async || self.server.turn(-millis(by)).await).await,
        }
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
            | Self::CutOff { replica, .. }
            | Self::Refuse { replica, .. }
            | Self::Slow { replica, .. } => *replica,
            Self::SlowDatabase { .. }
            | Self::StopDatabase { .. }
            | Self::KillBackend
            | Self::ClockForward { .. }
            | Self::ClockBack { .. } => REPLICAS,
        }
    }
}
