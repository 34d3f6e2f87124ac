//! A trigger that fires when a program on the triggerer's host says so, by its exit code.
//!
//! ```
//! use std::time::Duration;
//! use reveille_command::Command;
//!
//! let export = Command::new("/usr/local/bin/check-export").arg("2026-01-01").every(Duration::from_secs(30));
//! ```
//!
//! - `command.rs`: the trigger, its spec, and what each end of the program means
//! - `allowed.rs`: what the configuration lets specs run
//! - `run.rs`: one run, from its start to its end
//! - `group.rs`: the processes of a run, and how they are ended
//! - `output.rs`: what is kept of what a run writes

mod allowed;
mod command;
mod group;
mod output;
mod run;

pub use command::Command;
