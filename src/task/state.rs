//! The states of a task, and the other words stored with it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An enum that is stored, printed and read as one word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word that it is stored as.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::Error;

            fn from_str(word: &str) -> ::std::result::Result<Self, $crate::Error> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::Error::Invalid(format!("{word:?} is none of {}", [$($word),+].join(", ")))),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an unfinished task is. There is no other waiting state than `deferred`.
    TaskState {
        /// A worker may claim it.
        Ready = "ready",
        /// A worker holds it.
        Running = "running",
        /// It waits, as a row.
        Deferred = "deferred",
    }
}

words! {
    /// The state that a task ends in.
    EndState {
        /// It did what it was for.
        Succeeded = "succeeded",
        /// It failed for good: a dead letter, kept until it is redriven or purged.
        Failed = "failed",
        /// There was nothing to do.
        Skipped = "skipped",
        /// It was called off.
        Cancelled = "cancelled",
    }
}

impl From<EndState> for reveille_wait::EndState {
    fn from(state: EndState) -> Self {
        match state {
            EndState::Succeeded => Self::Succeeded,
            EndState::Failed => Self::Failed,
            EndState::Skipped => Self::Skipped,
            EndState::Cancelled => Self::Cancelled,
        }
    }
}

words! {
    /// Where a task came from.
    Origin {
        /// A person, or a program of theirs.
        Manual = "manual",
        /// A schedule's tick.
        Schedule = "schedule",
        /// Another task.
        Child = "child",
        /// A dead letter, put back to work.
        Redrive = "redrive",
    }
}

words! {
    /// Which ready task is claimed first. Stored as 0 to 3.
    Priority {
        /// After everything else.
        Low = "low",
        /// The default.
        Normal = "normal",
        /// Before what is normal.
        High = "high",
        /// Before everything else.
        Urgent = "urgent",
    }
}

impl Priority {
    /// As stored.
    pub const fn rank(self) -> i16 {
        self as i16
    }

    /// From what is stored.
    pub const fn from_rank(rank: i16) -> Option<Self> {
        match rank {
            0 => Some(Self::Low),
            1 => Some(Self::Normal),
            2 => Some(Self::High),
            3 => Some(Self::Urgent),
            _ => None,
        }
    }
}

/// How a task ended. Kept, sealed, until its retention is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The last state.
    pub state: EndState,
    /// What a task that succeeded has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it failed, was skipped or was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl End {
    /// Success, with a result.
    pub fn succeeded(result: Value) -> Self {
        Self { state: EndState::Succeeded, result: Some(result).filter(|result| !result.is_null()), error: None }
    }

    /// Failure for good.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { state: EndState::Failed, result: None, error: Some(cut(error.into())) }
    }

    /// Nothing to do.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { state: EndState::Skipped, result: None, error: Some(cut(reason.into())) }
    }

    /// Called off.
    pub fn cancelled(reason: impl Into<String>) -> Self {
        Self { state: EndState::Cancelled, result: None, error: Some(cut(reason.into())) }
    }
}

/// The longest message that is kept of a failure, in bytes. What is longer keeps its beginning.
const LONGEST_MESSAGE: usize = 4 << 10;

/// Bounds a message: a failure must always be small enough to be stored.
pub(crate) fn cut(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = (0..=LONGEST_MESSAGE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_end_is_cut_at_a_letter() {
        let End { error: Some(error), .. } = End::failed("é".repeat(10_000)) else { panic!("it has an error") };
        assert!(error.len() <= LONGEST_MESSAGE + '…'.len_utf8());
        assert!(error.ends_with("é…"));
    }
}
