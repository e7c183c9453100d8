//! Compiled programs: run, kept as bytes, asked for their memory.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::fmt;
use std::ptr::{NonNull, null_mut};

use super::api::list;
use super::buffer::Buffer;
use super::client::{Client, mlir, null_of};
use super::error::PjrtError;
use super::options::CompileOptions;
use super::plugin::Plugin;
use super::table::{
    self, ClientCompile, ExecutableDeserializeAndLoad, ExecutableDestroy, ExecutableGetCompiledMemoryStats,
    ExecutableNumOutputs, ExecutableOptimizedProgram, ExecutableSerialize, ExecuteOptions, LoadedAddressableDevices,
    LoadedDestroy, LoadedExecute, LoadedGetExecutable, Program,
};

/// A compiled program, whether or not a device is here that could run it.
pub struct Compiled {
    plugin: Plugin,
    raw: NonNull<table::Executable>,
    /// Held where the program came of a client.
    _client: Option<Client>,
}

// SAFETY: it may be asked from any thread: PJRT's objects lock what they share.
unsafe impl Send for Compiled {}
// SAFETY: as above.
unsafe impl Sync for Compiled {}

/// Bytes of a device that one run of a program takes, as its compiler has planned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryStats {
    pub arguments: u64,
    pub outputs: u64,
    /// Of the outputs, what lies in the memory of donated arguments.
    pub aliased: u64,
    pub temporary: u64,
    /// At most, at one time; 0 from plugins that do not tell.
    pub peak: u64,
    pub generated_code: u64,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiled(by {:?})", self.plugin)
    }
}

impl Compiled {
    /// # Safety
    /// `raw` is an executable of this plugin (and client), ours to free.
    pub(super) unsafe fn new(plugin: &Plugin, client: Option<Client>, raw: NonNull<table::Executable>) -> Self {
        Compiled { plugin: plugin.clone(), raw, _client: client }
    }

    /// How many values it gives on each device.
    pub fn outputs(&self) -> Result<usize, PjrtError> {
        let mut args = ExecutableNumOutputs { executable: self.raw.as_ptr(), ..ExecutableNumOutputs::new() };
        // SAFETY: the executable is alive.
        unsafe { self.plugin.api().call(&mut args)? };
        Ok(args.num_outputs)
    }

    pub fn memory(&self) -> Result<MemoryStats, PjrtError> {
        let mut args = ExecutableGetCompiledMemoryStats {
            executable: self.raw.as_ptr(),
            ..ExecutableGetCompiledMemoryStats::new()
        };
        // SAFETY: the executable is alive.
        unsafe { self.plugin.api().call(&mut args)? };
        let bytes = |told: i64| u64::try_from(told).unwrap_or(0);
        Ok(MemoryStats {
            arguments: bytes(args.arguments),
            outputs: bytes(args.outputs),
            aliased: bytes(args.aliased),
            temporary: bytes(args.temporary),
            peak: bytes(args.peak),
            generated_code: bytes(args.generated_code),
        })
    }

    /// Bytes for [`Client::load`]. Of one program compiled twice they may differ.
    pub fn serialize(&self) -> Result<Vec<u8>, PjrtError> {
        let mut args = ExecutableSerialize { executable: self.raw.as_ptr(), ..ExecutableSerialize::new() };
        // SAFETY: the executable is alive; its bytes live until the deleter is called, once, and are copied before.
        unsafe {
            self.plugin.api().call(&mut args)?;
            let bytes = list(args.bytes, args.bytes_size).to_vec();
            if let Some(delete) = args.deleter {
                delete(args.serialized);
            }
            Ok(bytes)
        }
    }

    /// The program as XLA has optimised it, in a form of XLA's own (a protobuf of HLO with its settings).
    pub fn optimized_program(&self) -> Result<Vec<u8>, PjrtError> {
        let mut program = Program::new();
        let mut bytes: Vec<u8> = Vec::new();
        // Once for its size, once for it.
        for _ in 0..2 {
            let mut args = ExecutableOptimizedProgram {
                executable: self.raw.as_ptr(),
                program: &raw mut program,
                ..ExecutableOptimizedProgram::new()
            };
            // SAFETY: the executable is alive; `program.code` is null, or has as many bytes as the plugin asked for.
            unsafe { self.plugin.api().call(&mut args)? };
            if program.code.is_null() {
                bytes.resize(program.code_size, 0);
                program.code = bytes.as_mut_ptr().cast();
            }
        }
        bytes.truncate(program.code_size);
        Ok(bytes)
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        let mut args = ExecutableDestroy { executable: self.raw.as_ptr(), ..ExecutableDestroy::new() };
        // SAFETY: the executable is ours, and nobody has it from here on; a client that it came of is alive.
        unsafe { self.plugin.api().end(&mut args) }
    }
}

