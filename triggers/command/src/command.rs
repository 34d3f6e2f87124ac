//! Fires when a program on the triggerer's host says so.

use std::{collections::BTreeMap, os::unix::process::ExitStatusExt, time::Duration};

use camino::Utf8PathBuf;
use reveille_trigger::{Answer, Context, Error, Event, Spacing, Trigger, async_trait, typetag};
use serde::{Deserialize, Serialize};

use crate::{
    allowed::Allowed,
    run::{Ran, run},
};

/// The most bytes that all arguments and variables have together.
const MAX_BYTES: usize = 64 * 1024;

/// The longest that a run may be allowed to take.
const MAX_TIME_OUT: Duration = Duration::from_hours(1);

/// Fires when a program exits with code 0. The payload is what it wrote to its standard output: JSON where it is JSON,
/// else text without the white space at its end, and null where it wrote nothing.
///
/// # Spec
/// `{"argv": ["/usr/local/bin/check-export", "2026-01-01"], "every": "30s", "time_out": "10s"}`
///
/// - `argv`: the program, by its absolute path, and its arguments. No shell reads them.
/// - `env`: variables for it, such as `{"STAGE": "prod"}`. None unless given.
/// - `directory`: where it runs, absolute; `"/"` unless given.
/// - `every`: how far apart the runs are; `"5s"` unless given.
/// - `time_out`: how long a run may take, at most an hour; `"30s"` unless given.
///
/// # What is allowed
/// Only what the configuration of the triggerer's replica names, by path or by pattern, as the spec writes it; links
/// are not resolved. Nothing is, unless it says so:
///
/// ```toml
/// [triggers.command]
/// allow = ["/usr/local/bin/check-*"]  # programs; a wildcard crosses no slash
/// env = ["STAGE"]                     # variables that specs may set
/// ```
///
/// Allow programs that take any arguments safely, and no shell. What is not allowed is an error that may be tried
/// again, because another replica may allow it.
///
/// # What its end means
/// | end | answer |
/// |---|---|
/// | exit code 0 | it has happened |
/// | exit code 1 | not yet |
/// | any other exit code | the wait ends badly; the reason has the last 2 KiB of the standard error |
/// | killed by a signal | an error that may be tried again |
/// | cannot be started: missing, not executable | the same: another replica may have it |
/// | takes longer than `time_out` | the same |
///
/// Many languages exit with code 1 when a script crashes. Where that can happen, set a deadline for the wait.
///
/// # What it may use
/// Its environment is empty but for `PATH`, `HOME` and `LANG` of the triggerer and what the spec names. Its standard
/// input is empty. The first 64 KiB of its output are kept, and the rest is read and dropped; a payload that was cut is
/// text whose last line says so.
///
/// It runs in a process group of its own. When the program ends, what it has left in the group is killed. At a
/// time-out, a cancellation, or when the triggerer stops or loses the wait, the group gets `SIGTERM`, and `SIGKILL`
/// when the program has ended, or after two seconds. A process that leaves the group is out of reach, and so are all
/// of them if the triggerer itself is killed: a program should bear to run twice at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    argv: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(default = "default_directory")]
    directory: Utf8PathBuf,
    #[serde(default)]
    every: Spacing,
    #[serde(default = "default_time_out", with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    time_out: Duration,
}

impl Command {
    /// Runs the program at this absolute path.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            env: BTreeMap::new(),
            directory: default_directory(),
            every: Spacing::default(),
            time_out: default_time_out(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable, which the configuration must allow.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets where it runs.
    #[must_use]
    pub fn directory(self, directory: impl Into<Utf8PathBuf>) -> Self {
        Self { directory: directory.into(), ..self }
    }

    /// Sets how far apart the runs are.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        self.spaced(Spacing::every(every))
    }

    /// Sets how far apart the runs are, where that is to grow.
    #[must_use]
    pub fn spaced(self, every: Spacing) -> Self {
        Self { every, ..self }
    }

