//! The one test binary.

mod eval;
mod ops;
mod verify;
