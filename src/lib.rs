//! Reveille waits, so that workers don't have to.
//!
//! A task that must wait for something outside *defers*: it leaves its worker, and a small serialized trigger waits in
//! its place. The house, from the ground up; each layer uses only those before it:
//!
//! - words: [`error`], [`id`], [`clock`], [`task`], [`kind`], [`vault`]: pure, no I/O but key files;
//! - [`store`]: one schema on two databases, the only place that names sqlx;
//! - roles, which never import one another and meet in the database;
//! - edge: the command line.

pub mod clock;
pub mod error;
pub mod id;
pub mod kind;
pub mod store;
pub mod task;
pub mod vault;

pub mod triggerer;
pub mod worker;

pub mod cli;

pub mod demo;
pub mod life;
mod outage;
pub mod presence;
mod telemetry;
mod upkeep;

pub use error::{Error, Result};
pub use store::{NewTask, Options, Store, Url};
pub use task::{
    Awaited, Deferral, Next, Origin, Priority, Retry, Task, TaskContext, TaskError, WaitFailed, defer, done, done_with,
    skip, snooze,
};

pub use reveille_file as file;
pub use reveille_trigger as trigger;
pub use reveille_wait as wait;
