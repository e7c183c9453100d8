//! The one test binary.

mod codes;
mod command;
mod eval;
mod golden;
mod pages;
mod pictures;
mod runs;
mod verify;
