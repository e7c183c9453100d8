//! Files that stay open between two reads, of sources that read many files out of their order.
//!
//! **Invariant:** however many files a source has, so many are open at once, and reads by several threads do not disturb each other.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Files that are open at once: systems allow a process some hundred.
const OPEN: usize = 64;

/// The files of a source, by number, that were read last.
#[derive(Default)]
pub struct Opened(Mutex<VecDeque<(usize, Arc<File>)>>);

impl Opened {
    /// `length` bytes from `offset` of the file `number`, which lies at `path`.
    pub fn read(&self, number: usize, path: &Path, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let file = self.file(number, path)?;
        let mut bytes = vec![0; length];
        read_at(&file, &mut bytes, offset)?;
        Ok(bytes)
    }

    /// The file `number`, which stays open until others were read since.
    fn file(&self, number: usize, path: &Path) -> std::io::Result<Arc<File>> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|(known, _)| *known == number).map(|(_, file)| file.clone());
        if let Some(file) = known {
            return Ok(file);
        }
        let file = Arc::new(File::open(path)?);
        let mut open = lock();
        open.push_back((number, file.clone()));
        if open.len() > OPEN {
            open.pop_front();
        }
        Ok(file)
    }
}

/// Reads without moving where others read from.
#[cfg(unix)]
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// The same where reading moves the file's place: one at a time.
#[cfg(not(unix))]
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = file;
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}
