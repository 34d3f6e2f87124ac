//! What a process says of itself while it runs: logs, on stderr, so that stdout is left to answers.

use std::io::{self, IsTerminal as _};

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// What is logged unless asked for otherwise. Of an outage we speak ourselves, with measure.
pub(crate) const DEFAULT_FILTER: &str = "reveille=info,sqlx=error,warn";

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// Begins to log what `filter` lets through.
///
/// # Errors
/// If the filter does not read.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(filter)?).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(wants_colour()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

fn wants_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
