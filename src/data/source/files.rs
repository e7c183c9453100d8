//! Files of pictures below a folder, by number: what the sources share whose pictures are a file each.
//!
//! **Invariant:** an index does not hang on the file system ([`listing`]). Only names are read at first; a file is opened
//! when its picture is asked for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::kept::{self, Kept};
use super::listing::{self, Folder, Wanted};
use super::{DataError, Identity, Opening, Writes};

pub struct Files {
    root: PathBuf,
    folders: Vec<Folder>,
    /// For each folder, how many pictures lie in it and those before it.
    ends: Vec<usize>,
    classes: Vec<String>,
    passed: Vec<String>,
    wanted: Wanted,
    /// Of the folders, where they were listed now and the list may be kept.
    stamps: Option<Vec<(PathBuf, SystemTime)>>,
}

impl Files {
    /// Lists `root/CLASS/**/FILE`, or `root/FILE` where the pictures lie in `root` itself.
    pub fn list(root: &Path, wanted: Wanted, opening: Opening<'_>) -> Result<Files, DataError> {
        super::is_folder(root)?;
        if let Some(Kept { classes, folders, passed }) = opening.kept.and_then(|path| kept::read(path, root, wanted)) {
            return Files::of(root, wanted, (classes, folders, passed), None);
        }
        let begun = SystemTime::now();
        let listing::Listing { classes, folders, passed, stamps } = listing::list(root, wanted, opening.listed)?;
        let stamps = stamps.filter(|stamps| kept::can_be_kept(&folders, stamps, begun));
        Files::of(root, wanted, (classes, folders, passed.lines()), stamps)
    }

    fn of(
        root: &Path,
        wanted: Wanted,
        (classes, folders, passed): (Vec<String>, Vec<Folder>, Vec<String>),
        stamps: Option<Vec<(PathBuf, SystemTime)>>,
    ) -> Result<Files, DataError> {
        let in_root = folders.iter().find(|folder| folder.class.is_none()).map(|folder| folder.names.len());
        let (path, noun) = (root.to_owned(), wanted.noun());
        match (in_root, classes.len()) {
            (None, 0) => return Err(DataError::EmptyFolder { path, formats: wanted.formats(), noun, passed }),
            (None, _) | (Some(_), 0) => {}
            (Some(pictures), folders) => return Err(DataError::Mixed { path, pictures, folders, noun }),
        }
        let ends = folders.iter().scan(0, |end, folder| {
            *end += folder.names.len();
            Some(*end)
        });
        Ok(Files { root: path, ends: ends.collect(), folders, classes, passed, wanted, stamps })
    }

    /// What writes the list, for [`Opening::kept`]; `None` where it was taken from there, or cannot be kept.
    pub fn keeps(&self) -> Option<Writes<'_>> {
        let stamps = self.stamps.as_deref()?;
        let list = (self.classes.as_slice(), self.folders.as_slice(), self.passed.as_slice());
        Some(Box::new(move |to| kept::write(&self.root, self.wanted, list, stamps, to)))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub fn passed(&self) -> &[String] {
        &self.passed
    }

    /// The folder of a picture and its name there.
    fn found(&self, index: usize) -> (&Folder, &OsStr) {
        let at = self.ends.partition_point(|end| *end <= index);
        let folder = &self.folders[at];
        (folder, folder.names.get(index + folder.names.len() - self.ends[at]))
    }

    pub fn path(&self, index: usize) -> PathBuf {
        self.root.join(self.place(index))
    }

    /// From the root.
    pub fn place(&self, index: usize) -> PathBuf {
        let (folder, name) = self.found(index);
        folder.path.join(name)
    }

    pub fn name(&self, index: usize) -> String {
        self.place(index).display().to_string()
    }

    pub fn label(&self, index: usize) -> Option<i64> {
        self.found(index).0.class.map(|class| class as i64)
    }

    pub fn identity(&self, index: usize) -> Identity {
        Identity::of_file(&self.path(index))
    }

    /// All bytes of a file, `limit` at most.
    pub fn bytes(&self, index: usize, limit: u64) -> Result<Vec<u8>, String> {
        bytes(&self.path(index), limit)
    }

    pub fn check(&self) -> Result<(), DataError> {
        if self.root.is_dir() { Ok(()) } else { Err(DataError::FolderGone { path: self.root.clone() }) }
    }
}

/// All bytes of the file at `path`, `limit` at most.
pub fn bytes(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    if length > limit {
        return Err(format!("{length} bytes are more than the {limit} that `data.max_pixels` allows"));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit).read_to_end(&mut bytes).map_err(text)?;
    Ok(bytes)
}
