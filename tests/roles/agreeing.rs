//! What the database says and what runs agree, sooner or later.

use reveille::{NewTask, defer, done, trigger::Answer};

use crate::stage::{Plain, Script, Scripted, Seen, Stage, logged, ms, patient, quick, times, until};

fn waiting_on(trigger: Scripted) -> NewTask {
    let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
    NewTask::of(&task).unwrap().when(defer(trigger))
}

both!(
    async fn a_trigger_that_is_said_to_be_mine_is_adopted(stage: Stage) {
        // On a queue that it does not lease from, so that it can have it in no other way.
        let settings =
            reveille::triggerer::Settings { queues: Some(vec!["mine".to_owned()]), ..quick::triggerer("triggerer") };
        let _triggerer = stage.triggerer(settings).await;
        let me = stage.live("triggerer").await.incarnation;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        stage.alter("update reveille_trigger set holder = $2 where task_id = $1", &[task.0, me]).await;
        played.until(Seen::Check, 2).await;
        assert_eq!(stage.whole(task).await.wait.unwrap().holder, Some(me));
    }
);

both!(
    async fn a_trigger_that_is_no_longer_mine_is_dropped_and_cleaned_up(stage: Stage) {
        let _triggerer = stage.triggerer(quick::triggerer("triggerer")).await;
        let (trigger, played) = Scripted::never();
        let task = stage.store.enqueue(waiting_on(trigger)).await.unwrap();
        played.until(Seen::Check, 1).await;
        stage.alter("delete from reveille_trigger where task_id = $1", &[task.0]).await;
        played.until(Seen::CleanUp, 1).await;
        assert_eq!(played.times(Seen::OnCancel), 0, "losing a lease is not a cancellation");
        let checks = played.times(Seen::Check);
        let other = Scripted::never();
        stage.store.enqueue(waiting_on(other.0)).await.unwrap();
        other.1.until(Seen::Check, 10).await;
        assert!(played.times(Seen::Check) <= checks + 1, "it is still checked");
    }
);

both!(
    async fn a_check_that_lasts_ends_with_its_holding(stage: Stage) {
        struct Dropped(tokio::sync::watch::Sender<bool>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.send_replace(true);
            }
        }
        let _triggerer =
            stage.triggerer(reveille::triggerer::Settings { checks: 1, ..quick::triggerer("triggerer") }).await;
        let (dropped, mut is_dropped) = tokio::sync::watch::channel(false);
        let (trigger, played) = Scripted::of(move |_| {
            let guard = Dropped(dropped.clone());
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok(Answer::NotYet)
            }
        });
        let task = stage.store.enqueue(waiting_on(trigger.time_out(None))).await.unwrap();
        played.until(Seen::Check, 1).await;
        stage.alter("delete from reveille_trigger where task_id = $1", &[task.0]).await;
        tokio::time::timeout(ms(15_000), is_dropped.wait_for(|dropped| *dropped))
            .await
            .expect("it goes on for ever")
            .unwrap();
        // And what it took is free for others.
        let (other, other_played) = Scripted::never();
        stage.store.enqueue(waiting_on(other)).await.unwrap();
        other_played.until(Seen::Check, 1).await;
    }
);

both!(
    async fn a_task_that_is_said_to_be_mine_and_does_not_run_is_put_back(stage: Stage) {
        let _worker = stage
            .worker(reveille::worker::Settings { names: Some(vec!["script".to_owned()]), ..quick::worker("worker") })
            .await;
        let me = stage.live("worker").await.incarnation;
        let task = stage.enqueue(&crate::strangers::Order::Ship).await;
        stage
            .alter(
                "update reveille_task set state = 'running', generation = 1, holder = $2 where id = $1",
                &[task.0, me],
            )
            .await;
        let whole = stage.until_state(task, "ready").await;
        assert_eq!((times(&whole, "released"), whole.crashes), (1, 0));
    }
);

both!(
    async fn a_step_that_is_no_longer_mine_is_dropped(stage: Stage) {
        let _worker = stage.worker(patient::worker()).await;
        let (told, mut was_told) = tokio::sync::watch::channel(false);
        let told = std::sync::Arc::new(told);
        let task = Script::<Plain>::of(move |_, cx| {
            let told = std::sync::Arc::clone(&told);
            async move {
                struct Told(std::sync::Arc<tokio::sync::watch::Sender<bool>>, reveille::TaskContext);
                impl Drop for Told {
                    fn drop(&mut self) {
                        self.0.send_replace(self.1.is_cancelled());
                    }
                }
                let _told = Told(told, cx);
                std::future::pending().await
            }
        });
        let task = stage.enqueue(&task).await;
        stage.until_state(task, "running").await;
        stage.alter("update reveille_task set state = 'ready', holder = null, generation = generation + 1, name = 'nobody' where id = $1", &[task.0]).await;
        was_told.wait_for(|told| *told).await.unwrap();
        until("it to say so", async || !logged(&["dropped 1 step(s) that are no longer mine"]).is_empty()).await;
    }
);
