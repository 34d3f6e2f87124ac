//! A connection that is cut after a commit and before the reply, for every verb: it took effect once, and nothing is stuck.
//!
//! The role or client is not told what has become of its transaction, and does what it always does about that: it tries
//! again, or asks what it holds.

use reveille::{
    Error, NewTask, Retry, Store, TaskError, defer, done_with,
    id::TaskId,
    snooze,
    store::{replica, signal::Signal as Sent, task::Cancelled},
    trigger::{Answer, Event, Receipt},
    triggerer,
    wait::{Signal, TaskEnd, Timer},
    worker,
};
use serde_json::{Value, json};

use crate::stage::{
    Anchored, Gate, Kind, Plain, Proxy, Role, Script, Scripted, Seen, Stage, error, logged, ms, patient, quick, result,
    times, until, whys,
};

/// Text that only the statement of one verb has.
mod statement {
    pub(super) const ENQUEUE: &str = "insert into reveille_task (";
    pub(super) const CLAIM: &str = "'ready', 'running', 'claimed'";
    pub(super) const DEFER: &str = "'running', 'deferred', why";
    pub(super) const END: &str = "insert into reveille_finished (";
    pub(super) const LEASE: &str = "update reveille_trigger t\n   set holder";
    pub(super) const FIRE: &str = "'deferred', 'ready', why, event_id";
    pub(super) const DUE: &str = "'deferred', 'ready', 'due'";
    pub(super) const REARM: &str = "set generation = generation + 1, holder = null, since";
    pub(super) const RELEASE: &str = "set holder = null, wake_at";
    pub(super) const PUT_BACK: &str = "set state = 'ready', holder = null";
    pub(super) const RENEW: &str = "set beat = beat + 1";
    pub(super) const JOIN: &str = "insert into reveille_replica";
    pub(super) const LEAVE: &str = "gone_why = 'left'";
    pub(super) const DECLARE: &str = "gone_why = 'lost' where";
    pub(super) const SIGNAL: &str = "insert into reveille_signal";
    pub(super) const TAKE_SIGNAL: &str = "update reveille_signal set taken_at";
    pub(super) const ASK_TO_CANCEL: &str = "set cancel_requested_at";
    pub(super) const ADVANCE: &str = "turn = turn + 1, attempt = 1";
    pub(super) const UNDO: &str = "update reveille_undo u set holder";
    pub(super) const UNDONE: &str = "delete from reveille_undo";
}

/// A worker and a triggerer behind a proxy, which cut what they are told to.
struct Behind {
    proxy: Proxy,
    store: Store,
    roles: Vec<Role>,
}

impl Behind {
    async fn both_roles(stage: &Stage) -> Self {
        let mut behind = Self::client(stage).await;
        behind.begin(stage).await;
        behind
    }

    async fn begin(&mut self, stage: &Stage) {
        self.roles = vec![
            Role::triggerer(&self.store, quick::triggerer("triggerer")),
            Role::worker(&self.store, worker::Settings { concurrency: 4, ..quick::worker("worker") }),
        ];
        stage.live("triggerer").await;
        stage.live("worker").await;
    }

    async fn client(stage: &Stage) -> Self {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        Self { proxy, store, roles: Vec::new() }
    }
}

/// Waits for a trigger, and ends with what came.
fn waiter<K: Kind>(wait: reveille::Deferral) -> Script<K> {
    Script::of(move |step, cx| {
        let wait = wait.clone();
        async move {
            Ok(match step.at {
                0 => wait.then(step.next()),
                _ => done_with(json!([cx.turn(), cx.event::<Value>()?])),
            })
        }
    })
}

fn simple() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, cx| async move { Ok(done_with(cx.attempt())) })).unwrap()
}

// What clients do.

