//! What a run does to the disk where it must not be half done: one method for each thing that can fail.
//!
//! Before: checkpoints and the files of a run folder call these in an order that leaves a whole run behind wherever it ends.
//! After: the system does them; in tests, a disk that fails at a chosen one.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Bytes that are handed to the system at once.
const BUFFER: usize = 1 << 20;

/// Writes the contents of a file.
pub type Fill<'f> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'f;

pub trait Disk: Debug + Send + Sync {
    /// Makes a folder and those that it lies in.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes or overwrites a file with what `fill` writes, which is on the disk when this returns.
    fn write(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()>;
    /// Over whatever file is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// With all that is in it; a folder that is not there is no error.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The operating system's.
#[derive(Debug)]
pub struct System;

impl Disk for System {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, fill: &mut Fill<'_>) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        fill(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Elsewhere than on Unix folders cannot be opened, and renames last by themselves.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }
}
