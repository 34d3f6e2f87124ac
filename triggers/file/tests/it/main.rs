//! Real files in temporary directories, and a clock that only the tests turn.

mod matching;
mod settling;
mod specs;
mod stage;
