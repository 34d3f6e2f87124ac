//! The acts: tasks that are told of one by one, and what is done to them from outside.
//!
//! Another act is a function here, its name in the list, and its task in `tasks.rs`.

use std::time::Duration;

use serde_json::json;

use super::{
    act::Expected,
    several::{Order, Publish},
    stage::Stage,
    tasks::{Approval, Chain, Countdown, Doomed, FilePickup, Flaky, FromCommand, FromDatabase, FromWeb, Journey},
};
use crate::{
    error::Result,
    id::TaskId,
    outside::{self, Server, Speaking},
    store::{NewTask, scratch},
    task::{EndState, defer},
    wait::TaskEnd,
};

/// Plays them all, side by side, until the outside has done its part.
pub(super) async fn all(stage: &Stage) -> Result<()> {
    tokio::try_join!(
        file(stage),
        web_server(stage),
        database(stage),
        command(stage),
        first_of_two(stage),
        both_of_two(stage),
        journey(stage),
        signalled_late(stage),
        signalled_early(stage),
        ended_by_a_trigger(stage),
        retried(stage),
        late(stage),
        cancelled(stage),
        chained(stage),
        in_order(stage),
    )?;
    Ok(())
}

async fn file(stage: &Stage) -> Result<()> {
    let path = stage.folder().join("report.csv");
    let title = "waits for a file, written in parts by another process";
    stage.add(title, NewTask::of(&FilePickup::at(&path))?, Expected::result(json!({ "bytes": 35 }))).await?;
    outside::run(&stage.program, &["outside", "write-file", &path.to_string_lossy()]).await
}

/// How often the server is busy before it answers.
const BUSY: u64 = 2;

async fn web_server(stage: &Stage) -> Result<()> {
    let server = Server::start(&stage.program, &Speaking { busy: BUSY, pending: 0, state: "done".to_owned() }).await?;
    let title = "waits for a web server, which says 503 before 200";
    let task = NewTask::of(&FromWeb::at(server.url("export")))?;
    let id = stage.add(title, task, Expected::result(json!({ "state": "done", "asked": BUSY + 1 }))).await?;
    // The server ends with this act.
    stage.until_ended(id).await
}

async fn database(stage: &Stage) -> Result<()> {
    let orders = stage.elsewhere();
    scratch::run_elsewhere(&orders, "create table orders (id integer, state text)").await?;
    let title = "waits for a row in a database, which somebody writes";
    let id = stage
        .add(
            title,
            NewTask::of(&FromDatabase::has(stage.elsewhere_as("orders")))?,
            Expected::result(json!({ "id": 7 })),
        )
        .await?;
    stage.until_deferred(id).await?;
    scratch::run_elsewhere(&orders, "insert into orders values (6, 'open'), (7, 'paid')").await
}

async fn command(stage: &Stage) -> Result<()> {
    let path = stage.folder().join("export.csv");
    let title = "waits until a program says that it is done";
    let task = NewTask::of(&FromCommand::looks_for(&stage.program, &path))?;
    let id = stage.add(title, task, Expected::result(json!({ "bytes": 35 }))).await?;
    stage.until_deferred(id).await?;
    // Whole at once: whether it has stopped growing is nothing that this program asks.
    let written = path.with_extension("part");
    outside::run(&stage.program, &["outside", "write-file", &written.to_string_lossy()]).await?;
    stage.rename(&written, &path)
}

async fn first_of_two(stage: &Stage) -> Result<()> {
    let title = "waits for a payment or an hour, whichever comes first";
    let task = NewTask::of(&Order::paid_under("demo/paid"))?;
    let id = stage.add(title, task, Expected::result(json!({ "cents": 4200 }))).await?;
    stage.until_deferred(id).await?;
    stage.signal("demo/paid", 4200).await
}

async fn both_of_two(stage: &Stage) -> Result<()> {
    let path = stage.folder().join("summary.csv");
    let title = "waits for a file and an approval, both";
    let task = NewTask::of(&Publish::of(&path, "demo/approved"))?;
    stage.add(title, task, Expected::result(json!({ "files": 1, "approved_by": "ann" }))).await?;
    stage.signal("demo/approved", "ann").await?;
    outside::run(&stage.program, &["outside", "write-file", &path.to_string_lossy()]).await
}

async fn journey(stage: &Stage) -> Result<()> {
    let expected = Expected { turns: Some(2), ..Expected::end(EndState::Succeeded) };
    stage.add("defers twice", NewTask::of(&Journey::new())?, expected).await?;
    Ok(())
}

async fn signalled_late(stage: &Stage) -> Result<()> {
    let title = "is signalled from outside, after it deferred";
    let id = stage.add(title, NewTask::of(&Approval::of("demo/late"))?, Expected::result(json!("late"))).await?;
    stage.until_deferred(id).await?;
    stage.signal("demo/late", "late").await
}

async fn signalled_early(stage: &Stage) -> Result<()> {
    stage.signal("demo/early", "early").await?;
    let title = "is signalled from outside, before it deferred";
    stage.add(title, NewTask::of(&Approval::of("demo/early"))?, Expected::result(json!("early"))).await?;
    Ok(())
}

async fn ended_by_a_trigger(stage: &Stage) -> Result<()> {
    let task = NewTask::of(&Doomed::never_run())?.when(defer(Countdown::of(3)));
    let expected = Expected { claims: Some(0), ..Expected::result(json!({ "looks": 3 })) };
    stage.add("begins as a trigger and ends from it, with no worker", task, expected).await?;
    Ok(())
}

async fn retried(stage: &Stage) -> Result<()> {
    let expected = Expected { attempts: Some(3), ..Expected::end(EndState::Succeeded) };
    stage.add("fails twice and is retried", NewTask::of(&Flaky::new())?, expected).await?;
    Ok(())
}

async fn late(stage: &Stage) -> Result<()> {
    let task = NewTask::of(&Doomed::waits(Some(Duration::from_secs(1))))?;
    stage.add("hits its deadline", task, Expected::why(EndState::Failed, "deadline")).await?;
    Ok(())
}

async fn cancelled(stage: &Stage) -> Result<()> {
    let task = NewTask::of(&Doomed::waits(None))?;
    let id = stage.add("is cancelled while it waits", task, Expected::why(EndState::Cancelled, "cancelled")).await?;
    stage.until_deferred(id).await?;
    stage.store.cancel(id, "the demo called it off").await?;
    Ok(())
}

async fn chained(stage: &Stage) -> Result<()> {
    let first = TaskId::mint();
    let expected = Expected::result(json!({ "heard": 42 }));
    stage.add("waits for another task to end", NewTask::of(&Chain::after(first))?, expected).await?;
    let other = NewTask::of(&Chain::first())?.id(first);
    stage.add("is that other task", other, Expected::result(json!(42))).await?;
    Ok(())
}

async fn in_order(stage: &Stage) -> Result<()> {
    let wait = defer(TaskEnd::of(TaskId::mint().0)).deadline(Duration::from_secs(1)).or_resume();
    let task = NewTask::of(&Chain::Last { heard: json!("started by a trigger") })?.when(wait);
    stage.add("begins when another has ended", task, Expected::end(EndState::Succeeded)).await?;
    Ok(())
}
