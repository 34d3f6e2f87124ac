//! What an operation is expected to answer, and does to the model.

use reveille::store::replica::Beat;
use serde_json::json;

use crate::{
    act::{card, past_deadline},
    answer::Answer,
    ask::told,
    op::{Adds, Cast, Op, R},
    world::{Illegal, New, Start, State, World},
};

/// Does one operation on the model. Where the database has a choice, it is read from its `answer` or from what was `seen`
/// after, and must be a legal one.
pub(crate) fn expect(
    world: &mut World,
    cast: &Cast,
    op: &Op,
    answer: &Answer,
    seen: &World,
) -> Result<Answer, Illegal> {
    Ok(match op {
        Op::Turn { ms } => {
            world.now += ms;
            Answer::Done
        }
        Op::Enqueue { batch, alone } => enqueue(world, cast, batch, *alone),
        Op::Claim { by, reach, limit } => {
            let (mine, turned_away) = world.claim(by.id(), &cast.scope(reach), *limit, &answer.chosen())?;
            Answer::Claimed(mine, turned_away)
        }
        Op::Defer { by, batch } => {
            let batch = cast.defers(world, batch);
            if batch.iter().all(|d| d.wait.is_valid()) {
                Answer::Tasks(world.defer(by.id(), &batch).into_iter().collect())
            } else {
                Answer::Invalid
            }
        }
        Op::End { batch } => Answer::Tasks(world.end(&cast.ends(world, batch)).into_iter().collect()),
        Op::Progress { by, at, done } => {
            world.set_progress(by.id(), cast.fence(world, *at), &json!(done));
            Answer::Done
        }
        Op::Advance { by, at, turns_ago, step, arrival } => {
            let fence = cast.fence(world, *at);
            let turn = world.turn(fence.task) - turns_ago;
            Answer::Advanced(world.advance(by.id(), fence, turn, &json!({ "step": step }), cast.arrival(arrival)))
        }
        Op::PutBack { by, batch } => {
            world.put_back(by.id(), &cast.fences(world, batch));
            Answer::Done
        }
        Op::Rescue { by, limit } => {
            let running = |state: &State| matches!(state, State::Running(_));
            let (count, ended) = world.rescue(by.id(), *limit, &world.moved_on(seen, running))?;
            Answer::Moved(count, ended.into_iter().collect())
        }
        Op::Expire { by, limit } => {
            let (count, ended) = world.expire(by.id(), *limit, &answer.chosen())?;
            Answer::Moved(count, ended.into_iter().collect())
        }
        Op::Ask(question) => told(world, cast, question),
        Op::Join { .. } | Op::Renew { .. } | Op::Declare { .. } | Op::Leave { .. } | Op::Forget => {
            of_replica(world, op)
        }
        op => of_wait(world, cast, op, answer, seen)?,
    })
}

fn of_wait(world: &mut World, cast: &Cast, op: &Op, answer: &Answer, seen: &World) -> Result<Answer, Illegal> {
    let now = world.now;
    Ok(match op {
        Op::Lease { by, reach, limit } => {
            Answer::Leased(world.lease(by.id(), &cast.scope(reach), *limit, &answer.chosen())?)
        }
        Op::Release { by, batch } => {
            let batch: Vec<_> = batch.iter().map(|(at, after)| (cast.fence(world, *at), now + after)).collect();
            world.release(by.id(), &batch);
            Answer::Done
        }
        Op::Fire { by, batch } => {
            let (receipts, ended) = world.fire(&cast.firings(world, *by, batch));
            Answer::Fired(receipts, ended.into_iter().collect())
        }
        Op::FailWaits { who, batch } => {
            Answer::Struck(Vec::new(), world.fail_waits(who.map(R::id), &cast.verdicts(world, batch)))
        }
        Op::FireDue { by, limit } => {
            let deferred = |state: &State| matches!(state, State::Deferred(_));
            Answer::Count(world.fire_due(by.id(), *limit, &world.moved_on(seen, deferred))?)
        }
        Op::Strike { by, grace, limit } => {
            let chosen = answer.chosen_fences();
            let struck = world.strike(by.id(), *grace, *limit, &past_deadline(), &chosen)?;
            Answer::Struck(chosen, struck)
        }
        Op::Send { signal, key, payload, kept, alone } => {
            if !world.send(signal.id(), key, &json!(payload), *kept) {
                Answer::Invalid
            } else if *alone {
                Answer::Count(world.match_keys(&[format!("signal:{key}")], None))
            } else {
                Answer::Done
            }
        }
        Op::LeaseUndo { by, reach, limit } => {
            Answer::Undoes(world.lease_undo(by.id(), &cast.scope(reach), *limit, &answer.chosen_fences())?)
        }
        Op::SettleUndo { by, task, stale, undone } => {
            world.settle_undo(by.id(), cast.undo(world, *task, *stale), undone.at(now));
            Answer::Done
        }
        op => alone(world, cast, op, seen)?,
    })
}

/// Operations that make their transactions themselves.
fn alone(world: &mut World, cast: &Cast, op: &Op, seen: &World) -> Result<Answer, Illegal> {
    Ok(match op {
        Op::Cancel { task } => Answer::Cancelled(world.cancel(cast.task(*task), "not wanted")),
        Op::Match { keys, who } => {
            let keys: Vec<String> = keys.iter().map(|key| cast.key(key)).collect();
            Answer::Count(world.match_keys(&keys, who.map(R::id)))
        }
        Op::MatchAgain { who } => {
            world.match_again(who.id());
            Answer::Done
        }
        Op::Ended { tasks } => {
            world.ended(&tasks.iter().map(|task| cast.task(*task)).collect::<Vec<_>>());
            Answer::Done
        }
        Op::Pause { queue, paused } => Answer::Yes(world.set_paused(queue, *paused)),
        Op::DropOld { days } => {
            if !(1..=30).contains(days) {
                return Ok(Answer::Invalid);
            }
            world.drop_old(days * 86_400_000, seen)?;
            Answer::Done
        }
        op => unreachable!("{op:?} is done in one transaction"),
    })
}

fn enqueue(world: &mut World, cast: &Cast, batch: &[Adds], alone: bool) -> Answer {
    let batch: Vec<New> = batch.iter().map(|adds| cast.new_one(world.now, adds)).collect();
    let Some(ids) = world.enqueue(&batch) else { return Answer::Invalid };
    if alone {
        let keys = batch.iter().filter_map(|new| match &new.start {
            Start::When(wait) => wait.key(),
            Start::Now | Start::At(_) | Start::After(_) => None,
        });
        world.match_keys(&keys.collect::<Vec<_>>(), None);
    }
    Answer::Added(ids)
}

fn of_replica(world: &mut World, op: &Op) -> Answer {
    match op {
        Op::Join { replica, role, capacity } => Answer::Yes(world.join(&card(*replica, *role, *capacity))),
        Op::Renew { replica, running } => Answer::Beat(world.renew(replica.id(), *running)),
        Op::Declare { replica, beats_ago } => {
            let beat = world.replicas.get(&replica.id()).map_or(0, |replica| replica.beat) - beats_ago;
            Answer::Yes(world.declare_gone(Beat { incarnation: replica.id(), beat }))
        }
        Op::Leave { replica } => {
            world.leave(replica.id());
            Answer::Done
        }
        Op::Forget => {
            world.forget();
            Answer::Done
        }
        op => unreachable!("{op:?} is not about replicas"),
    }
}
