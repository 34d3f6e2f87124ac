//! Whose the server's sessions are: this client's own, or lent for one transaction after the other by a pooler.
//!
//! A session keeps settings, prepared statements, channels that it listens on and locks from one transaction to the next. Behind a
//! pooler in transaction mode the next one is somebody else's. So the rule for a shared session: each transaction sets what
//! it needs for itself alone, closes what it prepared before it commits, and outside of one nothing is sent but a simple
//! query.

use std::fmt::{Display, Write};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::error::{Error, Result};

/// What a transaction begins with that may write.
pub(super) const WRITING: &str = "begin isolation level read committed";

/// What one begins with that only reads, on a snapshot of its own.
pub(super) const READING: &str = "begin isolation level repeatable read read only";

/// How the server's sessions serve this client.
#[derive(Clone, Debug)]
pub enum Sessions {
    /// Each from its beginning to its end. It is told its settings as it begins.
    Own,
    /// Each for one transaction, which this text gives its settings.
    Shared(String),
}

impl Sessions {
    /// Shared ones, with the settings that a client would have told sessions of its own by these startup options.
    ///
    /// # Errors
    /// If they are not settings.
    pub(super) fn shared(options: &str) -> Result<Self> {
        let mut sessions = Self::Shared(String::new());
        let words = words(options);
        for pair in words.chunks(2) {
            match pair {
                [switch, setting] if switch == "-c" && setting.contains('=') => {
                    let (name, value) = setting.split_once('=').unwrap_or_default();
                    sessions.set(name, value);
                }
                _ => {
                    return Err(Error::Invalid(format!(
                        "the options {options:?} are not all settings, and a pooler passes nothing else on: write them as options[search_path]=reveille"
                    )));
                }
            }
        }
        Ok(sessions)
    }

    /// Gives each transaction this setting, where the session cannot have it.
    pub(super) fn set(&mut self, name: &str, value: impl Display) {
        if let Self::Shared(settings) = self {
            let before = if settings.is_empty() { "select" } else { "," };
            let (name, value) = (quoted(name), quoted(&value.to_string()));
            write!(settings, "{before} set_config({name}, {value}, true)").expect("a String takes whatever is written");
        }
    }

    /// Whether they serve others, too.
    pub(super) fn are_shared(&self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// Begins a transaction, in one round trip.
    pub(super) async fn begin(&self, c: &mut PgConnection, how: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Own => sqlx::query(how).execute(c).await.map(drop),
            Self::Shared(_) => sqlx::raw_sql(AssertSqlSafe(self.beginning(how))).execute(c).await.map(drop),
        }
    }

    /// The text that begins a transaction.
    pub(super) fn beginning(&self, how: &'static str) -> String {
        match self {
            Self::Own => how.to_owned(),
            Self::Shared(settings) => format!("{how}; {settings}"),
        }
    }

    /// Commits a transaction, and leaves nothing of it in a session that others use next.
    pub(super) async fn commit(&self, c: &mut PgConnection) -> Result<(), sqlx::Error> {
        match self {
            Self::Own => sqlx::query("commit").execute(c).await.map(drop),
            Self::Shared(_) => {
                self.tidy(c).await?;
                sqlx::raw_sql("commit").execute(c).await.map(drop)
            }
        }
    }

    /// Closes what this transaction has prepared, if others use the session next: they give theirs the same names.
    pub(super) async fn tidy(&self, c: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.are_shared() { c.clear_cached_statements().await } else { Ok(()) }
    }

    /// Whether a session that should be our own was told its settings as it began, which a pooler leaves out.
    pub(super) async fn are_as_declared(&self, c: &mut PgConnection) -> Result<bool, sqlx::Error> {
        if self.are_shared() {
            return Ok(true);
        }
        let text = "select source = 'client' from pg_settings where name = 'statement_timeout'";
        sqlx::raw_sql(text).fetch_one(c).await?.try_get(0)
    }
}

/// Whether a pooler refused what a session is told as it begins.
pub(super) fn is_poolers_refusal(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(refusal) if refusal.message().contains("unsupported startup parameter"))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Startup options as the server reads them: words between spaces, where a backslash takes the next character as it is.
fn words(options: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            space if space.is_whitespace() => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_session_are_settings_of_each_transaction() {
        let mut sessions = Sessions::shared(r"-c search_path=o\'clock,\ public -c  jit=off").unwrap();
        sessions.set("statement_timeout", "5s");
        assert_eq!(
            sessions.beginning(WRITING),
            "begin isolation level read committed; select set_config('search_path', 'o''clock, public', true), \
             set_config('jit', 'off', true), set_config('statement_timeout', '5s', true)"
        );
    }

    #[test]
    fn options_that_are_no_settings_are_refused() {
        for options in ["-B 100", "-c", "-c jit", "--jit=off"] {
            let refused = Sessions::shared(options).unwrap_err().to_string();
            assert!(refused.contains("options[search_path]=reveille"), "{refused}");
        }
    }
}
