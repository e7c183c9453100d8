//! `sweep.ron`: what makes a folder a sweep's, whose runs lie in folders of its own below it.
//!
//! **Invariant:** a folder is a run's or a sweep's, never both.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::{self, from_ron};
use super::lock::Held;
use super::tensor_file::write_atomically;
use super::{RunError, RunFolder};

pub const FILE: &str = "sweep.ron";

/// How a sweep was started, or taken up again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Version of the program.
    pub version: String,
    /// `NAME=A,B` of each `--sweep`.
    pub sweeps: Vec<String>,
    /// `NAME=VALUE` of each `--set`, the same for all runs.
    pub overrides: Vec<String>,
    /// `NAME=RUN` of each `--with`.
    pub imports: Vec<String>,
    /// Folders of the runs below the sweep's, in order.
    pub runs: Vec<String>,
}

impl Sweep {
    /// `None` where `path` is no sweep's folder.
    pub fn read(path: &Path) -> Result<Option<Sweep>, RunError> {
        let path = path.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(RunError::io("read", &path))?;
        from_ron(&path, &text).map(Some)
    }

    fn folders(&self, path: &Path) -> Vec<PathBuf> {
        self.runs.iter().map(|name| path.join(name)).collect()
    }
}

/// A sweep's folder, held while this process trains its runs.
#[derive(Debug)]
pub struct SweepFolder {
    path: PathBuf,
    held: Held,
    sweep: Sweep,
}

impl SweepFolder {
    /// The folder to train the runs of `sweep` in: made if it is not there, locked, and marked. One that holds a run, or whose
    /// runs have begun, is an error, the latter unless `resume`.
    pub fn open(path: &Path, resume: bool, sweep: Sweep) -> Result<SweepFolder, RunError> {
        // Versions that did not mark their sweeps left folders that are taken up again as any other.
        if !resume && !path.join(FILE).exists() && !folder::has_begun(path) {
            folder::refuse_others(path)?;
        }
        let held = Held::take(path)?;
        if folder::has_begun(path) {
            return Err(RunError::Occupied { path: path.to_owned() });
        }
        if let Some(before) = Sweep::read(path)?.filter(|_| !resume)
            && before.folders(path).iter().any(|run| folder::has_begun(run))
        {
            return Err(RunError::OccupiedBySweep { path: path.to_owned() });
        }
        let text = folder::to_ron(&path.join(FILE), &sweep, true)?;
        write_atomically(&path.join(FILE), text.as_bytes()).map_err(RunError::io("write", &path.join(FILE)))?;
        Ok(SweepFolder { path: path.to_owned(), held, sweep })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets go of the folder; where no run has begun it is removed, if it was made for this.
    pub fn leave(self) {
        if !self.sweep.folders(&self.path).iter().any(|run| folder::has_begun(run)) {
            self.held.discard(&[FILE], &[]);
        }
    }
}

/// `runs/NAME`, `runs/NAME-2`, …
fn numbered(runs: &Path, name: &str, number: usize) -> PathBuf {
    runs.join(if number == 1 { name.to_owned() } else { format!("{name}-{number}") })
}

/// Opens the first folder of `runs/NAME`, `runs/NAME-2`, … that nobody has, and that nobody else is taking at this moment.
pub fn first_free<T>(
    runs: &Path,
    name: &str,
    open: impl Fn(&Path) -> Result<T, RunError>,
) -> Result<(PathBuf, T), RunError> {
    let mut number = 1;
    loop {
        let path = numbered(runs, name, number);
        if !path.exists() || folder::is_fresh(&path) {
            match open(&path) {
                Err(RunError::Locked { .. } | RunError::Occupied { .. } | RunError::OccupiedBySweep { .. }) => {}
                opened => return opened.map(|opened| (path, opened)),
            }
        }
        number += 1;
    }
}

/// The last of `runs/NAME`, `runs/NAME-2`, … that holds a run or a sweep.
pub fn newest(runs: &Path, name: &str) -> Option<PathBuf> {
    let number = |entry: std::fs::DirEntry| {
        let file = entry.file_name().into_string().ok()?;
        let number = match file.strip_prefix(name)? {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse().ok()?,
        };
        (numbered(runs, name, number) == entry.path() && is_taken(&entry.path())).then_some(number)
    };
    let found = std::fs::read_dir(runs).ok()?.flatten().filter_map(number).max()?;
    Some(numbered(runs, name, found))
}

fn is_taken(path: &Path) -> bool {
    RunFolder::open(path).is_ok() || path.join(FILE).is_file()
}
