//! `reveille doctor`

use std::{fmt, os::unix::fs::PermissionsExt, path::Path};

use serde::Serialize;

use super::{
    app::App,
    failure::{Exit, Failure},
    fleet::Fleet,
    output::{BAD, FAINT, GOOD, counted},
    replica, serve,
};
use crate::{
    kind,
    store::{Store, migrations, replica::Role},
    worker::Tasks,
};

/// Find out what is wrong: settings, key, database, replicas, what does not move
///
/// The exit code is 0 if all is well, and 1 if anything is not.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn run(self, app: &App) -> Result<Exit, Failure> {
        let mut report = Report::default();
        report.take("binary", binary());
        report.take("settings", settings(app));
        if let Some(path) = exposed(app) {
            let path = path.display();
            report.notice(
                "to know",
                format!("{path} holds connections, and others on this host may read it"),
                format!("`chmod 600 {path}`, if nothing else keeps it from them"),
            );
        }
        let has_key = report.take("key file", app.vault().map(|_| app.key_file().display().to_string()));
        match app.open().await {
            Ok(store) => {
                report.good("database", format!("{}, which the key opens", app.url()));
                report.good("schema", format!("up to date, at migration {}", migrations(app.url()).count()));
                match replica::fleet(&store).await {
                    Ok(fleet) => replicas(&mut report, &fleet),
                    Err(failure) => report.bad("replicas", &failure),
                }
                findings(&mut report, &store).await;
                app.close(store).await;
            }
            Err(failure) if has_key || failure.exit() == Exit::Database => report.bad("database", &failure),
            Err(_) => report.untried("database", format!("{}, for want of the key", app.url())),
        }
        app.output.print(&report)?;
        Ok(if report.ok() { Exit::Fine } else { Exit::Wrong })
    }
}

fn binary() -> Result<String, Failure> {
    let (kinds, tasks) = (kind::kinds()?, Tasks::linked());
    tasks.validate()?;
    let (kinds, tasks) = (counted(kinds.len(), "trigger kind"), counted(tasks.names().count(), "task"));
    Ok(format!("reveille {}, with {kinds} and {tasks}", env!("CARGO_PKG_VERSION")))
}

fn settings(app: &App) -> Result<String, Failure> {
    app.config.triggerer_settings(serve::host())?;
    app.config.worker_settings(serve::host())?;
    Ok(match &app.config_file {
        Some(path) => format!("from {}, and what goes before it", path.display()),
        None => "no file; from flags, variables and defaults".to_owned(),
    })
}

/// The configuration, if it holds secrets that its mode does not keep.
fn exposed(app: &App) -> Option<&Path> {
    let path = app.config_file.as_deref().filter(|_| !app.config.connections.is_empty())?;
    let mode = path.metadata().ok()?.permissions().mode();
    (mode & 0o077 != 0).then_some(path)
}

fn replicas(report: &mut Report, fleet: &Fleet) {
    let live = |role: Role| counted(fleet.live(role).len(), role.word());
    report.good("replicas", format!("{} and {} live", live(Role::Triggerer), live(Role::Worker)));
    for role in [Role::Triggerer, Role::Worker] {
        for replica in fleet.silent(role) {
            let (name, silence) = (fleet.name(replica.incarnation), fleet.silence(replica));
            let silent =
                Failure::wrong(format!("{name} has shown no life for {silence}, and nobody has declared it gone"));
            report.bad("replicas", &silent.help(format!("start a {role}: it notices within a lease, and takes over")));
        }
    }
}

async fn findings(report: &mut Report, store: &Store) {
    let findings = match store.examine().await {
        Ok(findings) => findings,
        Err(error) => return report.bad("tasks", &error.into()),
    };
    if report.ok() && !findings.iter().any(|finding| finding.is_problem) {
        report.good("tasks", "whatever waits or is ready can be taken".to_owned());
    }
    for finding in findings {
        if finding.is_problem {
            report.bad("finding", &Failure::wrong(finding.what).help(finding.advice));
        } else {
            report.notice("to know", finding.what, finding.advice);
        }
    }
}

/// Everything that was looked at, in order.
#[derive(Default)]
struct Report(Vec<Line>);

#[derive(Serialize)]
struct Line {
    check: &'static str,
    state: State,
    message: String,
    help: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Good,
    Bad,
    Untried,
    Notice,
}

impl Report {
    fn good(&mut self, check: &'static str, message: String) {
        self.0.push(Line { check, state: State::Good, message, help: None });
    }

    fn untried(&mut self, check: &'static str, message: String) {
        self.0.push(Line { check, state: State::Untried, message, help: None });
    }

    fn notice(&mut self, check: &'static str, message: String, help: String) {
        self.0.push(Line { check, state: State::Notice, message, help: Some(help) });
    }

    fn bad(&mut self, check: &'static str, failure: &Failure) {
        let help = failure.advice().map(str::to_owned);
        self.0.push(Line { check, state: State::Bad, message: failure.to_string(), help });
    }

    /// Whether it was good.
    fn take(&mut self, check: &'static str, outcome: Result<String, Failure>) -> bool {
        match outcome {
            Ok(message) => self.good(check, message),
            Err(failure) => {
                self.bad(check, &failure);
                return false;
            }
        }
        true
    }

    fn problems(&self) -> usize {
        self.0.iter().filter(|check| check.state == State::Bad).count()
    }

    fn ok(&self) -> bool {
        self.problems() == 0
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            ok: bool,
            checks: &'a [Line],
        }
        Form { ok: self.ok(), checks: &self.0 }.serialize(serializer)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { check, state, message, help } in &self.0 {
            let (style, mark) = match state {
                State::Good => (GOOD, "✓"),
                State::Bad => (BAD, "✗"),
                State::Untried | State::Notice => (FAINT, "-"),
            };
            writeln!(f, "{style}{mark}{style:#} {check:<10}{message}")?;
            if let Some(help) = help {
                writeln!(f, "            {FAINT}{help}{FAINT:#}")?;
            }
        }
        match self.problems() {
            0 => writeln!(f, "\nall is well"),
            1 => writeln!(f, "\n1 problem"),
            count => writeln!(f, "\n{count} problems"),
        }
    }
}
