//! Where answers go. An answer is one value: `Display` for people, `Serialize` for programs.
//!
//! Text is written with its colours, and the stream drops them where there is no terminal, or `NO_COLOR` is set.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table};
use serde::Serialize;

use super::failure::{Exit, Failure};

pub(super) const STRONG: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HELP: Style = AnsiColor::Cyan.on_default().bold();

/// For whom to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    People,
    Programs,
}

impl Output {
    /// Answers on stdout.
    pub(super) fn print<T: Serialize + Display>(self, answer: &T) -> Result<(), Failure> {
        let text = match self {
            Self::People => answer.to_string(),
            Self::Programs if io::stdout().is_terminal() => json(serde_json::to_string_pretty(answer))?,
            Self::Programs => json(serde_json::to_string(answer))?,
        };
        let mut stdout = anstream::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(end.as_bytes()));
        match written.and_then(|()| stdout.flush()) {
            // Whoever read has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
    }

    /// Says on stderr that what was done may not be what was meant.
    pub(super) fn warn(self, warning: &str, help: &str) {
        match self {
            Self::People => {
                anstream::eprintln!("{WARNING}warning{WARNING:#}: {warning}\n{HELP}help{HELP:#}: {help}");
            }
            Self::Programs => eprintln!("{}", serde_json::json!({ "warning": warning, "help": help })),
        }
    }

    /// Says on stderr why there is no answer.
    pub(super) fn fail(self, failure: &Failure) -> Exit {
        match self {
            Self::People => {
                anstream::eprintln!("{ERROR}error{ERROR:#}: {failure}");
                if let Some(advice) = failure.advice() {
                    anstream::eprintln!("{HELP}help{HELP:#}: {advice}");
                }
            }
            Self::Programs => match serde_json::to_string(&failure.report()) {
                Ok(report) => eprintln!("{report}"),
                Err(error) => {
                    eprintln!("{{\"error\":\"an error could not be written as JSON: {error}\",\"causes\":[]}}")
                }
            },
        }
        failure.exit()
    }
}

fn json(text: serde_json::Result<String>) -> Result<String, Failure> {
    text.map_err(|error| Failure::new(Exit::Wrong, error))
}

/// A table without lines. Its first column is never broken, so that what is in it can be copied.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(|title| Cell::new(title.to_uppercase()).add_attribute(Attribute::Dim)))
        .enforce_styling();
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if at == 0 {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table
}

/// A state, in the colour of how well that is.
pub(super) fn state(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "succeeded" => cell.fg(Color::Green),
        "failed" => cell.fg(Color::Red),
        "running" => cell.fg(Color::Cyan),
        "deferred" => cell.fg(Color::Yellow),
        "skipped" | "cancelled" => cell.add_attribute(Attribute::Dim),
        _ => cell,
    }
}

/// Text of somebody else's on one line, with what could drive the terminal made harmless.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|letter| {
            let escaped = letter.is_control().then(|| letter.escape_default());
            escaped.into_iter().flatten().chain((!letter.is_control()).then_some(letter))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_somebody_elses_cannot_drive_the_terminal() {
        assert_eq!(plain("red\u{1b}[31m\nline"), r"red\u{1b}[31m\nline");
    }
}
