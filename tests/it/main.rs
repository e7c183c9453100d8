//! The one test binary.

mod eval;
mod verify;
