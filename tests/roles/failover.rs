//! A standby that takes the primary's place while roles run.

use reveille::{
    NewTask, Url, defer, done,
    trigger::{Answer, Event},
    triggerer,
    wait::Timer,
    worker,
};

use crate::stage::{Gate, Plain, Role, Script, Scripted, Stage, logged, ms, patient, quick, times, until};

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

on_postgres!(
    async fn a_first_host_that_is_off_keeps_nobody_from_renewing(stage: Stage) {
        // It takes connections, and says nothing.
        let off = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let (user, rest) = url.split_once('@').unwrap();
        let url = format!("{user}@{},{rest}", off.local_addr().unwrap());
        let store = stage.another_by(Url::Postgres(url)).await;
        let _triggerer = Role::triggerer(&store, quick::triggerer("quick"));
        stage.live("quick").await;
        until("it to have renewed", async || stage.live("quick").await.beat >= 5).await;
    }
);
