//! What lies below a folder, by class.
//!
//! Real folders are listed first, then links are followed: a picture that is reached both ways keeps its real place.
//!
//! **Invariant:** the list hangs on names and links alone, never on the order of the file system. Only names are read: no entry
//! is looked at but links, and files whose name has no ending.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::DataError;
use super::litter::is_litter;
use super::passed::{Kind, Passed};
use crate::data::decode;

/// Pictures below a root.
pub struct Listing {
    /// Names of the classes that have a picture, sorted; empty where pictures lie in the root.
    pub classes: Vec<String>,
    /// Sorted by class, then by path.
    pub folders: Vec<Folder>,
    pub passed: Passed,
}

/// Pictures that lie side by side.
pub struct Folder {
    /// From the root.
    pub path: PathBuf,
    /// Index of the class; `None` for the root.
    pub class: Option<usize>,
    /// Sorted.
    pub names: Vec<Box<OsStr>>,
}

/// What files are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    #[default]
    Pictures,
    /// `.npy`.
    Arrays,
}

impl Wanted {
    /// What messages call one of them.
    pub fn noun(self) -> &'static str {
        match self {
            Wanted::Pictures => "picture",
            Wanted::Arrays => "array",
        }
    }

    /// As in "no jpeg or png picture".
    pub fn formats(self) -> &'static str {
        match self {
            Wanted::Pictures => decode::READ,
            Wanted::Arrays => "npy",
        }
    }

    /// Pictures by their ending; a file without one is opened, for some collections are named by numbers or sums alone.
    fn is(self, folder: &Path, name: &OsStr) -> bool {
        match self {
            Wanted::Arrays => Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")),
            Wanted::Pictures => decode::is_picture(Path::new(name)).unwrap_or_else(|| {
                let mut head = Vec::new();
                let read = fs::File::open(folder.join(name)).and_then(|file| file.take(12).read_to_end(&mut head));
                read.is_ok() && decode::begins_as_picture(&head)
            }),
        }
    }
}

/// Lists all that is wanted below `root`, which is a folder: `root/CLASS/**/FILE`, or `root/FILE`.
pub fn list(root: &Path, wanted: Wanted) -> Result<Listing, DataError> {
    let real = fs::canonicalize(root).map_err(|source| DataError::Io { path: root.to_owned(), source })?;
    let passed = Passed::new(wanted.noun());
    let mut walk = Walk { wanted, root: root.to_owned(), real: real.clone(), passed, ..Walk::default() };
    walk.list(PathBuf::new(), real)?;
    walk.follow()?;
    Ok(walk.finish())
}

/// The form in which equal names are equal bytes. A name that is no Unicode is what its bytes are.
fn normal(name: &OsStr) -> String {
    match name.to_str() {
        Some(name) => name.nfc().collect(),
        None => name.as_encoded_bytes().escape_ascii().to_string(),
    }
}

/// A folder that was read.
struct Walked {
    /// From the root.
    path: PathBuf,
    names: Vec<Box<OsStr>>,
}

/// A link to a picture: the folder that holds it, its name, and what it leads to.
struct FileLink {
    holder: usize,
    name: OsString,
    target: (u32, OsString),
}

#[derive(Default)]
struct Walk {
    wanted: Wanted,
    root: PathBuf,
    /// Without links.
    real: PathBuf,
    folders: Vec<Walked>,
    /// Folders by their path without links.
    seen: HashMap<PathBuf, usize>,
    /// Links not looked at yet: the folder that holds each, and that folder's path without links.
    links: VecDeque<(usize, PathBuf, OsString)>,
    file_links: Vec<FileLink>,
    /// Folders that links to files lead to, without links, and each by the path that a link names.
    parents: Vec<PathBuf>,
    parent_of: HashMap<PathBuf, u32>,
    passed: Passed,
}

impl Walk {
    /// Reads `path` (from the root), which is `real` without links, and all real folders below.
    fn list(&mut self, path: PathBuf, real: PathBuf) -> Result<(), DataError> {
        let mut waiting = vec![(path, real)];
        let mut links = Vec::new();
        while let Some((path, real)) = waiting.pop() {
            if self.seen.contains_key(&real) {
                self.passed.add(Kind::SeenAlready, &path);
                continue;
            }
            let index = self.folders.len();
            self.seen.insert(real.clone(), index);
            let full = self.root.join(&path);
            let error = |source| DataError::Io { path: full.clone(), source };
            let mut names: Vec<Box<OsStr>> = Vec::new();
            for entry in fs::read_dir(&full).map_err(error)? {
                let entry = entry.map_err(error)?;
                let (name, kind) = (entry.file_name(), entry.file_type().map_err(error)?);
                if is_litter(&name) {
                    self.passed.add(Kind::Litter, &path.join(&name));
                } else if kind.is_dir() {
                    waiting.push((path.join(&name), real.join(&name)));
                } else if kind.is_symlink() {
                    links.push((index, real.clone(), name));
                } else if !kind.is_file() {
                    self.passed.add(Kind::Special, &path.join(&name));
                } else if self.wanted.is(&full, &name) {
                    names.push(name.into_boxed_os_str());
                } else {
                    self.passed.add_file(&path.join(&name));
                }
            }
            self.folders.push(Walked { path, names });
        }
        // The first by name wins where two lead to the same.
        links.sort_by(|a, b| (&self.folders[a.0].path, &a.2).cmp(&(&self.folders[b.0].path, &b.2)));
        self.links.extend(links);
        Ok(())
    }

