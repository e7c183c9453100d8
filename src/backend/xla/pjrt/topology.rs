//! Hardware that is described and not here: programs are compiled for it, and kept or looked at.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::ptr::NonNull;

use super::client::{mlir, null_of};
use super::error::PjrtError;
use super::executable::Compiled;
use super::options::{CompileOptions, CreateOption};
use super::plugin::Plugin;
use super::table::{self, Compile, NamedValue, TopologyCreate, TopologyDestroy};

/// Devices and how they are joined, of a machine that need not be here.
pub struct Topology {
    plugin: Plugin,
    raw: NonNull<table::Topology>,
}

// SAFETY: a description is only read: from any thread.
unsafe impl Send for Topology {}
// SAFETY: as above.
unsafe impl Sync for Topology {}

impl Topology {
    /// The plugin's words decide what can be described. For NVIDIA: `target_config`, XLA's text for one kind of GPU, and
    /// `topology`, partitions × hosts × devices of a host (`1x1x8`).
    pub fn new(plugin: &Plugin, options: &[CreateOption]) -> Result<Self, PjrtError> {
        let named: Vec<NamedValue> = options.iter().map(CreateOption::named_value).collect();
        // The plugin's default.
        let name = "";
        let mut args = TopologyCreate {
            name: name.as_ptr().cast(),
            name_size: name.len(),
            create_options: named.as_ptr(),
            num_options: named.len(),
            ..TopologyCreate::new()
        };
        // SAFETY: name and options live until the call is over, and the plugin keeps copies.
        unsafe { plugin.api().call(&mut args)? };
        let raw = NonNull::new(args.topology).ok_or_else(null_of::<TopologyCreate>)?;
        Ok(Topology { plugin: plugin.clone(), raw })
    }

    /// Compiles a StableHLO text for these devices.
    pub fn compile(&self, program: &str, options: &CompileOptions) -> Result<Compiled, PjrtError> {
        let (program, options) = (mlir(program), options.encode());
        let mut args = Compile {
            topology: self.raw.as_ptr(),
            program: &raw const program,
            options: options.as_ptr(),
            options_size: options.len(),
            ..Compile::new()
        };
        // SAFETY: topology, text and options live until the call is over; the result is ours to free.
        unsafe {
            self.plugin.api().call(&mut args)?;
            let raw = NonNull::new(args.executable).ok_or_else(null_of::<Compile>)?;
            Ok(Compiled::new(&self.plugin, None, raw))
        }
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let mut args = TopologyDestroy { topology: self.raw.as_ptr(), ..TopologyDestroy::new() };
        // SAFETY: the topology is ours, and nobody has it from here on.
        unsafe { self.plugin.api().end(&mut args) }
    }
}
