//! How a command fails: a line that says what, a line that says what to do, and an exit code.

use std::{fmt, io, process::ExitCode};

use serde::Serialize;

use crate::{error::Error, vault::VaultError};

/// What the exit codes mean. `--help` says so too, and scripts rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Fine = 0,
    /// The command was understood, and found something wrong: no such task, say.
    Wrong = 1,
    /// The command line or the configuration is not right. clap ends with 2 as well.
    Usage = 2,
    /// The database cannot be reached, or not be used as it is.
    Database = 3,
    /// A second Ctrl-C, as a shell reports it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be carried out.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    error: anyhow::Error,
    help: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), help: None }
    }

    /// The command line or the configuration is not right.
    pub(super) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, anyhow::anyhow!("{what}"))
    }

    /// Something is not as the command needs it.
    pub(super) fn wrong(what: impl fmt::Display) -> Self {
        Self::new(Exit::Wrong, anyhow::anyhow!("{what}"))
    }

    /// With what to do about it.
    #[must_use]
    pub(super) fn help(mut self, what_to_do: impl Into<String>) -> Self {
        self.help = Some(what_to_do.into());
        self
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    pub(super) fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// As programs read it.
    pub(super) fn report(&self) -> Report<'_> {
        let causes = self.error.chain().skip(1).map(ToString::to_string).collect();
        Report { error: self.error.to_string(), causes, help: self.help.as_deref() }
    }
}

/// A failure in JSON.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    error: String,
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<&'a str>,
}

/// In one line, causes included. Many an error repeats its cause in its own text; we don't.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if line.is_empty() {
                line = cause;
            } else if !line.contains(&cause) {
                line.push_str(": ");
                line.push_str(&cause);
            }
        }
        f.write_str(&line.lines().map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; "))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Outage { .. } => Self::new(Exit::Database, error)
                .help("make sure that the database is up and that --database-url names it, then try again"),
            Error::Unusable(_) => Self::new(Exit::Database, error),
            Error::Vault(VaultError::UnknownVersion { .. } | VaultError::Cut { .. } | VaultError::Refused { .. })
            | Error::Database { .. }
            | Error::Unreadable { .. } => Self::new(Exit::Wrong, error),
            Error::Vault(_)
            | Error::Invalid(_)
            | Error::BadSpec { .. }
            | Error::UnknownKind { .. }
            | Error::TooLarge { .. } => Self::new(Exit::Usage, error),
        }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Wrong, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_error_repeats_is_told_once() {
        let error = anyhow::anyhow!("refused").context("connecting: refused").context("listing tasks");
        assert_eq!(Failure::new(Exit::Wrong, error).to_string(), "listing tasks: connecting: refused");
    }

    #[test]
    fn a_database_out_of_reach_has_an_exit_code_of_its_own() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let failure = Failure::from(Error::Outage { doing: "connecting", source: Box::new(refused) });
        assert!(failure.to_string().ends_with(" while connecting: connection refused"), "{failure}");
        assert_eq!(failure.exit(), Exit::Database);
    }

    #[test]
    fn an_error_of_several_lines_becomes_one() {
        assert_eq!(Failure::wrong("one\n  two\n\n").to_string(), "one; two");
    }
}
