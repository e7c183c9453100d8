//! Which plugin's devices this process computes on, and how many of them.
//!
//! **Invariant:** a plugin file is opened once: a second client would want an accelerator's memory once more. Only the processor, which is
//! cut in as many devices as are asked for, is opened for each number.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use super::pjrt::{Client, PjrtError, Plugin};
use super::plugins::{self, Found, Maker};
use crate::backend::BackendError;

/// What was opened in this process.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

/// A plugin file with its client, or why it gave none.
struct Opened {
    path: PathBuf,
    /// Devices that a processor was to be cut in.
    parts: usize,
    client: Result<Client, String>,
}

impl Opened {
    /// Whether it does for a processor in `parts`; an accelerator's devices are what they are.
    fn does(&self, parts: usize) -> bool {
        self.parts == parts || self.client.as_ref().is_ok_and(|client| !client.is_cpu())
    }
}

/// How many devices of a client share a batch, the first ones: `4`, `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    Of(usize),
    All,
}

impl Devices {
    pub const ONE: Devices = Devices::Of(1);

    /// How many of those that `client` has.
    pub(super) fn of(self, client: &Client) -> usize {
        match self {
            Devices::Of(count) => count,
            Devices::All => client.devices().len(),
        }
    }

    /// How many devices a processor is to be cut in: all of it are one.
    fn of_processor(self) -> usize {
        match self {
            Devices::Of(count) => count,
            Devices::All => 1,
        }
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Devices::Of(count) => count.fmt(f),
            Devices::All => f.write_str("all"),
        }
    }
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Devices::All),
            (_, Ok(count @ 1..)) => Ok(Devices::Of(count)),
            _ => Err("a number of devices from 1, or `all`".to_owned()),
        }
    }
}

/// Refuses more devices than the client has.
pub(super) fn enough(client: &Client, wanted: usize) -> Result<(), BackendError> {
    let has = client.devices().len();
    if wanted <= has {
        return Ok(());
    }
    let platform = client.platform_name().to_owned();
    Err(BackendError::TooFewDevices { platform, wanted, has })
}

/// A client of `plugin`, else of the file that the environment names, else of the first found one that has a device:
/// accelerators before processors. It has as many devices as are wanted.
pub fn client(plugin: Option<&Path>, devices: Devices) -> Result<Client, BackendError> {
    let mut found = candidates(plugin);
    found.sort_by_key(|plugin| plugin.maker == Maker::Cpu);
    let client = first(&found, devices)?;
    enough(&client, devices.of(&client))?;
    Ok(client)
}

/// The same, of an accelerator, which may have fewer: nothing where there is none.
pub fn accelerator(plugin: Option<&Path>) -> Option<Client> {
    let mut found = candidates(plugin);
    found.retain(|plugin| plugin.maker != Maker::Cpu);
    first(&found, Devices::ONE).ok().filter(|client| !client.is_cpu())
}

/// A file that is named is the only one.
fn candidates(plugin: Option<&Path>) -> Vec<Found> {
    match plugin.map(Path::to_path_buf).or_else(plugins::named) {
        Some(path) => plugins::find_in(Some(&path), &[]),
        None => plugins::find(None),
    }
}

fn first(found: &[Found], devices: Devices) -> Result<Client, BackendError> {
    let mut reasons = Vec::new();
    for plugin in found {
        match opened(plugin, devices.of_processor()) {
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

/// A processor is cut in `parts` devices.
fn opened(plugin: &Found, parts: usize) -> Result<Client, String> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = opened.iter().find(|known| known.path == plugin.path && known.does(parts)) {
        return known.client.clone();
    }
    let client = open(plugin, parts).map_err(|error| error.to_string());
    opened.push(Opened { path: plugin.path.clone(), parts, client: client.clone() });
    client
}

fn open(plugin: &Found, parts: usize) -> Result<Client, PjrtError> {
    Plugin::open(&plugin.path)?.any_client(parts, &plugin.maker.options())
}
