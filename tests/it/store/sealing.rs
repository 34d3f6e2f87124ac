//! What lies in the database, and who can read it.

use reveille::{
    Error, NewTask, Options, Retry, Store, Url, defer,
    id::Fence,
    store::{Verdict, signal::Signal},
    task::{End, WaitFailed, WaitFailure},
    trigger::Event,
    vault::{Vault, VaultError},
    wait,
};
use serde_json::json;

use crate::stage::{Fake, Stage, work};

const SECRET: &str = "tr0ub4dor-and-3";

/// Everything that is stored, as it is stored.
async fn stored(stage: &Stage) -> Vec<u8> {
    let mut all = Vec::new();
    match stage.store.url() {
        Url::Sqlite(path) => {
            for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
                all.extend(std::fs::read(file.unwrap().path()).unwrap());
            }
        }
        Url::Postgres(_) => {
            let mut tx = stage.store.read().await.unwrap();
            let reveille::store::Db::Postgres(c) = tx.db() else { unreachable!() };
            let tables: Vec<String> = sqlx::query_scalar(
                "select relname::text from pg_class where relname like 'reveille%' and relkind = 'r'",
            )
            .fetch_all(&mut *c)
            .await
            .unwrap();
            assert!(tables.len() > 70);
            for table in tables {
                // As text, bytes are hexadecimal.
                let rows: Vec<String> =
                    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from {table} t")))
                        .fetch_all(&mut *c)
                        .await
                        .unwrap();
                all.extend(rows.join("\n").into_bytes());
            }
        }
    }
    all
}

fn lies_in(all: &[u8], text: &str) -> bool {
    let digits = text.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    [text, &hex].iter().any(|needle| all.windows(needle.len()).any(|window| window == needle.as_bytes()))
}

both!(
    async fn steps_specs_events_and_results_are_sealed(stage: Stage) {
        let secret = || json!({ "password": SECRET });
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let task = stage.store.enqueue(NewTask::named("work", secret()).queue("in-clear")).await.unwrap();
        let claim = stage.claim(worker).await;
        let fence = stage.defer(worker, &claim, &defer(Fake { marker: SECRET.to_owned() })).await;
        stage.fire(triggerer, fence, Event::resume(secret()).unwrap()).await;
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(secret())).await);

        let failed = stage.store.enqueue(NewTask::named("work", secret())).await.unwrap();
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::failed(SECRET)).await);
        stage.deferred_on(Fake { marker: SECRET.to_owned() }).await;
        let undone = stage.deferred_on(Fake { marker: SECRET.to_owned() }).await;
        stage.store.cancel(undone.task, SECRET).await.unwrap();
        stage.store.signal(Signal::new("in-clear", secret())).await.unwrap();
        stage.deferred_on(wait::TaskEnd::of(task.0)).await;
        stage.store.match_keys(&[format!("task:{task}")], None).await.unwrap();

        let all = stored(&stage).await;
        assert!(lies_in(&all, "in-clear"), "this would find nothing at all");
        assert!(!lies_in(&all, SECRET));
        assert_eq!(stage.whole(task).await.end, Some(End::succeeded(secret())));
        assert_eq!(stage.whole(failed).await.step, Some(secret()));
    }
);

both!(
    async fn a_key_that_this_database_was_not_first_used_with_is_refused(stage: Stage) {
        let refused = Store::connect(Options { vault: Vault::ephemeral(), ..stage.options() }).await.unwrap_err();
        assert!(matches!(refused, Error::Vault(VaultError::UnknownKey { .. })), "{refused:?}");
        assert!(stage.another().await.show(stage.enqueue().await).await.unwrap().is_some());
    }
);

both!(
    async fn of_two_keys_that_come_first_at_once_one_is_refused(stage: Stage) {
        stage.meddle("delete from reveille_setting").await;
        let vaults = [Vault::ephemeral(), Vault::ephemeral()];
        let stores = vaults.map(|vault| Store::connect(Options { vault, ..stage.options() }));
        let outcomes = futures::future::join_all(stores).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    }
);

both!(
    async fn what_is_over_the_payload_limit_is_refused_by_name_and_size(stage: Stage) {
        let store = Store::connect(Options { payload_limit: 100, ..stage.options() }).await.unwrap();
        let large = "x".repeat(100);
        let refused = store.enqueue(NewTask::named("work", json!(large))).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { what: "step", limit: 100, size: 102.. }), "{refused:?}");
        let refused = store.enqueue(work().when(defer(Fake { marker: large.clone() }))).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { what: "spec", .. }), "{refused:?}");
        let refused = store.signal(Signal::new("k", &large)).await.unwrap_err();
        assert!(matches!(refused, Error::TooLarge { what: "payload", .. }), "{refused:?}");
        let worker = stage.worker().await;
        stage.enqueue().await;
        let claim = stage.claim(worker).await;
        let state = reveille::task::TaskState::Running;
        let refused = store
            .ending(claim.fence, state, &End::succeeded(json!(large)), reveille::store::history::Why::Failed)
            .unwrap_err();
        assert!(matches!(refused, Error::TooLarge { what: "result", .. }), "{refused:?}");
        assert_eq!(stage.ids("select id from reveille_task").await, [claim.fence.task.0]);
    }
);

both!(
    async fn a_bad_end_is_stored_however_small_the_limit_is(stage: Stage) {
        let store = Store::connect(Options { payload_limit: 60, ..stage.options() }).await.unwrap();
        let reason = WaitFailed { reason: WaitFailure::Fatal, message: "é".repeat(100_000) };
        let step = || NewTask::named("work", json!(0));
        for (task, state) in [
            (step().when(defer(Fake::default())), "deferred"),
            (step().when(defer(Fake::default())).retry(Retry::NEVER), "failed"),
            (step().when(defer(Fake::default()).or_resume()), "ready"),
        ] {
            let task = store.enqueue(task).await.unwrap();
            let fence = Fence { task, generation: 0 };
            let verdict = Verdict { fence, failed: reason.clone(), holder: None, event: None };
            assert_eq!(commit!(store, db => store.fail_waits(db, None, vec![verdict])).accepted, [task]);
            assert_eq!(stage.state_of(task).await, state);
        }
        let cancelled = store.enqueue(step()).await.unwrap();
        store.cancel(cancelled, &"because ".repeat(10_000)).await.unwrap();
        let end = stage.whole(cancelled).await.end.unwrap();
        assert!(end.error.is_some_and(|reason| reason.starts_with("because ") && reason.len() < 5_000));
    }
);
