//! The folder of a run and the lock on it.
//!
//! **Invariant:** the lock is the operating system's: it dies with the process, however that ends.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RunError;
use super::disk::{Disk, System};
use crate::graph::Program;

const LOCK_TRIES: usize = 5;

/// A run's folder on disk.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Held while this process trains; `None` for readers.
    _lock: Option<File>,
}

impl RunFolder {
    /// The folder to train in: made if it is not there, locked. A folder that holds a run already is an error unless
    /// `resume`.
    pub fn open_for_training(path: &Path, resume: bool) -> Result<RunFolder, RunError> {
        fs::create_dir_all(path.join("checkpoints")).map_err(RunError::io("make", path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(RunError::io("open", &lock_path))?;
        // Somebody who looks whether the folder is in use holds it too, for a moment.
        let mut tries = 0;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(RunError::io("lock", &lock_path)(source)),
            }
        }
        if !resume && path.join("program.ron").exists() {
            return Err(RunError::Occupied { path: path.to_owned() });
        }
        Ok(RunFolder { path: path.to_owned(), disk: Arc::new(System), _lock: Some(lock) })
    }

    /// The folder of a run, to look at.
    pub fn open(path: &Path) -> Result<RunFolder, RunError> {
        if !path.join("program.ron").is_file() {
            return Err(RunError::NotARun { path: path.to_owned(), missing: "program.ron" });
        }
        Ok(RunFolder { path: path.to_owned(), disk: Arc::new(System), _lock: None })
    }

    /// The same folder on another disk, for tests of what fails.
    pub fn on(self, disk: Arc<dyn Disk>) -> RunFolder {
        RunFolder { disk, ..self }
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

    /// Whether a process trains here.
    pub fn in_use(&self) -> bool {
        // The lock is let go with the file, at once: only a run that starts in this very moment could mind.
        let lock = File::open(self.path.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Writes the pipeline's text, its settings and its graphs.
    pub fn write_program(&self, text: &str, program: &Program) -> Result<(), RunError> {
        self.write("pipeline.cmae", text.as_bytes())?;
        self.write("resolved.ron", self.to_ron("resolved.ron", &program.spec, true)?.as_bytes())?;
        self.write("program.ron", self.to_ron("program.ron", program, false)?.as_bytes())
    }

    /// Name of the checkpoint with the best evaluation, if there was one.
    pub fn best(&self) -> Option<String> {
        fs::read_to_string(self.path.join("best")).ok()
    }

    /// Points `RUN/best` to the checkpoint after `step` steps, which must be there.
    pub fn write_best(&self, step: u64) -> Result<(), RunError> {
        self.write("best", super::checkpoint::name(step).as_bytes())
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
        let written = self.disk.write(&beside, bytes).and_then(|()| self.disk.rename(&beside, &path));
        written.and_then(|()| self.disk.sync_folder(&self.path)).map_err(RunError::io("write", &path))
    }

    pub(super) fn to_ron<T: Serialize>(&self, name: &str, value: &T, pretty: bool) -> Result<String, RunError> {
        let text = if pretty {
            ron::ser::to_string_pretty(value, ron::ser::PrettyConfig::default())
        } else {
            ron::to_string(value)
        };
        text.map_err(|error| RunError::Format { path: self.path.join(name), message: error.to_string() })
    }
}

pub(super) fn from_ron<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, RunError> {
    ron::from_str(text).map_err(|error| RunError::Format { path: path.to_owned(), message: error.to_string() })
}
