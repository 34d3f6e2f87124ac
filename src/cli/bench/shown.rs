//! What was measured, for people.

use std::fmt;

use serde::Serialize;

use crate::{
    bench::{self, Beside, Report, Settled},
    cli::output::{self, FAINT, STRONG},
};

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) Report);

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
        if let Some(asleep) = report.asleep {
            line("asleep", asleep.to_string(), "tasks that sleep in the same tables");
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
            ("events", report.events_per_s, report.events_are()),
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
        over_time(report, f)?;
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

/// How many bars a line of them has at most.
const BARS: usize = 60;

/// Each measure over time, as bars, and whether it is flat.
fn over_time(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(samples) = &report.samples else { return Ok(()) };
    let mut table = output::table(["measure", "over time", "middle third", "last third", ""]);
    for series in bench::series(samples) {
        let (flat, told) = (series.flat(), |value| bench::shown(series.unit, value));
        let bars: Vec<u64> = series.in_brief(BARS).into_iter().map(|value| (1_000.0 * value) as u64).collect();
        let verdict = if flat.is_flat { "flat" } else { "grows" };
        table.add_row([&series.measure, &output::bars(&bars), &told(flat.middle), &told(flat.last), verdict]);
    }
    writeln!(f, "\n{table}")
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
    fn bytes_are_short_to_read() {
        assert_eq!([0, 1_536, 66 << 20].map(bytes), ["0 B", "1.5 KiB", "66.0 MiB"]);
    }
}
