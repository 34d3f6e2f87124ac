//! What people ask of the store.

use std::time::Duration;

use reveille::{
    NewTask, Url, defer,
    id::{BatchId, TaskId},
    store::{
        replica::{self, Card, Role},
        report::{self, Filter},
    },
    task::End,
    wait,
};
use serde_json::json;

use crate::stage::{Fake, OtherFake, Stage, card, work};

impl Stage {
    async fn listed(&self, filter: Filter) -> Vec<TaskId> {
        let mut tx = self.store.read().await.unwrap();
        report::list(&mut tx.db(), &filter).await.unwrap().iter().map(|brief| TaskId(brief.id)).collect()
    }

    async fn problems(&self) -> Vec<String> {
        self.store.examine().await.unwrap().into_iter().map(|finding| finding.what).collect()
    }
}

fn all() -> Filter {
    Filter { limit: 100, ..Filter::default() }
}

both!(
    async fn tasks_are_listed_the_latest_first_whether_they_have_ended_or_not(stage: Stage) {
        let worker = stage.worker().await;
        let first = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
        let second = stage.store.enqueue(NewTask::named("other", json!(0)).queue("q")).await.unwrap();
        let third = stage.deferred_on(wait::Timer::after(Duration::from_mins(1))).await.task;
        let batch = BatchId::mint();
        let fourth = stage.store.enqueue(work().batch(batch)).await.unwrap();

        assert_eq!(stage.listed(all()).await, [fourth, third, second, first]);
        assert_eq!(stage.listed(Filter { limit: 2, ..all() }).await, [fourth, third]);
        assert_eq!(stage.listed(Filter { state: Some("succeeded".to_owned()), ..all() }).await, [first]);
        assert_eq!(stage.listed(Filter { state: Some("ready".to_owned()), ..all() }).await, [fourth, second]);
        assert_eq!(
            stage.listed(Filter { name: Some("work".to_owned()), state: Some("deferred".to_owned()), ..all() }).await,
            [third]
        );
        assert_eq!(stage.listed(Filter { queue: Some("q".to_owned()), ..all() }).await, [second]);
        assert_eq!(stage.listed(Filter { batch: Some(batch.0), ..all() }).await, [fourth]);
        assert!(stage.listed(Filter { name: Some("nobody".to_owned()), ..all() }).await.is_empty());

        let mut tx = stage.store.read().await.unwrap();
        let briefs = report::list(&mut tx.db(), &all()).await.unwrap();
        assert_eq!((briefs[1].waits_for.as_deref(), briefs[1].wake_at), (Some("timer"), Some(stage.now() + 60_000)));
        assert_eq!((briefs[3].state.as_str(), briefs[3].finished_at), ("succeeded", Some(stage.now())));
    }
);

both!(
    async fn a_task_shows_what_it_waits_for(stage: Stage) {
        let fence = stage.deferred(&defer(wait::Signal::new("k")).deadline(Duration::from_mins(1)).or_resume()).await;
        let wait = stage.whole(fence.task).await.wait.unwrap();
        assert_eq!((wait.kind.as_str(), wait.passive, wait.or_resume, wait.wake_at), ("signal", true, true, None));
        assert_eq!(
            (wait.since, wait.deadline_at, wait.keys),
            (stage.now(), Some(stage.now() + 60_000), vec!["signal:k".to_owned()])
        );

        let fence = stage.deferred_on(Fake::default()).await;
        let triggerer = stage.triggerer().await;
        stage.leased(triggerer, 1).await;
        let wait = stage.whole(fence.task).await.wait.unwrap();
        assert_eq!((wait.kind.as_str(), wait.passive, wait.holder), ("fake", false, Some(triggerer.0)));
    }
);

both!(
    async fn what_no_live_replica_can_take_is_found(stage: Stage) {
        stage.store.enqueue(NewTask::named("unheard", json!(0))).await.unwrap();
        stage.store.enqueue(work().when(defer(OtherFake {}))).await.unwrap();
        let problems = stage.problems().await;
        assert!(problems.iter().any(|problem| problem.contains("no worker is live")), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.contains("no triggerer is live")), "{problems:?}");

        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let problems = stage.problems().await;
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("\"unheard\"") && problems[1].contains("\"other_fake\""), "{problems:?}");

        stage.join(Role::Worker, "other,unheard").await;
        stage.join(Role::Triggerer, "other_fake").await;
        assert_eq!(stage.problems().await, Vec::<String>::new());
        for replica in [worker, triggerer] {
            stage.lose(replica).await;
        }
        assert_eq!(stage.problems().await, Vec::<String>::new());
    }
);

both!(
    async fn a_queue_that_no_live_replica_serves_is_found(stage: Stage) {
        for role in [Role::Worker, Role::Triggerer] {
            let queues = Some(vec!["there".to_owned()]);
            stage.join_with(Card { queues, ..card(role, "work,fake") }).await;
        }
        stage
            .store
            .enqueue_all(vec![work().queue("there"), work().queue("there").when(defer(Fake::default()))])
            .await
            .unwrap();
        assert_eq!(stage.problems().await, Vec::<String>::new());
        stage
            .store
            .enqueue_all(vec![work().queue("here"), work().queue("here").when(defer(Fake::default()))])
            .await
            .unwrap();
        let problems = stage.problems().await;
        assert_eq!(problems.iter().filter(|problem| problem.contains("\"here\"")).count(), 2, "{problems:?}");
    }
);

