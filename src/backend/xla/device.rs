//! Which plugin's devices this process computes on, and how many of them, by itself or as one of several processes.
//!
//! **Invariant:** a plugin file is opened once: a second client would want an accelerator's memory once more. Only the processor, which is
//! cut in as many devices as are asked for, is opened for each number.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use super::pjrt::{Client, CreateOption, OptionValue, PjrtError, Plugin};
use super::plugins::{self, Found, Maker};
use crate::backend::{BackendError, BackendOptions};
use crate::graph::Program;
use crate::ranks;
use crate::ranks::store::Store;

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
    /// Whether it does for a processor in `parts`; an accelerator's devices are what they are, for all that this process does.
    fn does(&self, parts: usize) -> bool {
        self.parts == parts || self.client.as_ref().is_ok_and(|client| !client.is_cpu())
    }
}

/// What a client is to have.
struct Claim {
    devices: Devices,
    /// This process's own devices among its machine's, where it is to see no others.
    visible: Option<Vec<i64>>,
    /// Number and count of the processes that share a run's devices, and what they know one another by.
    processes: Option<(usize, usize, Arc<Store>)>,
}

impl Claim {
    fn new(options: &BackendOptions) -> Result<Claim, BackendError> {
        let BackendOptions { devices, ranks, taken, .. } = options;
        let processes = match ranks.count() {
            1 => None,
            count => Some((ranks.rank(), count, ranks.store()?)),
        };
        let visible = match devices {
            _ if processes.is_none() && *taken == 0 => None,
            // Its launcher has given a process its own already.
            Devices::Of(own) if given().is_some_and(|given| given <= *own) => None,
            Devices::Of(own) => Some((*taken..taken + own).map(|device| device as i64).collect()),
            Devices::All if ranks.local() > 1 => return Err(BackendError::AllOfSeveral { local: ranks.local() }),
            Devices::All => None,
        };
        Ok(Claim { devices: *devices, visible, processes })
    }
}

/// How many devices the environment lets this process see, where it says.
fn given() -> Option<usize> {
    let named = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"].into_iter();
    let list = named.filter_map(|name| std::env::var(name).ok()).find(|list| !list.trim().is_empty())?;
    Some(list.split(',').count())
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

/// Which of a program's ranks are this process's devices: as many of each process, one process after the other.
pub(super) fn own_ranks(client: &Client, program: &Program) -> Result<Range<usize>, BackendError> {
    let processes = client.processes();
    let own = program.ranks.div_ceil(processes);
    enough(client, own)?;
    let first = client.process() * own;
    if processes > 1 && own * processes != program.ranks {
        let (of_rank, first) = (own as i64, program.ranks as i64);
        return Err(BackendError::OtherDevices { rank: client.process(), of_rank, first });
    }
    Ok(first..first + own)
}

/// A client of the plugin that the options name, else of the file that the environment names, else of the first found one that has a
/// device: accelerators before processors. It has as many devices as are wanted, on each process of a run.
pub fn client(options: &BackendOptions) -> Result<Client, BackendError> {
    let mut found = candidates(options.plugin.as_deref());
    found.sort_by_key(|plugin| plugin.maker == Maker::Cpu);
    let client = first(&found, &Claim::new(options)?)?;
    agreed(&client, options)?;
    Ok(client)
}

/// The same, of an accelerator: nothing where there is none, on one of the processes of a run.
pub fn accelerator(options: &BackendOptions) -> Result<Option<Client>, BackendError> {
    let mut found = candidates(options.plugin.as_deref());
    found.retain(|plugin| plugin.maker != Maker::Cpu);
    if ranks::any(&*options.ranks, found.is_empty()) {
        return Ok(None);
    }
    let Some(client) = first(&found, &Claim::new(options)?).ok().filter(|client| !client.is_cpu()) else {
        return Ok(None);
    };
    agreed(&client, options)?;
    Ok(Some(client))
}

/// Looks whether there are as many devices as are wanted, as many on each process of a run.
fn agreed(client: &Client, options: &BackendOptions) -> Result<(), BackendError> {
    let own = options.devices.of(client);
    enough(client, own)?;
    let (count, platform) = (options.ranks.count(), || client.platform_name().to_owned());
    if count == 1 {
        return Ok(());
    }
    // A plugin may pass over what it does not know.
    if client.processes() != count || client.process() != options.ranks.rank() {
        return Err(BackendError::NoProcesses { platform: platform(), processes: count });
    }
    let each = ranks::each(&*options.ranks, own as i64);
    match each.iter().position(|other| *other != each[0]) {
        Some(rank) => Err(BackendError::OtherDevices { rank, of_rank: each[rank], first: each[0] }),
        None => Ok(()),
    }
}

/// A file that is named is the only one.
fn candidates(plugin: Option<&Path>) -> Vec<Found> {
    match plugin.map(Path::to_path_buf).or_else(plugins::named) {
        Some(path) => plugins::find_in(Some(&path), &[]),
        None => plugins::find(None),
    }
}

fn first(found: &[Found], claim: &Claim) -> Result<Client, BackendError> {
    let mut reasons = Vec::new();
    for plugin in found {
        match opened(plugin, claim) {
            Ok(client) => return Ok(client),
            Err(Refusal::Told(reason)) => reasons.push(format!("{}: {reason}", plugin.path.display())),
            Err(Refusal::OneProcess(processes)) => {
                return Err(BackendError::NoProcesses { platform: "cpu".to_owned(), processes });
            }
        }
    }
    let reason = match reasons[..] {
        [] => "no PJRT plugin is found (help: cmaec devices says what installs one; --plugin FILE names another)"
            .to_owned(),
        _ => reasons.join("; "),
    };
    Err(BackendError::Unavailable { backend: "xla", reason })
}

/// Why a plugin gives no client.
enum Refusal {
    Told(String),
    /// A processor's devices are one process's, and these are so many.
    OneProcess(usize),
}

fn opened(plugin: &Found, claim: &Claim) -> Result<Client, Refusal> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let parts = claim.devices.of_processor();
    let client = match opened.iter().find(|known| known.path == plugin.path && known.does(parts)) {
        Some(known) => known.client.clone(),
        None => {
            let client = open(plugin, parts, claim).map_err(|error| error.to_string());
            opened.push(Opened { path: plugin.path.clone(), parts, client: client.clone() });
            client
        }
    };
    match (client, &claim.processes) {
        (Ok(client), Some((_, processes, _))) if client.is_cpu() => Err(Refusal::OneProcess(*processes)),
        (client, _) => client.map_err(Refusal::Told),
    }
}

/// A processor is cut in `parts` devices.
fn open(plugin: &Found, parts: usize, claim: &Claim) -> Result<Client, PjrtError> {
    let (opened, mut options) = (Plugin::open(&plugin.path)?, plugin.maker.options());
    if let (Maker::Nvidia | Maker::Amd, Some(visible)) = (plugin.maker, &claim.visible) {
        options.push(CreateOption::new("visible_devices", OptionValue::Ints(visible.clone())));
    }
    let Some((process, processes, store)) = &claim.processes else {
        let client = opened.any_client(parts, &options);
        // Of more processes than devices some share one: each is by itself here.
        return if claim.visible.is_some() {
            client.or_else(|_| opened.any_client(parts, &plugin.maker.options()))
        } else {
            client
        };
    };
    opened.any_client_of(parts, &options, (*process, *processes), store)
}
