//! A folder of picture files: one folder a class, or all in one folder and without classes.
//!
//! **Invariant:** classes and files are sorted by their names, so that an index does not hang on the file system. Only
//! names are read at first; a file is opened when its picture is asked for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::listing::{self, Folder};
use super::{DataError, Identity, Image, Source};
use crate::data::decode::{self, Deep, Reading};

/// Bytes of a file: so many a pixel that is allowed, and some for what is no pixel. Longer ones are no pictures.
const BYTES_A_PIXEL: u64 = 8;
const BYTES_ASIDE: u64 = 64 << 20;

/// Pictures that are looked at as a source is opened, for values of 16 bits.
const LOOKED_AT: usize = 16;

pub(super) struct ImageFolder {
    root: PathBuf,
    folders: Vec<Folder>,
    /// For each folder, how many pictures lie in it and those before it.
    ends: Vec<usize>,
    classes: Vec<String>,
    passed: Vec<String>,
    reading: Reading,
    noticed: Mutex<Noticed>,
}

/// What was seen of 16-bit pictures: each kind is told once.
#[derive(Default)]
struct Noticed {
    few: bool,
    clipped: bool,
    news: Vec<String>,
}

impl ImageFolder {
    /// Lists `root/CLASS/**/FILE`, or `root/FILE` where the pictures lie in `root` itself.
    pub(super) fn open(root: &Path, reading: Reading) -> Result<ImageFolder, DataError> {
        super::is_folder(root)?;
        let listing::Listing { classes, folders, passed } = listing::list(root)?;
        let passed = passed.lines();
        let in_root = folders.iter().find(|folder| folder.class.is_none()).map(|folder| folder.names.len());
        match (in_root, classes.len()) {
            (None, 0) => return Err(DataError::EmptyFolder { path: root.to_owned(), passed }),
            (None, _) | (Some(_), 0) => {}
            (Some(pictures), folders) => {
                return Err(DataError::Mixed { path: root.to_owned(), pictures, folders });
            }
        }
        let ends = folders.iter().scan(0, |end, folder| {
            *end += folder.names.len();
            Some(*end)
        });
        let (ends, noticed) = (ends.collect(), Mutex::new(Noticed::default()));
        let source = ImageFolder { root: root.to_owned(), ends, folders, classes, passed, reading, noticed };
        source.look();
        Ok(source)
    }

    /// Decodes some pictures whose values may have 16 bits, so that what is lost is told before it is trained on.
    fn look(&self) {
        let count = LOOKED_AT.min(self.len());
        for index in (0..count).map(|i| i * self.len() / count) {
            let mut head = Vec::new();
            let read = File::open(self.path(index)).and_then(|file| file.take(32).read_to_end(&mut head));
            if read.is_ok() && decode::may_be_deep(&head) {
                // One that is broken is told when it is met.
                let _ = self.image(index);
            }
        }
    }

    /// The folder of a picture and its name there.
    fn place(&self, index: usize) -> (&Folder, &OsStr) {
        let at = self.ends.partition_point(|end| *end <= index);
        let folder = &self.folders[at];
        (folder, &folder.names[index + folder.names.len() - self.ends[at]])
    }

    fn path(&self, index: usize) -> PathBuf {
        let (folder, name) = self.place(index);
        self.root.join(&folder.path).join(name)
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>, String> {
        let text = |error: std::io::Error| error.to_string();
        let file = File::open(self.path(index)).map_err(text)?;
        let length = file.metadata().map_err(text)?.len();
        let limit = BYTES_A_PIXEL * self.reading.max_pixels as u64 + BYTES_ASIDE;
        if length > limit {
            return Err(format!("{length} bytes are more than the {limit} that `data.max_pixels` allows"));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(limit).read_to_end(&mut bytes).map_err(text)?;
        Ok(bytes)
    }

    fn notice(&self, index: usize, deep: Deep) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.name(index);
        let Deep { least, greatest, levels, clipped } = deep;
        let (low, high) = self.reading.range.unwrap_or((0, u16::MAX));
        if clipped && !std::mem::replace(&mut noticed.clipped, true) {
            noticed.news.push(format!(
                "{name} has values from {least} to {greatest}, beyond `range: {low}..{high}`: what is outside becomes black or \
                 white"
            ));
        } else if !clipped && !std::mem::replace(&mut noticed.few, true) {
            // The full range of so many bits.
            let top = (u32::from(greatest) + 1).next_power_of_two() - 1;
            noticed.news.push(format!(
                "{name} keeps {levels} of 256 levels: its values, of 16 bits, run from {least} to {greatest}; write \
                 image_folder(\"{}\", range: 0..{top})",
                self.root.display()
            ));
        }
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let decode::Decoded { image, deep } = decode::decode(&self.bytes(index)?, self.reading)?;
        if let Some(deep) = deep {
            self.notice(index, deep);
        }
        Ok(image)
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.place(index).0.class.map(|class| class as i64)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let (folder, name) = self.place(index);
        folder.path.join(name).display().to_string()
    }

    fn passed(&self) -> &[String] {
        &self.passed
    }

    fn noticed(&self) -> Vec<String> {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut noticed.news)
    }

    fn identity(&self, index: usize) -> Identity {
        Identity::of_file(&self.path(index))
    }

    fn check(&self) -> Result<(), DataError> {
        if self.root.is_dir() { Ok(()) } else { Err(DataError::FolderGone { path: self.root.clone() }) }
    }
}
