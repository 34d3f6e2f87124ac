//! Triggers that are waits and nothing else: a time, a signal, the end of another task.
//!
//! While a task waits on one of them it costs a row. No triggerer leases it and no check runs, unless it is nested in
//! a trigger that does have checks to make.
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

mod signal;
mod task;
mod timer;

pub use signal::Signal;
pub use task::{EndState, Ended, TaskEnd};
pub use timer::Timer;
