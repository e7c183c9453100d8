//! The one test binary.

mod codes;
mod command;
mod eval;
mod golden;
mod lang;
mod ops;
mod pages;
mod pictures;
mod runs;
mod verify;
