//! What lies below a folder, by class.
//!
//! Real folders are listed first, many at once, then links are followed: a picture that is reached both ways keeps its real place.
//!
//! **Invariant:** the list hangs on names and links alone, never on the order of the file system. Only names are read: no entry
//! is looked at but links, and files whose name has no ending.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::DataError;
use super::litter::is_litter;
use super::names::Names;
use super::passed::{Kind, Passed};
use crate::data::decode;

/// Pictures below a root.
pub struct Listing {
    /// Names of the classes that have a picture, sorted; empty where pictures lie in the root.
    pub classes: Vec<String>,
    /// Sorted by class, then by path.
    pub folders: Vec<Folder>,
    pub passed: Passed,
    /// When each folder that was looked into was last changed; `None` where that does not tell all that the list hangs on.
    pub stamps: Option<Vec<(PathBuf, SystemTime)>>,
}

/// Pictures that lie side by side.
pub struct Folder {
    /// From the root.
    pub path: PathBuf,
    /// Index of the class; `None` for the root.
    pub class: Option<usize>,
    /// Sorted.
    pub names: Names,
}

/// What files are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
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

/// Lists all that is wanted below `root`, which is a folder: `root/CLASS/**/FILE`, or `root/FILE`. `listed` counts as it goes.
pub fn list(root: &Path, wanted: Wanted, listed: &AtomicUsize) -> Result<Listing, DataError> {
    let real = fs::canonicalize(root).map_err(|source| DataError::Io { path: root.to_owned(), source })?;
    let passed = Passed::new(wanted.noun());
    let stamps = Some(Vec::new());
    let mut walk = Walk {
        wanted,
        listed,
        root: root.to_owned(),
        real: real.clone(),
        folders: Vec::new(),
        seen: HashMap::new(),
        links: VecDeque::new(),
        file_links: Vec::new(),
        parents: Vec::new(),
        parent_of: HashMap::new(),
        passed,
        stamps,
    };
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
    /// Sorted.
    names: Names,
}

/// What one folder holds.
struct Entries {
    /// Sorted.
    names: Names,
    folders: Vec<OsString>,
    links: Vec<OsString>,
    passed: Passed,
    changed: Option<SystemTime>,
}

/// A link to a picture: the folder that holds it, its name, and what it leads to.
struct FileLink {
    holder: usize,
    name: OsString,
    target: (u32, OsString),
}

struct Walk<'l> {
    wanted: Wanted,
    listed: &'l AtomicUsize,
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
    stamps: Option<Vec<(PathBuf, SystemTime)>>,
}

impl Walk<'_> {
    /// Reads `path` (from the root), which is `real` without links, and all real folders below: those that lie equally deep at once.
    fn list(&mut self, path: PathBuf, real: PathBuf) -> Result<(), DataError> {
        let mut waiting = vec![(path, real)];
        let mut links = Vec::new();
        while !waiting.is_empty() {
            let (seen, passed) = (&self.seen, &mut self.passed);
            waiting.retain(|(path, real)| {
                let is_new = !seen.contains_key(real);
                if !is_new {
                    passed.add(Kind::SeenAlready, path);
                }
                is_new
            });
            let walk = &*self;
            let read: Vec<Entries> =
                waiting.par_iter().map(|(path, _)| walk.entries(path)).collect::<Result<_, _>>()?;
            for ((path, real), entries) in std::mem::take(&mut waiting).into_iter().zip(read) {
                let Entries { names, folders, links: linked, passed, changed } = entries;
                let index = self.folders.len();
                self.seen.insert(real.clone(), index);
                self.passed.join(passed);
                self.stamp(self.root.join(&path), changed);
                links.extend(linked.into_iter().map(|name| (index, real.clone(), name)));
                waiting.extend(folders.into_iter().map(|name| (path.join(&name), real.join(&name))));
                self.folders.push(Walked { path, names });
            }
        }
        // The first by name wins where two lead to the same.
        links.sort_by(|a, b| (&self.folders[a.0].path, &a.2).cmp(&(&self.folders[b.0].path, &b.2)));
        self.links.extend(links);
        Ok(())
    }

    /// What lies in the folder `path` (from the root).
    fn entries(&self, path: &Path) -> Result<Entries, DataError> {
        let full = self.root.join(path);
        let error = |source| DataError::Io { path: full.clone(), source };
        // Before it is read: what comes in between shows.
        let changed = changed(&full);
        let mut names = Names::default();
        let (mut folders, mut links, mut passed) = (Vec::new(), Vec::new(), self.passed.like());
        for entry in fs::read_dir(&full).map_err(error)? {
            let entry = entry.map_err(error)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(error)?);
            if is_litter(&name) {
                passed.add(Kind::Litter, &path.join(&name));
            } else if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() {
                links.push(name);
            } else if !kind.is_file() {
                passed.add(Kind::Special, &path.join(&name));
            } else if self.wanted.is(&full, &name) {
                names.push(&name);
                self.listed.fetch_add(1, Ordering::Relaxed);
            } else {
                passed.add_file(&path.join(&name));
            }
        }
        Ok(Entries { names: names.sorted(), folders, links, passed, changed })
    }

    fn stamp(&mut self, folder: PathBuf, changed: Option<SystemTime>) {
        match (&mut self.stamps, changed) {
            (Some(stamps), Some(changed)) => stamps.push((folder, changed)),
            _ => self.stamps = None,
        }
    }

    /// Follows links, and those that they lead to, until there are no more.
    fn follow(&mut self) -> Result<(), DataError> {
        while let Some((holder, real, name)) = self.links.pop_front() {
            let path = self.folders[holder].path.join(&name);
            let Ok(target) = self.resolve(&real, &name) else {
                self.passed.add(Kind::LinkToNothing, &path);
                // What it names may come while the folder of the link stays as it is.
                self.stamps = None;
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
                    self.listed.fetch_add(1, Ordering::Relaxed);
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
        // A link to a link: those between lie in folders that nobody looks into.
        self.stamps = None;
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
        // What a link leads to may go while the folder of the link stays as it is.
        self.stamp(real.clone(), changed(&real));
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
        // Links to pictures come last: what is listed for real is known now.
        let mut linked: HashSet<(u32, OsString)> = HashSet::new();
        let mut added: BTreeMap<usize, Vec<OsString>> = BTreeMap::new();
        for FileLink { holder, name, target } in std::mem::take(&mut self.file_links) {
            let path = &self.parents[target.0 as usize];
            let listed = self.seen.get(path).is_some_and(|folder| self.folders[*folder].names.holds(&target.1));
            if listed || !linked.insert(target) {
                self.passed.add(Kind::SeenAlready, &self.folders[holder].path.join(name));
            } else {
                added.entry(holder).or_default().push(name);
            }
        }
        for (folder, added) in added {
            let names = &mut self.folders[folder].names;
            added.iter().for_each(|name| names.push(name));
            *names = names.sorted();
        }
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
        Listing { classes: full, folders, passed: self.passed, stamps: self.stamps }
    }
}

/// When what a folder holds was last changed; `None` where the system does not tell.
pub fn changed(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).and_then(|metadata| metadata.modified()).ok()
}

enum Target {
    /// Without links.
    Folder(PathBuf),
    /// Number of its folder, and its name there.
    File(u32, OsString),
    Special,
}
