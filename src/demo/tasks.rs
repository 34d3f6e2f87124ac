//! The tasks of the demo, written as a user would write them.

use std::{path::Path, sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Awaited, Next, Retry, Task, TaskContext, TaskError,
    clock::timestamp,
    command::Command,
    defer, done, done_with,
    file::{File, Found},
    http::{Http, Response},
    id::TaskId,
    lag::Lags,
    sql::Sql,
    trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag},
    wait::{Ended, Signal, TaskEnd, Timer},
};

/// Picks up a file once it is there and has stopped growing.
#[derive(Serialize, Deserialize)]
pub(super) enum FilePickup {
    Start { path: String },
    Collect { found: Awaited<Found> },
}

impl FilePickup {
    pub(super) fn at(path: &Path) -> Self {
        Self::Start { path: path.to_string_lossy().into_owned() }
    }
}

impl Task for FilePickup {
    const NAME: &'static str = "demo.file_pickup";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { path } => {
                let file = File::at(path).every(Duration::from_millis(100)).settle(Duration::from_millis(600));
                Ok(defer(file).then_with(|found| Self::Collect { found }))
            }
            Self::Collect { found } => {
                let bytes: u64 = found.get()?.files.iter().map(|file| file.size).sum();
                Ok(done_with(json!({ "bytes": bytes })))
            }
        }
    }
}

/// Asks a web server until it has an answer.
#[derive(Serialize, Deserialize)]
pub(super) enum FromWeb {
    Start { url: String },
    Collect { response: Awaited<Response> },
}

impl FromWeb {
    pub(super) fn at(url: String) -> Self {
        Self::Start { url }
    }
}

impl Task for FromWeb {
    const NAME: &'static str = "demo.from_web";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { url } => {
                let done = Http::get(url).until_json("$.state", "done").every(Duration::from_millis(200));
                Ok(defer(done).then_with(|response| Self::Collect { response }))
            }
            Self::Collect { response } => Ok(done_with(response.get()?.body)),
        }
    }
}

/// Looks into a database of somebody else's until an order is paid.
#[derive(Serialize, Deserialize)]
pub(super) enum FromDatabase {
    Start { orders: String },
    Collect { row: Awaited<Value> },
}

impl FromDatabase {
    pub(super) fn has(orders: String) -> Self {
        Self::Start { orders }
    }
}

impl Task for FromDatabase {
    const NAME: &'static str = "demo.from_database";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { orders } => {
                let paid = Sql::query("orders", format!("select id from {orders} where state = 'paid'"));
                Ok(defer(paid.every(Duration::from_millis(200))).then_with(|row| Self::Collect { row }))
            }
            Self::Collect { row } => Ok(done_with(row.get()?)),
        }
    }
}

/// Runs a program until it says that it is done.
#[derive(Serialize, Deserialize)]
pub(super) enum FromCommand {
    Start { program: String, path: String },
    Collect { said: Awaited<Value> },
}

impl FromCommand {
    pub(super) fn looks_for(program: &Path, path: &Path) -> Self {
        let [program, path] = [program, path].map(|path| path.to_string_lossy().into_owned());
        Self::Start { program, path }
    }
}

impl Task for FromCommand {
    const NAME: &'static str = "demo.from_command";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { program, path } => {
                let looks = Command::new(program).args(["outside", "look-for", &path]);
                Ok(defer(looks.every(Duration::from_millis(300))).then_with(|said| Self::Collect { said }))
            }
            Self::Collect { said } => Ok(done_with(said.get()?)),
        }
    }
}

/// Defers twice.
#[derive(Serialize, Deserialize)]
pub(super) enum Journey {
    Leave,
    Change,
    Arrive,
}

impl Journey {
    pub(super) fn new() -> Self {
        Self::Leave
    }
}

impl Task for Journey {
    const NAME: &'static str = "demo.journey";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Leave => Ok(defer(Timer::after(Duration::from_millis(800))).then(Self::Change)),
            Self::Change => Ok(defer(Timer::after(Duration::from_millis(400))).then(Self::Arrive)),
            Self::Arrive => Ok(done()),
        }
    }
}

/// Waits for somebody to say something.
#[derive(Serialize, Deserialize)]
pub(super) enum Approval {
    Ask { key: String },
    Heard { answer: Awaited<String> },
}

