//! The tests that need a database: every claim is held on SQLite and on PostgreSQL.
//!
//! A test arranges on a [`Stage`](stage::Stage), with a database of its own and a clock that it turns. `bash tests/run`
//! starts the PostgreSQL that they need.
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

#[macro_use]
mod macros;
mod stage;

mod cli;
#[expect(dead_code, reason = "servers that are stopped and started are for the tests of the roles")]
mod cluster;
mod layers;
mod plans;
mod presence;
mod sql;
mod store;
