//! A trigger that fires within hours of the day and days of the week, in a time zone. It is a row and never runs.
//!
//! ```
//! use jiff::{Timestamp, civil::time};
//! use reveille_trigger::{Trigger, Wait};
//! use reveille_window::{Day, Window};
//!
//! let nights = Window::between(time(22, 0, 0, 0), time(6, 0, 0, 0), "Europe/Berlin").on([Day::Mon, Day::Tue]);
//! let friday: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
//! let monday_night = "2026-01-05T22:00:00+01:00".parse().unwrap();
//! assert_eq!(nights.wait(friday), Wait::Until(monday_night));
//! ```
//!
//! - `window.rs`: the trigger and its spec
//! - `opening.rs`: when a window opens next, with days that have 23 or 25 hours
//! - `words.rs`: how times of day and days of the week are written

mod opening;
mod window;
mod words;

pub use window::Window;
pub use words::Day;
