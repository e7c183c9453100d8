//! A client: a plugin with hold of its devices. Compiles programs and takes tensors.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::ffi::c_char;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::api::{Api, list, text};
use super::error::{Code, PjrtError};
use super::options::{CreateOption, OptionValue};
use super::plugin::Plugin;
use super::table::{
    self, Args, ClientAddressableDevices, ClientCreate, ClientDestroy, ClientPlatformName, ClientPlatformVersion,
    DescriptionId, DescriptionKind, DeviceGetDescription, DeviceMemoryStats, NamedValue, Program,
};

/// A plugin with hold of its devices; copies are the same client, which ends with the last of them and of what came of it.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    handle: Handle,
    platform_name: String,
    platform_version: String,
    devices: Vec<Device>,
}

/// Ends the client even where asking it for its devices has failed.
struct Handle {
    plugin: Plugin,
    raw: NonNull<table::Client>,
}

// SAFETY: a client may be used from any thread: PJRT's objects lock what they share.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: whatever came of the client holds it, so nothing is left that could use it.
        unsafe { self.plugin.api().end(&mut ClientDestroy { client: self.raw.as_ptr(), ..ClientDestroy::new() }) }
    }
}

/// One device that this process may use.
#[derive(Debug, Clone)]
pub struct Device {
    /// What [`CompileOptions::devices`] calls it.
    pub id: i64,
    /// `NVIDIA H100 80GB HBM3`, `cpu`.
    pub kind: String,
    raw: DevicePointer,
}

#[derive(Debug, Clone, Copy)]
struct DevicePointer(*mut table::Device);

// SAFETY: it is only used by its client, which may be used from any thread.
unsafe impl Send for DevicePointer {}
// SAFETY: as above.
unsafe impl Sync for DevicePointer {}

/// Bytes of a device's memory; `None` for what the plugin does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    pub in_use: u64,
    pub peak: Option<u64>,
    /// What programs and tensors may take in all.
    pub limit: Option<u64>,
    /// The largest piece that is free.
    pub largest_free: Option<u64>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {} devices)", self.platform_name(), self.devices().len())
    }
}

impl Plugin {
    /// Takes hold of the plugin's devices.
    ///
    /// A plugin for plain CPUs makes four devices unless `cpu_device_count` says how many.
    pub fn client(&self, options: &[CreateOption]) -> Result<Client, PjrtError> {
        Client::new(self, options)
    }

    /// [`Plugin::client`] whatever the plugin drives: `cpu_devices` where it is one for plain CPUs, else `options`.
    ///
    /// Which of both it is only its client tells, so a client for plain CPUs is tried first: other plugins refuse its option,
    /// or pass over it and tell another platform.
    pub fn any_client(&self, cpu_devices: usize, options: &[CreateOption]) -> Result<Client, PjrtError> {
        let count = OptionValue::Int(i64::try_from(cpu_devices).unwrap_or(i64::MAX));
        match self.client(&[CreateOption::new("cpu_device_count", count)]) {
            Ok(client) if client.is_cpu() => return Ok(client),
            Ok(client) => drop(client),
            Err(error) if error.code() == Some(Code::InvalidArgument) => {}
            Err(error) => return Err(error),
        }
        self.client(options)
    }
}

impl Client {
    pub(super) fn new(plugin: &Plugin, options: &[CreateOption]) -> Result<Self, PjrtError> {
        let named: Vec<NamedValue> = options.iter().map(CreateOption::named_value).collect();
        let mut args = ClientCreate { create_options: named.as_ptr(), num_options: named.len(), ..ClientCreate::new() };
        // SAFETY: the options live until the call is over, and the plugin keeps copies.
        unsafe { plugin.api().call(&mut args)? };
        let raw = NonNull::new(args.client).ok_or_else(null_of::<ClientCreate>)?;
        let handle = Handle { plugin: plugin.clone(), raw };
        let (platform_name, platform_version) = (handle.platform_name()?, handle.platform_version()?);
        let devices = handle.devices()?;
        Ok(Client(Arc::new(Shared { handle, platform_name, platform_version, devices })))
    }

    pub fn plugin(&self) -> &Plugin {
        &self.0.handle.plugin
    }

    pub(super) fn api(&self) -> Api {
        self.plugin().api()
    }

    pub(super) fn raw(&self) -> *mut table::Client {
        self.0.handle.raw.as_ptr()
    }

