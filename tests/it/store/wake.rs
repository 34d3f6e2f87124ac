//! Wake-ups, within a process and between processes.

use reveille::{Options, Store, clock::Clock, store::wake::Topic};
use tokio_util::sync::CancellationToken;

use crate::stage::Stage;

both!(
    async fn a_hint_wakes_who_was_armed_before_it_and_on_its_topic_alone(stage: Stage) {
        let wake = stage.store.wake();
        let (armed, other) = (wake.on(Topic::Ready), wake.on(Topic::Waiting));
        wake.hint(Topic::Ready);
        let late = wake.on(Topic::Ready);
        armed.await;
        assert!(futures::future::poll_immediate(other).await.is_none());
        assert!(futures::future::poll_immediate(late).await.is_none());
    }
);

on_postgres!(
    async fn a_hint_reaches_the_other_processes_and_does_not_come_back(stage: Stage) {
        let options = || Options { clock: Clock::system(), ..stage.options() };
        let (here, there) = (Store::connect(options()).await.unwrap(), Store::connect(options()).await.unwrap());
        let stop = CancellationToken::new();
        let listening = [here.wake().on(Topic::Cancelled), there.wake().on(Topic::Cancelled)];
        let relays = [&here, &there].map(|store| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move { store.relay(stop).await })
        });
        // Whoever begins to listen looks at everything once, and at this last.
        futures::future::join_all(listening).await;

        let (told, silent) = (there.wake().on(Topic::Passive), there.wake().on(Topic::Waiting));
        here.wake().hint(Topic::Passive);
        told.await;
        assert!(futures::future::poll_immediate(silent).await.is_none());

        // What the other answers comes after anything that came back.
        let (mut back, answer) = (Box::pin(here.wake().on(Topic::Passive)), here.wake().on(Topic::Cancelled));
        there.wake().hint(Topic::Cancelled);
        answer.await;
        assert!(futures::future::poll_immediate(&mut back).await.is_none());

        // A process that does not stay tells by itself.
        let told = there.wake().on(Topic::Ready);
        let passing = Store::connect(options()).await.unwrap();
        passing.enqueued();
        passing.tell().await.unwrap();
        told.await;
        stop.cancel();
        futures::future::join_all(relays).await;
        for store in [here, there, passing] {
            store.close().await;
        }
    }
);
