//! A database that a newer release has already been at. (Two versions of a plugin are in `tests/it/cli/plugin.rs`.)

use reveille::{
    NewTask, Store, TaskError, defer, done,
    store::signal::Signal as Sent,
    wait::{Signal, Timer},
};

use crate::stage::{Plain, Role, Script, Scripted, Seen, Stage, ms, patient, until};

/// A column more in each table, as the next release would add it.
async fn expand(stage: &Stage) {
    let tables = "task trigger wait_key check signal dedupe slot undo replica queue kind_set setting finished history";
    for table in tables.split(' ') {
        stage.run(&format!("alter table reveille_{table} add column newer text not null default 'later'")).await;
    }
    stage
        .run(
            "insert into reveille_migration (version, description, success, checksum, execution_time)
             select 9999, 'expand a column more', true, checksum, 0 from reveille_migration",
        )
        .await;
}

both!(
    async fn replicas_go_on_while_and_after_a_newer_release_adds_to_the_tables(stage: Stage) {
        let before = stage.another().await;
        let _before = [Role::triggerer(&before, patient::triggerer()), Role::worker(&before, patient::worker())];
        let task = || NewTask::of(&Script::<Plain>::of(|_, _| async { Ok(done()) })).unwrap();
        let (never, played) = Scripted::never();
        let polls = stage.store.enqueue(task().when(defer(never))).await.unwrap();
        let listens = stage.store.enqueue(task().when(defer(Signal::new("go")))).await.unwrap();
        played.until(Seen::Check, 1).await;

        expand(&stage).await;
        // One that was restarted with the release that it had, and its `migrate`.
        let after = stage.another().await;
        assert_eq!(Store::migrate(after.url()).await.unwrap(), Vec::<i64>::new());
        let _after = [Role::triggerer(&after, patient::triggerer()), Role::worker(&after, patient::worker())];
        for store in [&before, &after] {
            let (fires, _) = Scripted::fires("seen");
            let fails = Script::<Plain>::of(|_, _| async { Err(TaskError::fatal("no")) });
            let again =
                store.enqueue(NewTask::of(&fails).unwrap().dedupe(uuid::Uuid::now_v7().to_string())).await.unwrap();
            stage.until_state(again, "failed").await;
            for deferral in [defer(fires), defer(Timer::after(ms(50)))] {
                stage.succeeded(store.enqueue(task().when(deferral)).await.unwrap()).await;
            }
        }
        played.until(Seen::Check, played.times(Seen::Check) + 1).await;
        after.signal(Sent::new("go", ())).await.unwrap();
        stage.succeeded(listens).await;
        before.cancel(polls, "enough").await.unwrap();
        stage.until_state(polls, "cancelled").await;
        until("it to be undone", async || stage.count("select count(*) from reveille_undo").await == 0).await;
    }
);
