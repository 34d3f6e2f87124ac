//! What tasks say and wait for is sealed at rest, and is in no log.

use reveille::{
    Awaited, NewTask, Next, Task, TaskContext, TaskError, defer, done_with,
    store::{Db, signal::Signal as Sent},
    trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag},
    wait::Signal,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::{Stage, logged, ms};

const SECRET: &str = "correct-horse-battery-staple";

#[derive(Debug, Serialize, Deserialize)]
struct Teller {
    token: String,
}

#[typetag::serde(name = "teller")]
#[async_trait]
impl Trigger for Teller {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        let looks = cx.recall::<u32>().unwrap_or(0);
        cx.remember(looks + 1);
        match looks {
            0 => Ok(Answer::NotYet),
            _ => Ok(Answer::Fire(Event::resume(format!("payload {}", self.token))?)),
        }
    }

    fn spacing(&self) -> Spacing {
        Spacing::every(ms(20))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Keeper {
    Start { token: String },
    Then { token: String, payload: Awaited<String> },
    Last { said: Awaited<Value> },
}

impl Task for Keeper {
    const NAME: &'static str = "keeper";

    async fn run(self, cx: &TaskContext) -> Result<Next<Self>, TaskError> {
        match self {
            Self::Start { token } => {
                let trigger = Teller { token: token.clone() };
                Ok(defer(trigger).then_with(|payload| Self::Then { token, payload }))
            }
            Self::Then { .. } if cx.attempt() == 1 => Err(TaskError::retry("once more").after(ms(10))),
            Self::Then { token, payload } => {
                assert!(payload.get()?.contains(&token));
                Ok(defer(Signal::new("go")).then_with(|said| Self::Last { said }))
            }
            Self::Last { said } => Ok(done_with(said.get()?)),
        }
    }
}

const TABLES: [&str; 8] = [
    "reveille_task",
    "reveille_trigger",
    "reveille_signal",
    "reveille_finished",
    "reveille_history",
    "reveille_undo",
    "reveille_replica",
    "reveille_wait_key",
];

/// Every row of every table, as text that shows bytes.
async fn dump(stage: &Stage) -> String {
    let mut tx = stage.store.read().await.unwrap();
    let mut all = String::new();
    for table in TABLES {
        match tx.db() {
            Db::Sqlite(c) => {
                use sqlx::{Column, Row, ValueRef};
                let text = sqlx::AssertSqlSafe(format!("select * from {table}"));
                for row in sqlx::query(text).fetch_all(c).await.unwrap() {
                    for at in 0..row.columns().len() {
                        if !row.try_get_raw(at).unwrap().is_null() {
                            let bytes: Vec<u8> = row.try_get_unchecked(at).unwrap();
                            all.push_str(&String::from_utf8_lossy(&bytes));
                            all.push_str(row.column(at).name());
                        }
                    }
                }
            }
            Db::Postgres(c) => {
                // Bytes are shown as hexadecimal.
                let text = sqlx::AssertSqlSafe(format!("select t::text from {table} t"));
                let rows: Vec<String> = sqlx::query_scalar(text).fetch_all(c).await.unwrap();
                all.extend(rows);
            }
        }
    }
    tx.commit().await.unwrap();
    all
}

both!(
    async fn what_waits_is_sealed_and_is_in_no_log(stage: Stage) {
        let _roles = stage.both_roles().await;
        let task = NewTask::of(&Keeper::Start { token: SECRET.to_owned() }).unwrap();
        let task = stage.store.enqueue(task).await.unwrap();
        stage.store.signal(Sent::new("other", SECRET)).await.unwrap();
        let looking = async {
            let mut looks = 0;
            while stage.whole(task).await.brief.state != "succeeded" {
                let rows = dump(&stage).await;
                assert!(!rows.contains(SECRET) && !rows.contains(&hex(SECRET)), "it is in a table");
                looks += 1;
                if looks == 3 {
                    stage.store.signal(Sent::new("go", SECRET)).await.unwrap();
                }
            }
        };
        looking.await;
        assert_eq!(crate::stage::result(&stage.whole(task).await), SECRET);
        let rows = dump(&stage).await;
        assert!(rows.contains("keeper"), "the dump shows what is in clear");
        assert!(!rows.contains(SECRET) && !rows.contains(&hex(SECRET)), "it is in a table");
        assert_eq!(logged(&[SECRET]), Vec::<String>::new());
        assert!(!logged(&[&task.to_string()]).is_empty(), "the task itself is in the log");
    }
);

fn hex(text: &str) -> String {
    text.bytes()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}
