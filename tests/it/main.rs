//! The one test binary.

mod command;
mod eval;
mod golden;
mod pictures;
mod runs;
mod verify;