impl Approval {
    pub(super) fn of(key: &str) -> Self {
        Self::Ask { key: key.to_owned() }
    }
}

impl Task for Approval {
    const NAME: &'static str = "demo.approval";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Ask { key } => Ok(defer(Signal::new(key)).then_with(|answer| Self::Heard { answer })),
            Self::Heard { answer } => Ok(done_with(answer.get()?)),
        }
    }
}

/// Succeeds at the third attempt.
#[derive(Serialize, Deserialize)]
pub(super) enum Flaky {
    Try,
}

impl Flaky {
    pub(super) fn new() -> Self {
        Self::Try
    }
}

impl Task for Flaky {
    const NAME: &'static str = "demo.flaky";

    fn retry() -> Retry {
        Retry { max_attempts: 3, backoff: Duration::from_millis(300), cap: Duration::from_secs(1) }
    }

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        match cx.attempt() {
            1 | 2 => Err(TaskError::retry("the server said 503")),
            _ => Ok(done()),
        }
    }
}

/// Waits for what never comes.
#[derive(Serialize, Deserialize)]
pub(super) enum Doomed {
    Wait { deadline: Option<Duration> },
    Never,
}

impl Doomed {
    pub(super) fn waits(deadline: Option<Duration>) -> Self {
        Self::Wait { deadline }
    }

    pub(super) fn never_run() -> Self {
        Self::Never
    }
}

impl Task for Doomed {
    const NAME: &'static str = "demo.doomed";

    fn retry() -> Retry {
        Retry::NEVER
    }

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Wait { deadline } => {
                let wait = defer(Signal::new(format!("demo/never/{}", cx.task())));
                let wait = match deadline {
                    Some(deadline) => wait.deadline(deadline),
                    None => wait,
                };
                Ok(wait.then(Self::Never))
            }
            Self::Never => Err(TaskError::fatal("this step is never reached")),
        }
    }
}

/// One task that waits for another.
#[derive(Serialize, Deserialize)]
pub(super) enum Chain {
    First,
    Second,
    Listen { to: TaskId },
    Hear { ended: Awaited<Ended> },
    Last { heard: Value },
}

impl Chain {
    pub(super) fn first() -> Self {
        Self::First
    }

    pub(super) fn after(task: TaskId) -> Self {
        Self::Listen { to: task }
    }
}

impl Task for Chain {
    const NAME: &'static str = "demo.chain";

    async fn run(self, _: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::First => Ok(defer(Timer::after(Duration::from_millis(500))).then(Self::Second)),
            Self::Second => Ok(done_with(42)),
            Self::Listen { to } => Ok(defer(TaskEnd::of(to.0)).then_with(|ended| Self::Hear { ended })),
            Self::Hear { ended } => Ok(done_with(json!({ "heard": ended.get()?.result }))),
            Self::Last { heard } => Ok(done_with(heard)),
        }
    }
}

/// Sleeps on a timer, and notes how late it woke.
#[derive(Serialize, Deserialize)]
pub(super) enum Sleeper {
    Asleep { until: i64 },
    Awake { due: i64 },
}

impl Sleeper {
    pub(super) fn new(until: i64) -> Self {
        Self::Asleep { until }
    }
}

impl Task for Sleeper {
    const NAME: &'static str = "demo.sleeper";

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Asleep { until } => Ok(defer(Timer::at(timestamp(until))).then(Self::Awake { due: until })),
            Self::Awake { due } => {
                LAGS.note(cx.now().as_millisecond() - due);
                Ok(done())
            }
        }
    }
}

/// How late the sleepers of this process woke. Steps are values, so what they share with the demo is static.
pub(super) static LAGS: LazyLock<Lags> = LazyLock::new(Lags::new);

/// Ends its task as succeeded after so many looks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Countdown {
    looks: u32,
}

impl Countdown {
    pub(super) fn of(looks: u32) -> Self {
        Self { looks }
    }
}

#[typetag::serde(name = "demo_countdown")]
#[async_trait]
impl Trigger for Countdown {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let looks = cx.recall::<u32>().unwrap_or(0) + 1;
        cx.remember(looks);
        if looks < self.looks {
            return Ok(Answer::NotYet);
        }
        Ok(Answer::Fire(Event::succeed(json!({ "looks": looks }))?))
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(Duration::from_millis(200))
    }
}
