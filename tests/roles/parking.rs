//! A replica that cannot reach the database: it holds still, keeps what it has and has seen, and goes on.

use std::sync::{Arc, Mutex};

use reveille::{
    NewTask, Retry, defer, done, done_with,
    id::TaskId,
    trigger::{Answer, Error, Event, Receipt},
    triggerer::Settings,
};

use crate::stage::{
    Gate, LEASE, Plain, Role, Script, Scripted, Seen, Stage, error, logged, ms, quick, result, times, until,
};

fn waiting_on(trigger: Scripted) -> NewTask {
    let task = Script::<Plain>::of(|_, cx| async move { Ok(done_with(cx.event::<serde_json::Value>()?)) });
    NewTask::of(&task).unwrap().when(defer(trigger))
}

async fn add(stage: &Stage, trigger: Scripted) -> TaskId {
    stage.store.enqueue(waiting_on(trigger)).await.unwrap()
}

both!(
    async fn a_silent_triggerer_checks_nothing_and_goes_on_as_it_was(stage: Stage) {
        let reach = stage.reach().await;
        let _triggerer = Role::triggerer(&stage.along(&reach).await, quick::triggerer("parks"));
        let before = stage.live("parks").await;
        let checked_at = Arc::new(Mutex::new(Vec::new()));
        let (clock, noted) = (stage.clock().clone(), Arc::clone(&checked_at));
        let (trigger, played) = Scripted::of(move |_| {
            noted.lock().unwrap().push(clock.monotonic());
            async { Ok(Answer::NotYet) }
        });
        let task = add(&stage, trigger).await;
        played.until(Seen::Check, 3).await;
        for silently in [true, false] {
            let silent_since = stage.clock().monotonic();
            if silently {
                reach.fall_silent().await;
            } else {
                reach.cut().await;
            }
            stage.pass(5 * LEASE / 2).await;
            // The last renewal was sent before the outage, at most a third of a lease: by then it is parked.
            let parked_from = silent_since + LEASE + ms(150);
            let late: Vec<_> = checked_at.lock().unwrap().iter().filter(|at| **at > parked_from).copied().collect();
            assert_eq!(late, [], "checked while parked, {silent_since:?}");
            assert_eq!(stage.held().await, 1, "it is still held");
            let checks = played.times(Seen::Check);
            reach.mend().await;
            played.until(Seen::Check, checks + 3).await;
        }
        assert_eq!(stage.live("parks").await.incarnation, before.incarnation);
        let wait = stage.whole(task).await.wait.unwrap();
        assert_eq!((wait.holder, wait.deaths), (Some(before.incarnation), 0));
        assert_eq!(played.times(Seen::CleanUp), 0);
    }
);

both!(
    async fn an_outage_of_the_database_moves_no_trigger_and_no_task(stage: Stage) {
        let reach = stage.reach().await;
        let mut roles = Vec::new();
        for label in ["one", "two", "three"] {
            roles
                .push(Role::triggerer(&stage.along(&reach).await, Settings { capacity: 2, ..quick::triggerer(label) }));
            roles.push(Role::worker(&stage.along(&reach).await, quick::worker(&format!("{label}'s worker"))));
        }
        for label in ["one", "two", "three"] {
            stage.live(label).await;
        }
        let mut waiting = Vec::new();
        for _ in 0..6 {
            let (trigger, played) = Scripted::never();
            waiting.push(add(&stage, trigger).await);
            played.until(Seen::Check, 1).await;
        }
        let (begun, over) = (Gate::shut(), Gate::shut());
        let (begins, ends) = (begun.clone(), over.clone());
        let running = Script::<Plain>::of(move |_, _| {
            begins.open();
            let over = ends.passed();
            async move {
                over.await;
                Ok(done())
            }
        });
        let running = stage.enqueue(&running).await;
        // Its worker knows of the claim, whose answer could be lost else.
        begun.passed().await;
        let mut holders = Vec::new();
        for task in &waiting {
            holders.push(stage.whole(*task).await.wait.unwrap().holder);
        }

        reach.cut().await;
        stage.pass(3 * LEASE).await;
        reach.mend().await;
        until("everybody to be back", async || {
            stage
                .replicas()
                .await
                .iter()
                .all(|replica| replica.gone_at.is_none() && replica.seen_at > stage.clock().now_ms() - 400)
        })
        .await;
        stage.pass(3 * LEASE / 2).await;
        over.open();

        for (task, holder) in waiting.iter().zip(holders) {
            let wait = stage.whole(*task).await.wait.unwrap();
            assert_eq!((wait.holder, wait.deaths), (holder, 0));
        }
        assert_eq!(stage.replicas().await.len(), 6, "nobody took a new life");
        let whole = stage.succeeded(running).await;
        assert_eq!((times(&whole, "claimed"), whole.crashes), (1, 0));
    }
);

