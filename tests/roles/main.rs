//! The roles while they run: what the design promises of them, on SQLite and on PostgreSQL.
//!
//! Other than in `tests/it`, the clock is real, as what is tested is loops, threads, connections and processes. Leases are
//! short where a test waits for one to pass. Nothing sleeps to get an order: what must come first is waited for, with a
//! bound. `bash tests/run` starts the PostgreSQL that they need.
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

#[macro_use]
#[path = "../it/macros.rs"]
#[expect(unused_macros, reason = "some are for tests that turn the clock")]
mod macros;
mod stage;

mod agreeing;
mod around;
mod cancelling;
mod capacity;
mod clocks;
mod ends;
mod events;
mod failover;
mod hints;
mod inside;
mod limits;
mod lost;
mod parking;
mod pooling;
mod presence;
mod processes;
mod secrets;
mod shares;
mod sharing;
mod silence;
mod slots;
mod slowness;
mod steps;
mod stopping;
mod strangers;
mod takeover;
mod versions;
mod waits;
