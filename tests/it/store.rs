//! The store's verbs, on both databases.

mod advance;
mod arrival;
mod cancel;
mod claim;
mod connect;
mod deadlocks;
mod deferral;
mod enqueue;
mod fire;
mod fleet;
mod holders;
mod life;
mod races;
mod replicas;
mod report;
mod retention;
mod sealing;
mod sessions;
mod signal;
mod slot;
mod time;
mod wake;
mod writer;
