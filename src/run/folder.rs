//! The folder of a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RunError;
use super::disk::{Disk, System};
use super::lock::{Held, LOCK, is_held};
use crate::graph::Program;

/// Files of a run's folder.
pub(super) const FILES: [&str; 16] = [
    "pipeline.cmae",
    "resolved.ron",
    "started.ron",
    "program.ron",
    "metrics.jsonl",
    "features.json",
    "features_tsne.json",
    "classified.json",
    "segmented.json",
    "segmented.png",
    "neighbours.png",
    "patches.png",
    "weights.json",
    "last",
    "best",
    "report.html",
];
/// What the folder of a sweep holds, and that of a run never.
pub(super) const SWEEP: &str = "sweep.ron";
/// Folders in it, which are the run's with all that is in them.
pub(super) const FOLDERS: [&str; 5] = ["checkpoints", "reconstructions", "events", "programs", "sources"];

/// A run's folder on disk.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Held while this process trains; `None` for readers.
    held: Option<Held>,
}

impl RunFolder {
    /// The folder to train in: made if it is not there, locked. A folder that holds a sweep is an error, and one whose run has
    /// begun is one unless `resume`; what a start left that came to nothing is taken over.
    pub fn open_for_training(path: &Path, resume: bool) -> Result<RunFolder, RunError> {
        if !path.join("program.ron").exists() && !path.join(SWEEP).exists() && !has_begun(path) {
            refuse_others(path)?;
        }
        let held = Held::take(path)?;
        if path.join(SWEEP).exists() {
            return Err(RunError::OccupiedBySweep { path: path.to_owned() });
        }
        if !resume && has_begun(path) {
            return Err(RunError::Occupied { path: path.to_owned() });
        }
        let checkpoints = path.join("checkpoints");
        fs::create_dir_all(&checkpoints).map_err(RunError::io("make", &checkpoints))?;
        Ok(RunFolder { path: path.to_owned(), disk: Arc::new(System), held: Some(held) })
    }

    /// The folder of a run, to look at.
    pub fn open(path: &Path) -> Result<RunFolder, RunError> {
        if !path.join("program.ron").is_file() {
            return Err(RunError::NotARun { path: path.to_owned(), missing: "program.ron" });
        }
        Ok(RunFolder { path: path.to_owned(), disk: Arc::new(System), held: None })
    }

    /// The same folder on another disk, for tests of what fails.
    pub fn on(self, disk: Arc<dyn Disk>) -> RunFolder {
        RunFolder { disk, ..self }
    }

