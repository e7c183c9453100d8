//! Which plugin's devices this process computes on.
//!
//! **Invariant:** a plugin file is opened once: a second client would want an accelerator's memory once more.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::pjrt::{Client, PjrtError, Plugin};
use super::plugins::{self, Found, Maker};
use crate::backend::BackendError;

/// Clients of this process, and files that gave none.
static OPENED: Mutex<Vec<(PathBuf, Result<Client, String>)>> = Mutex::new(Vec::new());

/// A client of `plugin`, else of the file that the environment names, else of the first found one that has a device:
/// accelerators before processors.
pub fn client(plugin: Option<&Path>) -> Result<Client, BackendError> {
    let mut found = candidates(plugin);
    found.sort_by_key(|plugin| plugin.maker == Maker::Cpu);
    first(&found)
}

/// The same, of an accelerator: nothing where there is none.
pub fn accelerator(plugin: Option<&Path>) -> Option<Client> {
    let mut found = candidates(plugin);
    found.retain(|plugin| plugin.maker != Maker::Cpu);
    first(&found).ok().filter(|client| !client.is_cpu())
}

/// A file that is named is the only one.
fn candidates(plugin: Option<&Path>) -> Vec<Found> {
    match plugin.map(Path::to_path_buf).or_else(plugins::named) {
        Some(path) => plugins::find_in(Some(&path), &[]),
        None => plugins::find(None),
    }
}

fn first(found: &[Found]) -> Result<Client, BackendError> {
    let mut reasons = Vec::new();
    for plugin in found {
        match opened(plugin) {
            Ok(client) => return Ok(client),
            Err(reason) => reasons.push(format!("{}: {reason}", plugin.path.display())),
        }
    }
    let reason = match reasons[..] {
        [] => "no PJRT plugin is found (help: cmaec devices says what installs one; --plugin FILE names another)"
            .to_owned(),
        _ => reasons.join("; "),
    };
    Err(BackendError::Unavailable { backend: "xla", reason })
}

fn opened(plugin: &Found) -> Result<Client, String> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = opened.iter().find(|(path, _)| *path == plugin.path) {
        return known.clone();
    }
    let client = open(plugin).map_err(|error| error.to_string());
    opened.push((plugin.path.clone(), client.clone()));
    client
}

/// One device of a processor, which would else be cut in four.
fn open(plugin: &Found) -> Result<Client, PjrtError> {
    Plugin::open(&plugin.path)?.any_client(1, &plugin.maker.options())
}
