//! A standby that takes the primary's place while roles run.

use reveille::{
    NewTask, defer, done,
    trigger::{Answer, Event},
    triggerer,
    wait::Timer,
    worker,
};

use crate::stage::{Gate, Plain, Script, Scripted, Stage, logged, ms, patient, times, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_goes_on_where_the_primary_ended() {
    async fn test(stage: Stage) {
        let triggerer = |label: &str| triggerer::Settings { label: label.to_owned(), ..patient::triggerer() };
        let _roles = [
            stage.triggerer(triggerer("one")).await,
            stage.triggerer(triggerer("two")).await,
            stage.worker(worker::Settings { label: "three".to_owned(), ..patient::worker() }).await,
        ];
        let mut before = Vec::new();
        for label in ["one", "two", "three"] {
            before.push(stage.live(label).await);
        }
        let task = || NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let gate = Gate::shut();
        let (triggers, _played): (Vec<_>, Vec<_>) = (0..20)
            .map(|_| {
                let gate = gate.clone();
                Scripted::of(move |_| {
                    let is_open = gate.is_open();
                    async move { Ok(if is_open { Answer::Fire(Event::resume("seen")?) } else { Answer::NotYet }) }
                })
            })
            .unzip();
        let active = triggers.into_iter().map(|trigger| task().when(defer(trigger))).collect();
        let mut tasks = stage.store.enqueue_all(active).await.unwrap();
        let passive = (0..20).map(|_| task().when(defer(Timer::after(ms(4_000))))).collect();
        tasks.extend(stage.store.enqueue_all(passive).await.unwrap());
        until("all to be held", async || stage.held().await == 20).await;

        stage.fail_over();
        // What fires meanwhile is kept until the other server takes it.
        gate.open();
        until("a client to follow", async || stage.store.census(None).await.is_ok()).await;
        for task in tasks {
            let whole = stage.succeeded(task).await;
            assert_eq!(times(&whole, "event") + times(&whole, "due"), 1);
            assert_eq!(times(&whole, "finished"), 1);
        }
        for replica in before {
            assert_eq!(stage.live(&replica.label).await.incarnation, replica.incarnation);
            assert!(logged(&[&replica.incarnation.to_string(), "declared gone"]).is_empty(), "{}", replica.label);
        }
        stage.store.enqueue(task()).await.unwrap();
    }
    crate::stage::run_with_standby(test).await;
}
