//! The protocol of leases, events and signals, explored exhaustively.
//!
//! Four models say what replicas, their statements and the database do, without SQL and without code of ours; `checker`
//! visits every state that they can come to, and tells the shortest way to one that must not be. Each has mutations: a rule
//! of the protocol taken away, which the checker must find to be needed.
//!
//! - `liveness`: beats, silence, parking, being declared gone; the only one with time in it.
//! - `leases`: leasing, taking over, what is held and what runs, capacity, forgetting.
//! - `outcomes`: events, verdicts, deadlines and cancellations, and the workers before and after them.
//! - `signals`: signals and waits, whichever comes first.
//!
//! `docs/PROTOCOL.md` says what each leaves out, and how many states there are. A package of its own, so that it alone is
//! optimized where the tests are not; it uses nothing of the others.
#![cfg(test)]

mod checker;
mod leases;
mod liveness;
mod outcomes;
mod signals;

/// Whether every model is to be explored as far as it goes, which takes minutes and gigabytes.
fn is_full() -> bool {
    std::env::var("PROTOCOL").is_ok_and(|scope| scope == "full")
}
