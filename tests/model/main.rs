//! Random operations, driven through a model in memory and through each database, and compared after every one.
//!
//! The model in `world` is the specification of the store: what is stored, and what each verb does to it, without SQL.
//! `generate` chooses operations by a seed, `act` does them on a database and `expect` on the model; `run` compares the
//! answers and everything that is stored, and `invariants` holds what is true in any state. What goes wrong is cut down by
//! `shrink` to the operations that it takes, and printed with its seed.
//!
//! `MODEL_SEED=17 MODEL_STEPS=2000 bash tests/run -- model` runs that seed alone; with `MODEL_SEEDS=1000`, that many more.
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

#[expect(unused_macros, reason = "the other tests use the rest")]
#[macro_use]
#[path = "../it/macros.rs"]
mod macros;

#[expect(dead_code, unused_imports, reason = "the other tests use the rest")]
#[path = "../it"]
mod it {
    pub(crate) mod stage;
}
use it::stage;

mod act;
mod answer;
mod ask;
mod coverage;
mod expect;
mod generate;
mod invariants;
mod op;
mod reading;
mod resolve;
mod rows;
mod run;
mod shrink;
mod world;

use reveille::{
    Priority, Retry,
    store::{BATCH, history::Why, replica::Role},
    task::{EndState, TaskState},
};

use crate::{
    coverage::Coverage,
    generate::{Generator, Step},
    op::{Adds, At, Ending, On, Op, R, Reach, Starts, T, Waits},
    run::Run,
    stage::Backend,
};

/// How many seeds are run, each for how many steps, unless the environment says otherwise.
const SEEDS: u64 = 20;
const STEPS: usize = 400;

fn setting<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok().map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name} is no number: {text:?}")))
}

/// Runs every seed on one database.
async fn agrees(backend: Backend) {
    let from = setting("MODEL_SEED");
    let seeds = setting("MODEL_SEEDS").unwrap_or(if from.is_some() { 1 } else { SEEDS });
    let steps = setting("MODEL_STEPS").unwrap_or(STEPS);
    let from: u64 = from.unwrap_or(0);
    let mut coverage = Coverage::default();
    for seed in from..from + seeds {
        let mut outcome = None;
        stage::run(backend, async |stage| {
            let mut run = Run::on(stage);
            let (done, mismatch) = run.generated(&mut Generator::new(seed), steps).await;
            coverage.add(&run.coverage);
            outcome = mismatch.map(|mismatch| (done, mismatch));
        })
        .await;
        if let Some((done, mismatch)) = outcome {
            let length = done.len();
            eprintln!("seed {seed} on {backend:?} goes wrong at step {length}; cutting it down");
            let (steps, mismatch) = shrink::shrink(backend, done, mismatch).await;
            let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
            panic!(
                "seed {seed} on {backend:?} goes wrong at step {length}; cut down to {}:\n{}\n{}",
                steps.len(),
                steps.join("\n"),
                mismatch.difference.join("\n"),
            );
        }
    }
    if from == 0 && seeds >= SEEDS && steps >= STEPS {
        let lacking = coverage.lacking();
        assert!(lacking.is_empty(), "never accepted or never refused: {lacking:?}\n{coverage}");
    }
}

/// Does these operations, each of which must do what the model says.
async fn agrees_on(backend: Backend, ops: Vec<Op>) {
    let steps: Vec<Step> = ops.into_iter().chain([Op::Turn { ms: 1 }]).map(|op| Step { op, dropped: false }).collect();
    let mut mismatch = None;
    stage::run(backend, async |stage| mismatch = Run::on(stage).replayed(&steps).await).await;
    assert!(mismatch.is_none(), "{:?}", mismatch.map(|mismatch| mismatch.difference));
}

/// A plain task, or one that waits.
fn adds(task: u32, start: Starts) -> Adds {
    Adds {
        task: T(task),
        minted: true,
        name: "work",
        queue: "default",
        priority: Priority::Normal,
        start,
        expires: None,
        retry: Retry::NEVER,
        dedupe: None,
        limit: None,
        batch: None,
    }
}

fn waits(on: On) -> Starts {
    Starts::When(Waits { on, deadline: None, or_resume: false })
}

/// Holds a claim on both databases.
macro_rules! on_both {
    (async fn $name:ident($backend:ident: Backend) $body:block) => {
        mod $name {
            use super::*;

            async fn test($backend: Backend) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                test(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                test(Backend::Postgres).await;
            }
        }
    };
}

