//! `reveille bench`

mod shown;

use std::{fs, path::PathBuf, time::Duration};

use self::shown::Shown;
use super::{
    app::App,
    failure::{Exit, Failure},
    serve, time,
};
use crate::bench::{
    self, Beside, Burst, Fault, Kind, Poll, Scenario, Settings, Settled, Share, Shares, Takeover, Timers, Waiting,
};

/// Measure what a replica does on this machine and with this database
///
/// Works in a fresh embedded database, or in a schema of its own on the PostgreSQL server that --database-url names, and
/// removes it afterwards. A database that holds tasks which are not finished is refused unless --schema is given. With
/// --json, the last line is one object with all figures.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,

    /// How long to measure
    #[arg(long, global = true, value_name = "DURATION", value_parser = seconds, default_value = "10")]
    seconds: Duration,

    /// What the schema is called: it is made, also where tasks are that are not finished, and removed afterwards
    #[arg(long, global = true, value_name = "NAME", value_parser = schema)]
    schema: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Let waits be over all at one instant, and time how soon their events are committed
    Burst {
        /// Who finds that a wait is over: a check, or whoever looks for what is due
        #[arg(long, value_enum, default_value = "active")]
        kind: Awaited,

        /// How many waits there are
        #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        #[command(flatten)]
        around: Around,
    },

    /// Start a triggerer where there are free triggers, and time how soon it holds them all
    Pickup {
        /// How many triggers there are
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        #[command(flatten)]
        around: Around,
    },

    /// Have tasks go all the way: added, claimed, deferred, leased, fired, claimed again and finished
    Cycle {
        /// How many tasks
        #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        tasks: u32,

        #[command(flatten)]
        around: Around,
    },

    /// Have timers come due one after the other, and tell how long after its time each step runs
    Timers {
        /// How many come due in a second
        #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
    },

    /// Let many tasks wait for the same, which is checked once for all of them
    Share {
        /// How many tasks wait
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        /// For how many different things
        #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        specs: u32,

        /// How far apart the checks of one thing are
        #[arg(long, value_name = "DURATION", value_parser = spacing, default_value = "1s")]
        every: Duration,
    },

    /// Hold triggers that are not checked meanwhile, and tell what each takes
    Hold {
        /// How many
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        triggers: u32,
    },

    /// The same, given back in between: what sleeps long takes nothing
    Dormant {
        /// How many
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        triggers: u32,
    },

    /// Hold active triggers that are checked again and again
    Poll {
        /// What to check: files that are not there, or a web server that is not done
        #[arg(long, value_enum, default_value = "file")]
        kind: Polled,

        /// How many triggers to hold
        #[arg(long, value_name = "N", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        /// How far apart the checks of one trigger are
        #[arg(long, value_name = "DURATION", value_parser = spacing, default_value = "1s")]
        every: Duration,
    },

    /// Let triggerers share triggers, one more join them, and one leave
    ///
    /// Exits with 1 if a share ends more than 5 % off what is fair, or a trigger moved twice for one change.
    Shares {
        /// How many triggerers there are at first, each in a process of its own
        #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=64))]
        replicas: u32,

        /// How many triggers there are
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        /// How long a triggerer may be silent before others take over: it renews three to five times in this time
        #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
        lease: Duration,
    },

    /// Let a replica die, hang or leave, and time how soon its triggers run elsewhere
    ///
    /// Exits with 1 if a deferral reached no outcome, or more than one.
    Takeover {
        /// How many triggerers there are, each in a process of its own
        #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(2..=64))]
        replicas: u32,

        /// How many triggers there are, all held by one of them before the others join
        #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        triggers: u32,

        /// What befalls that one: SIGKILL, SIGSTOP (and SIGCONT afterwards), SIGTERM
        #[arg(long, value_enum, default_value = "kill")]
        fault: Befalling,

        /// How long a triggerer may be silent before others take over
        #[arg(long, value_name = "DURATION", value_parser = time::duration, default_value = "10s")]
        lease: Duration,
    },

    /// Put rows that cannot run beside some that can, and tell what a claim and a lease read, without and with them
    ///
    /// On PostgreSQL the pages that the statements of the runtime read or find in memory, by explain (analyze, buffers);
    /// on SQLite, which counts none, the steps of its virtual machine. Exits with 1 if they are over half as many again.
    Stuck {
        /// How many tasks sleep long, on dormant triggers and passive waits. A tenth as many wait for a full concurrency key,
        /// as many again are ready under a name that nobody has, and as many wait on triggers of a kind that nobody has
        #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
        triggers: u32,
    },

    /// Have tasks come, wait and end at a steady pace for long, and tell whether anything grows
    ///
    /// What has ended is forgotten after a minute. Exits with 1 if descriptors, memory, tasks of the runtime, tables, indexes
    /// or lags were larger in the last third than in the one before. Give it --seconds 1200.
    Soak {
        /// How many tasks come in a second
        #[arg(long, value_name = "N", default_value = "850", value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,

        /// Where to draw how it went
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

/// What it is measured in.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
struct Around {
    /// How many milliseconds longer a round trip to the server is to take, as over a network; on PostgreSQL alone
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    delay: Option<u32>,

    /// How many tasks sleep in the same tables, half of them on passive waits and half on dormant triggers
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    asleep: u32,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Awaited {
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Befalling {
    Kill,
    Stop,
    Term,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Polled {
    File,
    Http,
}

impl Bench {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let around = self.what.around();
        let settings = Settings {
            database: app.url().clone(),
            schema: self.schema,
            program: std::env::current_exe()?,
            lasting: self.seconds,
            delay: around.delay.map(|ms| Duration::from_millis(ms.into())),
            asleep: around.asleep as usize,
            scenario: self.what.scenario(),
        };
        let drawing = if let What::Soak { svg, .. } = self.what { svg } else { None };
        let measured = serve::until_signalled(async |stop| Box::pin(bench::run(settings, &stop)).await).await?;
        let Some(report) = measured? else { return Ok(Exit::Interrupted) };
        let is_right = [report.lost, report.doubled].into_iter().flatten().all(|count| count == 0)
            && report.settled.iter().flatten().all(Settled::is_right)
            && [report.buffers, report.steps].iter().flatten().all(Beside::is_flat)
            && report.flat.iter().flatten().all(|flat| flat.is_flat);
        if let (Some(file), Some(samples)) = (drawing, &report.samples) {
            let text = bench::svg(&bench::series(samples), report.seconds);
            fs::write(&file, text)
                .map_err(|error| Failure::wrong(format!("cannot write {}: {error}", file.display())))?;
        }
        app.output.print(&Shown(report))?;
        Ok(if is_right { Exit::Fine } else { Exit::Wrong })
    }
}

impl What {
    fn around(&self) -> Around {
        match self {
            Self::Burst { around, .. } | Self::Pickup { around, .. } | Self::Cycle { around, .. } => *around,
            _ => Around::default(),
        }
    }

    fn scenario(&self) -> Scenario {
        match *self {
            Self::Burst { kind, triggers, .. } => Scenario::Burst(Burst {
                waiting: match kind {
                    Awaited::Active => Waiting::Active,
                    Awaited::Passive => Waiting::Passive,
                },
                triggers: triggers as usize,
            }),
            Self::Pickup { triggers, .. } => Scenario::Pickup(triggers as usize),
            Self::Cycle { tasks, .. } => Scenario::Cycle(tasks as usize),
            Self::Timers { rate } => Scenario::Timers(Timers { rate: rate as usize }),
            Self::Share { triggers, specs, every } => {
                Scenario::Share(Share { triggers: triggers as usize, specs: specs as usize, every })
            }
            Self::Hold { triggers } => Scenario::Hold(triggers as usize),
            Self::Dormant { triggers } => Scenario::Dormant(triggers as usize),
            Self::Poll { kind, triggers, every } => Scenario::Poll(Poll {
                horizon: Duration::MAX,
                kind: match kind {
                    Polled::File => Kind::File,
                    Polled::Http => Kind::Http,
                },
                triggers: triggers as usize,
                every,
            }),
            Self::Shares { replicas, triggers, lease } => {
                Scenario::Shares(Shares { replicas: replicas as usize, triggers: triggers as usize, lease })
            }
            Self::Takeover { replicas, triggers, fault, lease } => Scenario::Takeover(Takeover {
                replicas: replicas as usize,
                triggers: triggers as usize,
                fault: match fault {
                    Befalling::Kill => Fault::Kill,
                    Befalling::Stop => Fault::Stop,
                    Befalling::Term => Fault::Term,
                },
                lease,
            }),
            Self::Stuck { triggers } => Scenario::Stuck(triggers as usize),
            Self::Soak { rate, .. } => Scenario::Soak(rate as usize),
        }
    }
}

/// Reads a number of seconds, or a duration.
fn seconds(text: &str) -> Result<Duration, String> {
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => time::duration(text)?,
    };
    if duration < Duration::from_secs(1) { Err("measure for a second at least".to_owned()) } else { Ok(duration) }
}

fn schema(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_name = text.len() <= 63 && text.chars().all(is_plain) && !text.starts_with(|c: char| c.is_ascii_digit());
    if is_name && !text.is_empty() && !text.starts_with("pg_") {
        Ok(text.to_owned())
    } else {
        Err("a schema is named by lower-case letters, digits and underscores, not by a digit or pg_ first".to_owned())
    }
}

fn spacing(text: &str) -> Result<Duration, String> {
    let duration = time::duration(text)?;
    if duration.is_zero() { Err("checks need some time between them, such as 1s".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_a_number_or_a_duration() {
        assert_eq!(seconds("60"), Ok(Duration::from_mins(1)));
        assert_eq!(seconds("2m"), Ok(Duration::from_mins(2)));
        assert!(seconds("0").is_err() && seconds("soon").is_err());
    }

    #[test]
    fn schemas_have_plain_names() {
        assert_eq!(schema("bench_2"), Ok("bench_2".to_owned()));
        for odd in ["", "2bench", "Bench", "a-b", "a\"", "pg_bench", &"a".repeat(64)] {
            assert!(schema(odd).is_err(), "{odd}");
        }
    }
}
