//! Triggers that fire when a query has a row, or when PostgreSQL sends a notification.
//!
//! ```
//! use std::time::Duration;
//! use reveille_sql::{Listen, Sql};
//!
//! let export = Sql::query("warehouse", "select id, rows from export where day = $1::date and done")
//!     .parameter("2026-01-01")
//!     .every(Duration::from_secs(30));
//! let order = Listen::on("shop", "orders");
//! ```
//!
//! - `sql.rs`, `listen.rs`: the triggers, their specs, and what each answer means
//! - `query.rs`: a query and its parameters; which are refused
//! - `look.rs`: one look, in a read-only transaction, on each of the three databases
//! - `pool.rs`: connections by their names in the configuration
//! - `hub.rs`: the one connection that listens for all tasks
//! - `fault.rs`: what the errors of a database mean

mod fault;
mod hub;
mod listen;
mod look;
mod pool;
mod query;
mod sql;

pub use listen::{Heard, Listen};
pub use sql::Sql;
