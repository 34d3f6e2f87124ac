//! Days of 23, 24 and 25 hours.

mod openings;
mod properties;
mod specs;