both!(
    async fn an_event_that_was_seen_is_stored_after_an_outage(stage: Stage) {
        let reach = stage.reach().await;
        let _triggerer = Role::triggerer(&stage.along(&reach).await, quick::triggerer("triggerer"));
        let _worker = stage.worker(reveille::worker::Settings { names: None, ..crate::stage::patient::worker() }).await;
        let happens = Gate::shut();
        let happened = happens.clone();
        let (trigger, played) = Scripted::of(move |before| {
            let happened = happened.is_open();
            async move { Ok(if happened { Answer::Fire(Event::resume(before)?) } else { Answer::NotYet }) }
        });
        let task = add(&stage, trigger).await;
        played.until(Seen::Check, 1).await;
        reach.cut().await;
        let checks = played.times(Seen::Check);
        happens.open();
        played.until(Seen::Check, checks + 1).await;
        stage.pass(LEASE + ms(100)).await;
        until("it to be noticed", async || !logged(&["firing does not work"]).is_empty()).await;
        assert_eq!(stage.state_of(task).await, "deferred");
        let seen = played.times(Seen::Check);
        reach.mend().await;
        // The event is the one that was seen during the outage, and no other look was needed.
        let whole = stage.succeeded(task).await;
        assert_eq!(result(&whole), seen - 1);
        played.until(Seen::Settled(Receipt::Accepted), 1).await;
        assert_eq!(played.times(Seen::Check), seen);
    }
);

// A triggerer that is cut off while two checks are under way, one to fire and one to fail; both end once it is gone.
on_postgres!(
    async fn found_gone_evidence_is_stored_and_verdicts_are_dropped(stage: Stage) {
        let proxy = stage.proxy().await;
        let _cut_off = Role::triggerer(&stage.through(&proxy).await, quick::triggerer("cut off"));
        let before = stage.live("cut off").await;
        let over = Gate::shut();
        let fires = over.clone();
        let (evidence, saw) = Scripted::of(move |_| {
            let waited = fires.passed();
            async move {
                waited.await;
                Ok(Answer::Fire(Event::resume("seen by the gone")?))
            }
        });
        let fails = over.clone();
        let (verdict, judged) = Scripted::of(move |before| {
            let waited = fails.passed();
            async move {
                waited.await;
                if before == 0 { Err(Error::fatal("judged by the gone")) } else { Ok(Answer::NotYet) }
            }
        });
        let skips = over.clone();
        let (skip, skipped) = Scripted::of(move |before| {
            let waited = skips.passed();
            async move {
                waited.await;
                Ok(if before == 0 { Answer::Fire(Event::skip("skipped by the gone")) } else { Answer::NotYet })
            }
        });
        let fired = add(&stage, evidence).await;
        let failed = add(&stage, verdict).await;
        let skipped_task = add(&stage, skip).await;
        saw.until(Seen::Check, 1).await;
        judged.until(Seen::Check, 1).await;
        skipped.until(Seen::Check, 1).await;
        proxy.close();
        // Nobody takes these over, so that the evidence comes first.
        stage.lose("cut off").await;
        stage.pass(LEASE + ms(100)).await;
        over.open();
        stage.pass(ms(200)).await;
        proxy.open();

        stage.until_state(fired, "ready").await;
        let whole = stage.whole(fired).await;
        let event = whole.history.iter().find(|transition| transition.why == "event").unwrap();
        assert_eq!(event.who, Some(before.incarnation), "it was stored by the life that saw it");
        until("a new life", async || stage.live("cut off").await.incarnation != before.incarnation).await;
        saw.until(Seen::Settled(Receipt::Accepted), 1).await;
        skipped.until(Seen::Settled(Receipt::Refused), 1).await;
        judged.until(Seen::Check, 2).await;
        skipped.until(Seen::Check, 2).await;
        for task in [failed, skipped_task] {
            let whole = stage.whole(task).await;
            assert_eq!((whole.brief.state.as_str(), times(&whole, "rearmed")), ("deferred", 0), "{}", error(&whole));
        }
    }
);

