//! Questions, which change nothing: asked of a database and of the model.

use std::collections::HashSet;

use reveille::{
    Result,
    clock::millis,
    store::{Store, queue, replica, report, task, trigger},
};
use serde_json::{Value, json};

use crate::{
    act::leased,
    answer::Answer,
    op::{Cast, Question, batch_id},
    world::World,
};

/// Asks a database.
pub(crate) async fn ask(store: &Store, cast: &Cast, question: &Question) -> Result<Answer> {
    let mut tx = store.read().await?;
    let db = &mut tx.db();
    let answer = match question {
        Question::Show(task) => Answer::Told(json!(store.show(cast.task(*task)).await?)),
        Question::List(wanted) => Answer::Told(json!(report::list(db, &wanted.filter()).await?)),
        Question::Census(batch) => {
            let batch = batch.map(|batch| reveille::id::BatchId(batch_id(batch)));
            Answer::Told(json!(store.census(batch).await?))
        }
        Question::Queues => Answer::Told(json!(queue::list(db).await?)),
        Question::Replicas => {
            let mut replicas: Vec<Value> = replica::list(db).await?.iter().map(|replica| json!(replica)).collect();
            replicas.sort_by_key(|replica| replica["incarnation"].to_string());
            Answer::Told(json!(replicas))
        }
        Question::Peers(me) => {
            let peers = replica::peers(db, me.id()).await?;
            Answer::Peers(
                peers.into_iter().map(|peer| (peer.beat.incarnation, peer.beat.beat, millis(peer.lease))).collect(),
            )
        }
        Question::Findings => Answer::Count(store.examine().await?.len()),
        Question::LongestLease => Answer::At(Some(replica::longest_lease(db).await?)),
        Question::NextDue => Answer::At(trigger::next_due(db).await?),
        Question::NextDeadline => Answer::At(trigger::next_deadline(db, store.clock().now_ms()).await?),
        Question::Kinds => Answer::Told(json!(trigger::kind_sets(db).await?)),
        Question::Claims(me) => {
            let mut held = task::held(db, me.id()).await?;
            held.sort_by_key(|held| held.fence);
            Answer::Held(held)
        }
        Question::Leases(me) => {
            let held = trigger::held(db, me.id(), &HashSet::new()).await?;
            Answer::Leased(held.missing.into_iter().map(leased).collect())
        }
    };
    tx.commit().await?;
    Ok(answer)
}

/// What the model tells.
pub(crate) fn told(world: &World, cast: &Cast, question: &Question) -> Answer {
    match question {
        Question::Show(task) => Answer::Told(json!(world.show(cast.task(*task)))),
        Question::List(wanted) => Answer::Told(world.list(&wanted.filter())),
        Question::Census(batch) => Answer::Told(world.census(batch.map(batch_id))),
        Question::Queues => Answer::Told(world.queue_list()),
        Question::Replicas => Answer::Told(world.replica_list()),
        Question::Peers(me) => Answer::Peers(world.peers(me.id())),
        Question::Findings => Answer::Count(world.findings()),
        Question::LongestLease => Answer::At(Some(world.longest_lease())),
        Question::NextDue => Answer::At(world.next_due()),
        Question::NextDeadline => Answer::At(world.next_deadline()),
        Question::Kinds => Answer::Told(json!(world.kinds)),
        Question::Claims(me) => {
            let mut held = world.claims_of(me.id());
            held.sort_by_key(|held| held.fence);
            Answer::Held(held)
        }
        Question::Leases(me) => Answer::Leased(world.leases_of(me.id())),
    }
}
