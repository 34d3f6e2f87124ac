//! A database that falls silent: nobody waits for it for ever.

use futures::future::{BoxFuture, FutureExt, join_all};
use reveille::{
    Error, NewTask, Options, Result, Store, defer, done,
    store::{TIME_OUT, signal::Signal as Sent},
    vault::Vault,
    wait::Signal,
};

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
        let calls: Vec<(&str, BoxFuture<'_, Result<()>>)> = vec![
            ("connect", Store::connect(new).map(|done| done.map(drop)).boxed()),
            ("enqueue", store.enqueue(task()).map(|done| done.map(drop)).boxed()),
            ("signal", store.signal(Sent::new("go", 1)).map(|done| done.map(drop)).boxed()),
            ("cancel", store.cancel(id, "no").map(|done| done.map(drop)).boxed()),
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
