//! Committing what comes, in batches.

use std::panic::resume_unwind;

use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::store::BATCH;

/// How many transactions are under way at once while there is more than one takes.
pub(crate) const AT_A_TIME: usize = 3;

/// Commits until nothing more can come: one batch of up to `rows` at a time, of whatever came meanwhile, and several while there
/// is more than a batch and that goes quickly. Where it is slow, the connection that is in use is the quickest. Each is a
/// task of its own, so that one can be sealed while the database stores another: whoever aborts this waits for `under_way`
/// to be empty.
pub(crate) async fn committed<T, C>(
    mut items: mpsc::Receiver<T>,
    under_way: &TaskTracker,
    rows: impl Fn() -> usize,
    commit: impl Fn(Vec<T>) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut commits = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let rows = rows();
        let is_quick = rows > BATCH && items.len() >= rows;
        let may_begin = commits.is_empty() || (is_quick && commits.len() < AT_A_TIME);
        tokio::select! {
            count = items.recv_many(&mut batch, rows), if may_begin => {
                if count == 0 {
                    break;
                }
                let commit = commit(std::mem::take(&mut batch)).in_current_span();
                commits.spawn(under_way.track_future(commit));
            }
            Some(committed) = commits.join_next() => seen_to(committed),
        }
    }
    while let Some(committed) = commits.join_next().await {
        seen_to(committed);
    }
}

/// Nobody but us aborts one, and then all: what else it can have done is panic.
fn seen_to(committed: Result<(), JoinError>) {
    if let Err(error) = committed
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}
