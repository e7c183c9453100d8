//! XLA: a whole training step as one StableHLO program, compiled and run by the PJRT plugin that is there.
//!
//! A plugin is one shared library with a C API. Makers of accelerators ship theirs in Python wheels, which need no Python to
//! run, and plugins for plain CPUs exist too: so the path that trains on a GPU is tested on any machine. [`plugins`] finds them.
//!
//! **Invariant:** [`pjrt`] is the only door to foreign code; everything above it is safe Rust.

pub mod pjrt;
pub mod plugins;