on_both!(
    async fn the_store_does_what_the_model_says(backend: Backend) {
        agrees(backend).await;
    }
);

on_both!(
    async fn a_signal_reaches_more_than_a_batch_of_tasks(backend: Backend) {
        let many = BATCH as u32 + 20;
        let batch = (0..many).map(|task| adds(task, waits(On::Signal("a")))).collect();
        let send = Op::Send { signal: op::E(0), key: "a", payload: 1, kept: 1_000, alone: true };
        agrees_on(backend, vec![Op::Enqueue { batch, alone: true }, send]).await;
    }
);

on_both!(
    async fn matching_again_goes_through_every_page(backend: Backend) {
        let many = 230;
        let awaited = (0..many).map(|task| adds(task, Starts::Now)).collect();
        let waiting = (0..many).map(|task| adds(many + task, waits(On::End(T(task))))).collect();
        let ending = |task| Ending {
            at: At(T(task), 0),
            was: TaskState::Ready,
            by: None,
            state: EndState::Succeeded,
            why: Why::Finished,
        };
        let ops = vec![
            Op::Enqueue { batch: awaited, alone: true },
            Op::Enqueue { batch: waiting, alone: true },
            Op::End { batch: (0..many).step_by(3).map(ending).collect() },
            Op::MatchAgain { who: R(0) },
        ];
        agrees_on(backend, ops).await;
    }
);

on_both!(
    async fn more_than_a_batch_waits_for_a_slot_and_goes_in_order(backend: Backend) {
        let (worker, many) = (R(1), BATCH as u32 + 30);
        let add = |task: u32| Adds {
            limit: Some(("p", 2)),
            priority: Priority::from_rank((task % 4) as i16).expect("it is below 4"),
            ..adds(task, Starts::Now)
        };
        let claim = |limit| Op::Claim {
            by: worker,
            reach: Reach { queues: None, kinds: vec!["work"], aside: Vec::new() },
            limit,
        };
        let mut ops = vec![
            Op::Join { replica: worker, role: Role::Worker, capacity: 400 },
            Op::Enqueue { batch: (0..many).map(add).collect(), alone: true },
        ];
        for _ in 0..4 {
            let ending = |task| Ending {
                at: At(T(task), 0),
                was: TaskState::Running,
                by: Some(worker),
                state: EndState::Succeeded,
                why: Why::Finished,
            };
            ops.extend([claim(3), claim(40), Op::MatchAgain { who: worker }, Op::Turn { ms: 1 }]);
            ops.push(Op::End { batch: (0..many).map(ending).collect() });
            ops.push(Op::Ended { tasks: (0..many).map(T).collect() });
        }
        agrees_on(backend, ops).await;
    }
);

on_both!(
    async fn a_long_queue_goes_by_priority_and_time(backend: Backend) {
        let (worker, triggerer, capacity) = (R(1), R(2), 400);
        let mut ops = vec![
            Op::Join { replica: worker, role: Role::Worker, capacity },
            Op::Join { replica: triggerer, role: Role::Triggerer, capacity },
        ];
        // Longer than what one look goes through, and not in the order of priorities, queues or names.
        for part in 0..4 {
            let one = |at: u32| {
                let start = if at.is_multiple_of(2) { Starts::Now } else { waits(On::Fake(at)) };
                Adds {
                    priority: Priority::from_rank((at * 7 % 4) as i16).expect("it is below 4"),
                    queue: ["default", "bulk", "side"][at as usize % 3],
                    name: ["work", "toil"][at as usize % 5 / 3],
                    ..adds(part * 80 + at, start)
                }
            };
            ops.push(Op::Enqueue { batch: (0..80).map(one).collect(), alone: true });
            ops.push(Op::Turn { ms: 1 });
        }
        let reach =
            |kinds: [&'static str; 2]| Reach { queues: None, kinds: kinds.to_vec(), aside: vec![T(0), T(1), T(2)] };
        for _ in 0..17 {
            ops.push(Op::Claim { by: worker, reach: reach(["work", "toil"]), limit: 10 });
            ops.push(Op::Lease { by: triggerer, reach: reach(["fake", "other_fake"]), limit: 10 });
        }
        agrees_on(backend, ops).await;
    }
);
