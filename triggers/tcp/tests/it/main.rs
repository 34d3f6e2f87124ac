//! Real sockets on this host.

mod looks;
mod specs;
