//! What authors check of their triggers, in a line each. All of them panic with what is wrong.
//!
//! - `specs.rs`: what is stored
//! - `polls.rs`: what a check leaves behind, and whom it holds up

mod polls;
mod specs;

pub use polls::{may_be_dropped, never_blocks};
pub use specs::{golden_specs, refuses_unknown_fields, round_trips};
