//! What the errors of a database mean.

use reveille_trigger::Error;
use sqlx::{error::DatabaseError, mysql::MySqlDatabaseError, postgres::PgDatabaseError, sqlite::SqliteError};

/// An error of a look, by the name of its connection. Never its URL: that has the password.
pub(crate) fn fault(connection: &str, error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::Database(said) => {
            let meaning = meaning(said.as_ref());
            let said = format!("the database {connection:?} says: {}", said.message());
            match meaning {
                Meaning::Refused => Error::fatal(said),
                Meaning::TookTooLong => Error::again(format!("the query took longer than `time_out`: {said}")),
                Meaning::Unclear => Error::again(said),
            }
        }
        sqlx::Error::PoolTimedOut => Error::again(format!(
            "cannot get a connection to {connection:?} in time: the database is out of reach, or all connections are busy"
        )),
        // What is bound has no place in the query, or too many have none.
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => {
            Error::fatal(format!("the parameters do not fit the query: {error}"))
        }
        other => Error::again(format!("cannot ask {connection:?}: {other}")),
    }
}

enum Meaning {
    /// No look with this query can succeed: it is no SQL, or it writes.
    Refused,
    /// The server has ended it.
    TookTooLong,
    /// A table that is not there may come, a right may be given, a deadlock may not come again.
    Unclear,
}

fn meaning(said: &dyn DatabaseError) -> Meaning {
    if let Some(said) = said.try_downcast_ref::<PgDatabaseError>() {
        return match said.code() {
            // Not SQL; a statement that cannot stand there; writes in a read-only transaction; another number of
            // parameters.
            "42601" | "0A000" | "25006" | "08P01" => Meaning::Refused,
            "57014" => Meaning::TookTooLong,
            _ => Meaning::Unclear,
        };
    }
    if let Some(said) = said.try_downcast_ref::<MySqlDatabaseError>() {
        return match said.number() {
            // Not SQL; writes in a read-only transaction.
            1064 | 1792 => Meaning::Refused,
            // MySQL's, and MariaDB's.
            3024 | 1969 => Meaning::TookTooLong,
            _ => Meaning::Unclear,
        };
    }
    if let Some(said) = said.try_downcast_ref::<SqliteError>() {
        // SQLite has one code for all that is wrong with a statement, from a slip to a table that is not there yet.
        let is_no_sql = ["syntax error", "incomplete input", "unrecognized token"];
        return match said.code().as_deref() {
            Some("8") => Meaning::Refused,
            Some("9") => Meaning::TookTooLong,
            _ if is_no_sql.iter().any(|part| said.message().contains(part)) => Meaning::Refused,
            _ => Meaning::Unclear,
        };
    }
    Meaning::Unclear
}
