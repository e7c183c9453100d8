//! Checkpoints: parameters, copies, states, what the optimizer keeps, and the position in the data.
//!
//! **Invariant:** a folder `step-NNNNNNNN` is whole, or its checksums tell that it is not; the one before it is kept
//! until the next is in place. Every byte of a checkpoint stands under a checksum, those of `state.ron` under its last line's.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::RunError;
use super::disk::Fill;
use super::folder::{RunFolder, from_ron};
use super::tensor_file::{self, Values};
use crate::data::source::Fingerprint;
use crate::graph::Layout;
use crate::tensor::Element;

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
    /// As the pipeline asks for; tensors of a run in bf16 are f32.
    pub precision: String,
    pub backend: String,
    /// Kind of processor; another kind rounds otherwise.
    pub machine: String,
    /// How many ranks shared a batch; sums over another number round otherwise.
    #[serde(default = "alone")]
    pub ranks: usize,
    /// What `optimizer.safetensors` holds of each trained tensor, as the optimizer names it: `first`, `second`. None in
    /// checkpoints of versions that knew one optimizer only.
    #[serde(default)]
    pub slots: Vec<String>,
    /// Updates that each trained tensor has had.
    pub updates: Vec<u64>,
    /// What the sources that the run reads were, by name. None in checkpoints of versions that did not note it.
    #[serde(default)]
    pub sources: Vec<(String, Fingerprint)>,
    pub files: Vec<FileSum>,
}

/// Of versions that knew no ranks.
fn alone() -> usize {
    1
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

impl RunFolder {
    /// Whether there is a checkpoint, whole or not.
    pub fn holds_checkpoints(&self) -> bool {
        list(self).is_ok_and(|found| !found.is_empty())
    }

    /// Points `RUN/best` to the checkpoint after `step` steps, which must be there.
    pub fn write_best(&self, step: u64) -> Result<(), RunError> {
        self.write("best", name(step).as_bytes())
    }
}

/// What this process runs on, as `State::machine` keeps it.
pub fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    format!("{} {}", std::env::consts::ARCH, model.unwrap_or_else(|| std::env::consts::OS.to_owned()))
}

impl<'a, E: Element> NewCheckpoint<'a, E> {
    /// Writes the checkpoint, points `RUN/last` to it, and removes all but the newest `keep` and the best.
    ///
    /// Where it fails, what it wrote beside is removed, so that a disk that is full is not left so.
    pub fn save(self, folder: &RunFolder, layout: &Layout, keep: usize) -> Result<PathBuf, RunError> {
        let (disk, checkpoints, step) = (folder.disk(), folder.checkpoints(), self.state.step);
        let name = name(step);
        let (target, beside) = (checkpoints.join(&name), checkpoints.join(format!(".{name}")));
        if let Err(error) = self.write(folder, layout, &beside) {
            // The first error is the one to tell.
            let _ = disk.remove_folder(&beside);
            return Err(error);
        }
        // One of this step can only be a damaged one that was passed over.
        disk.remove_folder(&target).map_err(RunError::io("remove", &target))?;
        disk.rename(&beside, &target).map_err(RunError::io("rename to", &target))?;
        disk.sync_folder(&checkpoints).map_err(RunError::io("sync", &checkpoints))?;
        settle(folder, step, keep)?;
        Ok(target)
    }

