//! The one test binary.

mod codes;
mod command;
mod eval;
mod golden;
mod lang;
mod pages;
mod pictures;
mod runs;
mod verify;
