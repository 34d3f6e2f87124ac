//! Where answers go. An answer is one value: `Display` for people, `Serialize` for programs.
//!
//! Text is written with its colours, and the stream drops them where there is no terminal, or `NO_COLOR` is set.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde::Serialize;

use super::failure::{Exit, Failure};

pub(super) const STRONG: Style = Style::new().bold();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();
const HELP: Style = AnsiColor::Cyan.on_default().bold();

/// How narrow the last column of a table becomes before its lines are longer than the terminal.
const NARROWEST: u16 = 24;

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
                    eprintln!("{{\"error\":\"an error could not be written as JSON: {error}\",\"causes\":[]}}");
                }
            },
        }
        failure.exit()
    }
}

fn json(text: serde_json::Result<String>) -> Result<String, Failure> {
    text.map_err(|error| Failure::new(Exit::Wrong, error))
}

/// A table without lines. Only its last column is broken where a terminal is too narrow.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.map(|title| Cell::new(title.to_uppercase()).add_attribute(Attribute::Dim)))
        .enforce_styling()
        .style_text_only();
    for (at, column) in table.column_iter_mut().enumerate() {
        let is_last = at + 1 == N;
        column.set_padding((0, 2)).set_constraint(if is_last {
            ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST))
        } else {
            ColumnConstraint::ContentWidth
        });
    }
    table
}

/// A state, in the colour of how well that is.
pub(super) fn state(state: &str) -> Cell {
    let cell = Cell::new(state);
    match state {
        "succeeded" => cell.fg(Color::DarkGreen),
        "failed" => cell.fg(Color::DarkRed),
        "running" => cell.fg(Color::DarkCyan),
        "deferred" => cell.fg(Color::DarkYellow),
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

/// A word of somebody else's, as an argument that can be copied to a shell.
pub(super) fn argument(word: &str) -> String {
    let word = plain(word);
    let is_harmless = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@+%,".contains(letter);
    if !word.is_empty() && word.chars().all(is_harmless) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Counts as bars side by side, the largest as high as a line: `█▃▁ ▁`. What is not zero is seen.
pub(super) fn bars(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let bar = |count: u64| match count {
        0 => ' ',
        // From 1 to 8 eighths, rounded up.
        count => BARS[((u128::from(count) * 8).div_ceil(u128::from(most)) as usize).clamp(1, 8) - 1],
    };
    counts.iter().map(|count| bar(*count)).collect()
}

/// `1 task`, `2 tasks`
pub(super) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_can_be_copied_to_a_shell() {
        assert_eq!(argument("order-42/paid"), "order-42/paid");
        assert_eq!(argument("it's; rm -rf"), r"'it'\''s; rm -rf'");
    }

    #[test]
    fn bars_are_as_high_as_counts_are_large() {
        assert_eq!(bars(&[1000, 500, 0, 1]), "█▄ ▁");
        assert_eq!(bars(&[u64::MAX, u64::MAX / 2]), "█▄");
        assert_eq!(bars(&[]), "");
    }

    #[test]
    fn text_of_somebody_elses_cannot_drive_the_terminal() {
        assert_eq!(plain("red\u{1b}[31m\nline"), r"red\u{1b}[31m\nline");
    }
}
