//! A client: a plugin with hold of its devices. Compiles programs and takes tensors.
#![allow(unsafe_code, reason = "foreign code is called")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_char;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::api::{Api, list, text};
use super::error::{Code, PjrtError};
use super::keys::Keys;
use super::options::{CreateOption, OptionValue};
use super::plugin::Plugin;
use super::table::{
    self, Args, ClientAddressableDevices, ClientCreate, ClientDestroy, ClientDevices, ClientPlatformName,
    ClientPlatformVersion, DescriptionId, DescriptionKind, DescriptionProcessIndex, DeviceGetDescription,
    DeviceMemoryStats, NamedValue, Program,
};
use crate::ranks::store::Store;

/// A plugin with hold of its devices; copies are the same client, which ends with the last of them and of what came of it.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    handle: Handle,
    platform_name: String,
    platform_version: String,
    /// Those of all processes.
    all: Vec<Device>,
    /// This one's.
    devices: Vec<Device>,
    /// What the plugin asks the others by; behind `handle`, which ends before it.
    _keys: Option<Box<Keys>>,
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

/// One device, of this process or another.
#[derive(Debug, Clone)]
pub struct Device {
    /// What [`CompileOptions::devices`] calls it.
    pub id: i64,
    /// `NVIDIA H100 80GB HBM3`, `cpu`.
    pub kind: String,
    /// The number of the process that may use it.
    pub process: usize,
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
        Client::new(self, options, None)
    }

    /// The same of process `node` of `nodes` that know one another by `store`: the client knows the devices of all, and may use its
    /// own. All of them come here.
    pub fn client_of(
        &self,
        options: &[CreateOption],
        (node, nodes): (usize, usize),
        store: Arc<Store>,
    ) -> Result<Client, PjrtError> {
        let number = |number: usize| OptionValue::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let own = [CreateOption::new("node_id", number(node)), CreateOption::new("num_nodes", number(nodes))];
        Client::new(self, &[options, &own].concat(), Some(Keys::new(store)))
    }

    /// [`Plugin::client`] whatever the plugin drives: `cpu_devices` where it is one for plain CPUs, else `options`.
    ///
    /// Which of both it is only its client tells, so a client for plain CPUs is tried first: other plugins refuse its option,
    /// or pass over it and tell another platform.
    pub fn any_client(&self, cpu_devices: usize, options: &[CreateOption]) -> Result<Client, PjrtError> {
        match self.cpu_client(cpu_devices)? {
            Some(client) => Ok(client),
            None => self.client(options),
        }
    }

    /// The same of one of several processes, as [`Plugin::client_of`]: one for plain CPUs is this process's alone.
    pub fn any_client_of(
        &self,
        cpu_devices: usize,
        options: &[CreateOption],
        of: (usize, usize),
        store: &Arc<Store>,
    ) -> Result<Client, PjrtError> {
        match self.cpu_client(cpu_devices)? {
            Some(client) => Ok(client),
            None => self.client_of(options, of, store.clone()),
        }
    }

    /// A client with so many devices where the plugin is one for plain CPUs.
    fn cpu_client(&self, devices: usize) -> Result<Option<Client>, PjrtError> {
        let count = OptionValue::Int(i64::try_from(devices).unwrap_or(i64::MAX));
        match self.client(&[CreateOption::new("cpu_device_count", count)]) {
            Ok(client) => Ok(Some(client).filter(Client::is_cpu)),
            Err(error) if error.code() == Some(Code::InvalidArgument) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Client {
    fn new(plugin: &Plugin, options: &[CreateOption], keys: Option<Box<Keys>>) -> Result<Self, PjrtError> {
        let named: Vec<NamedValue> = options.iter().map(CreateOption::named_value).collect();
        let mut args = ClientCreate { create_options: named.as_ptr(), num_options: named.len(), ..ClientCreate::new() };
        if let Some(keys) = &keys {
            keys.fill(&mut args);
        }
        // SAFETY: the options live until the call is over, and the plugin keeps copies; the keys live as long as the client.
        unsafe { plugin.api().call(&mut args)? };
        let raw = NonNull::new(args.client).ok_or_else(null_of::<ClientCreate>)?;
        let handle = Handle { plugin: plugin.clone(), raw };
        let (platform_name, platform_version) = (handle.platform_name()?, handle.platform_version()?);
        let (all, devices) = (handle.all_devices()?, handle.devices()?);
        Ok(Client(Arc::new(Shared { handle, platform_name, platform_version, all, devices, _keys: keys })))
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

    /// How many processes there are that share a run's devices.
    pub fn processes(&self) -> usize {
        let all: BTreeSet<usize> = self.0.all.iter().map(|device| device.process).collect();
        all.len().max(1)
    }

    /// Which of them this is.
    pub fn process(&self) -> usize {
        self.devices().first().map_or(0, |device| device.process)
    }

    /// The ids of the first `of_each` devices of each process, process after process; `None` where one has fewer.
    pub fn device_ids(&self, of_each: usize) -> Option<Vec<i64>> {
        first_of_each(self.0.all.iter().map(|device| (device.process, device.id)), of_each)
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
        let mut devices = raws.iter().map(|raw| self.described(*raw)).collect::<Result<Vec<_>, _>>()?;
        // A program's replicas go by the same order.
        devices.sort_by_key(|device| device.id);
        Ok(devices)
    }

    fn all_devices(&self) -> Result<Vec<Device>, PjrtError> {
        let mut args = ClientDevices { client: self.raw.as_ptr(), ..ClientDevices::new() };
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
            let mut of = DescriptionProcessIndex { description: args.description, ..DescriptionProcessIndex::new() };
            api.call(&mut of)?;
            let process = usize::try_from(of.process).unwrap_or(0);
            let mut kind = DescriptionKind { description: args.description, ..DescriptionKind::new() };
            api.call(&mut kind)?;
            Ok(Device {
                id: i64::from(id.id),
                kind: text(kind.kind, kind.kind_size),
                process,
                raw: DevicePointer(device),
            })
        }
    }
}

/// Of devices by process and id, the ids of the first of each process, process after process; `None` where one has fewer.
fn first_of_each(devices: impl Iterator<Item = (usize, i64)>, of_each: usize) -> Option<Vec<i64>> {
    let mut by_process: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    devices.for_each(|(process, id)| by_process.entry(process).or_default().push(id));
    let first = by_process.values_mut().map(|ids| {
        ids.sort_unstable();
        ids.get(..of_each)
    });
    Some(first.collect::<Option<Vec<_>>>()?.concat())
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

#[cfg(test)]
mod tests {
    use super::super::CompileOptions;
    use super::first_of_each;

    /// Two processes of four devices, told in any order: replica 4 is the first of the second process, whatever its id.
    #[test]
    fn replicas_go_by_process_and_device() {
        let told = [(1, 11), (0, 3), (0, 0), (1, 8), (0, 1), (1, 9), (0, 2), (1, 10)];
        let ids = |of_each| first_of_each(told.into_iter(), of_each);
        assert_eq!(ids(4), Some(vec![0, 1, 2, 3, 8, 9, 10, 11]));
        assert_eq!(ids(2), Some(vec![0, 1, 8, 9]));
        assert_eq!(ids(5), None);
        let options =
            CompileOptions { replicas: 8, devices: ids(4).expect("all have four"), ..CompileOptions::default() };
        let assignment = [0x4a, 16, 8, 8, 16, 1, 0x1a, 10, 0x0a, 8, 0, 1, 2, 3, 8, 9, 10, 11];
        assert_eq!(options.encode(), [&[0x1a, 22, 0x20, 8, 0x28, 1][..], &assignment].concat());
    }
}
