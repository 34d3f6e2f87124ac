//! `reveille demo`

use std::{
    cell::Cell,
    fmt,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    output::{self, BAD, FAINT, GOOD, Output, STRONG},
    serve, time,
};
use crate::demo::{self, Progress, Report};

/// How often a plain line tells of the progress, where there is no terminal.
const LINE: i64 = 1_000;

/// Run every way that a task can wait and end, for real, and show what happened to each
///
/// Uses a fresh embedded database, or a schema of its own on the PostgreSQL server that --database-url names, and removes
/// it afterwards. Exits with 0 only if every task ended as it should.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Keep the database, and say where it is
    #[arg(long)]
    keep: bool,

    /// How many tasks sleep on timers beside the others
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sleepers: usize,
}

impl Demo {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let settings = demo::Settings {
            database: app.url().clone(),
            keep: self.keep,
            sleepers: self.sleepers,
            program: std::env::current_exe()?,
        };
        let screen = Screen::new(app.output);
        let show = |progress| screen.show(progress);
        let played = serve::until_signalled(async |stop| Box::pin(demo::run(settings, &stop, show)).await).await;
        screen.clear();
        let Some(report) = played?? else { return Ok(Exit::Interrupted) };
        let exit = if report.is_right() { Exit::Fine } else { Exit::Wrong };
        app.output.print(&Shown(report))?;
        Ok(exit)
    }
}

/// Progress: live on a terminal, a line a second elsewhere, nothing for programs.
enum Screen {
    Live(ProgressBar),
    Lines { clock: crate::clock::Clock, said: Cell<i64> },
    Silent,
}

impl Screen {
    fn new(output: Output) -> Self {
        if output == Output::Programs {
            return Self::Silent;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines { clock: crate::clock::Clock::system(), said: Cell::new(0) };
        }
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{elapsed:>4} {bar:32.cyan/dim} {pos}/{len} ended  {msg}");
        bar.set_style(style.expect("the template is well-formed"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Live(bar)
    }

    fn show(&self, progress: Progress) {
        let census = progress.census;
        let unfinished = census.ready + census.running + census.deferred;
        // Before they are all added there is nothing to tell of.
        let ended = (progress.tasks as i64 - unfinished).max(0);
        let standing = format!("{} wait, {} run, {} are ready", census.deferred, census.running, census.ready);
        match self {
            Self::Live(bar) => {
                bar.set_length(progress.tasks as u64);
                bar.set_position(if progress.all_added { ended.cast_unsigned() } else { 0 });
                bar.set_message(standing);
            }
            Self::Lines { clock, said } => {
                let now = clock.now_ms();
                if now - said.get() >= LINE {
                    said.set(now);
                    eprintln!("of {} tasks {standing}", progress.tasks);
                }
            }
            Self::Silent => {}
        }
    }

    fn clear(&self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Report);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        let mut table =
            output::table(["the task that", "ended", "turns", "attempts", "waited", "took", "in the hands of"]);
        for line in &report.acts {
            table.add_row([
                line.title.as_str().into(),
                output::state(&line.state),
                line.turns.into(),
                line.attempts.into(),
                time::brief(line.waited_ms).into(),
                time::brief(line.took_ms).into(),
                line.held_by.join(" → ").into(),
            ]);
        }
        writeln!(f, "{table}\n")?;
        let (awake, sleepers) = (report.awake, report.sleepers);
        let mark = if awake == sleepers { GOOD } else { BAD };
        writeln!(f, "{mark}{awake}{mark:#} of {sleepers} tasks that slept on timers woke and ended well")?;
        writeln!(
            f,
            "at the most {} tasks waited at once, and {} active triggers were held",
            report.peak_waiting, report.peak_held
        )?;
        let lag = &report.lag_ms;
        writeln!(
            f,
            "from due to resumed: {STRONG}p50 {} ms, p99 {} ms{STRONG:#}, longest {} ms",
            lag.p50, lag.p99, lag.max
        )?;
        writeln!(f, "{FAINT}{:.1} s on {}{FAINT:#}", report.seconds, report.backend)?;
        for line in &report.acts {
            if let Some(wrong) = &line.wrong {
                writeln!(f, "{BAD}wrong{BAD:#}: the task that {}: {wrong} ({})", line.title, line.id)?;
            }
        }
        if report.is_right() { writeln!(f, "{GOOD}every task ended as it should{GOOD:#}") } else { Ok(()) }
    }
}
