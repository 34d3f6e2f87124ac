//! Operations on a database.

use std::{collections::BTreeSet, time::Duration};

use reveille::{
    Error, Result, WaitFailed,
    id::{Fence, TaskId},
    store::{
        Db, Store, Wait, advance,
        replica::{self, Beat, Card, Role},
        retention,
        signal::Signal,
        task::{self, Deferring, Ending, Over},
        trigger::{self, Lease},
        undo::{self, Undone},
    },
    task::WaitFailure,
    vault::Purpose,
};
use serde_json::json;

use crate::{
    answer::Answer,
    ask::ask,
    op::{Adds, At, Cast, Op, R, Settled, Then},
    resolve::duration,
    world::{Advanced, Arrival, Claimed, Ends, Leased, Struck, TurnedAway, Undoes, World},
};

/// Does one operation on a database, or begins it and drops the transaction.
pub(crate) async fn act(store: &Store, cast: &Cast, world: &World, op: &Op, dropped: bool) -> Answer {
    let act = Act { store, cast, world, now: store.clock().now_ms() };
    let answer = match op {
        Op::Turn { ms } => {
            store.clock().turn(duration(*ms));
            Ok(Answer::Done)
        }
        Op::Ask(question) => ask(store, cast, question).await,
        op if op.is_one_transaction() => act.in_transaction(op, dropped).await,
        op => act.alone(op).await,
    };
    match answer {
        Ok(answer) => answer,
        Err(Error::Invalid(_) | Error::BadSpec { .. }) => Answer::Invalid,
        Err(error) => Answer::Failed(error.chain()),
    }
}

impl Op {
    /// Whether it is done in one transaction that the caller may drop.
    pub(crate) fn is_one_transaction(&self) -> bool {
        match self {
            Self::Enqueue { alone, .. } | Self::Send { alone, .. } => !alone,
            Self::Turn { .. }
            | Self::Ask(_)
            | Self::Cancel { .. }
            | Self::Match { .. }
            | Self::MatchAgain { .. }
            | Self::Ended { .. }
            | Self::Pause { .. }
            | Self::DropOld { .. } => false,
            _ => true,
        }
    }
}

/// How a wait ends that the upkeep strikes.
pub(crate) fn past_deadline() -> WaitFailed {
    WaitFailed { reason: WaitFailure::Deadline, message: "too late".to_owned() }
}

/// What a replica presents itself with.
pub(crate) fn card(replica: R, role: Role, capacity: i32) -> Card {
    let kinds = match role {
        Role::Worker => ["work", "toil"],
        Role::Triggerer => ["fake", "other_fake"],
    };
    let kinds = kinds.map(ToOwned::to_owned).to_vec();
    let queues = replica.0.is_multiple_of(2).then(|| vec!["default".to_owned(), "bulk".to_owned()]);
    let lease = Duration::from_secs(10 + u64::from(replica.0 % 3));
    Card { incarnation: replica.id(), role, label: format!("{replica:?}"), lease, capacity, kinds, queues }
}

struct Act<'a> {
    store: &'a Store,
    cast: &'a Cast,
    world: &'a World,
    now: i64,
}