    fn write(mut self, folder: &RunFolder, layout: &Layout, beside: &Path) -> Result<(), RunError> {
        let disk = folder.disk();
        for left in unfinished(folder)? {
            disk.remove_folder(&left).map_err(RunError::io("remove", &left))?;
        }
        disk.make_folder(beside).map_err(RunError::io("make", beside))?;
        let metadata = [("pipeline", self.state.pipeline.clone()), ("step", self.state.step.to_string())];
        let of = |name: String, index: usize, all: &'a [E]| Values {
            name,
            shape: &layout.tensors[index].shape,
            values: &all[layout.range(index)],
        };
        let model: Vec<Values<'_, E>> =
            layout.tensors.iter().enumerate().map(|(i, t)| of(t.path.clone(), i, self.arena)).collect();
        let slot = |(slot, values): (&String, &'a Vec<E>)| {
            let trained = layout.tensors[..layout.trained()].iter().enumerate();
            trained.map(|(i, t)| of(format!("{slot}.{}", t.path), i, values)).collect::<Vec<_>>()
        };
        let slots: Vec<Values<'_, E>> = self.state.slots.iter().zip(self.slots).flat_map(slot).collect();
        let put = |path: &Path, fill: &mut Fill<'_>| disk.write(path, fill).map_err(RunError::io("write", path));
        for (file, tensors) in [(MODEL, model), (OPTIMIZER, slots)] {
            let mut sum = Summed { hasher: blake3::Hasher::new(), bytes: 0 };
            put(&beside.join(file), &mut |out| {
                sum = Summed { hasher: blake3::Hasher::new(), bytes: 0 };
                tensor_file::stream(&mut Summing { out, sum: &mut sum }, tensors.clone(), &metadata)
            })?;
            let blake3 = sum.hasher.finalize().to_hex().to_string();
            self.state.files.push(FileSum { name: file.to_owned(), bytes: sum.bytes, blake3 });
        }
        let state = sealed(&folder.to_ron(STATE, &self.state, true)?);
        put(&beside.join(STATE), &mut |out| out.write_all(state.as_bytes()))?;
        disk.sync_folder(beside).map_err(RunError::io("sync", beside))
    }
}

/// Length and checksum of what went by.
struct Summed {
    hasher: blake3::Hasher,
    bytes: u64,
}

/// Writes on, and sums what goes by.
struct Summing<'w> {
    out: &'w mut dyn Write,
    sum: &'w mut Summed,
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.hasher.update(&bytes[..written]);
        self.sum.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Points `RUN/last` to the checkpoint after `step` steps, which is in place, and removes all but the newest `keep` and the best.
/// Also as a run is resumed, for it may have ended in between.
pub fn settle(folder: &RunFolder, step: u64, keep: usize) -> Result<(), RunError> {
    folder.write("last", name(step).as_bytes())?;
    prune(folder, keep)
}

/// Removes all checkpoints but the newest `keep` and the best.
pub fn prune(folder: &RunFolder, keep: usize) -> Result<(), RunError> {
    let best = folder.best();
    let old = list(folder)?.into_iter().skip(keep.max(1)).map(|(_, path)| path);
    for old in old.filter(|path| path.file_name().and_then(|n| n.to_str()) != best.as_deref()) {
        folder.disk().remove_folder(&old).map_err(RunError::io("remove", &old))?;
    }
    Ok(())
}

const SEAL: &str = "\n// blake3 ";

/// A text with its own checksum as its last line, a comment.
pub fn sealed(text: &str) -> String {
    format!("{text}{SEAL}{}\n", blake3::hash(text.as_bytes()).to_hex())
}

/// The text that [`sealed`] closed, if it is whole.
fn unsealed(text: &str) -> Result<&str, String> {
    let (body, sum) = text.rsplit_once(SEAL).ok_or("it has no checksum at its end")?;
    let found = blake3::hash(body.as_bytes()).to_hex();
    match sum.strip_suffix('\n') {
        Some(sum) if sum == found.as_str() => Ok(body),
        _ => Err(format!("it has the checksum {found}, {} was written", sum.trim_end())),
    }
}

impl<E: Element> Checkpoint<E> {
    /// Whether there is one after `step` steps, whole or not.
    pub fn is_there(folder: &RunFolder, step: u64) -> bool {
        folder.checkpoints().join(name(step)).is_dir()
    }

