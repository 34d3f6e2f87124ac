//! A database with a table of one test's own, and the configuration that names it.

use std::{env, time::Duration};

use reveille_sql::Sql;
use reveille_trigger::{Answer, Config, Context, Error, Memory, Outcome, Timestamp, Trigger};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    MySql,
}

pub(crate) struct Stage {
    pub(crate) kind: Kind,
    /// Both the table's name and, since pools are shared by name, that of the connection.
    pub(crate) name: String,
    pub(crate) url: String,
    dir: TempDir,
}

impl Stage {
    /// None where there is no such server, which only MySQL may do without.
    pub(crate) async fn on(kind: Kind) -> Option<Self> {
        let dir = TempDir::new().expect("a temporary directory");
        let url = match kind {
            Kind::Sqlite => format!("sqlite://{}/db", dir.path().display()),
            Kind::Postgres => env::var("TEST_POSTGRES_URL").expect("TEST_POSTGRES_URL, as tests/run sets it"),
            Kind::MySql => env::var("TEST_MYSQL_URL").ok()?,
        };
        let stage = Self { kind, name: format!("t{}", Uuid::new_v4().simple()), url, dir };
        stage.run("create table TABLE (id integer, done boolean, note varchar(80))").await;
        Some(stage)
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(Kind::Postgres).await.expect("PostgreSQL")
    }

    pub(crate) async fn sqlite() -> Self {
        Self::on(Kind::Sqlite).await.expect("SQLite")
    }

    /// Text with the name of the table in the place of `TABLE`, and `?` in the place of PostgreSQL's `$1`.
    pub(crate) fn text(&self, text: &str) -> String {
        let text = text.replace("TABLE", &self.name);
        if self.kind == Kind::MySql { text.replace("$1", "?").replace("$2", "?") } else { text }
    }

    /// Runs a statement as somebody else would.
    pub(crate) async fn run(&self, statement: &str) {
        let statement = AssertSqlSafe(self.text(statement));
        match self.kind {
            Kind::Sqlite => {
                let url = format!("{}?mode=rwc", self.url);
                let mut connection = SqliteConnection::connect(&url).await.expect("a connection");
                connection.execute(statement).await.expect("a statement");
                connection.close().await.expect("its end");
            }
            Kind::Postgres => {
                let mut connection = PgConnection::connect(&self.url).await.expect("a connection");
                connection.execute(statement).await.expect("a statement");
                connection.close().await.expect("its end");
            }
            Kind::MySql => {
                let mut connection = MySqlConnection::connect(&self.url).await.expect("a connection");
                connection.execute(statement).await.expect("a statement");
                connection.close().await.expect("its end");
            }
        }
    }

    pub(crate) fn query(&self, text: &str) -> Sql {
        Sql::query(&self.name, self.text(text))
    }

    pub(crate) fn context(&self) -> Context {
        context(&self.name, &json!({ "url": self.url }))
    }

    /// One look: the row it fired with.
    pub(crate) async fn look(&self, sql: &Sql) -> Result<Option<Value>, Error> {
        look(sql, &self.context()).await
    }

    /// Drops the table. Not on a panic, so that it can be looked at.
    pub(crate) async fn end(self) {
        self.run("drop table TABLE").await;
        drop(self.dir);
    }
}

pub(crate) fn context(name: &str, connection: &Value) -> Context {
    let config = Config::new([(name.to_owned(), connection.clone())].into(), [].into());
    Context::new(|| Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, Memory::default()).with_config(config)
}

pub(crate) async fn look(trigger: &dyn Trigger, cx: &Context) -> Result<Option<Value>, Error> {
    match timeout(LONG, trigger.check(cx)).await.expect("an answer in time")? {
        Answer::NotYet => Ok(None),
        Answer::Fire(event) => match event.outcome {
            Outcome::Resume(payload) => Ok(Some(payload)),
            other => panic!("a query resumes a task, and does not end it: {other:?}"),
        },
    }
}
