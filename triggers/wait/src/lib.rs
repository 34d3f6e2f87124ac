//! Triggers that are waits and nothing else: a time, a signal, the end of another task; and those with others inside.
//!
//! While a task waits on one of the first three it costs a row: no triggerer leases it and no check runs. Inside
//! [`Any`], [`All`], [`NotBefore`] and [`Absent`] they are looked at like everything else there; but nothing is looked at
//! before there is a reason to, so that a wait for a time or a signal costs no more than a row there either.
//!
//! ```
//! use std::time::Duration;
//! use reveille_trigger::{Timestamp, Trigger, Wait};
//! use reveille_wait::Timer;
//!
//! let deferred_at = Timestamp::UNIX_EPOCH;
//! let two_hours = Duration::from_hours(2);
//! assert_eq!(Timer::after(two_hours).wait(deferred_at), Wait::Until(deferred_at + two_hours));
//! ```

mod absent;
mod all;
mod any;
mod inside;
mod not_before;
mod signal;
mod task;
mod timer;

pub use absent::{Absent, Otherwise};
pub use all::All;
pub use any::Any;
pub use not_before::NotBefore;
pub use signal::Signal;
pub use task::{EndState, Ended, TaskEnd};
pub use timer::Timer;