    /// Sets how long a run may take.
    #[must_use]
    pub fn within(self, time_out: Duration) -> Self {
        Self { time_out, ..self }
    }

    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    fn answer(&self, ran: Ran) -> Result<Answer, Error> {
        let because = |stderr: String| if stderr.is_empty() { stderr } else { format!(": {stderr}") };
        match ran.status.code() {
            Some(0) => Ok(Answer::Fire(Event::resume(ran.stdout.into_payload())?)),
            Some(1) => Ok(Answer::NotYet),
            Some(code) => {
                let said = because(ran.stderr.into_text());
                Ok(Answer::Fire(Event::fail(format!("{:?} ended with exit code {code}{said}", self.program()))))
            }
            None => {
                let signal = ran.status.signal().unwrap_or_default();
                let said = because(ran.stderr.into_text());
                Err(Error::again(format!("{:?} was killed by signal {signal}{said}", self.program())))
            }
        }
    }
}

#[typetag::serde(name = "command")]
#[async_trait]
impl Trigger for Command {
    async fn check(&self, cx: &Context) -> Result<Answer, Error> {
        // Also of what was stored without being validated: a path with `..` in it is not where its pattern says.
        self.validate()?;
        Allowed::here(cx.config())?.refuse(self.program(), self.env.keys())?;
        let ran = run(&self.argv, &self.env, &self.directory).await.map_err(|error| {
            Error::again(format!("cannot run {:?} in {:?}: {error}", self.program(), self.directory))
        })?;
        if let Some(code) = ran.status.code() {
            cx.say(format!("it ended with exit code {code}"));
        }
        self.answer(ran)
    }

    fn validate(&self) -> Result<(), Error> {
        valid_path("the program in `argv`", self.program(), "/usr/local/bin/check-export")?;
        valid_path("`directory`", self.directory.as_str(), "/srv")?;
        let variables = self.env.iter().flat_map(|(name, value)| [name, value]);
        let texts = || self.argv.iter().chain(variables.clone());
        if texts().any(|text| text.contains('\0')) {
            return Err(Error::fatal("`argv` or `env` contains a NUL character, which no program can be given"));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(Error::fatal(format!("`env` names a variable {name:?}: a name is not empty and has no `=`")));
        }
        let bytes: usize = texts().map(String::len).sum();
        if bytes > MAX_BYTES {
            return Err(Error::fatal(format!(
                "`argv` and `env` have {bytes} bytes, and may have {MAX_BYTES}: let the program read them from a file"
            )));
        }
        if self.every.interval(Duration::ZERO).is_zero() {
            return Err(Error::fatal("`every` is zero: write how far apart the runs are, such as \"30s\""));
        }
        if self.time_out.is_zero() || self.time_out > MAX_TIME_OUT {
            return Err(Error::fatal(
                "`time_out` is zero or longer than an hour: write how long a run may take, such as \"30s\"",
            ));
        }
        Ok(())
    }

    fn spacing(&self) -> Spacing {
        self.every
    }

    fn destination(&self) -> Option<String> {
        Some(self.program().to_owned())
    }

    fn time_out(&self) -> Option<Duration> {
        Some(self.time_out)
    }
}

/// A path that is what it says: from the root, and with nothing in it that leads back.
fn valid_path(what: &str, path: &str, example: &str) -> Result<(), Error> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Error::fatal(format!("{what} is {path:?}: write it from the root, such as {example:?}")));
    };
    let is_plain = |part| !matches!(part, "" | "." | "..");
    if rest.is_empty() || rest.split('/').all(is_plain) {
        return Ok(());
    }
    Err(Error::fatal(format!("{what} is {path:?}: write it without `.`, `..`, `//` and a slash at its end")))
}

const fn default_time_out() -> Duration {
    Duration::from_secs(30)
}

fn default_directory() -> Utf8PathBuf {
    "/".into()
}
