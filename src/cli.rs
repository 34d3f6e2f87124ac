//! The command line: sentences and tables for people; `--json` and exit codes for programs.
//!
//! One file a command, each of which reads from top to bottom as a recipe. The binary of a project of its own has the
//! same commands, with its own tasks and triggers: see [`main!`](crate::main!).

mod app;
mod bench;
mod config;
mod demo;
mod dev;
mod doctor;
mod failure;
mod fleet;
mod kinds;
mod migrate;
mod output;
mod outside;
mod queue;
mod replica;
mod serve;
mod task;
mod time;
mod triggerer;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand, error::ErrorKind};

use self::{
    app::{App, Flags},
    failure::{Exit, Failure},
    output::Output,
};

const AFTER_HELP: &str = "\
Configuration: flags go before variables, variables before the file, the file before defaults.
  The file is ./reveille.toml, or what --config or REVEILLE_CONFIG names:
    database_url, key_file, payload_limit, log, log_format, metrics
    [triggerer]  capacity, queues, lease
    [worker]     concurrency, queues, names, lease, drain, deferrable
    [retention]  kept
  The variable of triggerer.capacity is REVEILLE_TRIGGERER_CAPACITY, and so on.
  Names that are none of these are errors.

Exit codes:
  0  done
  1  something is wrong: no such task, findings of doctor, work dropped at the end of the drain
  2  the command line, the configuration or the key file is not right
  3  the database cannot be reached, or not be used as it is
  130  interrupted a second time while stopping";

/// Reveille waits, so that workers don't have to.
#[derive(Debug, Parser)]
#[command(name = "reveille", version, after_long_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Dev(dev::Dev),
    Triggerer(triggerer::Triggerer),
    Worker(worker::Worker),
    Migrate(migrate::Migrate),
    #[command(subcommand)]
    Task(task::Task),
    #[command(subcommand)]
    Queue(queue::Queue),
    #[command(subcommand)]
    Replica(replica::Replica),
    Kinds(kinds::Kinds),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    #[command(subcommand, hide = true)]
    Outside(outside::Outside),
}

impl Command {
    async fn run(self, app: &mut App) -> Result<Exit, Failure> {
        match self {
            Self::Demo(command) => command.run(app).await,
            Self::Dev(command) => command.run(app).await,
            Self::Triggerer(command) => command.run(app).await,
            Self::Worker(command) => command.run(app).await,
            Self::Migrate(command) => command.run(app).await,
            Self::Task(command) => command.run(app).await,
            Self::Queue(command) => command.run(app).await,
            Self::Replica(command) => command.run(app).await,
            Self::Kinds(command) => command.run(app),
            Self::Doctor(command) => command.run(app).await,
            Self::Bench(command) => command.run(app).await,
            Self::Outside(command) => command.run().await,
        }
    }
}

/// Does what the command line says, with the tasks and triggers that are linked into this binary.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let output = cli.flags.output();
    match obey(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => output.fail(&failure).into(),
    }
}

fn obey(cli: Cli) -> Result<Exit, Failure> {
    let mut app = App::new(cli.flags)?;
    if let Command::Demo(_) | Command::Bench(_) | Command::Outside(_) = cli.command {
        // They show what happens by themselves, and some of that is meant to go wrong.
        app.log_errors_only();
    }
    app.start_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(cli.command.run(&mut app));
    // A look at a file on a mount that hangs must not keep the process.
    runtime.shutdown_background();
    exit
}

/// What clap has to say: help and version for those who asked, or what is wrong with the command line.
fn refuse(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if wants_json && !asked {
        let text = error.to_string();
        // What follows is how to use the command, for people.
        let what = text.split("\n\nUsage:").next().unwrap_or(&text).split("\n\nFor more").next().unwrap_or(&text);
        let words: Vec<&str> = what.strip_prefix("error: ").unwrap_or(what).split_whitespace().collect();
        return Output::Programs.fail(&Failure::usage(words.join(" "))).into();
    }
    if let Err(error) = error.print() {
        tracing::debug!("the help was not read to its end: {error}");
    }
    if asked { Exit::Fine.into() } else { Exit::Usage.into() }
}

/// Links crates that bring triggers or tasks. A crate that no code names is left out of the binary, silently, and so is
/// what it registers; the lint `unused_crate_dependencies` finds it, and `reveille kinds` lists what is in the binary.
///
/// ```no_run
/// reveille::link!(reveille_file, reveille_wait);
///
/// fn main() -> std::process::ExitCode {
///     reveille::run()
/// }
/// ```
#[macro_export]
macro_rules! link {
    ($($linked:ident),* $(,)?) => { $(use $linked as _;)* };
}

/// The heap of a binary: what is held is let go of by another thread than asked for it, which that of glibc is slow at.
#[cfg(feature = "jemalloc")]
#[doc(hidden)]
#[macro_export]
macro_rules! heap {
    () => {
        #[global_allocator]
        static HEAP: $crate::tikv_jemallocator::Jemalloc = $crate::tikv_jemallocator::Jemalloc;
    };
}

/// The heap of a binary: the system's.
#[cfg(not(feature = "jemalloc"))]
#[doc(hidden)]
#[macro_export]
macro_rules! heap {
    () => {};
}

/// The whole of a binary: links crates that bring triggers or tasks, and does what the command line says.
///
/// ```no_run
/// reveille::main!(reveille_file, reveille_wait);
/// ```
///
/// With the feature `jemalloc`, which is on by default, its heap is jemalloc. A binary that is to have another one turns
/// the feature off, or has a `main` of its own, as under [`link!`](crate::link).
#[macro_export]
macro_rules! main {
    ($($linked:ident),* $(,)?) => {
        $crate::link!($($linked),*);
        $crate::heap!();

        fn main() -> ::std::process::ExitCode {
            $crate::run()
        }
    };
}
