//! A plugin: a shared library, opened once and never closed.
#![allow(unsafe_code, reason = "a shared library is opened")]

use std::fmt;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use super::api::Api;
use super::error::PjrtError;
use super::table::{Head, PluginInitialize};
use super::version::{OLDEST, Version};

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

/// The variable by which XLA's libraries learn from which severity on they write to stderr: 0 all, 2 errors.
const LOG_LEVEL: &str = "TF_CPP_MIN_LOG_LEVEL";

/// Keeps what plugins have to say of themselves from the user's terminal, such as each kernel's registers; errors come back by the
/// C API. Who has set the variable hears what he asked for.
fn quieten() {
    if std::env::var_os(LOG_LEVEL).is_none() {
        // SAFETY: Rust's own readers of the environment take the lock that this call takes. Others are C's: plugins that are loaded
        // already, and then the variable is set; this process calls no other library that reads it while threads run.
        unsafe { std::env::set_var(LOG_LEVEL, "2") };
    }
}

impl Plugin {
    /// Loads the library at `path` into this process, where it stays. Its own start code runs: as with a program that is
    /// started, whoever names the file trusts it.
    pub fn open(path: &Path) -> Result<Self, PjrtError> {
        let load = |reason: String| PjrtError::Load { path: path.to_owned(), reason };
        // A plain name would be looked up in the system's folders for libraries.
        let file = std::fs::canonicalize(path).map_err(|error| load(error.to_string()))?;
        quieten();
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
}

/// What the system's loader says, without our path in front, which the message has already.
fn reason(error: &libloading::Error, file: &Path) -> String {
    let said = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    said.trim_start_matches(&format!("{}: ", file.display())).to_owned()
}
