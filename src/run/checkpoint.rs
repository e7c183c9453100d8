//! Checkpoints: parameters, copies, states, what the optimizer keeps, and the position in the data.
//!
//! **Invariant:** a folder `step-NNNNNNNN` is whole, or its checksums tell that it is not; the one before it is kept
//! until the next is in place.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::RunError;
use super::folder::{RunFolder, from_ron};
use super::tensor_file::{self, FileTensor};
use crate::backend::Element;
use crate::graph::Layout;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.ron";

/// Length and checksum of a file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    pub name: String,
    pub bytes: u64,
    pub blake3: String,
}

/// What `state.ron` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of the program that wrote it.
    pub version: String,
    pub pipeline: String,
    /// Optimizer steps made: with the seed, the position in the data.
    pub step: u64,
    pub seed: u64,
    pub precision: String,
    pub backend: String,
    /// Kind of processor; another kind rounds otherwise.
    pub machine: String,
    /// What `optimizer.safetensors` holds of each trained tensor, as the optimizer names it: `first`, `second`. None in
    /// checkpoints of versions that knew one optimizer only.
    #[serde(default)]
    pub slots: Vec<String>,
    /// Updates that each trained tensor has had.
    pub updates: Vec<u64>,
    pub files: Vec<FileSum>,
}

/// A checkpoint in memory.
#[derive(Debug, Clone)]
pub struct Checkpoint<E> {
    pub state: State,
    /// All tensors, by the layout.
    pub arena: Vec<E>,
    /// In the order of `state.slots`, `layout.trained_len` values each.
    pub slots: Vec<Vec<E>>,
}

/// Why a checkpoint cannot be used.
enum Fault {
    Damaged(String),
    OtherVersion(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Fault::Damaged(reason)
    }
}

/// A checkpoint about to be written; its sums are made on the way.
pub struct NewCheckpoint<'a, E> {
    pub state: State,
    pub arena: &'a [E],
    /// In the order of `state.slots`.
    pub slots: &'a [Vec<E>],
}

/// Name of the checkpoint after `step` steps.
pub fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// What this process runs on, as `State::machine` keeps it.
pub fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    format!("{} {}", std::env::consts::ARCH, model.unwrap_or_else(|| std::env::consts::OS.to_owned()))
}

impl<E: Element> NewCheckpoint<'_, E> {
    /// Writes the checkpoint, points `RUN/last` to it, and removes all but the newest `keep`.
    pub fn save(mut self, folder: &RunFolder, layout: &Layout, keep: usize) -> Result<PathBuf, RunError> {
        let checkpoints = folder.checkpoints();
        let name = name(self.state.step);
        let (target, beside) = (checkpoints.join(&name), checkpoints.join(format!(".{name}")));
        remove(&beside)?;
        fs::create_dir_all(&beside).map_err(RunError::io("make", &beside))?;
        let metadata = [("pipeline", self.state.pipeline.clone()), ("step", self.state.step.to_string())];
        let model: Vec<FileTensor> = layout
            .tensors
            .iter()
            .enumerate()
            .map(|(i, t)| FileTensor::of(&t.path, t.shape.clone(), &self.arena[layout.range(i)]))
            .collect();
        let slots: Vec<FileTensor> = self
            .state
            .slots
            .iter()
            .zip(self.slots)
            .flat_map(|(slot, values)| {
                layout.tensors[..layout.trained()].iter().enumerate().map(move |(i, t)| {
                    FileTensor::of(format!("{slot}.{}", t.path), t.shape.clone(), &values[layout.range(i)])
                })
            })
            .collect();
        for (file, tensors) in [(MODEL, model), (OPTIMIZER, slots)] {
            let path = beside.join(file);
            let bytes = tensor_file::to_bytes(&path, &tensors, &metadata)?;
            write_synced(&path, &bytes)?;
            let blake3 = blake3::hash(&bytes).to_hex().to_string();
            self.state.files.push(FileSum { name: file.to_owned(), bytes: bytes.len() as u64, blake3 });
        }
        let state = folder.to_ron(STATE, &self.state, true)?;
        write_synced(&beside.join(STATE), state.as_bytes())?;
        sync_folder(&beside)?;
        // One of this step can only be a damaged one that was passed over.
        remove(&target)?;
        fs::rename(&beside, &target).map_err(RunError::io("rename to", &target))?;
        sync_folder(&checkpoints)?;
        folder.write("last", name.as_bytes())?;
        for (_, old) in list(folder)?.into_iter().skip(keep.max(1)) {
            remove(&old)?;
        }
        Ok(target)
    }
}

