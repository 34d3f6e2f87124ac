//! Committing what comes, in batches.

use tokio::{sync::mpsc, task::JoinSet};
use tracing::Instrument;

use crate::store::BATCH;

/// How many transactions are under way at once while there is more than one takes.
const AT_A_TIME: usize = 3;

/// Commits until nothing more can come: one batch of up to `rows` at a time, of whatever came meanwhile, and several while there
/// is more than a batch and that goes quickly. Where it is slow, the connection that is in use is the quickest. Each is a
/// task of its own, so that one can be sealed while the database stores another.
pub(crate) async fn committed<T, C>(
    mut items: mpsc::Receiver<T>,
    rows: impl Fn() -> usize,
    commit: impl Fn(Vec<T>) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let rows = rows();
        let is_quick = rows > BATCH && items.len() >= rows;
        let may_begin = under_way.is_empty() || (is_quick && under_way.len() < AT_A_TIME);
        tokio::select! {
            count = items.recv_many(&mut batch, rows), if may_begin => {
                if count == 0 {
                    break;
                }
                under_way.spawn(commit(std::mem::take(&mut batch)).in_current_span());
            }
            Some(committed) = under_way.join_next() => committed.expect("committing does not panic"),
        }
    }
    while under_way.join_next().await.is_some() {}
}