on_postgres!(
    async fn enqueuing_again_adds_nothing(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::ENQUEUE);
        let id = TaskId::mint();
        let add = || client.store.enqueue(simple().id(id));
        assert!(matches!(add().await, Err(Error::Outage { .. })));
        cut.happened().await;
        assert_eq!(add().await.unwrap(), id);
        assert_eq!(whys(&stage.whole(id).await), ["enqueued"]);
        let _worker = stage.worker(patient::worker()).await;
        stage.succeeded(id).await;
        assert_eq!(add().await.unwrap(), id, "also when it has ended");
        assert_eq!(stage.count("select count(*) from reveille_task").await, 0);
    }
);

on_postgres!(
    async fn enqueuing_a_wait_again_arms_it_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::ENQUEUE);
        stage.store.signal(Sent::new("go", 1)).await.unwrap();
        let id = TaskId::mint();
        let add = || client.store.enqueue(simple().id(id).when(defer(Signal::new("go"))));
        assert!(add().await.is_err());
        cut.happened().await;
        add().await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        let whole = stage.succeeded(id).await;
        assert_eq!(times(&whole, "signal"), 1);
    }
);

on_postgres!(
    async fn a_signal_sent_again_is_one_signal(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::SIGNAL);
        let signal = Sent::new("go", "once");
        assert!(client.store.signal(signal.clone()).await.is_err());
        cut.happened().await;
        client.store.signal(signal).await.unwrap();
        let _worker = stage.worker(patient::worker()).await;
        let first = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.succeeded(first).await;
        let second = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.until_state(second, "deferred").await;
        assert_eq!(stage.count("select count(*) from reveille_signal").await, 1);
    }
);

on_postgres!(
    async fn a_signal_taken_by_a_match_that_was_not_heard_of_is_taken_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let cut = client.proxy.cut_after_commit_of(statement::TAKE_SIGNAL);
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        stage.until_state(task, "deferred").await;
        let signal = Sent::new("go", "once");
        assert!(client.store.signal(signal.clone()).await.is_err());
        cut.happened().await;
        client.store.signal(signal).await.unwrap();
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "signal")), (json!([1, "once"]), 1));
    }
);

on_postgres!(
    async fn cancelling_again_is_cancelling_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let (trigger, played) = Scripted::never();
        let waits = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        let cut = client.proxy.cut_after_commit_of(statement::END);
        assert!(client.store.cancel(waits, "not needed").await.is_err());
        cut.happened().await;
        assert_eq!(client.store.cancel(waits, "not needed").await.unwrap(), Cancelled::Ended);
        assert_eq!(whys(&stage.whole(waits).await), ["enqueued", "cancelled"]);
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

on_postgres!(
    async fn asking_a_running_task_to_cancel_again_is_asking_once(stage: Stage) {
        let client = Behind::client(&stage).await;
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, cx| async move {
            cx.cancelled().await;
            Err(TaskError::retry("called off"))
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        let cut = client.proxy.cut_after_commit_of(statement::ASK_TO_CANCEL);
        assert!(client.store.cancel(task, "not needed").await.is_err());
        cut.happened().await;
        client.store.cancel(task, "not needed").await.unwrap();
        assert_eq!(times(&stage.until_state(task, "cancelled").await, "cancelled"), 1);
    }
);

// What workers do.

on_postgres!(
    async fn a_claim_that_was_not_heard_of_is_put_back(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::CLAIM);
        let task = stage.store.enqueue(simple()).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released", "claimed", "finished"]);
        assert_eq!((result(&whole), whole.crashes), (json!(1), 0), "it costs no attempt and is no crash");
    }
);

on_postgres!(
    async fn putting_back_again_changes_nothing(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let claim = behind.proxy.cut_after_commit_of(statement::CLAIM);
        let back = behind.proxy.cut_after_commit_of(statement::PUT_BACK);
        let task = stage.store.enqueue(simple()).await.unwrap();
        claim.happened().await;
        back.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released", "claimed", "finished"]);
    }
);

on_postgres!(
    async fn a_deferral_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let (trigger, _) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Plain>(defer(trigger))).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "deferred", "event", "claimed", "finished"]);
        assert_eq!(result(&whole), json!([1, "seen"]));
    }
);

