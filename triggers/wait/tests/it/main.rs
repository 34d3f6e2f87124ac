//! The triggers that have others inside, looked at by hand with a clock that is turned; and the golden specs of all.
#![expect(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod absent;
mod all;
mod any;
mod played;
mod specs;