    /// The checkpoint of that name, `best` or `last` for those that the run names so. A run without figures to choose by has its
    /// newest as the best, and a note that says so.
    pub fn load_named(folder: &RunFolder, layout: &Layout, name: &str) -> Result<(Self, Option<String>), RunError> {
        let names: Vec<String> = list(folder)?.into_iter().map(|(step, _)| self::name(step)).collect();
        let mut note = None;
        let chosen = match name {
            "best" => folder.best().or_else(|| {
                let newest = names.first()?;
                let path = folder.path().display();
                note = Some(format!("{path} has no kNN accuracy to choose the best by: taken is the newest, {newest}"));
                Some(newest.clone())
            }),
            "last" => names.first().cloned(),
            _ => Some(name.to_owned()),
        };
        let Some(chosen) = chosen.filter(|chosen| names.contains(chosen)) else {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(RunError::UnknownCheckpoint { path: folder.path().to_owned(), name: name.to_owned(), known });
        };
        let path = folder.checkpoints().join(chosen);
        let loaded = Self::load(&path, layout).map_err(|fault| match fault {
            Fault::Damaged(reason) => RunError::Format { path, message: reason },
            Fault::OtherVersion(message) => RunError::OtherVersion { path, message },
        });
        Ok((loaded?, note))
    }

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
        let state = read_state(path)?;
        if state.slots.is_empty() {
            let message = format!("{STATE} does not name what the optimizer keeps");
            return Err(Fault::OtherVersion(message));
        }
        let read = |name: &str| {
            let sum = state.files.iter().find(|f| f.name == name).ok_or(format!("{STATE} does not list {name}"))?;
            read_summed(path, sum)
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

/// The state of the checkpoint in the folder `path`, which must have the name of its step.
fn read_state(path: &Path) -> Result<State, Fault> {
    let state_path = path.join(STATE);
    let text = fs::read_to_string(&state_path).map_err(|e| format!("{STATE}: {e}"))?;
    let body = unsealed(&text).map_err(|e| format!("{STATE}: {e}"))?;
    // It is whole, so that what cannot be read is older or newer.
    let state: State = from_ron(&state_path, body).map_err(|e| Fault::OtherVersion(e.to_string()))?;
    let named = name(state.step);
    if path.file_name().is_none_or(|folder| *folder != *named) {
        return Err(format!("{STATE} is that of {named}").into());
    }
    Ok(state)
}

/// The bytes of a file of the checkpoint in the folder `path`; the error says what is damaged.
fn read_summed(path: &Path, sum: &FileSum) -> Result<Vec<u8>, String> {
    let name = &sum.name;
    let bytes = fs::read(path.join(name)).map_err(|e| format!("{name}: {e}"))?;
    if bytes.len() as u64 != sum.bytes {
        return Err(format!("{name} has {} bytes, {} were written", bytes.len(), sum.bytes));
    }
    let found = blake3::hash(&bytes).to_hex().to_string();
    if found != sum.blake3 {
        return Err(format!("{name} has the checksum {found}, {} was written", sum.blake3));
    }
    Ok(bytes)
}

/// The state of the checkpoint in the folder `path`, where it can be read, and what is damaged.
pub(super) fn judge(path: &Path) -> (Option<State>, Option<String>) {
    match read_state(path) {
        Ok(state) => {
            let fault = state.files.iter().find_map(|sum| read_summed(path, sum).err());
            (Some(state), fault)
        }
        Err(Fault::Damaged(reason) | Fault::OtherVersion(reason)) => (None, Some(reason)),
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

/// What processes that were killed left beside checkpoints.
fn unfinished(folder: &RunFolder) -> Result<Vec<PathBuf>, RunError> {
    Ok(entries(folder)?.into_iter().filter(|(name, _)| name.starts_with(".step-")).map(|(_, path)| path).collect())
}

/// Checkpoints of a run, the newest first.
pub fn list(folder: &RunFolder) -> Result<Vec<(u64, PathBuf)>, RunError> {
    let step = |(name, path): (String, PathBuf)| Some((name.strip_prefix("step-")?.parse().ok()?, path));
    let mut found: Vec<(u64, PathBuf)> = entries(folder)?.into_iter().filter_map(step).collect();
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Names and paths of all that lies in the folder of checkpoints.
fn entries(folder: &RunFolder) -> Result<Vec<(String, PathBuf)>, RunError> {
    let checkpoints = folder.checkpoints();
    let mut found = Vec::new();
    if checkpoints.is_dir() {
        for entry in fs::read_dir(&checkpoints).map_err(RunError::io("read", &checkpoints))? {
            let path = entry.map_err(RunError::io("read", &checkpoints))?.path();
            found.push((path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(), path));
        }
    }
    Ok(found)
}
