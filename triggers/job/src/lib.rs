//! A trigger that waits for a job on another system, and cancels the job when its task is cancelled.
//!
//! ```
//! use reveille_job::{Api, Job, States};
//!
//! let run = Job::databricks("workspace", 455_644_833);
//! let own = Job::on(
//!     Api::poll("/exports/{id}")
//!         .states(States::at("$.state").done(["done"]).failed(["failed", "cancelled"]).not_yet(["queued", "running"]))
//!         .cancel("/exports/{id}/cancel"),
//! )
//! .connection("warehouse")
//! .param("id", 7);
//! ```
//!
//! - `job.rs`: the trigger, its spec, and how it cancels
//! - `api.rs`: how a job is asked for, what its states mean, and how it is cancelled
//! - `known.rs` and `known.toml`: the APIs that are ready-made
//! - `fill.rs`: the places of a URL or a body that parameters fill

mod api;
mod fill;
mod job;
mod known;

pub use api::{Api, Cancel, Param, States};
pub use job::{Ended, Job};
