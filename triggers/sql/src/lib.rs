//! A trigger that fires when a query has a row.
//!
//! ```
//! use std::time::Duration;
//! use reveille_sql::Sql;
//!
//! let export = Sql::query("warehouse", "select id, rows from export where day = $1::date and done")
//!     .parameter("2026-01-01")
//!     .every(Duration::from_secs(30));
//! ```
//!
//! - `sql.rs`: the trigger, its spec, and what each answer means
//! - `query.rs`: a query and its parameters; which are refused
//! - `look.rs`: one look, in a read-only transaction, on each of the three databases
//! - `pool.rs`: connections by their names in the configuration
//! - `fault.rs`: what the errors of a database mean

mod fault;
mod look;
mod pool;
mod query;
mod sql;

pub use sql::Sql;
