//! The `xla` backend: a graph as one StableHLO program, which the PJRT plugin that is there compiles for what it drives.
//!
//! [`lower`] writes the program's text from a graph that `plan` has made ready: pruned, differentiated, its blocks computed again.
//!
//! **Invariant:** results are those of the `cpu` backend but for rounding, NaN included.

pub mod lower;
