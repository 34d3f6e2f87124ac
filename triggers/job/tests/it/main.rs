//! Servers that speak as the documentation of their APIs says.

mod answers;
mod cancelling;
mod known;
mod service;
mod specs;
mod stage;
