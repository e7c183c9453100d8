//! The C API of PJRT, by hand: a table of functions that a plugin hands out, called by their places in it.
//!
//! `table` holds places and layouts, `api` makes a call and turns its error into a [`PjrtError`]; on them stand [`Plugin`],
//! [`Client`], [`Buffer`], [`Executable`], and [`Topology`] for hardware that is not here. The table only grows: places and
//! layouts are those of versions 0.81 to 0.116, and a function that a plugin has not yet is told by name.
//!
//! **Invariant:** unsafe code stays within this folder. Whatever a plugin gives out is freed once, by `Drop`, while what it
//! came of is alive: buffers and executables hold their [`Client`]. A library is never unloaded, since its threads are not
//! known to have ended. A plugin's answer is looked at before it is used (null, lengths, codes): it never panics us.

mod api;
mod buffer;
mod client;
mod error;
mod event;
mod executable;
mod keys;
mod options;
mod plugin;
mod table;
mod topology;
mod version;

pub use buffer::{Buffer, ElementType, HostElement, HostMemory, Upload};
pub use client::{Client, Device, DeviceMemory};
pub use error::{Code, PjrtError};
pub use event::{Ending, Event};
pub use executable::{Compiled, Executable, MemoryStats};
pub use options::{CompileOptions, CreateOption, Flag, OptionValue};
pub use plugin::Plugin;
pub use topology::Topology;
pub use version::Version;
