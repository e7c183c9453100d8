//! What a picture is, whatever path leads to it: so that kNN finds a query that lies in its own bank.
//!
//! **Invariant:** two pictures of one identity are one picture, be it that one folder is given twice, lies in another, or that
//! links lead to it. Copies of a file are pictures of their own.

use std::path::Path;

use rayon::prelude::*;

use super::Source;

/// A picture, among those of every source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity([u8; 16]);

impl Identity {
    /// Of a picture that is made, not read: `text` says all that it hangs on.
    pub fn of_text(text: &str) -> Identity {
        Identity::of(&[b"made ", text.as_bytes()])
    }

    /// Of the file at `path`; one that is not there has the identity of its path.
    pub fn of_file(path: &Path) -> Identity {
        #[cfg(unix)]
        if let Ok(found) = std::fs::metadata(path) {
            use std::os::unix::fs::MetadataExt;
            // One look at the disk for each file, where resolving its path takes one for each folder on the way.
            return Identity::of(&[b"file ", &found.dev().to_le_bytes(), &found.ino().to_le_bytes()]);
        }
        let resolved = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Identity::of(&[b"path ", resolved.as_os_str().as_encoded_bytes()])
    }

    /// Of the picture `number` of those that the file of this identity holds.
    pub fn part(self, number: u64) -> Identity {
        Identity::of(&[b"part ", &self.0, &number.to_le_bytes()])
    }

    fn of(parts: &[&[u8]]) -> Identity {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Identity(bytes)
    }
}

/// Of all pictures of `source`, in their order.
pub fn identities(source: &dyn Source) -> Vec<Identity> {
    (0..source.len()).into_par_iter().map(|index| source.identity(index)).collect()
}
