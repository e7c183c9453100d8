//! Which source reads what lies at a path that a command was given: `--data PATH`, `cmaec data check PATH`.
//!
//! Folders are looked into by names, and a few files by their first bytes; nothing is read.
//!
//! **Invariant:** the answer hangs on names and first bytes alone. What is of two kinds is refused, not guessed; what is of none is taken
//! for a folder of pictures, which says what it holds instead.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::litter::is_litter;
use super::similar::similar;
use super::{DataError, cifar, parquet, pattern, tar_shards};
use crate::data::decode;
use crate::spec::{Shuffle, SourceSpec};

/// Bytes of a file that are looked at: a tar file says what it is at its 257th.
const HEAD: usize = 512;
/// Entries of folders that are looked at once something was found.
const ENOUGH: usize = 20_000;
/// Folders within folders: links may lead in circles.
const DEEPEST: usize = 16;
/// Files of a folder that are opened to see whether they are MNIST's.
const OPENED: usize = 64;

/// The source that reads what lies at `path`: a folder or a file of those that sources read, or a range of files in braces.
///
/// # Errors
/// Where nothing lies there, or what is of no kind or of two.
pub fn recognise(path: &str) -> Result<SourceSpec, DataError> {
    let place = Path::new(path);
    if place.is_dir() {
        return folder(path, place);
    }
    if place.is_file() {
        return file(path, place);
    }
    if path.contains('{') {
        return range(path, place);
    }
    Err(DataError::FolderNotFound { path: place.to_owned(), similar: similar(place, |_| true) })
}

fn range(path: &str, place: &Path) -> Result<SourceSpec, DataError> {
    let ends = |ending: &str| place.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
    if ends(tar_shards::SHARDS.ending) {
        return Ok(shards(path.to_owned()));
    }
    if ends(parquet::FILES.ending) {
        let first = pattern::expand(path, parquet::FILES)?.into_iter().next().unwrap_or_default();
        return Ok(table(path.to_owned(), Path::new(&first)));
    }
    Err(DataError::WrongFormat {
        path: place.to_owned(),
        kind: "range of files that are read",
        reason: "it ends neither in `.tar` nor in `.parquet`".to_owned(),
        help: "name a folder, or files such as `PATH/{000..999}.tar`".to_owned(),
    })
}

fn shards(path: String) -> SourceSpec {
    SourceSpec::TarShards { path, range: None, shuffle: Shuffle::All }
}

/// Files of Parquet, of which `first` is one: its columns have the names that they have.
fn table(path: String, first: &Path) -> SourceSpec {
    let image = parquet::pictures_of(first).unwrap_or_else(|| "image".to_owned());
    SourceSpec::Parquet { path, image, label: None, range: None, shuffle: Shuffle::All }
}

fn file(path: &str, place: &Path) -> Result<SourceSpec, DataError> {
    let io = |source| DataError::Io { path: place.to_owned(), source };
    let head = head(place).map_err(io)?;
    let is_tar = head.get(257..262) == Some(b"ustar")
        || place.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(tar_shards::SHARDS.ending));
    let parent = || place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (reason, help) = match dimensions(place, &head) {
        Some(3) => return Ok(idx(path.to_owned())),
        Some(_) => ("it holds the labels of an IDX set", "name the file of its pictures".to_owned()),
        None if head.starts_with(b"PAR1") => return Ok(table(path.to_owned(), place)),
        None if is_tar => return Ok(shards(path.to_owned())),
        None if head.starts_with(b"\x93NUMPY") => ("it is one array", format!("try `{}`", parent().display())),
        None if decode::begins_as_picture(&head) => ("it is one picture", format!("try `{}`", parent().display())),
        None if cifar::lies_in(parent()).is_some() => ("it is a file of many", format!("try `{}`", parent().display())),
        None => (
            "it is no tar, Parquet or IDX file",
            "name a folder of pictures or of `.npy` arrays, a `.tar` or `.parquet` file or range of files, MNIST's pictures, \
             or CIFAR's folder"
                .to_owned(),
        ),
    };
    Err(DataError::WrongFormat { path: place.to_owned(), kind: "set of pictures", reason: reason.to_owned(), help })
}

/// The first bytes of a file.
fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// How many dimensions a file of IDX has, plain or compressed; `None` of another.
fn dimensions(path: &Path, head: &[u8]) -> Option<u8> {
    let mut magic = [0; 4];
    if head.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(File::open(path).ok()?).read_exact(&mut magic).ok()?;
    } else {
        magic = *head.first_chunk()?;
    }
    let [0, 0, 0x08, dimensions @ (1 | 3)] = magic else { return None };
    Some(dimensions)
}

/// A file of pictures, with that of their labels if it lies beside and is named as MNIST's is.
fn idx(images: String) -> SourceSpec {
    let path = Path::new(&images);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let labels = name.replace("images", "labels").replace("idx3", "idx1");
    let beside = path.with_file_name(&labels);
    let labels = (labels != name && beside.is_file()).then(|| beside.to_string_lossy().into_owned());
    SourceSpec::Idx { images, labels }
}