    /// The same folder for another thread of who holds it.
    pub(super) fn unlocked(&self) -> RunFolder {
        RunFolder { path: self.path.clone(), disk: self.disk.clone(), held: None }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Where the picture of reconstructions after `step` steps goes.
    pub fn reconstructions(&self, step: u64) -> PathBuf {
        self.path.join("reconstructions").join(format!("step-{step:08}.png"))
    }

    /// The same, with its folder made.
    pub fn make_reconstructions(&self, step: u64) -> Result<PathBuf, RunError> {
        let folder = self.path.join("reconstructions");
        fs::create_dir_all(&folder).map_err(RunError::io("make", &folder))?;
        Ok(self.reconstructions(step))
    }

    /// Where the map of the features goes.
    pub fn feature_map(&self) -> PathBuf {
        self.path.join("features.json")
    }

    /// Where the map of the features by t-SNE goes.
    pub fn neighbour_map(&self) -> PathBuf {
        self.path.join("features_tsne.json")
    }

    /// Where the figures of the first classification go.
    pub fn classified(&self) -> PathBuf {
        self.path.join("classified.json")
    }

    /// Where the figures of the first segmentation go.
    pub fn segmented(&self) -> PathBuf {
        self.path.join("segmented.json")
    }

    /// Where the picture of pixels' classes goes.
    pub fn segmented_picture(&self) -> PathBuf {
        self.path.join("segmented.png")
    }

    /// Where the picture of the features' nearest neighbours goes.
    pub fn neighbours(&self) -> PathBuf {
        self.path.join("neighbours.png")
    }

    /// Where the picture of what becomes of patches goes.
    pub fn patches(&self) -> PathBuf {
        self.path.join("patches.png")
    }

    /// Whether a process trains here.
    pub fn in_use(&self) -> bool {
        is_held(&self.path)
    }

    /// Lets go of the folder; where nothing was trained in it, it is removed, if it was made for this.
    pub fn leave(self) {
        if let Some(held) = self.held
            && !has_begun(&self.path)
        {
            held.discard(&FILES, &FOLDERS);
        }
    }

    /// Writes the pipeline's text, its settings and its graphs.
    pub fn write_program(&self, text: &str, program: &Program) -> Result<(), RunError> {
        self.write("pipeline.cmae", text.as_bytes())?;
        self.write("resolved.ron", self.to_ron("resolved.ron", &program.spec, true)?.as_bytes())?;
        self.write("program.ron", self.to_ron("program.ron", program, false)?.as_bytes())
    }

    /// Writes what became of the files that modules began with.
    pub fn write_loaded(&self, loaded: &impl Serialize) -> Result<(), RunError> {
        let text = serde_json::to_vec_pretty(loaded).expect("names and counts are JSON");
        self.write("weights.json", &text)
    }

    /// Name of the checkpoint with the best evaluation, if there was one.
    pub fn best(&self) -> Option<String> {
        fs::read_to_string(self.path.join("best")).ok()
    }

    /// The program that the run was started with.
    pub fn program(&self) -> Result<Program, RunError> {
        let path = self.path.join("program.ron");
        let text = fs::read_to_string(&path).map_err(RunError::io("read", &path))?;
        // It was renamed in whole, so that what cannot be read is not torn but older or newer.
        ron::from_str(&text).map_err(|error| RunError::OtherVersion { path, message: error.to_string() })
    }

    /// Whether a run was started here.
    pub fn holds_a_run(&self) -> bool {
        self.path.join("program.ron").is_file()
    }

    /// Writes a file beside its place, then puts it there: after a crash it holds the old contents or the new.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        let (path, beside) = (self.path.join(name), self.path.join(format!(".{name}")));
        let written =
            self.disk.write(&beside, &mut |file| file.write_all(bytes)).and_then(|()| self.disk.rename(&beside, &path));
        written.and_then(|()| self.disk.sync_folder(&self.path)).map_err(RunError::io("write", &path))
    }

    pub(super) fn to_ron<T: Serialize>(&self, name: &str, value: &T, pretty: bool) -> Result<String, RunError> {
        to_ron(&self.path.join(name), value, pretty)
    }
}

/// Whether there is something in the folder at `path` that a run has trained: a line of metrics or a checkpoint.
pub(super) fn has_begun(path: &Path) -> bool {
    let metrics = fs::metadata(path.join("metrics.jsonl")).is_ok_and(|metadata| metadata.len() > 0);
    let checkpoints = fs::read_dir(path.join("checkpoints"));
    // A name with a dot is a checkpoint that is being written, or that never was.
    let whole = |entry: fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
    metrics || checkpoints.is_ok_and(|entries| entries.flatten().any(whole))
}

/// Refuses a folder that somebody keeps other folders in, pictures or runs, before anything is written to it. A file beside may
/// be the log of this very run.
pub(super) fn refuse_others(path: &Path) -> Result<(), RunError> {
    let other = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (entry.path().is_dir() && !FOLDERS.contains(&&*name)).then_some(name)
    };
    // What is no folder, or cannot be read, is told where it is made.
    match fs::read_dir(path).ok().and_then(|entries| entries.flatten().find_map(other)) {
        Some(other) => Err(RunError::OtherFolder { path: path.to_owned(), other }),
        None => Ok(()),
    }
}

/// Whether a start that came to nothing has left the folder at `path` as it is.
pub(super) fn is_fresh(path: &Path) -> bool {
    let own = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let name = name.strip_prefix('.').unwrap_or(&name);
        name == LOCK || name == SWEEP || FILES.contains(&name) || FOLDERS.contains(&name)
    };
    !has_begun(path) && fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(own)))
}

pub(super) fn to_ron<T: Serialize>(path: &Path, value: &T, pretty: bool) -> Result<String, RunError> {
    let text = if pretty {
        ron::ser::to_string_pretty(value, ron::ser::PrettyConfig::default())
    } else {
        ron::to_string(value)
    };
    text.map_err(|error| RunError::Format { path: path.to_owned(), message: error.to_string() })
}

pub(super) fn from_ron<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, RunError> {
    ron::from_str(text).map_err(|error| RunError::Format { path: path.to_owned(), message: error.to_string() })
}
