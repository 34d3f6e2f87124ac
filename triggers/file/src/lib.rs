//! A trigger that fires when a file, or a match of a glob, is there and has stopped growing.
//!
//! ```
//! use std::time::Duration;
//! use reveille_file::File;
//!
//! let report = File::at("/data/in/report.csv");
//! let parts = File::matching("/data/in/part-*.csv").settle(Duration::from_secs(30));
//! ```
//!
//! - `file.rs`: the trigger, its spec, and what counts as settled
//! - `place.rs`: its path, taken apart; which paths and patterns are refused
//! - `glance.rs`: what the kernel knows by heart, so that nothing needs to be waited for
//! - `look.rs`: one look at the file system, and the limits it keeps
//! - `found.rs`: what a look finds and what the task resumes with

mod file;
mod found;
mod glance;
mod look;
mod place;

pub use file::File;
pub use found::{Found, FoundFile};