on_postgres!(
    async fn a_deferral_on_a_signal_that_was_not_heard_of_is_matched_all_the_same(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        stage.store.signal(Sent::new("go", "early")).await.unwrap();
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let task = stage.enqueue(&waiter::<Plain>(defer(Signal::new("go")))).await;
        cut.happened().await;
        assert_eq!(result(&stage.succeeded(task).await), json!([1, "early"]));
    }
);

on_postgres!(
    async fn a_retry_stored_again_costs_one_attempt(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let task = Script::<Plain>::of(|_, cx| async move {
            if cx.attempt() == 1 { Err(TaskError::retry("again")) } else { Ok(done_with(cx.attempt())) }
        });
        let task = stage.enqueue(&task).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "retry")), (json!(2), 1));
    }
);

on_postgres!(
    async fn a_snooze_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DEFER);
        let naps = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let task = Script::<Plain>::of(move |_, cx| {
            let nap = naps.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            async move { Ok(if nap == 0 { snooze(ms(5)) } else { done_with((nap, cx.attempt())) }) }
        });
        let task = stage.enqueue(&task).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), times(&whole, "snooze")), (json!([1, 1]), 1));
    }
);

on_postgres!(
    async fn an_end_stored_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let first = TaskId::mint();
        let waits = stage.enqueue(&waiter::<Plain>(defer(TaskEnd::of(first.0)))).await;
        stage.until_state(waits, "deferred").await;
        stage.store.enqueue(simple().id(first)).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(first).await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "finished"]);
        assert_eq!(stage.count("select count(*) from reveille_finished").await, 1);
        // Whoever waits for it hears of it, though the worker was not told.
        stage.succeeded(waits).await;
        // And its slots are free.
        for _ in 0..4 {
            stage.succeeded(stage.store.enqueue(simple()).await.unwrap()).await;
        }
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_advances_once_when_its_timer_is_due(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::ADVANCE);
        let task = stage.enqueue(&waiter::<Anchored>(defer(Timer::after(ms(50))))).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), whole.brief.turn), (json!([1, null]), 1), "{:?}", whys(&whole));
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_takes_its_signal_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::ADVANCE);
        let task = stage.enqueue(&waiter::<Anchored>(defer(Signal::new("go")))).await;
        stage.until_state(task, "running").await;
        stage.store.signal(Sent::new("go", "first")).await.unwrap();
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((result(&whole), whole.brief.turn), (json!([1, "first"]), 1));
    }
);

on_postgres!(
    async fn a_wait_in_a_slot_that_ends_from_its_trigger_ends_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(7)?)) });
        let task = stage.enqueue(&waiter::<Anchored>(defer(trigger))).await;
        cut.happened().await;
        assert_eq!(whys(&stage.succeeded(task).await), ["enqueued", "claimed", "event"]);
    }
);

// What triggerers do.

on_postgres!(
    async fn a_lease_that_was_not_heard_of_is_adopted(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::LEASE);
        let (trigger, played) = Scripted::fires("seen");
        let task = stage.enqueue(&waiter::<Plain>(defer(trigger))).await;
        cut.happened().await;
        assert_eq!(result(&stage.succeeded(task).await), json!([1, "seen"]));
        assert_eq!(played.times(Seen::Check), 1);
    }
);

async fn fires_once(
    stage: &Stage,
    event: impl Fn() -> Event + Send + Sync + 'static,
    cut_at: &'static str,
    state: &str,
) -> TaskId {
    let behind = Behind::both_roles(stage).await;
    let cut = behind.proxy.cut_after_commit_of(cut_at);
    let event = std::sync::Arc::new(event);
    let (trigger, played) = Scripted::of(move |_| {
        let event = event();
        async move { Ok(Answer::Fire(event)) }
    });
    let retry = Retry { max_attempts: 2, backoff: ms(20), cap: ms(20) };
    let task = stage.store.enqueue(simple().retry(retry).when(defer(trigger))).await.unwrap();
    cut.happened().await;
    let whole = stage.until_state(task, state).await;
    let looks = 1 + times(&whole, "rearmed");
    played.until(Seen::CleanUp, looks).await;
    assert_eq!(played.times(Seen::Settled(Receipt::Accepted)), looks, "a repeated fire was accepted the first time");
    assert_eq!(played.times(Seen::Check), looks);
    task
}

