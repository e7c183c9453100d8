//! Folders of runs and sweeps that are told none: `runs/NAME`, `runs/NAME-2`, …
//!
//! **Invariant:** what is taken is decided by the folder's lock, so that two starts in one moment take two.

use std::fs;
use std::path::{Path, PathBuf};

use super::folder::{self, SWEEP};
use super::{RunError, RunFolder};

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
    let number = |entry: fs::DirEntry| {
        let file = entry.file_name().into_string().ok()?;
        let number = match file.strip_prefix(name)? {
            "" => 1,
            rest => rest.strip_prefix('-')?.parse().ok()?,
        };
        (numbered(runs, name, number) == entry.path() && is_taken(&entry.path())).then_some(number)
    };
    let found = fs::read_dir(runs).ok()?.flatten().filter_map(number).max()?;
    Some(numbered(runs, name, found))
}

fn is_taken(path: &Path) -> bool {
    RunFolder::open(path).is_ok() || path.join(SWEEP).is_file()
}
