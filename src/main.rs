//! The binary, with the triggers that Reveille brings and no others.

reveille::main!();
