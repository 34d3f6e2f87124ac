//! The database's clock decides when, and in what order.

use std::{path::PathBuf, time::Duration};

use reveille::{
    defer,
    id::TaskId,
    store::{history::Why, signal::Signal, task, trigger},
    task::End,
    trigger::Event,
    wait,
};
use serde_json::json;
use uuid::Uuid;

use crate::stage::{Fake, Stage, work};

const SECOND: Duration = Duration::from_secs(1);

/// Ids of which the first is the greatest, as those of a host whose clock goes backwards are.
fn descending() -> impl Iterator<Item = Uuid> {
    let mut ids: Vec<Uuid> = (0..5).map(|_| TaskId::mint().0).collect();
    ids.sort();
    ids.into_iter().rev()
}

both!(
    async fn what_was_ready_first_is_claimed_first_whatever_its_id(stage: Stage) {
        let worker = stage.worker().await;
        let ids: Vec<_> = descending().map(TaskId).collect();
        for id in &ids {
            stage.store.enqueue(work().id(*id)).await.unwrap();
            stage.turn(SECOND);
        }
        let mut claimed = stage.claimed(worker, 2).await;
        for _ in 2..5 {
            claimed.extend(stage.claimed(worker, 1).await);
        }
        assert_eq!(claimed, ids);
    }
);

both!(
    async fn ids_break_ties(stage: Stage) {
        let worker = stage.worker().await;
        let mut ids: Vec<_> = descending().map(TaskId).collect();
        for id in &ids {
            stage.store.enqueue(work().id(*id)).await.unwrap();
        }
        ids.sort();
        assert_eq!(stage.claimed(worker, 5).await, ids);
    }
);

both!(
    async fn what_is_due_longest_is_leased_first_whatever_its_id(stage: Stage) {
        let triggerer = stage.triggerer().await;
        let ids: Vec<_> = descending().map(TaskId).collect();
        for id in &ids {
            stage.store.enqueue(work().id(*id).when(defer(Fake::default()))).await.unwrap();
            stage.turn(SECOND);
        }
        let mut leased = Vec::new();
        for _ in &ids {
            leased.extend(stage.leased(triggerer, 1).await);
        }
        assert_eq!(leased, ids);
    }
);

both!(
    async fn the_signal_that_was_sent_first_is_taken_first_whatever_its_id(stage: Stage) {
        for (at, id) in descending().enumerate() {
            stage.store.signal(Signal { id, ..Signal::new("k", at) }).await.unwrap();
            stage.turn(SECOND);
        }
        for at in 0..5 {
            let task = stage.store.enqueue(work().when(defer(wait::Signal::new("k")))).await.unwrap();
            assert_eq!(stage.payload_of(task).await, json!(at));
        }
    }
);

both!(
    async fn nothing_is_due_a_moment_before_its_time(stage: Stage) {
        let (worker, live) = (stage.worker().await, stage.triggerer().await);
        let timer = stage.store.enqueue(work().after(SECOND)).await.unwrap();
        let deadline = stage.deferred(&defer(wait::Signal::new("never")).deadline(SECOND).or_resume()).await;
        let expires = stage.clock.now() + SECOND;
        let expiring = stage.store.enqueue(work().queue("later").expires(expires)).await.unwrap();
        let dormant = stage.deferred_on(Fake::default()).await;
        assert_eq!(stage.leased(live, 10).await, [dormant.task]);
        let wakes = stage.now() + 1_000;
        commit!(stage.store, db => trigger::release(db, live, &[trigger::Release { fence: dormant, wake_at: wakes, known: 0 }]));
        let due = async || {
            let overdue = commit!(stage.store, db => trigger::overdue(db, stage.now(), 0, 10));
            let expired = commit!(stage.store, db => stage.store.expire(db, worker, 10)).1;
            let expired: Vec<_> = expired.into_iter().map(|over| over.task).collect();
            (stage.fire_due(worker).await, overdue, expired, stage.leased(live, 10).await)
        };
        assert_eq!(due().await, (0, vec![], vec![], vec![]));
        stage.turn(SECOND - Duration::from_millis(1));
        assert_eq!(due().await, (0, vec![], vec![], vec![]));
        stage.turn(Duration::from_millis(1));
        assert_eq!(due().await, (1, vec![deadline], vec![expiring], vec![dormant.task]));
        assert_eq!(stage.state_of(timer).await, "ready");
    }
);

// Every verb, on a database whose own clock says something else by years: what is stored is our time.
both!(
    async fn every_time_that_is_stored_is_that_of_the_clock(stage: Stage) {
        let (worker, triggerer) = (stage.worker().await, stage.triggerer().await);
        let task = stage.enqueue().await;
        let claim = stage.claim(worker).await;
        stage.turn(SECOND);
        let fence = stage.defer(worker, &claim, &defer(Fake::default())).await;
        stage.turn(SECOND);
        stage.fire(triggerer, fence, Event::resume(1).unwrap()).await;
        let claim = stage.claim(worker).await;
        stage.turn(SECOND);
        let snooze = stage.again(&claim, 1, Why::Snooze, stage.now() + 1_000);
        assert!(commit!(stage.store, db => task::defer(db, worker, stage.now(), &[snooze])).contains(&task));
        stage.turn(SECOND);
        assert_eq!(stage.fire_due(worker).await, 1);
        let claim = stage.claim(worker).await;
        assert!(stage.finish(worker, &claim, &End::succeeded(json!(1))).await);
        let start = crate::stage::START;
        let whole = stage.whole(task).await;
        assert_eq!((whole.brief.enqueued_at, whole.brief.finished_at), (start, Some(start + 4_000)));
        let told: Vec<_> = whole.history.iter().map(|told| ((told.at - start) / 1_000, told.why.as_str())).collect();
        let expected = [
            (0, "enqueued"),
            (0, "claimed"),
            (1, "deferred"),
            (2, "event"),
            (2, "claimed"),
            (3, "snooze"),
            (4, "due"),
            (4, "claimed"),
            (4, "finished"),
        ];
        assert_eq!(told, expected);
    }
);

/// Times are bound, so that tests turn the clock: only one statement asks the database for its own.
#[test]
fn no_statement_asks_the_database_for_its_time_but_one() {
    let words = [
        "now()",
        "clock_timestamp",
        "current_timestamp",
        "current_time",
        "localtime",
        "unixepoch",
        "julianday",
        "'now'",
    ];
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let (mut folders, mut found) = (vec![source], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for line in std::fs::read_to_string(&path).unwrap().lines().map(str::to_lowercase) {
                if !line.trim_start().starts_with("//") && words.iter().any(|word| asks(&line, word)) {
                    found.push((path.file_name().unwrap().to_string_lossy().into_owned(), line.trim().to_owned()));
                }
            }
        }
    }
    found.sort();
    let files: Vec<_> = found.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(files, ["replica.rs", "replica.rs"], "one text for each database: {found:#?}");
}

/// Whether a line has this word, and not as the name of a function of ours.
fn asks(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(['.', '_', ':']))
}