/// A compiled program on the devices of a client.
pub struct Executable {
    client: Client,
    raw: NonNull<table::Loaded>,
    compiled: Compiled,
    outputs: usize,
    /// Places among the client's devices, in the order of the replicas.
    devices: Vec<usize>,
}

// SAFETY: it may be run from any thread: PJRT's objects lock what they share.
unsafe impl Send for Executable {}
// SAFETY: as above.
unsafe impl Sync for Executable {}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executable({} outputs on devices {:?} of {:?})", self.outputs, self.devices, self.client)
    }
}

/// Ends a loaded executable even where asking it for what it is has failed.
struct Loading<'c>(&'c Client, NonNull<table::Loaded>);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        // SAFETY: the executable is ours, and nobody has it from here on.
        unsafe { self.0.api().end(&mut LoadedDestroy { loaded: self.1.as_ptr(), ..LoadedDestroy::new() }) }
    }
}

impl Client {
    /// Compiles a StableHLO text for these devices.
    pub fn compile(&self, program: &str, options: &CompileOptions) -> Result<Executable, PjrtError> {
        let (program, options) = (mlir(program), options.encode());
        let mut args = ClientCompile {
            client: self.raw(),
            program: &raw const program,
            options: options.as_ptr(),
            options_size: options.len(),
            ..ClientCompile::new()
        };
        // SAFETY: client, text and options live until the call is over.
        unsafe { self.api().call(&mut args)? };
        let raw = NonNull::new(args.executable).ok_or_else(null_of::<ClientCompile>)?;
        // SAFETY: it is this client's, and ours to free.
        unsafe { Executable::new(self, raw) }
    }

    /// Takes back what [`Executable::serialize`] gave, of the very same plugin file and kind of device: another version of a
    /// plugin may take the bytes and compute wrong numbers, so whoever keeps them keeps [`Plugin::hash`] with them.
    pub fn load(&self, bytes: &[u8]) -> Result<Executable, PjrtError> {
        let mut args = ExecutableDeserializeAndLoad {
            client: self.raw(),
            bytes: bytes.as_ptr(),
            bytes_size: bytes.len(),
            ..ExecutableDeserializeAndLoad::new()
        };
        // SAFETY: client and bytes live until the call is over.
        unsafe { self.api().call(&mut args)? };
        let raw = NonNull::new(args.loaded).ok_or_else(null_of::<ExecutableDeserializeAndLoad>)?;
        // SAFETY: it is this client's, and ours to free.
        unsafe { Executable::new(self, raw) }
    }
}

