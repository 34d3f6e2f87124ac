//! Equal triggers that share their checks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reveille::{
    NewTask, defer, done,
    id::TaskId,
    trigger::{Answer, Event},
};

use crate::stage::{Gate, Plain, Script, Scripted, Seen, Stage, error, ms, patient, times, until};

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

async fn begin(stage: &Stage, trigger: &Scripted) -> TaskId {
    stage.store.enqueue(task().when(defer(trigger.clone()))).await.unwrap()
}

async fn are_held(stage: &Stage, count: i64) {
    let held = "select count(*) from reveille_trigger where holder is not null";
    until(&format!("{count} to be held"), async || stage.count(held).await == count).await;
}

both!(
    async fn one_check_answers_for_all_equals(stage: Stage) {
        const EQUALS: usize = 60;
        let happened = Arc::new(AtomicBool::new(false));
        let has = Arc::clone(&happened);
        let (trigger, played) = Scripted::of(move |_| {
            let happened = has.load(Ordering::SeqCst);
            async move { Ok(if happened { Answer::Fire(Event::succeed("all")?) } else { Answer::NotYet }) }
        });
        let trigger = trigger.every(ms(100)).shared();
        let tasks: Vec<NewTask> = (0..EQUALS).map(|_| task().when(defer(trigger.clone()))).collect();
        let tasks = stage.store.enqueue_all(tasks).await.unwrap();
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        are_held(&stage, EQUALS as i64).await;
        played.until(Seen::Check, 3).await;
        happened.store(true, Ordering::SeqCst);
        for task in tasks {
            stage.succeeded(task).await;
        }
        assert!(played.times(Seen::Check) < EQUALS, "{} checks", played.times(Seen::Check));
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.times(Seen::CleanUp), 1, "the last to go lets go");
    }
);

both!(
    async fn a_check_that_began_before_a_task_deferred_does_not_resume_it(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let gates = [Gate::shut(), Gate::shut()];
        let at = gates.clone();
        let (trigger, played) = Scripted::of(move |before| {
            let passed = at[before.min(1)].passed();
            async move {
                passed.await;
                Ok(Answer::Fire(Event::succeed(before)?))
            }
        });
        let trigger = trigger.shared();
        let first = begin(&stage, &trigger).await;
        played.until(Seen::Check, 1).await;
        let second = begin(&stage, &trigger).await;
        are_held(&stage, 2).await;
        gates[0].open();
        stage.succeeded(first).await;
        played.until(Seen::Check, 2).await;
        assert_eq!(stage.state_of(second).await, "deferred");
        gates[1].open();
        let whole = stage.succeeded(second).await;
        assert_eq!(whole.end.unwrap().result, Some(1.into()));
    }
);

both!(
    async fn equals_keep_their_own_deadlines_and_cancellations(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let gate = Gate::shut();
        let open = gate.clone();
        let (trigger, played) = Scripted::of(move |_| {
            let open = open.is_open();
            async move { Ok(if open { Answer::Fire(Event::succeed(1)?) } else { Answer::NotYet }) }
        });
        let trigger = trigger.shared();
        let [cancelled, stays] = [begin(&stage, &trigger).await, begin(&stage, &trigger).await];
        are_held(&stage, 2).await;
        let late = task().when(defer(trigger.clone()).deadline(ms(200))).retry(reveille::Retry::NEVER);
        let late = stage.store.enqueue(late).await.unwrap();
        stage.store.cancel(cancelled, "not needed").await.unwrap();
        let failed = stage.until_state(late, "failed").await;
        assert!(error(&failed).contains("deadline"), "{}", error(&failed));
        assert_eq!(
            (stage.state_of(cancelled).await, stage.state_of(stays).await),
            ("cancelled".into(), "deferred".into())
        );
        let before = played.times(Seen::Check);
        played.until(Seen::Check, before + 2).await;
        gate.open();
        stage.succeeded(stays).await;
    }
);

both!(
    async fn equals_are_let_go_of_once_when_their_holder_leaves(stage: Stage) {
        // What looks is read again where the next look is far off.
        for every in [ms(100), Duration::from_secs(50)] {
            let triggerer = stage.triggerer(patient::triggerer()).await;
            let (trigger, played) = Scripted::never();
            let trigger = trigger.every(every).shared();
            for _ in 0..3 {
                begin(&stage, &trigger).await;
            }
            played.until(Seen::Check, 1).await;
            triggerer.stop().await;
            assert_eq!(played.times(Seen::CleanUp), 1, "{every:?}");
        }
    }
);

both!(
    async fn equals_that_sleep_long_go_dormant_together_and_come_back(stage: Stage) {
        let (trigger, played) = Scripted::never();
        let trigger = trigger.every(Duration::from_hours(1)).shared();
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        for _ in 0..3 {
            begin(&stage, &trigger).await;
        }
        played.until(Seen::Check, 1).await;
        are_held(&stage, 0).await;
        let dormant = "select count(*) from reveille_trigger where holder is null and wake_at > since + 60000";
        until("them to sleep", async || stage.count(dormant).await == 3).await;
        // One that comes later is looked at by itself.
        let before = played.times(Seen::Check);
        begin(&stage, &trigger).await;
        played.until(Seen::Check, before + 1).await;
    }
);

both!(
    async fn whoever_joins_is_looked_at_by_its_deadline(stage: Stage) {
        let _roles = stage.both_roles().await;
        let happened = Gate::shut();
        let has = happened.clone();
        let (trigger, played) = Scripted::of(move |_| {
            let has = has.is_open();
            async move { Ok(if has { Answer::Fire(Event::resume("seen")?) } else { Answer::NotYet }) }
        });
        let trigger = trigger.every(Duration::from_secs(50)).shared();
        begin(&stage, &trigger).await;
        played.until(Seen::Check, 1).await;
        happened.open();
        let task = NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let second = stage.store.enqueue(task.when(defer(trigger).deadline(ms(1_500)))).await.unwrap();
        let whole = stage.succeeded(second).await;
        assert_eq!((times(&whole, "event"), times(&whole, "rearmed")), (1, 0));
        assert_eq!(played.times(Seen::Check), 2);
    }
);
