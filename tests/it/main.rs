//! The one test binary.

mod command;
mod eval;
mod golden;
mod verify;
