//! Reveille waits, so that workers don't have to.
//!
//! A task that must wait for something outside *defers*: it leaves its worker, and a small serialized trigger waits in
//! its place. The house, from the ground up; each floor uses only those below it:
//!
//! - words, pure but for key files: [`error`], [`id`], [`clock`], [`life`], [`task`], [`kind`], [`vault`];
//! - [`store`]: one schema on two databases, the only place that names sqlx;
//! - what every replica is and does: [`presence`] (beats, parking, being gone), `outage` (the one shape of every loop),
//!   `upkeep` (timers, deadlines, rescue, retention), [`lag`] (how late things were);
//! - roles: [`triggerer`], [`worker`], which never import one another and meet in the database;
//! - edge: [`demo`], [`mod@bench`], `outside` (what both wait for), `telemetry`, [`cli`].

// A crate of triggers that nobody names here would not be in the binary.
#![cfg_attr(not(test), deny(unused_crate_dependencies))]

pub mod clock;
pub mod error;
pub mod id;
pub mod kind;
pub mod life;
pub mod task;
pub mod vault;

pub mod store;

pub mod aside;
mod commits;
pub mod lag;
mod metrics;
mod outage;
pub mod presence;
pub mod tally;
mod upkeep;

pub mod triggerer;
pub mod worker;

pub mod bench;
pub mod cli;
pub mod demo;
mod outside;
mod telemetry;

pub use cli::run;
pub use error::{Error, Result};
pub use store::{NewTask, Options, Store, Url};
pub use task::{
    Awaited, Deferral, Next, Origin, Priority, Retry, Task, TaskContext, TaskError, WaitFailed, defer, done, done_with,
    skip, snooze,
};

#[doc(hidden)]
pub use inventory;

#[cfg(feature = "jemalloc")]
#[doc(hidden)]
pub use tikv_jemallocator;

pub use reveille_command as command;
pub use reveille_file as file;
pub use reveille_http as http;
pub use reveille_job as job;
pub use reveille_sql as sql;
pub use reveille_tcp as tcp;
pub use reveille_trigger as trigger;
pub use reveille_wait as wait;
pub use reveille_window as window;