    /// Whether both are one client.
    pub fn is(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// `cuda`, `rocm`, `tpu`, `cpu`.
    pub fn platform_name(&self) -> &str {
        &self.0.platform_name
    }

    /// Whether its devices are the machine's processor: a test device, not an engine.
    pub fn is_cpu(&self) -> bool {
        self.platform_name() == "cpu"
    }

    /// Versions of what lies below, in the plugin's words.
    pub fn platform_version(&self) -> &str {
        &self.0.platform_version
    }

    /// Those that this process may use.
    pub fn devices(&self) -> &[Device] {
        &self.0.devices
    }

    /// The memory of a device as it is now; `None` where the plugin does not tell, as those for plain CPUs.
    pub fn memory(&self, device: usize) -> Result<Option<DeviceMemory>, PjrtError> {
        let mut args = DeviceMemoryStats { device: self.device(device)?, ..DeviceMemoryStats::new() };
        // SAFETY: the device is its client's and lives as long.
        match unsafe { self.api().call(&mut args) } {
            Ok(()) => {}
            Err(error) if error.code() == Some(Code::Unimplemented) => return Ok(None),
            Err(error) => return Err(error),
        }
        let told = |value: i64, is_set: u8| u64::try_from(value).ok().filter(|_| is_set != 0);
        Ok(Some(DeviceMemory {
            in_use: u64::try_from(args.bytes_in_use).unwrap_or(0),
            peak: told(args.peak_bytes_in_use, args.peak_bytes_in_use_is_set),
            limit: told(args.bytes_limit, args.bytes_limit_is_set),
            largest_free: told(args.largest_free_block_bytes, args.largest_free_block_bytes_is_set),
        }))
    }

    pub(super) fn device(&self, device: usize) -> Result<*mut table::Device, PjrtError> {
        let devices = self.devices();
        let found = devices.get(device).ok_or(PjrtError::NoDevice { device, count: devices.len() })?;
        Ok(found.raw.0)
    }

    /// The place of a device that the plugin names.
    ///
    /// # Safety
    /// It is a device of this client.
    pub(super) unsafe fn place_of(&self, device: *mut table::Device) -> Result<usize, PjrtError> {
        let id = self.0.handle.described(device)?.id;
        let place = self.devices().iter().position(|device| device.id == id);
        place.ok_or(PjrtError::Odd {
            function: "PJRT_LoadedExecutable_AddressableDevices",
            what: "a device of no client",
        })
    }
}

impl Handle {
    fn platform_name(&self) -> Result<String, PjrtError> {
        let mut args = ClientPlatformName { client: self.raw.as_ptr(), ..ClientPlatformName::new() };
        // SAFETY: the client is alive, and its name lives as long as it.
        unsafe {
            self.plugin.api().call(&mut args)?;
            Ok(text(args.name, args.name_size))
        }
    }

    fn platform_version(&self) -> Result<String, PjrtError> {
        let mut args = ClientPlatformVersion { client: self.raw.as_ptr(), ..ClientPlatformVersion::new() };
        // SAFETY: the client is alive, and its version lives as long as it.
        unsafe {
            self.plugin.api().call(&mut args)?;
            Ok(text(args.version, args.version_size))
        }
    }

    fn devices(&self) -> Result<Vec<Device>, PjrtError> {
        let mut args = ClientAddressableDevices { client: self.raw.as_ptr(), ..ClientAddressableDevices::new() };
        // SAFETY: the client is alive, and its list of devices lives as long as it.
        let raws = unsafe {
            self.plugin.api().call(&mut args)?;
            list(args.devices, args.num_devices)
        };
        raws.iter().map(|raw| self.described(*raw)).collect()
    }

    fn described(&self, device: *mut table::Device) -> Result<Device, PjrtError> {
        let api = self.plugin.api();
        let mut args = DeviceGetDescription { device, ..DeviceGetDescription::new() };
        // SAFETY: the device comes from its client, and so does its description.
        unsafe {
            api.call(&mut args)?;
            let mut id = DescriptionId { description: args.description, ..DescriptionId::new() };
            api.call(&mut id)?;
            let mut kind = DescriptionKind { description: args.description, ..DescriptionKind::new() };
            api.call(&mut kind)?;
            Ok(Device { id: i64::from(id.id), kind: text(kind.kind, kind.kind_size), raw: DevicePointer(device) })
        }
    }
}

/// A StableHLO text as the C API takes it; points into `text`.
pub(super) fn mlir(text: &str) -> Program {
    const FORMAT: &str = "mlir";
    Program {
        // The API's type says that it could be written to; programs that are compiled are only read.
        code: text.as_ptr().cast::<c_char>().cast_mut(),
        code_size: text.len(),
        format: FORMAT.as_ptr().cast(),
        format_size: FORMAT.len(),
        ..Program::new()
    }
}

/// The error of a call that succeeded and gave null.
pub(super) fn null_of<A: Args>() -> PjrtError {
    PjrtError::Odd { function: A::NAME, what: "a null pointer" }
}
