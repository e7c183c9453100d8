//! Folders that one process at a time writes to.
//!
//! **Invariant:** the lock is the operating system's: it dies with the process, however that ends. What holds it holds the file
//! that stands in the folder, not one that was removed with a folder of the same name.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RunError;

pub(super) const LOCK: &str = "lock";

const LOCK_TRIES: usize = 5;

/// A folder that is held, and left with the process or when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    /// Whether it was made for this.
    made: bool,
    _lock: File,
}

impl Held {
    /// Makes the folder where it is not there, and locks it.
    pub fn take(path: &Path) -> Result<Held, RunError> {
        let mut made = false;
        let mut tries = 0;
        loop {
            made |= make(path)?;
            let lock_path = path.join(LOCK);
            let lock = match File::create(&lock_path) {
                Ok(lock) => lock,
                // Whoever made it failed as it started, and has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < LOCK_TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(RunError::io("open", &lock_path)(error)),
            };
            match lock.try_lock() {
                Ok(()) if stands_at(&lock, &lock_path) => {
                    return Ok(Held { path: path.to_owned(), made, _lock: lock });
                }
                // Somebody who looks whether the folder is in use holds it too, for a moment.
                Ok(()) | Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: path.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(RunError::io("lock", &lock_path)(source)),
            }
        }
    }

    /// Removes `files` and `folders` (with all that is in them), and the folder, if it was made for this: what somebody else put
    /// there stays, and the folder with it.
    pub fn discard(self, files: &[&str], folders: &[&str]) {
        if !self.made {
            return;
        }
        // Before the lock is let go, so that nobody else has begun here. What cannot be removed hinders nobody: the next start
        // takes it over.
        for file in files {
            let _ = fs::remove_file(self.path.join(file));
        }
        for folder in folders {
            let _ = fs::remove_dir_all(self.path.join(folder));
        }
        let _ = fs::remove_file(self.path.join(LOCK));
        let _ = fs::remove_dir(&self.path);
    }
}

/// Whether a process holds the folder at `path`.
pub(super) fn is_held(path: &Path) -> bool {
    // The lock is let go with the file, at once: only a process that starts in this very moment could mind.
    let lock = File::open(path.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Makes the folder and those above it; says whether it was not there.
fn make(path: &Path) -> Result<bool, RunError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => RunError::NoFolder { path: parent.to_owned() },
            _ => RunError::io("make", parent)(source),
        })?;
    }
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => match path.is_dir() {
            true => Ok(false),
            false => Err(RunError::NoFolder { path: path.to_owned() }),
        },
        Err(error) => Err(RunError::io("make", path)(error)),
    }
}

#[cfg(unix)]
fn stands_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (held, there) = (file.metadata().map(identity), fs::metadata(path).map(identity));
    matches!((held, there), (Ok(held), Ok(there)) if held == there)
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn stands_at(_file: &File, _path: &Path) -> bool {
    true
}