impl Act<'_> {
    async fn in_transaction(&self, op: &Op, dropped: bool) -> Result<Answer> {
        let mut tx = self.store.begin().await?;
        let answer = match op {
            Op::Enqueue { .. }
            | Op::Claim { .. }
            | Op::Defer { .. }
            | Op::End { .. }
            | Op::Progress { .. }
            | Op::Advance { .. }
            | Op::PutBack { .. }
            | Op::Rescue { .. }
            | Op::Expire { .. } => self.task(op, &mut tx.db()).await,
            Op::Join { .. } | Op::Renew { .. } | Op::Declare { .. } | Op::Leave { .. } | Op::Forget => {
                self.replica(op, &mut tx.db()).await
            }
            op => self.wait(op, &mut tx.db()).await,
        };
        if dropped {
            drop(tx);
            self.until_it_is_undone().await?;
        } else {
            // Also after an error: a caller may have more in its transaction, and go on.
            tx.commit().await?;
        }
        answer
    }

    /// A PostgreSQL server holds the locks of a dropped transaction until it sees that the connection is closed. Others
    /// skip those rows meanwhile, as they should, but not as the model says.
    async fn until_it_is_undone(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        if let Db::Postgres(c) = tx.db() {
            let lock = "lock table reveille_task, reveille_trigger, reveille_undo in share row exclusive mode";
            sqlx::query(lock).execute(&mut *c).await.unwrap();
            // It lets go of those locks first, and of claims, leases and concurrency keys a moment later.
            let held = "select exists (select 1 from pg_locks l join pg_database d on d.oid = l.database
                                        where l.locktype = 'advisory' and d.datname = current_database())";
            while sqlx::query_scalar(held).fetch_one(&mut *c).await.unwrap() {}
        }
        tx.commit().await
    }

    async fn task(&self, op: &Op, db: &mut Db<'_>) -> Result<Answer> {
        Ok(match op {
            Op::Enqueue { batch, .. } => {
                let batch = batch.iter().map(|adds| self.cast.new_task(self.now, adds)).collect();
                Answer::Added(self.store.enqueue_in(db, batch).await?)
            }
            Op::Claim { by, reach, limit } => {
                let claims = task::claim(db, by.id(), &self.cast.scope(reach), self.now, *limit).await?;
                let turned_away = TurnedAway { tasks: claims.turned_away, keys: claims.keys };
                Answer::Claimed(claims.mine.into_iter().map(claimed).collect(), turned_away)
            }
            Op::Defer { by, batch } => {
                let batch = batch.iter().map(|(at, then)| self.deferring(*at, then)).collect::<Result<Vec<_>>>()?;
                Answer::Tasks(task::defer(db, by.id(), self.now, &batch).await?.into_iter().collect())
            }
            Op::End { batch } => {
                let ends = self.cast.ends(self.world, batch);
                let ends = ends.iter().map(|ends| self.ending(ends)).collect::<Result<Vec<_>>>()?;
                Answer::Tasks(tasks(task::end(db, self.now, &ends).await?))
            }
            Op::Progress { by, at, done } => {
                let fence = self.cast.fence(self.world, *at);
                self.store.set_progress(db, by.id(), fence, &json!(done)).await?;
                Answer::Done
            }
            Op::Advance { by, at, turns_ago, step, arrival } => {
                let (fence, step) = (self.cast.fence(self.world, *at), json!({ "step": step }));
                let turn = self.world.turn(fence.task) - turns_ago;
                let step = self.store.seal(Purpose::Step, "step", &step)?;
                let arrival = match self.cast.arrival(arrival) {
                    Arrival::Woken(woken, event, why) => {
                        advance::Arrival::Woken { woken, event, why, taking: Vec::new() }
                    }
                    Arrival::Key(key) => advance::Arrival::Key(key),
                };
                let moved = self.store.advance(db, by.id(), fence, turn, &step, &arrival).await?;
                Answer::Advanced(match moved {
                    None => Advanced::NotYet,
                    Some(advance::Moved::NotMine) => Advanced::NotMine,
                    Some(advance::Moved::To(woken)) => Advanced::To(woken),
                })
            }
            Op::PutBack { by, batch } => {
                task::put_back(db, by.id(), self.now, &self.cast.fences(self.world, batch)).await?;
                Answer::Done
            }
            Op::Rescue { by, limit } => {
                let (count, ended) = self.store.rescue(db, by.id(), *limit as i64).await?;
                Answer::Moved(count, tasks(ended))
            }
            Op::Expire { by, limit } => {
                let (count, ended) = self.store.expire(db, by.id(), *limit as i64).await?;
                Answer::Moved(count, tasks(ended))
            }
            op => unreachable!("{op:?} is not about tasks"),
        })
    }

    async fn replica(&self, op: &Op, db: &mut Db<'_>) -> Result<Answer> {
        Ok(match op {
            Op::Join { replica, role, capacity } => {
                // Joining twice breaks a key, and nothing else may.
                let is_new = !self.world.replicas.contains_key(&replica.id());
                match replica::join(db, &card(*replica, *role, *capacity), self.now).await {
                    Err(Error::Database { .. }) if !is_new => Answer::Yes(false),
                    joined => joined.map(|()| Answer::Yes(true))?,
                }
            }
            Op::Renew { replica, running } => Answer::Beat(replica::renew(db, replica.id(), *running, self.now).await?),
            Op::Declare { replica, beats_ago } => {
                let beat = self.world.replicas.get(&replica.id()).map_or(0, |replica| replica.beat) - beats_ago;
                let peer = Beat { incarnation: replica.id(), beat };
                Answer::Yes(replica::declare_gone(db, peer, self.now).await?)
            }
            Op::Leave { replica } => {
                replica::leave(db, replica.id(), self.now).await?;
                Answer::Done
            }
            Op::Forget => {
                replica::forget(db, self.now).await?;
                Answer::Done
            }
            op => unreachable!("{op:?} is not about replicas"),
        })
    }

    async fn wait(&self, op: &Op, db: &mut Db<'_>) -> Result<Answer> {
        Ok(match op {
            Op::Lease { by, reach, limit } => {
                let leases = crate::stage::lease(db, by.id(), &self.cast.scope(reach), self.now, *limit).await?;
                let count = leases.len();
                let leases: BTreeSet<_> = leases.into_iter().map(leased).collect();
                assert_eq!(leases.len(), count, "a trigger was leased twice at once");
                Answer::Leased(leases)
            }
            Op::Release { by, batch } => {
                let given = |(at, after): &(At, i64)| {
                    let (fence, wake_at) = (self.cast.fence(self.world, *at), self.now + after);
                    trigger::Release { fence, wake_at, known: 0 }
                };
                trigger::release(db, by.id(), &batch.iter().map(given).collect::<Vec<_>>()).await?;
                Answer::Done
            }
            Op::Fire { by, batch } => {
                let batch = self.cast.firings(self.world, *by, batch);
                let (receipts, ended) = self.store.fire(db, &batch).await?;
                Answer::Fired(receipts, tasks(ended))
            }
            Op::FailWaits { who, batch } => {
                let batch = self.cast.verdicts(self.world, batch);
                let struck = self.store.fail_waits(db, who.map(R::id), batch).await?;
                Answer::Struck(Vec::new(), Struck { accepted: struck.accepted, ended: tasks(struck.ended) })
            }
            Op::FireDue { by, limit } => Answer::Count(trigger::fire_due(db, by.id(), self.now, *limit).await?),
            Op::Strike { by, grace, limit } => {
                let overdue = trigger::overdue(db, self.now, *grace, *limit as i64).await?;
                let verdict = |fence: &Fence| reveille::store::Verdict {
                    fence: *fence,
                    failed: past_deadline(),
                    holder: None,
                    event: None,
                };
                let struck = self.store.fail_waits(db, Some(by.id()), overdue.iter().map(verdict).collect()).await?;
                Answer::Struck(overdue, Struck { accepted: struck.accepted, ended: tasks(struck.ended) })
            }
            Op::Send { signal, key, payload, kept, .. } => {
                let signal =
                    Signal { id: signal.id(), key: (*key).to_owned(), payload: json!(payload), kept: duration(*kept) };
                self.store.signal_in(db, &signal).await?;
                Answer::Done
            }
            Op::LeaseUndo { by, reach, limit } => {
                let undos = undo::lease(db, by.id(), &self.cast.scope(reach), self.now, *limit as i64).await?;
                let undoes = |undo: undo::Undo| Undoes {
                    fence: undo.fence,
                    kinds: undo.kinds,
                    since: undo.since,
                    attempt: undo.attempt,
                };
                Answer::Undoes(undos.into_iter().map(undoes).collect())
            }
            Op::SettleUndo { by, task, stale, undone } => {
                let fence = self.cast.undo(self.world, *task, *stale);
                undo::settle(db, by.id(), fence, undone.at(self.now), self.now).await?;
                Answer::Done
            }
            op => unreachable!("{op:?} is not about waits"),
        })
    }

    /// Operations that make their transactions themselves.
    async fn alone(&self, op: &Op) -> Result<Answer> {
        let store = self.store;
        Ok(match op {
            Op::Enqueue { batch, .. } => {
                let tasks = batch.iter().map(|adds: &Adds| self.cast.new_task(self.now, adds)).collect();
                Answer::Added(store.enqueue_all(tasks).await?)
            }
            Op::Cancel { task } => Answer::Cancelled(store.cancel(self.cast.task(*task), "not wanted").await?),
            Op::Send { signal, key, payload, kept, .. } => {
                let signal =
                    Signal { id: signal.id(), key: (*key).to_owned(), payload: json!(payload), kept: duration(*kept) };
                Answer::Count(store.signal(signal).await?)
            }
            Op::Match { keys, who } => {
                let keys: Vec<String> = keys.iter().map(|key| self.cast.key(key)).collect();
                Answer::Count(store.match_keys(&keys, who.map(R::id)).await?)
            }
            Op::MatchAgain { who } => {
                let mut cursor = store.match_again(who.id(), None).await?;
                while cursor.is_some() {
                    cursor = store.match_again(who.id(), cursor).await?;
                }
                Answer::Done
            }
            Op::Ended { tasks } => {
                let tasks = tasks.iter().map(|task| self.cast.task(*task));
                let over = tasks.map(|task| Over { task, slot: self.world.key_of(task) });
                store.ended(&over.collect::<Vec<_>>()).await?;
                Answer::Done
            }
            Op::Pause { queue, paused } => Answer::Yes(store.set_paused(queue, paused.then_some(self.now)).await?),
            Op::DropOld { days } => {
                let kept = Duration::from_hours(24 * u64::try_from(*days).expect("days are not negative"));
                retention::validate(kept)?;
                while store.drop_old(kept).await? {}
                Answer::Done
            }
            op => unreachable!("{op:?} is done in one transaction"),
        })
    }

    fn deferring(&self, at: At, then: &Then) -> Result<Deferring> {
        let defers = self.cast.defers(self.world, &[(at, then.clone())]).remove(0);
        let wait = match then {
            Then::Wait(_, waits) => self.store.arm(&self.cast.deferral(self.now, waits))?,
            Then::Retry(delay) | Then::Snooze(delay) => Wait::until(self.now + delay),
        };
        let step = defers.step.map(|step| self.store.seal(Purpose::Step, "step", &step)).transpose()?;
        Ok(Deferring { fence: defers.fence, step, attempt: defers.attempt, why: defers.why, wait })
    }

    fn ending(&self, ends: &Ends) -> Result<Ending> {
        let ending = self.store.ending(ends.fence, ends.was, &ends.end, ends.why)?;
        Ok(Ending { holder: ends.holder, who: ends.who, event: ends.event, ..ending })
    }
}

impl Settled {
    pub(crate) fn at(self, now: i64) -> Undone {
        match self {
            Self::Done => Undone::Done,
            Self::Again(after) => Undone::Again(now + after),
            Self::Unread(after) => Undone::Unread(now + after),
            Self::Dead => Undone::Dead,
        }
    }
}

fn tasks<C: FromIterator<TaskId>>(over: Vec<Over>) -> C {
    over.into_iter().map(|over| over.task).collect()
}

fn claimed(claim: task::Claim) -> Claimed {
    Claimed {
        fence: claim.fence,
        name: claim.name,
        queue: claim.queue,
        priority: claim.priority,
        turn: claim.turn,
        attempt: claim.attempt,
        crashes: claim.crashes,
        retry: claim.retry,
    }
}

pub(crate) fn leased(lease: Lease) -> Leased {
    Leased {
        fence: lease.fence,
        kinds: lease.kinds,
        since: lease.since,
        wake_at: lease.wake_at,
        deadline_at: lease.deadline_at,
        deaths: lease.deaths,
    }
}
