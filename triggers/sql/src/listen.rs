//! Fires when PostgreSQL sends a notification.

use std::time::Duration;

use reveille_trigger::{Answer, Context, Error, Event, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    hub,
    look::look,
    pool::AnyPool,
    query::Query,
    sql::{default_time_out, valid_connection, valid_time_out},
};

/// The longest name of a channel, in bytes. PostgreSQL cuts longer ones.
const MAX_CHANNEL_BYTES: usize = 63;

/// Fires when a notification comes on a channel of PostgreSQL. The payload is [`Heard`].
///
/// # Spec
/// `{"connection": "shop", "channel": "orders", "look": "select id from orders where id = $1 and paid", "parameters": [42]}`
///
/// - `connection`: a name in the configuration, which has the URL: `[connections.shop]` with
///   `url = "postgres://reader:secret@db.internal/shop"`.
/// - `channel`: as in `NOTIFY`, letter by letter: `notify Orders` without quotes sends to `orders`.
/// - `look`: a query that finds what has been notified before, as the trigger `sql` does. None unless given.
/// - `parameters`: for `look`.
/// - `time_out`: how long `look` may take, at most 10 minutes; `"30s"` unless given.
///
/// # So that nothing is missed
/// A notification reaches those who listen at that moment. Nobody does between what happened and the deferral, while
/// the wait changes hands, and while the connection is lost. `look` is asked each time that listening has begun, and
/// before anything is waited for: what it does not see yet is notified later. So notify in the transaction that makes
/// `look` say yes. Without one, a notification in these times is missed.
///
/// # What it answers
/// | | answer |
/// |---|---|
/// | a notification on the channel | it has happened |
/// | `look` has a row that says yes | it has happened |
/// | the connection is lost, or cannot be made | an error that may be tried again, soon and then later and later |
/// | `look` fails | as for the trigger `sql` |
///
/// A check lasts, with no time-out, so that a deadline for the wait is a good idea. All tasks that wait on one
/// connection of the configuration listen through one connection to the database, which is asked for a sign of life
/// whenever it is quiet. It needs a session of its own: a pooler in transaction mode loses notifications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    connection: String,
    channel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    look: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Value>,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
}

/// What ended the wait: the payload a task resumes with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// What was notified: JSON where it is JSON, text otherwise; empty text where nothing was said.
    Notification(Value),
    /// The first row of the look, by the names of its columns.
    Row(Map<String, Value>),
}

impl Listen {
    /// Listens on a channel, through a connection of the configuration.
    pub fn on(connection: impl Into<String>, channel: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            channel: channel.into(),
            look: None,
            parameters: Vec::new(),
            time_out: default_time_out(),
        }
    }

    /// Looks with this query each time that listening has begun.
    #[must_use]
    pub fn look(self, query: impl Into<String>) -> Self {
        Self { look: Some(query.into()), ..self }
    }

    /// Binds the next parameter of the look.
    #[must_use]
    pub fn parameter(mut self, value: impl Into<Value>) -> Self {
        self.parameters.push(value.into());
        self
    }

    /// Sets how long the look may take.
    #[must_use]
    pub fn within(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }

    fn query(&self) -> Option<Query<'_>> {
        Some(Query { text: self.look.as_deref()?, parameters: &self.parameters })
    }
}

#[typetag::serde(name = "listen")]
#[async_trait]
impl Trigger for Listen {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        self.validate()?;
        // Listening comes first: what the look is too early for is heard.
        let listening = hub::listen(cx.config(), &self.connection, &self.channel).await?;
        if let Some(query) = self.query() {
            let pool = AnyPool::named(cx.config(), &self.connection)?;
            if let Some(row) = look(&pool, &self.connection, query, self.time_out).await? {
                return Ok(Answer::Fire(Event::resume(Heard::Row(row))?));
            }
        }
        let said = listening.heard().await?;
        let said = serde_json::from_str(&said).unwrap_or(Value::String(said));
        Ok(Answer::Fire(Event::resume(Heard::Notification(said))?))
    }

    fn validate(&self) -> Result<(), Error> {
        valid_connection(&self.connection)?;
        let bytes = self.channel.len();
        if bytes == 0 || bytes > MAX_CHANNEL_BYTES || self.channel.contains('\0') {
            return Err(Error::fatal(format!(
                "`channel` has {bytes} bytes, or a NUL character among them: write the name of a channel, which has 1 to \
                 {MAX_CHANNEL_BYTES}"
            )));
        }
        match self.query() {
            Some(query) => query.validate("look")?,
            None if self.parameters.is_empty() => {}
            None => return Err(Error::fatal("`parameters` has values, and there is no `look` to bind them to")),
        }
        valid_time_out(self.time_out)
    }

    fn time_out(&self) -> Option<Duration> {
        None
    }
}
