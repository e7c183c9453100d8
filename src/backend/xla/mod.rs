//! The `xla` backend: a graph as one StableHLO program, compiled and run by the PJRT plugin that is there.
//!
//! A plugin is one shared library with a C API. Makers of accelerators ship theirs in Python wheels, which need no Python to
//! run, and plugins for plain CPUs exist too: so the path that trains on a GPU is tested on any machine. [`plugins`] finds them.
//!
//! [`lower`] writes the program's text from a graph that `plan` has made ready: pruned, differentiated, its blocks computed again.
//! [`run`] compiles it and passes tensors in and out. [`step`] writes a whole training step, which [`session`] runs on tensors that
//! stay on the device, or on several of them. [`offline`] compiles it for devices that are not here.
//!
//! **Invariant:** [`pjrt`] is the only door to foreign code; everything above it is safe Rust.
//!
//! **Invariant:** results are those of the `cpu` backend but for rounding, NaN included.

mod clock;
mod device;
pub mod lower;
pub mod offline;
mod peak;
pub mod pjrt;
pub mod plugins;
mod programs;
mod replicas;
mod run;
mod session;
pub mod step;
mod values;

pub use device::{Devices, accelerator, client};
pub use programs::{Compiling, fits};
pub use run::Xla;
pub use values::Number;