impl<E: Element> Checkpoint<E> {
    /// The newest checkpoint that is whole, and a warning for each that was passed over; `None` where there is none.
    pub fn load_newest(folder: &RunFolder, layout: &Layout) -> Result<Option<(Self, Vec<String>)>, RunError> {
        let mut damaged = Vec::new();
        for (_, path) in list(folder)? {
            match Self::load(&path, layout) {
                Ok(checkpoint) => return Ok(Some((checkpoint, damaged))),
                Err(Fault::Damaged(reason)) => damaged.push(format!("{} is damaged: {reason}", path.display())),
                // Nothing is wrong with it, and one that is older still would be no better.
                Err(Fault::OtherVersion(message)) => return Err(RunError::OtherVersion { path, message }),
            }
        }
        match damaged.into_iter().next() {
            None => Ok(None),
            Some(reason) => Err(RunError::AllDamaged { path: folder.path().to_owned(), reason }),
        }
    }

    /// The checkpoint in the folder `path`; the error says what is damaged.
    fn load(path: &Path, layout: &Layout) -> Result<Self, Fault> {
        let state_path = path.join(STATE);
        let text = fs::read_to_string(&state_path).map_err(|e| format!("{STATE}: {e}"))?;
        let state: State = from_ron(&state_path, &text).map_err(|e| e.to_string())?;
        if state.slots.is_empty() {
            let message = format!("{STATE} does not name what the optimizer keeps");
            return Err(Fault::OtherVersion(message));
        }
        let read = |name: &str| -> Result<Vec<u8>, String> {
            let sum = state.files.iter().find(|f| f.name == name).ok_or(format!("{STATE} does not list {name}"))?;
            let bytes = fs::read(path.join(name)).map_err(|e| format!("{name}: {e}"))?;
            if bytes.len() as u64 != sum.bytes {
                return Err(format!("{name} has {} bytes, {} were written", bytes.len(), sum.bytes));
            }
            let found = blake3::hash(&bytes).to_hex().to_string();
            if found != sum.blake3 {
                return Err(format!("{name} has the checksum {found}, {} was written", sum.blake3));
            }
            Ok(bytes)
        };
        let arena = fill(MODEL, &read(MODEL)?, layout, "", layout.tensors.len(), layout.total_len)?;
        let kept = read(OPTIMIZER)?;
        let slot =
            |slot: &String| fill(OPTIMIZER, &kept, layout, &format!("{slot}."), layout.trained(), layout.trained_len);
        let slots = state.slots.iter().map(slot).collect::<Result<_, _>>()?;
        if state.updates.len() != layout.trained() {
            let (found, expected) = (state.updates.len(), layout.trained());
            return Err(format!("{STATE} counts the updates of {found} tensors, the pipeline has {expected}").into());
        }
        Ok(Checkpoint { state, arena, slots })
    }
}

/// An arena of `length` values from the tensors named `prefix` + path of the layout's first `count`.
fn fill<E: Element>(
    file: &str,
    bytes: &[u8],
    layout: &Layout,
    prefix: &str,
    count: usize,
    length: usize,
) -> Result<Vec<E>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("{file}: {e}"))?;
    let mut arena = vec![E::from_f64(0.0); length];
    for (index, decl) in layout.tensors[..count].iter().enumerate() {
        let name = format!("{prefix}{}", decl.path);
        let view = tensors.tensor(&name).map_err(|_| format!("{file} has no tensor {name}"))?;
        if view.shape() != decl.shape {
            return Err(format!("{file}: {name} is {:?}, the pipeline's is {:?}", view.shape(), decl.shape));
        }
        let values = tensor_file::values(view.dtype(), view.data())
            .ok_or_else(|| format!("{file}: {name} is of type {}", view.dtype()))?;
        arena[layout.range(index)].copy_from_slice(&values);
    }
    Ok(arena)
}

/// Checkpoints of a run, the newest first.
pub fn list(folder: &RunFolder) -> Result<Vec<(u64, PathBuf)>, RunError> {
    let checkpoints = folder.checkpoints();
    let mut found = Vec::new();
    if !checkpoints.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(&checkpoints).map_err(RunError::io("read", &checkpoints))? {
        let path = entry.map_err(RunError::io("read", &checkpoints))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

fn remove(path: &Path) -> Result<(), RunError> {
    if path.exists() { fs::remove_dir_all(path).map_err(RunError::io("remove", path)) } else { Ok(()) }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let mut file = File::create(path).map_err(RunError::io("make", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(RunError::io("write", path))
}

/// Makes the names in a folder last; elsewhere than on Unix folders cannot be opened, and renames last by themselves.
fn sync_folder(path: &Path) -> Result<(), RunError> {
    if cfg!(unix) { File::open(path).and_then(|f| f.sync_all()).map_err(RunError::io("sync", path)) } else { Ok(()) }
}
