//! A folder of picture files: one folder a class, or all in one folder and without classes.
//!
//! **Invariant:** classes and files are sorted by their bytes, so that an index does not hang on the file system. Only
//! names are read at first; a file is opened when its picture is asked for.

use std::path::{Path, PathBuf};

use super::{DataError, Identity, Image, Source};
use crate::data::image::decode;

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Least Jaro-Winkler similarity of a name worth proposing.
const SIMILAR: f64 = 0.8;

pub(super) struct ImageFolder {
    root: PathBuf,
    /// With the index of its class, for a folder with classes.
    files: Vec<(PathBuf, Option<i64>)>,
    classes: Vec<String>,
    channels: usize,
}

impl ImageFolder {
    /// Lists `root/CLASS/**/FILE`, or `root/FILE` where the pictures lie in `root` itself.
    ///
    /// A class folder without pictures keeps its place among the classes, so that splits of one data set agree.
    pub(super) fn open(root: &Path, channels: usize) -> Result<ImageFolder, DataError> {
        if !root.exists() {
            return Err(DataError::FolderNotFound { path: root.to_owned(), similar: similar(root) });
        }
        if !root.is_dir() {
            return Err(DataError::NotAFolder { path: root.to_owned() });
        }
        let listing = list(root)?;
        let loose: Vec<PathBuf> = listing.iter().filter(|path| is_picture(path)).cloned().collect();
        let mut files = Vec::new();
        let mut classes = Vec::new();
        let mut full_folders = 0;
        for folder in listing.iter().filter(|path| path.is_dir()) {
            let mut pictures = Vec::new();
            walk(folder, &mut pictures)?;
            pictures.sort();
            full_folders += usize::from(!pictures.is_empty());
            let label = classes.len() as i64;
            classes.push(folder.file_name().unwrap_or_default().to_string_lossy().into_owned());
            files.extend(pictures.into_iter().map(|path| (path, Some(label))));
        }
        match (loose.is_empty(), files.is_empty()) {
            (true, true) => return Err(DataError::EmptyFolder { path: root.to_owned() }),
            (false, false) => {
                return Err(DataError::Mixed { path: root.to_owned(), pictures: loose.len(), folders: full_folders });
            }
            (false, true) => {
                classes.clear();
                files = loose.into_iter().map(|path| (path, None)).collect();
            }
            (true, false) => {}
        }
        Ok(ImageFolder { root: root.to_owned(), files, classes, channels })
    }
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let bytes = std::fs::read(&self.files[index].0).map_err(|e| e.to_string())?;
        decode(&bytes, self.channels)
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.files[index].1
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let path = &self.files[index].0;
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn identity(&self, index: usize) -> Identity {
        Identity::of_file(&self.files[index].0)
    }

    fn check(&self) -> Result<(), DataError> {
        if self.root.is_dir() { Ok(()) } else { Err(DataError::FolderGone { path: self.root.clone() }) }
    }
}

/// The entries of a folder, sorted, without hidden ones: those are no one's classes.
fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let error = |source| DataError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Adds every picture below `folder`. A link to a folder is not followed below a class: it may lead in circles.
fn walk(folder: &Path, pictures: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for path in list(folder)? {
        if path.is_dir() {
            if !path.is_symlink() {
                walk(&path, pictures)?;
            }
        } else if is_picture(&path) {
            pictures.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let known = |extension: &str| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
    path.extension().and_then(|extension| extension.to_str()).is_some_and(known) && !path.is_dir()
}

/// The sibling folder whose name is most like that of `path`.
fn similar(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let entries = std::fs::read_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).ok()?;
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let scored = folders.filter_map(|entry| {
        let sibling = entry.file_name().into_string().ok()?;
        Some((strsim::jaro_winkler(name, &sibling), sibling))
    });
    // The name settles ties: the order of `read_dir` is not the same everywhere.
    let best = scored.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
    Some(parent.join(best.1))
}
