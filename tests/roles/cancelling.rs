//! Calling tasks off, and undoing what they waited for.

use reveille::{
    NewTask, TaskError, defer, done,
    store::task::Cancelled,
    trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag},
    triggerer,
    wait::Signal,
};
use serde::{Deserialize, Serialize};

use crate::stage::{Plain, Script, Scripted, Seen, Stage, error, logged, ms, patient, quick, times, until, whys};

fn waiting_on(trigger: impl Trigger + 'static) -> NewTask {
    let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
    NewTask::of(&task).unwrap().when(defer(trigger))
}

async fn is_undone(stage: &Stage) {
    until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
}

both!(
    async fn a_running_step_is_told_that_its_task_is_cancelled(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|_, cx| async move {
            cx.cancelled().await;
            Err(TaskError::retry("I stopped, as I was told to"))
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        assert_eq!(stage.store.cancel(task, "not needed").await.unwrap(), Cancelled::Asked);
        let whole = stage.until_state(task, "cancelled").await;
        assert_eq!(whys(&whole), ["enqueued", "claimed", "cancelled"]);
    }
);

both!(
    async fn a_step_that_does_not_listen_is_dropped_and_cancelled(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = stage.enqueue(&Script::<Plain>::of(|_, _| std::future::pending())).await;
        stage.until_state(task, "running").await;
        stage.store.cancel(task, "not needed").await.unwrap();
        let whole = stage.until_state(task, "cancelled").await;
        assert_eq!(error(&whole), "cancelled while it ran");
    }
);

both!(
    async fn a_cancelled_task_does_not_defer_any_more(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let task = Script::<Plain>::of(|step, cx| async move {
            cx.cancelled().await;
            Ok(defer(Signal::new("never")).then(step.next()))
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        stage.store.cancel(task, "not needed").await.unwrap();
        let whole = stage.until_state(task, "cancelled").await;
        assert_eq!(times(&whole, "deferred"), 0);
    }
);

both!(
    async fn a_cancelled_wait_is_undone_by_a_triggerer(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        played.until(Seen::Check, 1).await;
        assert_eq!(stage.store.cancel(task, "not needed").await.unwrap(), Cancelled::Done);
        assert_eq!(error(&stage.until_state(task, "cancelled").await), "not needed");
        is_undone(&stage).await;
        assert_eq!(played.times(Seen::OnCancel), 1);
    }
);

both!(
    async fn a_cancelled_wait_is_checked_no_more_and_its_slot_is_free(stage: Stage) {
        let store = stage.another().await;
        let _triggerer =
            crate::stage::Role::triggerer(&store, triggerer::Settings { capacity: 1, ..patient::triggerer() });
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        played.until(Seen::Check, 1).await;
        // In the process of the triggerer, so that hints reach it: its renewals are 10 s apart.
        store.cancel(task, "not needed").await.unwrap();
        let (other, other_played) = Scripted::never();
        stage.store.enqueue(waiting_on(other)).await.unwrap();
        other_played.until(Seen::Check, 2).await;
        assert_eq!(played.times(Seen::CleanUp), 1);
    }
);

both!(
    async fn a_wait_that_nobody_ever_held_is_undone_too(stage: Stage) {
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        is_undone(&stage).await;
        assert_eq!(played.seen(), [Seen::OnCancel]);
    }
);

// Cannot be undone at the first attempt, and at the second by nobody but the test's heir.
both!(
    async fn undoing_is_tried_again(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::never();
        played.undoes(|before| async move {
            match before {
                0 => Err(Error::again("the server said 503")),
                1 => panic!("a bug in a trigger"),
                _ => Ok(()),
            }
        });
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        for tried in 1..=2 {
            played.until(Seen::OnCancel, tried).await;
            until("it to be put off", async || {
                stage.count("select count(*) from reveille_undo where holder is null").await == 1
            })
            .await;
            // Its time has come.
            stage.alter("update reveille_undo set wake_at = 0 where task_id = $1", &[task.0]).await;
        }
        is_undone(&stage).await;
        assert_eq!(played.times(Seen::OnCancel), 3);
        assert_eq!(logged(&["WARN", &format!("what task {task} waited for is not undone yet")]).len(), 2);
    }
);

// It is given half a minute, and tried again seconds later.
both!(
    async fn an_undo_that_hangs_is_given_up_and_tried_again(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::never();
        played.undoes(|before| async move {
            if before == 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        played.until(Seen::OnCancel, 1).await;
        stage.pass(ms(29_000)).await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
        assert_eq!(played.times(Seen::OnCancel), 2);
    }
);

both!(
    async fn what_cannot_be_undone_is_kept_and_reported(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::never();
        played.undoes(|_| async { Err(Error::fatal("the account is closed")) });
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        until("it to be given up", async || {
            stage.count("select count(*) from reveille_undo where dead_at is not null").await == 1
        })
        .await;
        assert_eq!(logged(&["ERROR", &format!("what task {task} waited for cannot be undone")]).len(), 1);
        let findings = stage.store.examine().await.unwrap();
        assert!(findings.iter().any(|finding| finding.what.contains("could not be undone")), "{findings:?}");
    }
);

both!(
    async fn what_a_lost_triggerer_was_undoing_is_undone_by_another(stage: Stage) {
        let lost = triggerer::Settings { label: "lost".to_owned(), ..patient::triggerer() };
        let _lost = stage.triggerer(lost).await;
        let (trigger, played) = Scripted::never();
        played.undoes(|before| async move {
            if before == 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        played.until(Seen::OnCancel, 1).await;
        stage.lose("lost").await;
        let _heir = stage.triggerer(quick::triggerer("heir")).await;
        is_undone(&stage).await;
        assert_eq!(played.times(Seen::OnCancel), 2);
    }
);

both!(
    async fn what_a_stopping_triggerer_was_undoing_is_undone_by_another(stage: Stage) {
        let leaving = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::never();
        played.undoes(|before| async move {
            if before == 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        played.until(Seen::OnCancel, 1).await;
        leaving.stop().await;
        let _heir = stage.triggerer(patient::triggerer()).await;
        is_undone(&stage).await;
    }
);

both!(
    async fn losing_a_lease_undoes_nothing(stage: Stage) {
        let lost = stage.triggerer(triggerer::Settings { label: "lost".to_owned(), ..quick::triggerer("lost") }).await;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        played.until(Seen::Check, 1).await;
        let before = stage.lose("lost").await;
        played.until(Seen::CleanUp, 1).await;
        until("it to be held again", async || {
            stage.whole(task).await.wait.unwrap().holder.is_some_and(|holder| holder != before.incarnation)
        })
        .await;
        lost.stop().await;
        assert_eq!((played.times(Seen::CleanUp), played.times(Seen::OnCancel)), (2, 0));
    }
);

both!(
    async fn no_other_end_of_a_wait_undoes_anything(stage: Stage) {
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (fires, fired) = Scripted::of(|_| async { Ok(Answer::Fire(Event::succeed(1)?)) });
        let (fails, failed) = Scripted::of(|_| async { Err(Error::fatal("no")) });
        let (late, struck) = Scripted::never();
        let late = {
            let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
            NewTask::of(&task).unwrap().when(defer(late).deadline(ms(500)))
        };
        let tasks = vec![waiting_on(fires), waiting_on(fails), late];
        let tasks = tasks.into_iter().map(|task| task.retry(reveille::Retry::NEVER)).collect();
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        for (id, state) in ids.into_iter().zip(["succeeded", "failed", "failed"]) {
            stage.until_state(id, state).await;
        }
        for played in [fired, failed, struck] {
            // One whose deadline came before anybody held it has nothing to let go of.
            let held = usize::from(played.times(Seen::Check) > 0);
            played.until(Seen::CleanUp, held).await;
            assert_eq!((played.times(Seen::CleanUp), played.times(Seen::OnCancel)), (held, 0));
        }
        assert_eq!(stage.count("select count(*) from reveille_undo").await, 0);
    }
);

/// Whether a spec can be read is known only when it is.
#[derive(Debug, Serialize, Deserialize)]
struct Opaque {}

#[typetag::serde(name = "opaque")]
#[async_trait]
impl Trigger for Opaque {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(ms(20))
    }
}

both!(
    async fn what_cannot_be_read_is_never_given_up_as_not_to_be_undone(stage: Stage) {
        let task = stage.store.enqueue(waiting_on(Opaque {})).await.unwrap();
        stage.store.cancel(task, "not needed").await.unwrap();
        stage
            .meddle("update reveille_undo set spec = $2, attempt = 50 where task_id = $1", task.0, b"unreadable")
            .await;
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        until("it to be looked at", async || !logged(&[&format!("what task {task} waited for")]).is_empty()).await;
        until("it to be put off", async || {
            stage.count("select count(*) from reveille_undo where holder is null").await == 1
        })
        .await;
        assert_eq!(stage.count("select count(*) from reveille_undo where dead_at is null").await, 1);
    }
);
