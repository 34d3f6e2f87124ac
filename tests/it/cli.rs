//! The command line, driven as a person or a program drives it: the real binary, in a folder of its own.

mod bench;
mod configuration;
mod demo;
mod keys;
mod metrics;
mod plugin;
mod refusals;
mod round_trip;
mod serving;
mod shares;
mod shell;
mod takeover;
