//! What it took long to find out of the sources of a run, such as the names of a million files: who takes the run up again reads it
//! from here.
//!
//! **Invariant:** a file is put in its place whole. Whether it is still true is for the source to say.

use std::io::{self, Write};
use std::path::PathBuf;

use super::RunError;
use super::folder::RunFolder;

const FOLDER: &str = "sources";

impl RunFolder {
    /// Where what source `name` has kept lies, if it has.
    pub fn source_list(&self, name: &str) -> PathBuf {
        self.path().join(FOLDER).join(name)
    }

    /// Keeps what `write` writes for source `name`.
    pub fn keep_source_list(
        &self,
        name: &str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), RunError> {
        let (disk, folder) = (self.disk(), self.path().join(FOLDER));
        let (path, beside) = (self.source_list(name), folder.join(format!(".{name}")));
        disk.make_folder(&folder).map_err(RunError::io("make", &folder))?;
        let written = disk.write(&beside, write).and_then(|()| disk.rename(&beside, &path));
        written.and_then(|()| disk.sync_folder(&folder)).map_err(RunError::io("write", &path))
    }
}
