//! What a replica does not know or cannot read stays as it is, and holds up nothing else.

use reveille::{
    NewTask, Next, Priority, Task, TaskContext, TaskError, defer, done,
    file::File,
    trigger::{Answer, Context, Error, Trigger, async_trait, typetag},
    vault::Purpose,
    wait::Timer,
    worker::{Settings, Tasks},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::stage::{Plain, Script, Scripted, Seen, Stage, logged, ms, patient, result, until, whys};

/// A task whose author has taken a step away since.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    Ship,
}

impl Task for Order {
    const NAME: &'static str = "strangers.order";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        Ok(done())
    }
}

/// Waits until a worker has been through a task that came later.
async fn is_passed_over(stage: &Stage) {
    let other = stage.enqueue(&Script::<Plain>::of(|_, _| async { Ok(done()) })).await;
    stage.succeeded(other).await;
}

both!(
    async fn a_task_that_no_worker_knows_waits_untouched(stage: Stage) {
        let task = stage.store.enqueue(NewTask::named("nobody", json!({ "anything": 1 }))).await.unwrap();
        let before = stage.whole(task).await;
        let _worker = stage.worker(patient::worker()).await;
        is_passed_over(&stage).await;
        let after = stage.whole(task).await;
        assert_eq!((after.brief, after.generation, after.history), (before.brief, before.generation, before.history));
    }
);

both!(
    async fn a_worker_told_to_run_some_names_leaves_the_others(stage: Stage) {
        let task = stage.store.enqueue(NewTask::of(&Order::Ship).unwrap()).await.unwrap();
        let _worker = stage.worker(Settings { names: Some(vec!["script".to_owned()]), ..patient::worker() }).await;
        is_passed_over(&stage).await;
        assert_eq!(whys(&stage.whole(task).await), ["enqueued"]);
        assert_eq!(Tasks::new().with::<Order>().names().collect::<Vec<_>>(), ["strangers.order"]);
    }
);

both!(
    async fn a_step_that_no_longer_decodes_is_left_alone_and_reported(stage: Stage) {
        let task =
            stage.store.enqueue(NewTask::named("strangers.order", json!({ "Sail": { "to": "Rome" } }))).await.unwrap();
        let _worker = stage.worker(Settings { concurrency: 1, ..patient::worker() }).await;
        until("the report", async || {
            !logged(&["ERROR", &format!("left task {task} alone"), "unknown variant"]).is_empty()
        })
        .await;
        // The one slot is free again.
        is_passed_over(&stage).await;
        let whole = stage.until_state(task, "ready").await;
        assert_eq!((whole.brief.attempt, whole.crashes), (1, 0));
        assert_eq!(whole.step, Some(json!({ "Sail": { "to": "Rome" } })));
        assert_eq!(whys(&whole), ["enqueued", "claimed", "released"], "it was tried once, and not again and again");
    }
);

both!(
    async fn a_spec_that_does_not_decode_is_set_aside_and_holds_up_no_other(stage: Stage) {
        // A binary that knows more has stored it: what is in the row is sealed by a key that fits, and is not what we know.
        let (trigger, played) = Scripted::never();
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let strange = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        let spec =
            stage.store.seal(Purpose::Spec, "spec", &json!({ "scripted": { "id": null, "colour": "red" } })).unwrap();
        let rows = stage.meddle("update reveille_trigger set spec = $2 where task_id = $1", strange.0, &spec).await;
        assert_eq!(rows, 1);
        let before = stage.whole(strange).await.wait.unwrap();

        let settings = reveille::triggerer::Settings { capacity: 1, ..patient::triggerer() };
        let _triggerer = stage.triggerer(settings).await;
        let (trigger, _) = Scripted::of(|_| async { Ok(Answer::Fire(reveille::trigger::Event::succeed(1)?)) });
        let fine = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        stage.succeeded(fine).await;
        let said = logged(&[&format!("set the trigger of task {strange} aside for others")]);
        assert_eq!(said.len(), 1, "{said:?}");
        let after = stage.whole(strange).await;
        assert_eq!(after.brief.state, "deferred");
        let wait = after.wait.unwrap();
        assert_eq!((wait.wake_at, wait.since, wait.holder, wait.deaths), (before.wake_at, before.since, None, 0));
        assert_eq!(played.seen(), []);
    }
);

