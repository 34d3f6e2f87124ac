//! Real processes and real faults: whatever is killed, frozen, cut off or turned back, every task ends once, as it should.
//!
//! Three triggerers of the project's own binary and two workers share a PostgreSQL server of the run's own, while a
//! [`plan`] made from a seed adds tasks of every shape, does things to them, and lets things fail. When nothing fails any
//! more, and every task has had time to end, the [`check`] reads the whole history, and what was acknowledged to whoever
//! was [`acting`] from outside.
//!
//! `tests/run` runs it for half a minute of faults, from a seed of its own each time. `tests/chaos/run --minutes 60
//! --seed 17` runs that seed for an hour. The plan of one seed is always the same; how processes and faults meet is up to
//! the machine.
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod acting;
mod check;
mod door;
mod faults;
mod plan;
mod proxy;
mod record;
mod replica;
mod server;
mod tasks;
mod watch;

use std::{future::Future, path::Path, time::Duration};

use futures::future::join_all;
use reveille::{Options, Store, clock::Clock, vault::Vault};
use tokio_util::sync::CancellationToken;

use self::{
    acting::Outside,
    check::{Complaint, check},
    door::Door,
    faults::Faults,
    plan::{Plan, REPLICAS},
    proxy::Proxy,
    record::Evidence,
    replica::Replica,
    server::Server,
    watch::Snapshots,
};

/// The name of the test that is the run, by which a worker's process is started as well.
const TEST: &str = "every_task_ends_once_whatever_fails";

/// How many tasks there are for each second of faults, unless it is told otherwise.
const TASKS_A_SECOND: usize = 500;

/// How long the faults of a run last, unless it is told otherwise.
const SECONDS: u64 = 40;

/// How long nothing may end, once nothing fails any more and whatever waited is over, before what is left is stuck.
const STILL: Duration = Duration::from_secs(30);

/// How many complaints are told with the history of their task.
const TOLD: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn every_task_ends_once_whatever_fails() {
    if let Some(orders) = replica::orders() {
        return replica::obey(orders).await;
    }
    let seed = told("CHAOS_SEED").unwrap_or_else(rand::random);
    let seconds = told("CHAOS_SECONDS").unwrap_or(SECONDS);
    let many = told("CHAOS_TASKS").unwrap_or(seconds as usize * TASKS_A_SECOND);
    eprintln!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds} CHAOS_TASKS={many} makes this plan again");
    let plan = Plan::of(seed, many, Duration::from_secs(seconds));
    let folder = tempfile::Builder::new().prefix("reveille-chaos-").tempdir().unwrap();
    let ran = run(&plan, folder.path()).await;
    let complaints = check(&ran.evidence);
    if complaints.is_empty() && ran.findings.is_empty() {
        return;
    }
    // The logs are kept for whoever looks into it.
    let kept = folder.keep();
    for complaint in complaints.iter().take(TOLD) {
        tell(complaint, &ran.evidence);
    }
    panic!(
        "seed {seed}: {} complaint(s), {:?}; the logs of all processes are in {}",
        complaints.len(),
        ran.findings,
        kept.display()
    );
}

/// What a run leaves to be judged.
struct Ran {
    evidence: Evidence,
    /// What is wrong with the processes themselves.
    findings: Vec<String>,
}

async fn run(plan: &Plan, folder: &Path) -> Ran {
    let clock = Clock::system();
    let server = Server::start().await;
    let vault = Vault::read_or_create(folder.join("reveille.key")).unwrap();
    let proxy = Proxy::before(server.socket()).await;
    let store = Store::connect(Options::new(proxy.url(), vault)).await.unwrap();
    let door = Door::listen().await;
    let files = folder.join("files");
    std::fs::create_dir(&files).unwrap();
    let mut replicas = Vec::with_capacity(REPLICAS);
    for number in 0..REPLICAS {
        replicas.push(Replica::new(number, Proxy::before(server.socket()).await, folder, &door));
    }
    let outside = Outside::new(&store, &files, &door);
    let faults = Faults::new(&server, &proxy, &replicas);
    let over = CancellationToken::new();

    let living = join_all(replicas.iter().map(|replica| replica.live()));
    let acting = async {
        tokio::join!(outside.act(plan), faults.strike(plan));
        let failed = clock.monotonic();
        let left = settle(&server, plan.longest_wait + STILL).await;
        eprintln!("{left} task(s) left {:.1} s after the last fault", (clock.monotonic() - failed).as_secs_f64());
        replicas.iter().for_each(|replica| replica.end());
        over.cancel();
    };
    let (_, (), snapshots) = tokio::join!(living, acting, watch::snapshots(&server, &over));

    let asked = outside.into_asked();
    let Snapshots { taken, holdings } = snapshots;
    let stored = watch::evidence(&server, &store).await;
    let lives: usize = replicas.iter().map(|replica| replica.lives()).sum();
    eprintln!(
        "{} tasks, {} transitions, {} faults, {lives} process lives, {taken} snapshots",
        asked.len(),
        stored.history.len(),
        plan.faults.len()
    );
    let (looks, pauses) = (door.into_looks(), faults.into_pauses());
    eprintln!("{} looks were seen from outside, {} signs of life", looks.len(), stored.signs.len());
    let mut findings: Vec<String> = replicas.iter().flat_map(|replica| replica.findings()).collect();
    let crashed = stored.history.iter().filter(|moved| moved.why == "crashed").count();
    eprintln!("{crashed} step(s) were lost with their worker");
    if crashed == 0 || taken == 0 {
        findings.push("nothing was lost with any worker, or no snapshot was taken: this shows nothing".to_owned());
    }
    store.close().await;
    let evidence = Evidence { asked, holdings, looks, pauses, ..stored };
    Ran { evidence, findings }
}

/// Waits until every task has ended, or none has for so long; answers how many are left. How fast they end is up to the
/// machine, and whether is not.
async fn settle(server: &Server, patience: Duration) -> i64 {
    let clock = Clock::system();
    let (mut fewest, mut since) = (i64::MAX, clock.monotonic());
    loop {
        let left = watch::unfinished(server).await.unwrap();
        if left < fewest {
            (fewest, since) = (left, clock.monotonic());
        }
        if left == 0 || clock.monotonic() - since > patience {
            return left;
        }
        clock.sleep(Duration::from_millis(200)).await;
    }
}

/// A number from the environment.
fn told<N: std::str::FromStr>(name: &str) -> Option<N> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, unlike {text:?}")))
}

/// Waits for what must come soon.
async fn patience<T>(awaited: impl Future<Output = T>, what: &str) -> T {
    let soon = tokio::time::timeout(Duration::from_mins(1), awaited).await;
    soon.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

fn tell(complaint: &Complaint, evidence: &Evidence) {
    eprintln!("\n{complaint}");
    if let Some(asked) = evidence.asked.iter().find(|asked| Some(asked.task) == complaint.task) {
        eprintln!("  {asked:?}");
    }
    for moved in evidence.history.iter().filter(|moved| Some(moved.task_id) == complaint.task) {
        eprintln!("  {moved}");
    }
}