on_postgres!(
    async fn an_event_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::resume("seen").unwrap(), statement::FIRE, "succeeded").await;
        assert_eq!(times(&stage.whole(task).await, "event"), 1);
    }
);

on_postgres!(
    async fn an_end_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::succeed(7).unwrap(), statement::END, "succeeded").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "event"]);
    }
);

on_postgres!(
    async fn a_skip_fired_again_was_accepted_the_first_time(stage: Stage) {
        let task = fires_once(&stage, || Event::skip("a holiday"), statement::END, "skipped").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "event"]);
    }
);

on_postgres!(
    async fn a_failure_fired_again_costs_one_attempt(stage: Stage) {
        let task = fires_once(&stage, || Event::fail("no such bucket"), statement::REARM, "failed").await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued", "rearmed", "wait_failed"]);
    }
);

on_postgres!(
    async fn a_verdict_given_again_costs_one_attempt(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::REARM);
        let (trigger, played) = Scripted::of(|_| async { Err(reveille::trigger::Error::fatal("no such bucket")) });
        let retry = Retry { max_attempts: 2, backoff: ms(20), cap: ms(20) };
        let task = stage.store.enqueue(simple().retry(retry).when(defer(trigger))).await.unwrap();
        cut.happened().await;
        let whole = stage.until_state(task, "failed").await;
        assert_eq!((error(&whole).as_str(), times(&whole, "rearmed")), ("no such bucket", 1));
        assert_eq!(played.times(Seen::Check), 2);
    }
);

on_postgres!(
    async fn a_trigger_given_back_again_is_dormant_once(stage: Stage) {
        let proxy = stage.proxy().await;
        let settings = triggerer::Settings { horizon: ms(100), capacity: 1, ..quick::triggerer("triggerer") };
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, settings);
        let cut = proxy.cut_after_commit_of(statement::RELEASE);
        let (trigger, played) = Scripted::of(|before| async move {
            Ok(if before == 0 { Answer::NotYet } else { Answer::Fire(Event::succeed(before)?) })
        });
        let task = stage.store.enqueue(simple().when(defer(trigger.every(ms(1_500))))).await.unwrap();
        cut.happened().await;
        // The only slot is free meanwhile.
        let (other, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let other = stage.store.enqueue(simple().when(defer(other))).await.unwrap();
        stage.succeeded(other).await;
        assert_eq!(result(&stage.succeeded(task).await), json!(1));
        assert_eq!(played.times(Seen::Check), 2);
    }
);

