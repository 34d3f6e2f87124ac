//! Real processes, and an end of a pipe in each of them that tells when it is gone.

mod ending;
mod meaning;
mod specs;
mod stage;