impl Executable {
    /// # Safety
    /// `raw` is a loaded executable of this client, ours to free.
    pub(super) unsafe fn new(client: &Client, raw: NonNull<table::Loaded>) -> Result<Self, PjrtError> {
        let loading = Loading(client, raw);
        let mut args = LoadedGetExecutable { loaded: raw.as_ptr(), ..LoadedGetExecutable::new() };
        let mut on = LoadedAddressableDevices { loaded: raw.as_ptr(), ..LoadedAddressableDevices::new() };
        // SAFETY: the loaded executable is alive, and its list of devices lives as long as it; the executable that it gives is
        // ours to free.
        let (compiled, devices) = unsafe {
            client.api().call(&mut args)?;
            let executable = NonNull::new(args.executable).ok_or_else(null_of::<LoadedGetExecutable>)?;
            let compiled = Compiled::new(client.plugin(), Some(client.clone()), executable);
            client.api().call(&mut on)?;
            let devices: Result<Vec<usize>, PjrtError> =
                list(on.devices, on.num_devices).iter().map(|device| client.place_of(*device)).collect();
            (compiled, devices?)
        };
        let outputs = compiled.outputs()?;
        std::mem::forget(loading);
        Ok(Executable { client: client.clone(), raw, compiled, outputs, devices })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What can be asked of it without running it.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// The client's devices that run it at once, each by its place: replica for replica, where their arguments must lie.
    pub fn devices(&self) -> &[usize] {
        &self.devices
    }

    pub fn memory(&self) -> Result<MemoryStats, PjrtError> {
        self.compiled.memory()
    }

    pub fn serialize(&self) -> Result<Vec<u8>, PjrtError> {
        self.compiled.serialize()
    }

    /// Begins a run on the one device of the program. Its results may be passed on at once; an error of the computation is
    /// given where they are waited for or read.
    ///
    /// Arguments whose `tf.aliasing_output` names a result are donated: the result has their memory and they are deleted, but
    /// for those whose numbers stand in `keep`, which are copied. After an error all are as they were.
    pub fn execute(&self, arguments: &[&Buffer], keep: &[usize]) -> Result<Vec<Buffer>, PjrtError> {
        let mut results = self.execute_replicas(&[arguments], keep)?;
        results.pop().ok_or_else(null_of::<LoadedExecute>)
    }

    /// [`Executable::execute`] on each device of the program with arguments of its own.
    pub fn execute_replicas(&self, arguments: &[&[&Buffer]], keep: &[usize]) -> Result<Vec<Vec<Buffer>>, PjrtError> {
        let num_args = self.check(arguments)?;
        let raws: Vec<Vec<*mut table::Buffer>> =
            arguments.iter().map(|list| list.iter().map(|buffer| buffer.raw()).collect()).collect();
        let argument_lists: Vec<*const *mut table::Buffer> = raws.iter().map(|list| list.as_ptr()).collect();
        let mut results: Vec<Vec<*mut table::Buffer>> = vec![vec![null_mut(); self.outputs]; self.devices.len()];
        let output_lists: Vec<*mut *mut table::Buffer> = results.iter_mut().map(|list| list.as_mut_ptr()).collect();
        let keep: Vec<i64> = keep.iter().map(|index| i64::try_from(*index).unwrap_or(i64::MAX)).collect();
        let mut options =
            ExecuteOptions { non_donatable: keep.as_ptr(), num_non_donatable: keep.len(), ..ExecuteOptions::new() };
        let mut args = LoadedExecute {
            loaded: self.raw.as_ptr(),
            options: &raw mut options,
            argument_lists: argument_lists.as_ptr(),
            num_devices: self.devices.len(),
            num_args,
            output_lists: output_lists.as_ptr(),
            ..LoadedExecute::new()
        };
        // SAFETY: all buffers are alive and of this client; there is a list of arguments for each device, and one with room for
        // each output. The plugin takes hold of the arguments' memory before the call is over.
        unsafe { self.client.api().call(&mut args)? };
        let of = |raw: &*mut table::Buffer, device: usize| {
            let raw = NonNull::new(*raw).ok_or_else(null_of::<LoadedExecute>)?;
            // SAFETY: results are of this client, and ours to free.
            Ok(unsafe { Buffer::new(&self.client, device, raw) })
        };
        let on = |(list, device): (&Vec<_>, &usize)| list.iter().map(|raw| of(raw, *device)).collect();
        results.iter().zip(&self.devices).map(on).collect()
    }

    /// Looks at what a plugin may not survive: where one replica is refused, the others may wait for it for ever. Gives the
    /// number of arguments of each.
    fn check(&self, arguments: &[&[&Buffer]]) -> Result<usize, PjrtError> {
        let (expected, found) = (self.devices.len(), arguments.len());
        let Some(first) = arguments.first().filter(|_| expected == found) else {
            return Err(PjrtError::Devices { expected, found });
        };
        for (list, device) in arguments.iter().zip(&self.devices) {
            if list.len() != first.len() {
                return Err(PjrtError::Uneven { first: first.len(), other: list.len() });
            }
            for (argument, buffer) in list.iter().enumerate() {
                if !buffer.client().is(&self.client) {
                    return Err(PjrtError::Foreign { argument });
                }
                if buffer.device() != *device {
                    return Err(PjrtError::Elsewhere { argument, found: buffer.device(), expected: *device });
                }
            }
        }
        Ok(first.len())
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        drop(Loading(&self.client, self.raw));
    }
}
