//! A database that falls silent: nobody waits for it for ever.

use futures::future::{BoxFuture, FutureExt, join_all};
use reveille::{Error, NewTask, Options, Result, Store, defer, done, store::TIME_OUT, vault::Vault, wait::Signal};

use tokio_util::sync::CancellationToken;

use crate::stage::{Plain, Script, Stage, ms};

fn task() -> NewTask {
    NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap()
}

on_postgres!(
    async fn every_call_of_a_client_is_given_up_in_time(stage: Stage) {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        let id = store.enqueue(task().when(defer(Signal::new("go")))).await.unwrap();
        // As many connections as calls, so that none of these waits for one.
        let open = join_all((0..6).map(|_| store.begin())).await;
        for tx in open {
            tx.unwrap().commit().await.unwrap();
        }
        proxy.fall_silent();
        let new = Options::new(proxy.url(), Vault::ephemeral());
        // Each finds an open connection: there are six.
        let calls: Vec<(&str, BoxFuture<'_, Result<()>>)> = vec![
            ("connect", Store::connect(new).map(|done| done.map(drop)).boxed()),
            ("cancel", store.cancel(id, "no").map(|done| done.map(drop)).boxed()),
            ("pause", store.set_paused("default", Some(1)).map(|done| done.map(drop)).boxed()),
            ("show", store.show(id).map(|done| done.map(drop)).boxed()),
            ("census", store.census(None).map(|done| done.map(drop)).boxed()),
            ("examine", store.examine().map(|done| done.map(drop)).boxed()),
        ];
        let calls = calls
            .into_iter()
            .map(async |(what, call)| (what, tokio::time::timeout(2 * TIME_OUT + ms(500), call).await));
        let outcomes = join_all(calls).await;
        let waited: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(what, _)| *what).collect();
        assert_eq!(waited, Vec::<&str>::new(), "these wait for ever");
        for (what, outcome) in outcomes {
            assert!(matches!(outcome, Ok(Err(Error::Outage { .. }))), "{what}: {outcome:?}");
        }
    }
);

on_postgres!(
    async fn who_passes_hints_on_ends_when_told_to(stage: Stage) {
        let proxy = stage.proxy().await;
        let store = stage.through(&proxy).await;
        let stop = CancellationToken::new();
        let relay = tokio::spawn({
            let (store, stop) = (store.clone(), stop.clone());
            async move { store.relay(stop).await }
        });
        store.begin().await.unwrap().commit().await.unwrap();
        stage.pass(ms(300)).await;
        proxy.fall_silent();
        store.enqueued();
        // It is on its way to tell the others.
        stage.pass(ms(300)).await;
        stop.cancel();
        assert!(tokio::time::timeout(2 * TIME_OUT, relay).await.is_ok(), "its process never ends");
    }
);