/// The first file of each kind that a folder holds.
#[derive(Default)]
struct Found {
    picture: Option<PathBuf>,
    array: Option<PathBuf>,
    table: Option<PathBuf>,
    /// Files of pictures as MNIST's, of the folder itself.
    idx: Vec<PathBuf>,
    /// Folders of tar files.
    shards: BTreeSet<PathBuf>,
}

impl Found {
    fn is_something(&self) -> bool {
        self.picture.is_some() || self.array.is_some() || self.table.is_some() || !self.shards.is_empty()
    }
}

fn folder(path: &str, place: &Path) -> Result<SourceSpec, DataError> {
    if let Some((kind, split)) = cifar::lies_in(place) {
        return Ok(SourceSpec::Cifar { kind, path: path.to_owned(), split });
    }
    let found = look(place)?;
    let kinds = [("pictures", &found.picture), ("arrays", &found.array), ("Parquet files", &found.table)];
    let there: Vec<(&str, &PathBuf)> = kinds.iter().filter_map(|(name, path)| Some((*name, path.as_ref()?))).collect();
    let own = path.to_owned();
    match there.as_slice() {
        [] => {}
        [_] if found.picture.is_some() => {
            return Ok(SourceSpec::ImageFolder { path: own, range: None, label_maps: None });
        }
        [_] if found.array.is_some() => return Ok(SourceSpec::Npy { path: own, range: None, layout: None }),
        [(_, first)] => return Ok(table(own, first)),
        [(one, first), (other, second), ..] => {
            let below = |path: &Path| path.strip_prefix(place).unwrap_or(path).display().to_string();
            return Err(DataError::WrongFormat {
                path: place.to_owned(),
                kind: "set of one kind",
                reason: format!("it holds {one} (`{}`) and {other} (`{}`)", below(first), below(second)),
                help: format!("name what holds one of them, such as `{}`", parent(second, place).display()),
            });
        }
    }
    // Archives beside pictures are what they were unpacked from.
    let mut folders = found.shards.iter();
    match (folders.next(), folders.next()) {
        (Some(first), Some(second)) => {
            return Err(DataError::WrongFormat {
                path: place.to_owned(),
                kind: "set of one kind",
                reason: format!("shards lie in `{}` and in `{}`", first.display(), second.display()),
                help: format!("name one of them: `{}`", first.display()),
            });
        }
        (Some(first), None) if first == place => return Ok(shards(own)),
        (Some(first), None) => return Ok(shards(first.to_string_lossy().into_owned())),
        _ => {}
    }
    // MNIST's own names have the training set first only by chance.
    let named = |file: &&PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train"));
    match found.idx.iter().find(named).or(found.idx.first()) {
        Some(images) => Ok(idx(images.to_string_lossy().into_owned())),
        None => Ok(SourceSpec::ImageFolder { path: own, range: None, label_maps: None }),
    }
}

/// The folder of a file, or the file where that is `root`.
fn parent<'p>(file: &'p Path, root: &Path) -> &'p Path {
    file.parent().filter(|parent| *parent != root).unwrap_or(file)
}

fn look(root: &Path) -> Result<Found, DataError> {
    let mut found = Found::default();
    let mut waiting = VecDeque::from([(root.to_owned(), 0)]);
    let (mut seen, mut opened) = (0, 0);
    while let Some((folder, depth)) = waiting.pop_front() {
        let entries = std::fs::read_dir(&folder);
        let entries = match entries {
            Err(source) if depth == 0 => return Err(DataError::Io { path: folder, source }),
            // One that may not be read is told by the source.
            Err(_) => continue,
            Ok(entries) => entries,
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            seen += 1;
            if seen > ENOUGH && found.is_something() {
                return Ok(found);
            }
            if path.file_name().is_none_or(is_litter) {
                continue;
            }
            let is = |ending: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending));
            let first = |place: &mut Option<PathBuf>| {
                place.get_or_insert_with(|| path.clone());
            };
            if decode::is_picture(&path) == Some(true) {
                first(&mut found.picture);
            } else if is("npy") {
                first(&mut found.array);
            } else if is(parquet::FILES.ending) {
                first(&mut found.table);
            } else if is(tar_shards::SHARDS.ending) {
                found.shards.extend(path.parent().map(Path::to_owned));
            } else if path.is_dir() {
                if depth < DEEPEST {
                    waiting.push_back((path, depth + 1));
                }
            } else if opened < OPENED && (depth == 0 || path.extension().is_none()) {
                opened += 1;
                let Ok(head) = head(&path) else { continue };
                if decode::begins_as_picture(&head) {
                    first(&mut found.picture);
                } else if depth == 0 && dimensions(&path, &head) == Some(3) {
                    found.idx.push(path);
                }
            }
        }
    }
    Ok(found)
}
