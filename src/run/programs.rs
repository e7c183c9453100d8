//! Programs that an accelerator's compiler has made for a run: a run that is taken up again runs the very same ones, for a compiler
//! that times what it chooses from may choose otherwise the next time.
//!
//! **Invariant:** a file is whole, or its checksum tells that it is not.

use std::fs;

use super::RunError;
use super::folder::RunFolder;

const FOLDER: &str = "programs";

impl RunFolder {
    /// What was kept, by name, and a line for each file that is damaged and passed over.
    pub fn programs(&self) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(self.path().join(FOLDER)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // One with a dot was being written when a run was killed.
            if name.starts_with('.') {
                continue;
            }
            match fs::read(entry.path()).ok().and_then(|bytes| checked(&bytes)) {
                Some(bytes) => found.push((name, bytes)),
                None => damaged.push(format!("{} is damaged: it is compiled anew", entry.path().display())),
            }
        }
        (found, damaged)
    }

    pub fn keep_program(&self, name: &str, program: &[u8]) -> Result<(), RunError> {
        let (disk, folder) = (self.disk(), self.path().join(FOLDER));
        let (path, beside) = (folder.join(name), folder.join(format!(".{name}")));
        let sum = blake3::hash(program).to_hex();
        let bytes = [sum.as_bytes(), b"\n", program].concat();
        disk.make_folder(&folder).map_err(RunError::io("make", &folder))?;
        let written =
            disk.write(&beside, &mut |file| file.write_all(&bytes)).and_then(|()| disk.rename(&beside, &path));
        written.and_then(|()| disk.sync_folder(&folder)).map_err(RunError::io("write", &path))
    }
}

/// What stands behind the checksum, if it is that.
fn checked(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (sum, program) = (&bytes[..end], &bytes[end + 1..]);
    (blake3::hash(program).to_hex().as_bytes() == sum).then(|| program.to_vec())
}