both!(
    async fn however_many_cannot_be_read_they_starve_no_other_kind(stage: Stage) {
        let task = || NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let strange = |_| task().priority(Priority::Urgent).when(defer(Scripted::never().0));
        for _ in 0..3 {
            stage.store.enqueue_all((0..400).map(strange).collect()).await.unwrap();
        }
        stage.meddle("update reveille_trigger set spec = $2 where task_id <> $1", Uuid::nil(), b"not sealed").await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here"), "").unwrap();
        let file = File::at(folder.path().join("here").to_str().unwrap()).settle(ms(0));
        let fine = stage.store.enqueue(task().when(defer(file))).await.unwrap();
        let _triggerer = stage.triggerer(reveille::triggerer::Settings { capacity: 100, ..patient::triggerer() }).await;
        let _worker = stage.worker(patient::worker()).await;
        stage.succeeded(fine).await;
        let untouched = "select count(*) from reveille_trigger where deaths = 0 and holder is null";
        until("all to be given back", async || stage.count(untouched).await == 1_200).await;
    }
);

both!(
    async fn a_spec_that_no_key_opens_is_set_aside(stage: Stage) {
        let (trigger, played) = Scripted::never();
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let strange = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        stage
            .meddle("update reveille_trigger set spec = $2 where task_id = $1", strange.0, b"not sealed by anybody")
            .await;
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        until("the report", async || !logged(&[&format!("set the trigger of task {strange} aside")]).is_empty()).await;
        until("it to be given back", async || stage.held().await == 0).await;
        assert_eq!(played.seen(), []);
    }
);

/// A kind that another binary has, and this one turns out not to.
#[derive(Debug, Serialize, Deserialize)]
struct Known {}

#[typetag::serde(name = "known_here")]
#[async_trait]
impl Trigger for Known {
    async fn check(&self, _: &Context) -> Result<Answer, Error> {
        Ok(Answer::NotYet)
    }
}

both!(
    async fn an_unknown_kind_is_never_leased(stage: Stage) {
        let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
        let strange = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(Known {}))).await.unwrap();
        for text in [
            "update reveille_trigger set kind = 'known_here+elsewhere' where task_id = $1",
            "insert into reveille_kind_set (kinds) select 'known_here+elsewhere' from reveille_task where id = $1",
        ] {
            assert_eq!(stage.alter(text, &[strange.0]).await, 1);
        }
        let _triggerer = stage.triggerer(patient::triggerer()).await;
        let (trigger, played) = Scripted::of(|_| async { Ok(Answer::Fire(reveille::trigger::Event::succeed(1)?)) });
        let fine = stage.store.enqueue(NewTask::of(&task).unwrap().when(defer(trigger))).await.unwrap();
        stage.succeeded(fine).await;
        let whole = stage.whole(strange).await;
        assert_eq!((whole.brief.state.as_str(), whole.wait.unwrap().holder), ("deferred", None));
        assert_eq!(logged(&[&strange.to_string()]), Vec::<String>::new(), "nobody has touched it");
        assert_eq!(played.times(Seen::Check), 1);
    }
);

both!(
    async fn an_unreadable_end_of_a_task_holds_up_no_other_wait(stage: Stage) {
        // Two tasks that wait for the ends of two others; the end that comes first in order cannot be read.
        let mut others: Vec<_> = (0..2).map(|_| reveille::id::TaskId::mint()).collect();
        others.sort();
        let mut waiting = Vec::new();
        for other in &others {
            let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
            let task = NewTask::of(&task).unwrap().when(defer(reveille::wait::TaskEnd::of(other.0)));
            waiting.push(stage.store.enqueue(task).await.unwrap());
        }
        let ended = others.iter().map(|id| NewTask::named("elsewhere", json!(1)).id(*id)).collect();
        stage.store.enqueue_all(ended).await.unwrap();
        for other in &others {
            let fence = reveille::id::Fence { task: *other, generation: 0 };
            let end = reveille::task::End::succeeded(json!(1));
            let why = reveille::store::history::Why::Finished;
            let ending = stage.store.ending(fence, reveille::task::TaskState::Ready, &end, why).unwrap();
            commit!(stage.store, db => reveille::store::task::end(db, stage.clock().now_ms(), &[ending]));
        }
        stage.meddle("update reveille_finished set result = $2 where id = $1", others[0].0, b"unreadable").await;
        let _worker = stage.worker(patient::worker()).await;
        stage.succeeded(waiting[1]).await;
        assert_eq!(stage.state_of(waiting[0]).await, "deferred");
        // And what the same sweep does for others goes on too.
        let late = Script::<Plain>::of(|step, _| async { Ok(defer(Timer::after(ms(1))).then(step.next())) });
        assert_eq!(result(&stage.until_state(stage.enqueue(&late).await, "deferred").await), json!(null));
    }
);