    /// Follows links, and those that they lead to, until there are no more.
    fn follow(&mut self) -> Result<(), DataError> {
        while let Some((holder, real, name)) = self.links.pop_front() {
            let path = self.folders[holder].path.join(&name);
            let Ok(target) = self.resolve(&real, &name) else {
                self.passed.add(Kind::LinkToNothing, &path);
                continue;
            };
            match target {
                Target::Folder(target) if real.starts_with(&target) || self.real.starts_with(&target) => {
                    self.passed.add(Kind::LinkInCircle, &path);
                }
                Target::Folder(target) if self.seen.contains_key(&target) => {
                    self.passed.add(Kind::SeenAlready, &path);
                }
                Target::Folder(target) => {
                    self.passed.add(Kind::LinkToFolder, &path);
                    self.list(path, target)?;
                }
                Target::File(parent, file) if self.wanted.is(&real, &name) => {
                    self.file_links.push(FileLink { holder, name, target: (parent, file) });
                }
                Target::File(..) => self.passed.add_file(&path),
                Target::Special => self.passed.add(Kind::Special, &path),
            }
        }
        Ok(())
    }

    /// What a link leads to. Two looks at the disk for a link to a file, however deep it lies: a million of them is usual.
    fn resolve(&mut self, holder: &Path, name: &OsStr) -> std::io::Result<Target> {
        let link = holder.join(name);
        let named = holder.join(fs::read_link(&link)?);
        let of_parent = match (named.parent(), named.file_name()) {
            (Some(parent), Some(name)) => self.parent(parent).ok().map(|parent| (parent, name.to_owned())),
            // `..` and `/` have no name.
            _ => None,
        };
        let is = |kind: fs::FileType, path: PathBuf, file: Option<(u32, OsString)>| match file {
            _ if kind.is_dir() => Target::Folder(path),
            Some((parent, name)) if kind.is_file() => Target::File(parent, name),
            _ => Target::Special,
        };
        if let Some((parent, name)) = of_parent {
            let path = self.parents[parent as usize].join(&name);
            let kind = fs::symlink_metadata(&path)?.file_type();
            if !kind.is_symlink() {
                return Ok(is(kind, path, Some((parent, name))));
            }
        }
        // A link to a link.
        let path = fs::canonicalize(&link)?;
        let kind = fs::symlink_metadata(&path)?.file_type();
        let file = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Some((self.parent(parent)?, name.to_owned())),
            _ => None,
        };
        Ok(is(kind, path, file))
    }

    /// Number of the folder that `path` names.
    fn parent(&mut self, path: &Path) -> std::io::Result<u32> {
        if let Some(number) = self.parent_of.get(path) {
            return Ok(*number);
        }
        let real = fs::canonicalize(path)?;
        let known = self.parent_of.get(&real).copied();
        let number = known.unwrap_or_else(|| {
            self.parents.push(real.clone());
            self.parent_of.insert(real, self.parents.len() as u32 - 1);
            self.parents.len() as u32 - 1
        });
        self.parent_of.insert(path.to_owned(), number);
        Ok(number)
    }

    fn finish(mut self) -> Listing {
        self.folders.iter_mut().for_each(|folder| folder.names.sort());
        // Links to pictures come last: what is listed for real is known now.
        let mut linked: HashSet<(u32, OsString)> = HashSet::new();
        let mut added: Vec<(usize, Box<OsStr>)> = Vec::new();
        for FileLink { holder, name, target } in std::mem::take(&mut self.file_links) {
            let path = &self.parents[target.0 as usize];
            let listed = self.seen.get(path).is_some_and(|folder| {
                self.folders[*folder].names.binary_search_by(|name| (**name).cmp(&target.1)).is_ok()
            });
            if listed || !linked.insert(target) {
                self.passed.add(Kind::SeenAlready, &self.folders[holder].path.join(name));
            } else {
                added.push((holder, name.into_boxed_os_str()));
            }
        }
        let mut grown: Vec<usize> = Vec::new();
        for (holder, name) in added {
            self.folders[holder].names.push(name);
            grown.push(holder);
        }
        grown.dedup();
        grown.into_iter().for_each(|folder| self.folders[folder].names.sort());
        self.by_class()
    }

    /// Puts folders in order: by the normal form of the first name of their path, which is their class.
    fn by_class(mut self) -> Listing {
        // By class: the folders of the root that make it, and whether one of them holds a picture.
        let mut classes: HashMap<String, (Vec<OsString>, bool)> = HashMap::new();
        for folder in &self.folders {
            let Some(first) = folder.path.iter().next() else { continue };
            let (names, full) = classes.entry(normal(first)).or_default();
            if !names.iter().any(|name| name == first) {
                names.push(first.to_owned());
            }
            *full |= !folder.names.is_empty();
        }
        for (names, full) in classes.values_mut() {
            names.sort();
            let (kind, told) = if *full { (Kind::MergedClass, 1) } else { (Kind::EmptyClass, 0) };
            names.iter().skip(told).for_each(|name| self.passed.add(kind.clone(), Path::new(name)));
        }
        let mut full: Vec<String> = classes.into_iter().filter(|(_, (_, full))| *full).map(|(name, _)| name).collect();
        full.sort();
        let class = |path: &Path| path.iter().next().and_then(|first| full.binary_search(&normal(first)).ok());
        let mut folders: Vec<Folder> = (self.folders.into_iter().filter(|folder| !folder.names.is_empty()))
            .map(|Walked { path, names }| Folder { class: class(&path), path, names })
            .collect();
        folders.sort_by(|a, b| (a.class, &a.path).cmp(&(b.class, &b.path)));
        Listing { classes: full, folders, passed: self.passed }
    }
}

enum Target {
    /// Without links.
    Folder(PathBuf),
    /// Number of its folder, and its name there.
    File(u32, OsString),
    Special,
}
