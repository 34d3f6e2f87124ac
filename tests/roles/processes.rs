//! Real processes, really killed.

use std::sync::{Arc, Mutex};

use reveille::{NewTask, defer, done, file::File};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::stage::{LEASE, Plain, Script, Stage, ms, quick, result, times, until};

/// A service that remembers the idempotency keys it was called with, and answers only from the third call on.
pub(crate) async fn service() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&calls);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = BufReader::new(socket);
            let mut key = String::new();
            socket.read_line(&mut key).await.unwrap();
            let call = {
                let mut calls = noted.lock().unwrap();
                calls.push(key.trim().to_owned());
                calls.len()
            };
            let answer: &[u8] = if call < 3 { b"accepted\n" } else { b"done\n" };
            socket.write_all(answer).await.unwrap();
        }
    });
    (address, calls)
}

both!(
    async fn a_worker_killed_between_a_call_and_its_commit_calls_again_under_the_same_key(stage: Stage) {
        let (service, calls) = service().await;
        let _watcher = stage.triggerer(quick::triggerer("watcher")).await;
        let task = stage.enqueue(&crate::stage::Caller { service }).await;
        for killed in 1..=2 {
            let worker = stage.process("worker", &format!("worker {killed}"));
            until("the call", async || calls.lock().unwrap().len() == killed).await;
            stage.until_state(task, "running").await;
            worker.kill().await;
        }
        let _worker = stage.process("worker", "the last");
        let whole = stage.succeeded(task).await;
        assert_eq!((whole.crashes, whole.brief.attempt, times(&whole, "crashed")), (2, 1, 2));
        assert_eq!(result(&whole), 1, "crashes cost no attempts");
        let calls = calls.lock().unwrap().clone();
        assert_eq!(calls, vec![format!("{task}-0"); 3], "the service saw one key");
    }
);

both!(
    async fn a_task_that_kills_every_worker_is_a_dead_letter_in_the_end(stage: Stage) {
        // As if four had died of it already.
        let (service, calls) = service().await;
        let _watcher = stage.triggerer(quick::triggerer("watcher")).await;
        let task = stage.store.enqueue(NewTask::of(&crate::stage::Caller { service }).unwrap()).await.unwrap();
        stage.alter("update reveille_task set crashes = 4 where id = $1", &[task.0]).await;
        let worker = stage.process("worker", "worker");
        until("the call", async || calls.lock().unwrap().len() == 1).await;
        stage.until_state(task, "running").await;
        worker.kill().await;
        let whole = stage.until_state(task, "failed").await;
        assert_eq!(crate::stage::error(&whole), "5 workers were lost while running it");
    }
);

both!(
    async fn a_killed_triggerer_is_replaced(stage: Stage) {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(format!("{n}.txt")).to_string_lossy().into_owned();
        let killed = stage.process("triggerer", "killed");
        let before = stage.live("killed").await;
        let mut tasks = Vec::new();
        for n in 0..20 {
            let task = Script::<Plain>::of(|_, _| async { Ok(done()) });
            let file = File::at(path(n)).every(ms(50)).settle(ms(0));
            tasks.push(NewTask::of(&task).unwrap().when(defer(file)));
        }
        let ids = stage.store.enqueue_all(tasks).await.unwrap();
        until("all to be held", async || stage.held().await == 20).await;
        let heir = stage.triggerer(quick::triggerer("heir")).await;
        stage.live("heir").await;
        killed.kill().await;
        let dead_since = stage.clock().monotonic();
        until("all to be held by the heir", async || {
            stage.count("select count(*) from reveille_trigger where deaths = 1").await == 20
                && stage.held().await == 20
        })
        .await;
        let took = stage.clock().monotonic() - dead_since;
        println!("MEASURED taken over after {took:?}, with a lease of {LEASE:?}");
        assert!(took < 4 * LEASE, "{took:?}");
        assert_eq!(stage.gone("killed").await.incarnation, before.incarnation);
        for n in 0..20 {
            std::fs::write(path(n), "there").unwrap();
        }
        for id in ids {
            stage.until_state(id, "ready").await;
        }
        heir.stop().await;
    }
);
