//! One look: a query's first row as JSON, in a read-only transaction, with a limit on its time and on its size.
//!
//! The database itself makes the JSON, since it knows its types best, and measures it before it sends it.

use std::{sync::Arc, time::Duration};

use reveille_trigger::Error;
use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, Column, Connection, Database, Encode, Executor, MySql, Pool, Postgres, SqlSafeStr, Sqlite,
    Statement, Type,
    encode::IsNull,
    error::BoxDynError,
    pool::PoolConnection,
    postgres::{PgArgumentBuffer, PgTypeInfo, types::Oid},
};
use tokio::time::{error::Elapsed, timeout};

use crate::{
    fault::fault,
    pool::{ACQUIRE, AnyPool},
    query::Query,
};

/// The most that a row may have: it is stored with the event.
const MAX_ROW_BYTES: usize = 64 * 1024;

/// How much longer the server has than `time_out`, to say itself that it took too long.
const MARGIN: Duration = Duration::from_secs(2);

/// After how many steps of SQLite's machine it is asked whether anybody still waits.
const STEPS: i32 = 10_000;

/// The row as text, unless it is too large, and how many bytes it has.
type Found = Option<(Option<String>, i64)>;

/// The statement with all parameters bound, each as what it is in JSON, and null as what its database takes for it.
macro_rules! bound {
    ($text:expr, $query:expr, $null:expr) => {{
        let mut bound = sqlx::query_as::<_, (Option<String>, i64)>(AssertSqlSafe($text)).persistent(false);
        for value in $query.parameters {
            bound = match value {
                Value::Null => bound.bind($null),
                Value::Bool(value) => bound.bind(*value),
                Value::Number(value) => match value.as_i64() {
                    Some(value) => bound.bind(value),
                    None => bound.bind(value.as_f64()),
                },
                Value::String(value) => bound.bind(value.clone()),
                // Not in a valid query.
                Value::Array(_) | Value::Object(_) => bound.bind(value.to_string()),
            };
        }
        bound
    }};
}

/// All that a look may take, for those who have a limit of their own around it.
pub(crate) fn longest(time_out: Duration) -> Duration {
    ACQUIRE + time_out + MARGIN * 2
}

/// The first row, if one has come that says yes.
pub(crate) async fn look(
    pool: &AnyPool,
    connection: &str,
    query: Query<'_>,
    time_out: Duration,
) -> Result<Option<Map<String, Value>>, Error> {
    let found = match pool {
        AnyPool::Postgres(pool) => postgres(pool, query, time_out).await,
        AnyPool::MySql(pool) => mysql(pool, query, time_out).await,
        AnyPool::Sqlite(pool) => sqlite(pool, query, time_out).await,
    };
    let Some((row, bytes)) = found.map_err(|trouble| match trouble {
        Trouble::TookTooLong => Error::again(format!("the query on {connection:?} took longer than `time_out`")),
        Trouble::Said(error) => fault(connection, &error),
    })?
    else {
        return Ok(None);
    };
    let row = row.ok_or_else(|| {
        Error::fatal(format!("the first row has {bytes} bytes as JSON, and may have {MAX_ROW_BYTES}: select less"))
    })?;
    let row: Map<String, Value> = serde_json::from_str(&row)?;
    Ok(says_yes(&row).then_some(row))
}

