//! `reveille bench`

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    output::{self, FAINT, STRONG},
    serve, time,
};
use crate::bench::{
    self, Beside, Burst, Fault, Kind, Poll, Report, Scenario, Settings, Settled, Share, Shares, Takeover, Timers,
    Waiting,
};

/// Measure what a replica does on this machine and with this database
///
/// Works in a fresh embedded database, or in a schema of its own on the PostgreSQL server that --database-url names, and
/// removes it afterwards. With --json, the last line is one object with all figures.
#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,

    /// How long to measure
    #[arg(long, global = true, value_name = "DURATION", value_parser = seconds, default_value = "10")]
    seconds: Duration,
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
        network: Network,
    },

    /// Start a triggerer where there are free triggers, and time how soon it holds them all
    Pickup {
        /// How many triggers there are
        #[arg(long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        triggers: u32,

        #[command(flatten)]
        network: Network,
    },

    /// Have tasks go all the way: added, claimed, deferred, leased, fired, claimed again and finished
    Cycle {
        /// How many tasks
        #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        tasks: u32,

        #[command(flatten)]
        network: Network,
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
}

/// What is between the benchmark and the server.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Network {
    /// How many milliseconds longer a round trip to the server is to take, as over a network; on PostgreSQL alone
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    delay: Option<u32>,
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
        let settings = Settings {
            database: app.url().clone(),
            program: std::env::current_exe()?,
            lasting: self.seconds,
            delay: self.what.delay(),
            scenario: self.what.scenario(),
        };
        let measured = serve::until_signalled(async |stop| Box::pin(bench::run(settings, &stop)).await).await?;
        let Some(report) = measured? else { return Ok(Exit::Interrupted) };
        let is_right = [report.lost, report.doubled].into_iter().flatten().all(|count| count == 0)
            && report.settled.iter().flatten().all(Settled::is_right)
            && [report.buffers, report.steps].iter().flatten().all(Beside::is_flat);
        app.output.print(&Shown(report))?;
        Ok(if is_right { Exit::Fine } else { Exit::Wrong })
    }
}

impl What {
    fn delay(&self) -> Option<Duration> {
        let (Self::Burst { network, .. } | Self::Pickup { network, .. } | Self::Cycle { network, .. }) = self else {
            return None;
        };
        network.delay.map(|ms| Duration::from_millis(ms.into()))
    }

    fn scenario(self) -> Scenario {
        match self {
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

fn spacing(text: &str) -> Result<Duration, String> {
    let duration = time::duration(text)?;
    if duration.is_zero() { Err("checks need some time between them, such as 1s".to_owned()) } else { Ok(duration) }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Report);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        let mut table = output::table(["measured", "of", ""]);
        let mut line = |what: &str, figure: String, of: &str| {
            table.add_row([what, &figure, of]);
        };
        let what = [Some(report.scenario), report.kind].into_iter().flatten().collect::<Vec<_>>().join(" ");
        line(
            "triggers",
            report.triggers.to_string(),
            &format!("{what} on {}, for {:.1} s", report.backend, report.seconds),
        );
        if let Some(delay) = report.delay_ms {
            line("delay", format!("{delay} ms"), "that a round trip to the server takes longer");
        }
        if let Some(polls) = report.polls_per_s {
            let failed = report.polls_failed.unwrap_or_default();
            line(
                "polls",
                format!("{polls:.0}/s"),
                &format!("checks that came to an end; {failed} of all could not tell"),
            );
        }
        if let Some(served) = report.served_per_s {
            line("answers", format!("{served:.0}/s"), "by the count of the server");
        }
        for (what, rate, of) in [
            ("events", report.events_per_s, "committed, from the instant to the last"),
            ("pick-up", report.pickup_per_s, "leased, from the start of the triggerer to the last"),
            ("cycles", report.cycles_per_s, "from the first that is added to the last that is over"),
            ("floor", report.floor_per_s, "plain SQL that writes the same rows and does nothing else"),
        ] {
            if let Some(rate) = rate {
                line(what, format!("{rate:.0}/s"), of);
            }
        }
        if let Some(ratio) = report.ratio_to_floor {
            line("of it", format!("{:.0} %", 100.0 * ratio), "how far up to the floor it goes");
        }
        if let Some(statements) = report.statements_per_event {
            line("statements", format!("{statements:.3}"), "for each, as the server counts them");
        }
        line("CPU", format!("{:.1} %", report.cpu_percent), "of one core, this process alone");
        if let Some(rss) = report.rss_bytes {
            line("memory", bytes(rss), "resident, at the end");
        }
        if let Some(each) = report.rss_bytes_per_trigger {
            line("for each", bytes(each), "what it grew by, over the number of triggers");
        }
        if let Some((lost, doubled)) = report.lost.zip(report.doubled) {
            line("lost", lost.to_string(), "deferrals that reached no outcome");
            line("doubled", doubled.to_string(), "deferrals that reached more than one");
        }
        for (what, beside) in [("pages", report.buffers), ("steps", report.steps)] {
            if let Some(beside) = beside {
                let Beside { claim_before, claim_after, lease_before, lease_after } = beside;
                line(
                    what,
                    format!("{claim_before} → {claim_after}"),
                    "of a claim of 100 tasks, without and beside them",
                );
                line("", format!("{lease_before} → {lease_after}"), "of a lease of 100 triggers");
            }
        }
        if let Some(Beside { claim_before, claim_after, lease_before, lease_after }) = report.took_ms {
            line("took", format!("{claim_before:.1} → {claim_after:.1} ms"), "the claim, at the quickest");
            line("", format!("{lease_before:.1} → {lease_after:.1} ms"), "the lease");
        }
        for settled in report.settled.iter().flatten() {
            let Settled { after, off_percent, renewals, seconds, most_moves, .. } = settled;
            let held: Vec<String> = settled.held.iter().map(|(_, held)| held.to_string()).collect();
            line(
                after,
                format!("{off_percent:.1} % off"),
                &format!("the share furthest from fair: {}", held.join(", ")),
            );
            let moves = format!("until none was more than 5 % off; each trigger moved {most_moves} times at most");
            line("", format!("{renewals} renewals"), &format!("{seconds:.1} s {moves}"));
        }
        writeln!(f, "{table}")?;
        let from_to = [(report.lag_is(), &report.lag_ms), ("the fault to running elsewhere", &report.takeover_ms)];
        let told = from_to.into_iter().find_map(|(from_to, lag)| Some((from_to, lag.as_ref()?)));
        let Some((from_to, lag)) = told else { return Ok(()) };
        writeln!(
            f,
            "\nfrom {from_to}: {STRONG}p50 {} ms, p99 {} ms{STRONG:#}, longest {} ms",
            lag.p50, lag.p99, lag.max
        )?;
        let last = (1_u64 << lag.shape.len().saturating_sub(1)) - 1;
        writeln!(
            f,
            "{}  {FAINT}in time, up to 1 ms late, up to 3, up to 7 … up to {last}{FAINT:#}",
            output::bars(&lag.shape)
        )
    }
}

/// `512 B`, `1.5 KiB`, `66.0 MiB`
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
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
    fn bytes_are_short_to_read() {
        assert_eq!([0, 1_536, 66 << 20].map(bytes), ["0 B", "1.5 KiB", "66.0 MiB"]);
    }
}
