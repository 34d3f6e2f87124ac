//! Cutting a list of operations that goes wrong down to those that it takes.

use crate::{
    generate::Step,
    run::{Mismatch, Run},
    stage::{Backend, run},
};

/// The most runs that shrinking may take.
const RUNS: usize = 300;

/// The shortest list found that still goes wrong at the same operation, and how.
pub(crate) async fn shrink(backend: Backend, mut steps: Vec<Step>, mut mismatch: Mismatch) -> (Vec<Step>, Mismatch) {
    let wanted = std::mem::discriminant(&mismatch.step.op);
    let mut runs = 0;
    let mut size = steps.len().div_ceil(2);
    while size > 0 && runs < RUNS {
        let mut from = 0;
        let mut has_shrunk = false;
        while from < steps.len() && runs < RUNS {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + size).min(steps.len()));
            runs += 1;
            match again(backend, &fewer).await {
                Some((length, found)) if std::mem::discriminant(&found.step.op) == wanted => {
                    fewer.truncate(length);
                    (steps, mismatch) = (fewer, found);
                    has_shrunk = true;
                }
                Some(_) | None => from += size,
            }
        }
        if !has_shrunk || size > 1 {
            size /= 2;
        }
    }
    (steps, mismatch)
}

/// Whether the list still goes wrong, after how many steps, and how.
async fn again(backend: Backend, steps: &[Step]) -> Option<(usize, Mismatch)> {
    let mut found = None;
    run(backend, async |stage| {
        let mut run = Run::on(stage);
        let mut length = 0;
        for step in steps {
            length += 1;
            if let Some(mismatch) = run.replayed(std::slice::from_ref(step)).await {
                found = Some((length, mismatch));
                return;
            }
        }
    })
    .await;
    found
}