on_postgres!(
    async fn an_undo_that_was_not_heard_of_is_carried_out(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        let cut = behind.proxy.cut_after_commit_of(statement::UNDO);
        stage.store.cancel(task, "not needed").await.unwrap();
        cut.happened().await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

on_postgres!(
    async fn an_undo_settled_again_is_one(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::UNDONE);
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        stage.store.cancel(task, "not needed").await.unwrap();
        cut.happened().await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        // Another is undone after it: the loop goes on.
        let (trigger, later) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        later.until(Seen::Check, 1).await;
        stage.store.cancel(task, "not needed").await.unwrap();
        later.until(Seen::OnCancel, 1).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

// The server refuses what it was asked, and the trigger is held by us as before.
on_postgres!(
    async fn an_undo_whose_outcome_could_not_be_stored_is_carried_out_again(stage: Stage) {
        let proxy = stage.proxy().await;
        let _triggerer = Role::triggerer(&stage.through(&proxy).await, patient::triggerer());
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        played.until(Seen::Check, 1).await;
        let cut = Gate::shut();
        let shut = cut.clone();
        played.undoes(move |_| {
            let cut = shut.passed();
            async move {
                cut.await;
                Ok(())
            }
        });
        stage.store.cancel(task, "not needed").await.unwrap();
        played.until(Seen::OnCancel, 1).await;
        proxy.close();
        cut.open();
        until("it to be noticed", async || !logged(&["undoing does not work"]).is_empty()).await;
        proxy.open();
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
    }
);

// What any replica does.

on_postgres!(
    async fn what_was_due_and_not_heard_of_is_fired_once(stage: Stage) {
        // It is due, and only then the roles begin: the statement says the same whether it fired something or not.
        let task = stage.store.enqueue(simple().after(ms(1))).await.unwrap();
        let mut behind = Behind::client(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DUE);
        behind.begin(&stage).await;
        cut.happened().await;
        assert_eq!(times(&stage.succeeded(task).await, "due"), 1);
    }
);

on_postgres!(
    async fn a_deadline_struck_again_is_struck_once(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::END);
        let wait = defer(Signal::new("never")).deadline(ms(50));
        let task = stage.store.enqueue(simple().retry(Retry::NEVER).when(wait)).await.unwrap();
        cut.happened().await;
        assert_eq!(times(&stage.until_state(task, "failed").await, "deadline"), 1);
    }
);

on_postgres!(
    async fn a_rescue_that_was_not_heard_of_counts_one_crash(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let silent = stage.silent(replica::Role::Worker, "silent").await;
        let cut = behind.proxy.cut_after_commit_of(statement::PUT_BACK);
        let task = stage.store.enqueue(simple().queue("nowhere").after(ms(3_600_000))).await.unwrap();
        stage.alter("delete from reveille_trigger where task_id = $1", &[task.0]).await;
        let taken =
            "update reveille_task set state = 'running', generation = 1, ready_at = 0, holder = $2 where id = $1";
        stage.alter(taken, &[task.0, silent.0]).await;
        cut.happened().await;
        let whole = stage.succeeded(task).await;
        assert_eq!((whole.crashes, times(&whole, "crashed")), (1, 1));
    }
);

on_postgres!(
    async fn a_renewal_that_was_not_heard_of_is_made_again(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let (worker, triggerer) = (stage.live("worker").await, stage.live("triggerer").await);
        for _ in 0..3 {
            behind.proxy.cut_after_commit_of(statement::RENEW).happened().await;
        }
        until("more beats", async || stage.live("worker").await.beat > worker.beat + 6).await;
        assert_eq!(stage.live("worker").await.incarnation, worker.incarnation);
        assert_eq!(stage.live("triggerer").await.incarnation, triggerer.incarnation);
    }
);

on_postgres!(
    async fn one_that_joined_and_was_not_told_joins_again(stage: Stage) {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        let cut = proxy.cut_after_commit_of(statement::JOIN);
        let _triggerer = Role::triggerer(&store, quick::triggerer("triggerer"));
        cut.happened().await;
        // The life that nobody leads is over before long, and the one after it works.
        assert_eq!(stage.gone("triggerer").await.gone_why.as_deref(), Some("lost"));
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let task = stage.store.enqueue(simple().when(defer(trigger))).await.unwrap();
        stage.succeeded(task).await;
    }
);

on_postgres!(
    async fn one_that_left_and_was_not_told_has_left(stage: Stage) {
        let proxy = stage.proxy().await;
        let triggerer = Role::triggerer(&stage.through(&proxy).await, quick::triggerer("triggerer"));
        stage.live("triggerer").await;
        let cut = proxy.cut_after_commit_of(statement::LEAVE);
        triggerer.stop().await;
        cut.happened().await;
        assert_eq!(stage.gone("triggerer").await.gone_why.as_deref(), Some("left"));
    }
);

on_postgres!(
    async fn a_peer_declared_gone_by_one_that_was_not_told_is_gone(stage: Stage) {
        let behind = Behind::both_roles(&stage).await;
        let cut = behind.proxy.cut_after_commit_of(statement::DECLARE);
        let silent = stage.silent(replica::Role::Triggerer, "silent").await;
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(())?)) });
        let task = stage.store.enqueue(simple().queue("nowhere").when(defer(trigger))).await.unwrap();
        stage.alter("update reveille_trigger set holder = $2 where task_id = $1", &[task.0, silent.0]).await;
        cut.happened().await;
        stage.succeeded(task).await;
    }
);
