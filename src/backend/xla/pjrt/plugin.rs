//! A plugin: a shared library, opened once and never closed.
#![allow(unsafe_code, reason = "a shared library is opened")]

use std::fmt;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::api::Api;
use super::client::Client;
use super::error::{Code, PjrtError};
use super::options::{CreateOption, OptionValue};
use super::table::{Head, PluginInitialize};

/// The oldest version whose layouts were held against ours.
pub const OLDEST: Version = Version { major: 0, minor: 81 };

/// A version of PJRT's C API: one with another `major` is another API, a greater `minor` adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: i32,
    pub minor: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A shared library that speaks PJRT.
#[derive(Clone)]
pub struct Plugin {
    file: Arc<Path>,
    api: Api,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({}, {})", self.file.display(), self.version())
    }
}

/// Tables of plugins that were told to begin: each is told once in a process.
static BEGUN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

impl Plugin {
    /// Loads the library at `path` into this process, where it stays. Its own start code runs: as with a program that is
    /// started, whoever names the file trusts it.
    pub fn open(path: &Path) -> Result<Self, PjrtError> {
        let load = |reason: String| PjrtError::Load { path: path.to_owned(), reason };
        // A plain name would be looked up in the system's folders for libraries.
        let file = std::fs::canonicalize(path).map_err(|error| load(error.to_string()))?;
        // SAFETY: start code of the library runs, which is what the user asked for by naming it.
        let library = unsafe { libloading::Library::new(&file) }.map_err(|error| load(reason(&error, &file)))?;
        // Threads of a plugin outlive its client, so the library is never closed.
        let library = ManuallyDrop::new(library);
        // SAFETY: the C API gives this name to a function of this type.
        let get = unsafe { library.get::<unsafe extern "C" fn() -> *mut Head>(b"GetPjrtApi\0") };
        let Ok(get) = get else { return Err(PjrtError::NoApi { path: path.to_owned() }) };
        // SAFETY: it takes nothing.
        let head = unsafe { get() };
        let no_table = |reason| PjrtError::NoTable { path: path.to_owned(), reason };
        let head = NonNull::new(head).filter(|head| head.is_aligned()).ok_or_else(|| no_table("a null pointer"))?;
        // SAFETY: each table begins with its size.
        if unsafe { head.cast::<usize>().read() } < size_of::<Head>() {
            return Err(no_table("it is too short for a version"));
        }
        // SAFETY: it is as long as it says, and lives as long as the library, which is never closed.
        let api = unsafe { Api::new(head) };
        let found = api.version();
        if found.major != OLDEST.major {
            return Err(PjrtError::OtherVersion { path: path.to_owned(), found });
        }
        if found < OLDEST {
            return Err(PjrtError::TooOld { path: path.to_owned(), found });
        }
        let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
        if !begun.contains(&head.addr().get()) {
            // SAFETY: the struct points to nothing.
            unsafe { api.call(&mut PluginInitialize::new())? };
            begun.push(head.addr().get());
        }
        Ok(Plugin { file: file.into(), api })
    }

    pub(super) fn api(&self) -> Api {
        self.api
    }

    /// Of the C API.
    pub fn version(&self) -> Version {
        self.api.version()
    }

    /// The library's file, links followed.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// BLAKE3 of the library's file, in hexadecimal: what tells one build of a plugin from another.
    pub fn hash(&self) -> Result<String, PjrtError> {
        let failed =
            |error: std::io::Error| PjrtError::Read { path: self.file.to_path_buf(), reason: error.to_string() };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(&self.file).map_err(failed)?).map_err(failed)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

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

/// What the system's loader says, without our path in front, which the message has already.
fn reason(error: &libloading::Error, file: &Path) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    said.trim_start_matches(&format!("{}: ", file.display())).to_owned()
}