on_postgres!(
    async fn a_worker_that_was_cut_off_stores_nothing_that_another_has_taken(stage: Stage) {
        let proxy = stage.proxy().await;
        let _cut_off = Role::worker(&stage.through(&proxy).await, quick::worker("cut off"));
        stage.live("cut off").await;
        let runs = Arc::new(Mutex::new(Vec::new()));
        let over = Gate::shut();
        let (noted, ends) = (Arc::clone(&runs), over.clone());
        let task = Script::<Plain>::of(move |_, cx| {
            let mut runs = noted.lock().unwrap();
            runs.push(cx.idempotency_key());
            let (run, over) = (runs.len(), ends.passed());
            async move {
                if run == 1 {
                    over.await;
                }
                Ok(done_with(run))
            }
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        proxy.close();
        let _heir = stage.worker(quick::worker("heir")).await;
        let whole = stage.succeeded(task).await;
        over.open();
        proxy.open();
        until("the one that was cut off to be back", async || {
            stage.replicas().await.iter().filter(|replica| replica.label == "cut off").count() == 2
        })
        .await;
        assert_eq!((result(&whole), whole.crashes), (2.into(), 1));
        let after = stage.whole(task).await;
        assert_eq!(after.history, whole.history);
        let keys = runs.lock().unwrap().clone();
        assert_eq!(keys, [format!("{task}-0"), format!("{task}-0")]);
    }
);

both!(
    async fn an_answer_is_kept_through_an_outage_and_the_step_is_not_run_again(stage: Stage) {
        let reach = stage.reach().await;
        let _worker = Role::worker(&stage.along(&reach).await, quick::worker("worker"));
        stage.live("worker").await;
        let (begun, cut) = (Gate::shut(), Gate::shut());
        let (begins, is_cut) = (begun.clone(), cut.clone());
        let task = Script::<Plain>::of(move |_, cx| {
            begins.open();
            let cut = is_cut.passed();
            async move {
                cut.await;
                Ok(done_with(cx.attempt()))
            }
        });
        let task = stage.enqueue(&task).await;
        // Its worker knows of the claim, whose answer could be lost else.
        begun.passed().await;
        reach.cut().await;
        cut.open();
        until("it to be noticed", async || !logged(&["storing what steps answered does not work"]).is_empty()).await;
        reach.mend().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((times(&whole, "claimed"), whole.brief.attempt), (1, 1));
    }
);

// Only renewals fail: everything else could be said, and is not.
both!(
    async fn a_parked_triggerer_gives_no_verdict(stage: Stage) {
        let _triggerer = stage.triggerer(quick::triggerer("parks")).await;
        let before = stage.live("parks").await;
        let (happens, over) = (Gate::shut(), Gate::shut());
        let mut tasks = Vec::new();
        for n in 0..3 {
            let shut = if n == 0 { happens.clone() } else { over.clone() };
            let (trigger, played) = Scripted::of(move |_| {
                let over = shut.passed();
                async move {
                    over.await;
                    match n {
                        0 => Ok(Answer::Fire(Event::resume("evidence")?)),
                        1 => Ok(Answer::Fire(Event::skip("a verdict"))),
                        _ => Err(Error::fatal("a verdict")),
                    }
                }
            });
            tasks.push(stage.store.enqueue(waiting_on(trigger).retry(Retry::NEVER)).await.unwrap());
            played.until(Seen::Check, 1).await;
        }
        stage.bar_renewals().await;
        stage.pass(LEASE + ms(200)).await;
        // Evidence is taken all the same.
        happens.open();
        stage.until_state(tasks[0], "ready").await;
        over.open();
        stage.pass(LEASE).await;
        assert_eq!([stage.state_of(tasks[1]).await, stage.state_of(tasks[2]).await], ["deferred", "deferred"]);
        stage.allow_renewals().await;
        stage.until_state(tasks[1], "skipped").await;
        stage.until_state(tasks[2], "failed").await;
        assert_eq!(stage.live("parks").await.incarnation, before.incarnation);
    }
);

both!(
    async fn a_parked_replica_takes_nothing_new(stage: Stage) {
        let _roles =
            [stage.triggerer(quick::triggerer("triggerer")).await, stage.worker(quick::worker("worker")).await];
        stage.live("triggerer").await;
        stage.live("worker").await;
        stage.bar_renewals().await;
        stage.pass(LEASE + ms(200)).await;
        let (trigger, played) = Scripted::never();
        add(&stage, trigger).await;
        let (trigger, undone) = Scripted::never();
        stage.store.cancel(add(&stage, trigger).await, "not needed").await.unwrap();
        let task = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done()) })).await;
        // Longer than each of the loops sleeps.
        stage.pass(3 * LEASE / 2).await;
        assert_eq!((stage.held().await, played.seen(), undone.seen()), (0, vec![], vec![]));
        assert_eq!(stage.count("select count(*) from reveille_undo where holder is not null").await, 0);
        assert_eq!(stage.state_of(task).await, "ready");
        stage.allow_renewals().await;
        played.until(Seen::Check, 1).await;
        undone.until(Seen::OnCancel, 1).await;
        stage.succeeded(task).await;
    }
);