/// A row says yes, unless it is one value, and that is null, false or zero: `select exists (…)`, `select count(*)`.
fn says_yes(row: &Map<String, Value>) -> bool {
    let mut values = row.values();
    match (values.next(), values.next()) {
        (Some(Value::Null | Value::Bool(false)), None) => false,
        (Some(Value::Number(number)), None) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

async fn postgres(pool: &Pool<Postgres>, query: Query<'_>, time_out: Duration) -> Result<Found, Trouble> {
    let (statement, limit_ms) = (query.statement(), time_out.as_millis());
    let text = format!(
        "with looked as ({statement}), found as (select row_to_json(looked)::text as it from looked limit 1) \
         select case when octet_length(it) <= {MAX_ROW_BYTES} then it end, octet_length(it)::int8 from found"
    );
    let mut lent = Lent::of(pool).await?;
    let found = timeout(time_out + MARGIN, async {
        let mut transaction = lent.connection().begin_with("begin read only").await?;
        transaction.execute(AssertSqlSafe(format!("set local statement_timeout = {limit_ms}"))).await?;
        let found = bound!(text, query, Untyped).fetch_optional(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(found)
    })
    .await;
    lent.settle(found)
}

async fn mysql(pool: &Pool<MySql>, query: Query<'_>, time_out: Duration) -> Result<Found, Trouble> {
    // The first is a comment to MySQL, and the second one to MariaDB, which passes over the versions of MySQL 5.7.
    let limits = format!(
        "set session /*M! max_statement_time = {} */ /*!50708 max_execution_time = {} */",
        time_out.as_secs_f64(),
        time_out.as_millis()
    );
    let mut lent = Lent::of(pool).await?;
    let found = timeout(time_out + MARGIN, async {
        lent.connection().execute(AssertSqlSafe(limits)).await?;
        let mut transaction = lent.connection().begin_with("start transaction read only").await?;
        let prepared = transaction.prepare(AssertSqlSafe(query.statement()).into_sql_str()).await?;
        // As text in quotes it has escapes of its own there.
        let names = prepared.columns().iter().map(|column| column.name().replace('\\', "\\\\"));
        let text = by_column(query, names, "cast(it as char)", "length(it)");
        let found = bound!(text, query, None::<String>).fetch_optional(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(found)
    })
    .await;
    lent.settle(found)
}

async fn sqlite(pool: &Pool<Sqlite>, query: Query<'_>, time_out: Duration) -> Result<Found, Trouble> {
    // Lives as long as this future, which is how the thread that runs the query knows that it is still asked.
    let asking = Arc::new(());
    let asked = Arc::downgrade(&asking);
    let mut lent = Lent::of(pool).await?;
    let found = timeout(time_out, async {
        lent.connection().lock_handle().await?.set_progress_handler(STEPS, move || asked.strong_count() > 0);
        let mut transaction = lent.connection().begin().await?;
        let prepared = transaction.prepare(AssertSqlSafe(query.statement()).into_sql_str()).await?;
        let names = prepared.columns().iter().map(|column| column.name().to_owned());
        let text = by_column(query, names, "it", "length(cast(it as blob))");
        let found = bound!(text, query, None::<String>).fetch_optional(&mut *transaction).await?;
        transaction.rollback().await?;
        Ok(found)
    })
    .await;
    lent.settle(found)
}

/// The look for a database that cannot make JSON of a row, but of named values.
fn by_column(query: Query<'_>, names: impl Iterator<Item = String>, as_text: &str, length: &str) -> String {
    let (mut columns, mut pairs) = (Vec::new(), Vec::new());
    for (number, name) in names.enumerate() {
        columns.push(format!("c{number}"));
        pairs.push(format!("'{}', c{number}", name.replace('\'', "''")));
    }
    let (statement, columns, pairs) = (query.statement(), columns.join(", "), pairs.join(", "));
    format!(
        "with looked({columns}) as ({statement}), found(it) as (select json_object({pairs}) from looked limit 1) \
         select case when {length} <= {MAX_ROW_BYTES} then {as_text} end, {length} from found"
    )
}

/// A null whose type PostgreSQL finds out: of text, it would compare with text only.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        // Of the pseudo-type `unknown`, as `pg_type` has it.
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

/// Why a look found nothing out.
enum Trouble {
    TookTooLong,
    Said(sqlx::Error),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Said(error)
    }
}

/// A connection of a pool. It goes back to it only when the database has answered: one whose query was given up is
/// closed, however it was given up, so that nobody else waits for what is left of it.
struct Lent<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Lent<DB> {
    async fn of(pool: &Pool<DB>) -> Result<Self, Trouble> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    fn connection(&mut self) -> &mut DB::Connection {
        self.0.as_mut().expect("it is there until it is settled")
    }

    fn settle(&mut self, found: Result<Result<Found, sqlx::Error>, Elapsed>) -> Result<Found, Trouble> {
        let found = found.map_err(|_| Trouble::TookTooLong)?;
        if matches!(found, Ok(_) | Err(sqlx::Error::Database(_))) {
            drop(self.0.take());
        }
        Ok(found?)
    }
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}