both!(
    async fn what_a_gone_triggerer_left_and_nobody_can_take_is_found(stage: Stage) {
        stage.join(Role::Worker, "work").await;
        stage.deferred_on(Fake::default()).await;
        let gone = stage.triggerer().await;
        stage.leased(gone, 1).await;
        stage.lose(gone).await;
        stage.join(Role::Triggerer, "other_fake").await;
        let problems = stage.problems().await;
        assert!(problems.iter().any(|problem| problem.contains("\"fake\"")), "{problems:?}");
    }
);

both!(
    async fn a_paused_queue_and_a_dead_letter_are_found(stage: Stage) {
        let worker = stage.worker().await;
        stage.triggerer().await;
        stage.enqueue().await;
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::failed("no")).await);
        stage.store.set_paused("default", Some(stage.now())).await.unwrap();
        let problems = stage.problems().await;
        assert_eq!(problems, ["1 task(s) failed for good"]);
        stage.enqueue().await;
        let problems = stage.problems().await;
        assert!(problems.iter().any(|problem| problem.contains("\"default\" is paused")), "{problems:?}");
    }
);

both!(
    async fn a_census_counts_what_is_where(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let batch = BatchId::mint();
        for _ in 0..2 {
            stage.deferred_on(Fake::default()).await;
        }
        stage.leased(triggerer, 1).await;
        stage.store.enqueue_all(vec![work(), work(), work().batch(batch)]).await.unwrap();
        assert_eq!(stage.claims(worker, 1).await.len(), 1);
        let census = stage.store.census(None).await.unwrap();
        assert_eq!((census.ready, census.running, census.deferred, census.held), (2, 1, 2, 1));
        let census = stage.store.census(Some(batch)).await.unwrap();
        assert_eq!((census.ready + census.running, census.deferred), (1, 0));
    }
);

both!(
    async fn a_wait_for_the_end_of_a_task_that_is_not_there_is_found(stage: Stage) {
        stage.join(Role::Worker, "work").await;
        stage.triggerer().await;
        let there = stage.deferred_on(wait::Signal::new("never")).await.task;
        stage.deferred_on(wait::TaskEnd::of(there.0)).await;
        assert_eq!(stage.problems().await, Vec::<String>::new());
        stage.deferred_on(wait::TaskEnd::of(TaskId::mint().0)).await;
        let problems = stage.problems().await;
        assert!(problems.len() == 1 && problems[0].starts_with("1 task(s) wait for the end of a task"), "{problems:?}");
    }
);

both!(
    async fn triggers_that_are_overdue_while_every_triggerer_is_full_are_found(stage: Stage) {
        stage.join(Role::Worker, "work").await;
        let triggerer = stage.join_with(Card { capacity: 1, ..card(Role::Triggerer, "fake") }).await;
        for _ in 0..2 {
            stage.deferred_on(Fake::default()).await;
        }
        assert_eq!(stage.leased(triggerer, 1).await.len(), 1);
        commit!(stage.store, db => replica::renew(db, triggerer, 1, stage.now()));
        assert_eq!(stage.problems().await, Vec::<String>::new(), "it has been due for a moment only");
        stage.turn(Duration::from_secs(10));
        let problems = stage.problems().await;
        assert!(problems.len() == 1 && problems[0].contains("every triggerer is full"), "{problems:?}");
    }
);

both!(
    async fn what_is_to_be_undone_and_nobody_can_is_found(stage: Stage) {
        stage.join(Role::Worker, "work").await;
        let triggerer = stage.triggerer().await;
        let fence = stage.deferred_on(Fake::default()).await;
        stage.leased(triggerer, 1).await;
        stage.store.cancel(fence.task, "no more").await.unwrap();
        assert_eq!(stage.problems().await, Vec::<String>::new());
        stage.lose(triggerer).await;
        stage.join(Role::Triggerer, "other_fake").await;
        let problems = stage.problems().await;
        assert!(problems.len() == 1 && problems[0].contains("yet to be undone"), "{problems:?}");
    }
);

on_postgres!(
    async fn commits_that_a_crash_can_lose_are_told_of_and_no_problem(stage: Stage) {
        let told = async || {
            let findings = stage.another().await.examine().await.unwrap();
            findings.into_iter().filter(|finding| finding.what.contains("synchronous_commit")).collect::<Vec<_>>()
        };
        assert_eq!(told().await, []);
        let Url::Postgres(url) = stage.store.url() else { unreachable!() };
        let name = url.rsplit('/').next().unwrap();
        stage.meddle(format!("alter database {name} set synchronous_commit = off")).await;
        let told = told().await;
        assert_eq!(told.len(), 1);
        assert!(!told[0].is_problem && told[0].advice.contains("a second outcome"), "{told:?}");
    }
);
