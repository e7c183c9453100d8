//! The list of a folder's files, written down: who takes a run up again need not read a million names from a disk far away.
//!
//! In the file ([`checked`](super::checked)): what was listed, the folders, and when each was changed; then names, each ended by a
//! zero byte.
//!
//! **Invariant:** a list is taken up only where it is whole and no folder that it hangs on was changed since: as names come or go,
//! the system notes a time with their folder.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::checked::{Reader, Writer};
use super::listing::{Folder, Wanted, changed};
use super::names::Names;

/// Of the layout of the file.
const VERSION: u32 = 1;

/// Some systems note times in steps of up to two seconds; what was changed so shortly before it was read may have been changed again
/// within the same step.
const STEP: Duration = Duration::from_secs(3);

/// Whether what was last changed at `changed`, and read from `begun` on, shows it when it is changed again.
pub fn is_settled(changed: SystemTime, begun: SystemTime) -> bool {
    begun.duration_since(changed).is_ok_and(|age| age >= STEP)
}

/// What a source of files knows of its folder.
pub struct Kept {
    pub classes: Vec<String>,
    pub folders: Vec<Folder>,
    pub passed: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    wanted: Wanted,
    root: PathBuf,
    classes: Vec<String>,
    /// Path from the root, class, number of names.
    folders: Vec<(PathBuf, Option<usize>, usize)>,
    passed: Vec<String>,
    stamps: Vec<(PathBuf, SystemTime)>,
}

/// Whether a list of names can be kept that hangs on folders with these times, and was made from `begun` on.
pub fn can_be_kept(folders: &[Folder], stamps: &[(PathBuf, SystemTime)], begun: SystemTime) -> bool {
    let is_text = |folder: &Folder| folder.names.are_text() && folder.path.to_str().is_some();
    stamps.iter().all(|(_, changed)| is_settled(*changed, begun)) && folders.iter().all(is_text)
}

/// Writes the list of `root`; names are Unicode.
pub fn write(
    root: &Path,
    wanted: Wanted,
    kept: (&[String], &[Folder], &[String]),
    stamps: &[(PathBuf, SystemTime)],
    to: &mut dyn Write,
) -> io::Result<()> {
    let (classes, folders, passed) = kept;
    let header = Header {
        version: VERSION,
        wanted,
        root: root.to_owned(),
        classes: classes.to_vec(),
        folders: folders.iter().map(|folder| (folder.path.clone(), folder.class, folder.names.len())).collect(),
        passed: passed.to_vec(),
        stamps: stamps.to_vec(),
    };
    let mut file = Writer::new(to, &header)?;
    for name in folders.iter().flat_map(|folder| folder.names.iter()) {
        file.put(name.as_encoded_bytes())?;
        file.put(&[0])?;
    }
    file.finish()
}

/// The list of `root` in the file at `path`; `None` where it is another's, is not whole, or is not true any more.
pub fn read(path: &Path, root: &Path, wanted: Wanted) -> Option<Kept> {
    let (header, mut file) = Reader::open::<Header>(path)?;
    if header.version != VERSION || header.wanted != wanted || header.root != root {
        return None;
    }
    if !header.stamps.iter().all(|(folder, before)| changed(folder) == Some(*before)) {
        return None;
    }
    let (mut folders, mut bytes) = (Vec::with_capacity(header.folders.len()), Vec::new());
    for (path, class, count) in header.folders {
        let mut names = Names::default();
        for _ in 0..count {
            file.until_zero(&mut bytes)?;
            names.push(OsStr::new(std::str::from_utf8(&bytes).ok()?));
        }
        folders.push(Folder { path, class, names });
    }
    file.ends_whole().then_some(Kept { classes: header.classes, folders, passed: header.passed })
}
