//! Fires when a query has a row that says yes.

use std::time::Duration;

use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    look::{longest, look},
    pool::AnyPool,
    query::Query,
};

/// The longest that a query may be allowed to take.
const MAX_TIME_OUT: Duration = Duration::from_mins(10);

/// Fires when a query on PostgreSQL, MySQL, MariaDB or SQLite has a row that says yes. The payload is its first row, as
/// a JSON object by the names of its columns.
///
/// # Spec
/// `{"connection": "warehouse", "query": "select id from export where day = $1::date", "parameters": ["2026-01-01"]}`
///
/// - `connection`: a name in the configuration, which has the URL: `[connections.warehouse]` with
///   `url = "postgres://reader:secret@db.internal/warehouse"`.
/// - `query`: one statement that begins with `select`, `with`, `values` or `table`.
/// - `parameters`: texts, numbers, booleans and nulls for it: `$1` on PostgreSQL, `?` on MySQL and SQLite. A text stays
///   one until the query converts it: `$1::date`.
/// - `every`: how far apart the looks are; `"5s"` unless given.
/// - `time_out`: how long the query may take, at most 10 minutes; `"30s"` unless given.
///
/// # What a look finds
/// | the database says | answer |
/// |---|---|
/// | a row | it has happened, unless the row is one value, and that is null, false or zero |
/// | no row; one null, false or zero | not yet |
/// | it is no SQL; it writes; parameters that don't fit; a first row of more than 64 KiB as JSON | a fatal error |
/// | it took longer than `time_out`, and was ended | an error that may be tried again |
/// | anything else: out of reach, no such table, no right to read it, a value that does not convert | the same |
///
/// So `select exists (…)` and `select count(*) …` do what they say. If more than one row may come and it matters which
/// is first, write `order by … limit 1`.
///
/// # What it may do
/// It runs in a read-only transaction, and is ended by the database itself when it takes too long; SQLite files are
/// opened to be read. Functions may do more than that: let the connection's user have no rights but to read. MySQL and
/// MariaDB tell booleans from numbers no better in JSON, and SQLite makes no JSON of a blob: convert it with `hex`.
///
/// All tasks that wait on one connection of the configuration share at most four to the database, and those with equal
/// specs share their looks. Behind PostgreSQL there may be a pooler in transaction mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    connection: String,
    query: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Value>,
    #[serde(default)]
    every: Spacing,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
}

impl Sql {
    /// Looks with this query, on a connection of the configuration.
    pub fn query(connection: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            query: query.into(),
            parameters: Vec::new(),
            every: Spacing::default(),
            time_out: default_time_out(),
        }
    }

    /// Binds the next parameter.
    #[must_use]
    pub fn parameter(mut self, value: impl Into<Value>) -> Self {
        self.parameters.push(value.into());
        self
    }

    /// Sets how far apart the looks are.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        self.spaced(Spacing::every(every))
    }

    /// Sets how far apart the looks are, where that is to grow.
    #[must_use]
    pub fn spaced(self, every: Spacing) -> Self {
        Self { every, ..self }
    }

    /// Sets how long the query may take.
    #[must_use]
    pub fn within(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }
}

#[typetag::serde(name = "sql")]
#[async_trait]
impl Trigger for Sql {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        // Also of what was stored without being validated: what makes a query safe to run is checked here.
        self.validate()?;
        let pool = AnyPool::named(cx.config(), &self.connection)?;
        let query = Query { text: &self.query, parameters: &self.parameters };
        if let Some(row) = look(&pool, &self.connection, query, self.time_out).await? {
            return Ok(Answer::Fire(Event::resume(row)?));
        }
        cx.say("no row, or none that is true");
        Ok(Answer::NotYet)
    }

    fn validate(&self) -> Result<(), Error> {
        valid_connection(&self.connection)?;
        Query { text: &self.query, parameters: &self.parameters }.validate("query")?;
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the looks are, such as \"30s\""));
        }
        valid_time_out(self.time_out)
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    fn destination(&self) -> Option<String> {
        Some(self.connection.clone())
    }

    fn time_out(&self) -> Option<Duration> {
        Some(longest(self.time_out))
    }

    /// Each look is the same for everybody who waits for this.
    fn share(&self) -> bool {
        true
    }
}

pub(crate) fn valid_connection(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::fatal("`connection` is empty: name one of the configuration, such as \"warehouse\""));
    }
    if name.contains("://") {
        return Err(Error::fatal(
            "`connection` is a URL: put that in the configuration, as `url` in [connections.NAME], and write the NAME",
        ));
    }
    Ok(())
}

pub(crate) fn valid_time_out(time_out: Duration) -> Result<(), Error> {
    // Databases count milliseconds, and take none for no limit.
    if time_out < Duration::from_millis(1) || time_out > MAX_TIME_OUT {
        return Err(Error::fatal(
            "`time_out` is under a millisecond or over 10 minutes: write how long the query may take, such as \"30s\"",
        ));
    }
    Ok(())
}

pub(crate) const fn default_time_out() -> Duration {
    Duration::from_secs(30)
}
