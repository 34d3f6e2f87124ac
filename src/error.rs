//! What can go wrong, in words that say what to do about it.

use std::error::Error as StdError;

use crate::{id::TaskId, vault::VaultError};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong. A lost lease is not among it: that is an outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database did not do it: out of reach, late, or in no state to. Trying again is right; nothing is known of the last
    /// write.
    #[error("the database failed while {doing}")]
    Outage {
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The database refused what it was given: trying again cannot help.
    #[error("the database refused what it was given while {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The database cannot be used as it is; the message says what to do.
    #[error("{0}")]
    Unusable(String),

    /// Something was asked for that cannot be; the message says what to do.
    #[error("{0}")]
    Invalid(String),

    /// A trigger that cannot be stored.
    #[error("cannot wait on {kind}: {why}")]
    BadSpec {
        /// The trigger's kind.
        kind: String,
        /// Which field is wrong, and how.
        why: String,
    },

    /// A trigger of a kind that this binary does not have.
    #[error("unknown kind {kind:?}: this binary has {known}; link the crate that brings it, or mend the name")]
    UnknownKind {
        /// The kind that was named.
        kind: String,
        /// Those that it might have been.
        known: String,
    },

    /// A value that is too large to store.
    #[error(
        "the {what} is {size} bytes, over the limit of {limit}: store it elsewhere and pass a reference, or raise --payload-limit"
    )]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// A row that this binary cannot read. It is left as it is.
    #[error("cannot read {column} of task {task}")]
    Unreadable {
        /// The row.
        task: TaskId,
        /// The column.
        column: &'static str,
        /// Why not.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A key that does not open, or a key file that cannot be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Error {
    /// Whether it is about the database, and may pass, as against about what it was given.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Outage { .. })
    }

    /// Whether the database did not answer in time: less at once may be quick enough.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Outage { source, .. } if source.is::<tokio::time::error::Elapsed>())
    }

    /// A value that is not JSON, or not the JSON expected.
    pub(crate) fn json(what: &str, error: &serde_json::Error) -> Self {
        Self::Invalid(format!("{what} cannot be written as JSON: {error}"))
    }

    /// The whole chain in one line, for logs.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "something that is not text".to_owned())
}
