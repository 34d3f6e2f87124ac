//! A trigger that fires when a TCP port accepts connections.
//!
//! ```
//! use std::time::Duration;
//! use reveille_tcp::Tcp;
//!
//! let database = Tcp::new("db.internal", 5432).every(Duration::from_secs(1));
//! ```
//!
//! - `tcp.rs`: the trigger, its spec, and what each answer of the network means
//! - `resolve.rs`: from a name to all its addresses
//! - `connect.rs`: from addresses to the first that accepts

mod connect;
mod resolve;
mod tcp;

pub use tcp::{Accepted, Tcp};
