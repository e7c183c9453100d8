//! Pictures in Parquet files, as Hugging Face's `datasets` writes them: a column of `{bytes, path}`, and one of class numbers.
//!
//! ```text
//! columns (which) ─▶ file (row groups, pages, labels) ─▶ cache of pages ─▶ page (one value) ─▶ decode
//! ```
//! A picture is read by unpacking the page that it lies in: the pages that were unpacked last are kept. `shuffle: "shards"` draws row
//! groups and then the pictures within windows of them, so that a page is read a few times and not once for each of its pictures.
//!
//! **Invariant:** pictures stand in the order of the files' names and of each file's rows.

mod cache;
mod columns;
mod compact;
mod file;
mod page;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parquet::data_type::ByteArray;
use rayon::prelude::*;

use super::noticed::{Noticed, Of};
use super::opened::Opened;
use super::pattern::{self, Kind};
use super::{DataError, Identity, Image, Source};
use crate::data::decode::{self, Reading};
use crate::spec::Shuffle;

use cache::Cache;
use file::Group;

pub use columns::Names;
pub(super) use file::pictures_of;

pub(super) const FILES: Kind = Kind { ending: "parquet", noun: "file", call: "parquet", below: true };

/// Classes that labels may count.
const MOST_CLASSES: usize = 1 << 20;

/// What is wrong with a file, and what to do about it.
#[derive(Debug)]
struct Wrong {
    reason: String,
    help: String,
}

impl Wrong {
    /// Of a file that cannot be mended by another line.
    fn file(reason: String) -> Wrong {
        let help = if reason.contains("which is not read") || reason.contains("a page takes") {
            "write it anew: `pyarrow.parquet.write_table(table, path, row_group_size=100)`"
        } else {
            "write or get it anew, or leave it out"
        };
        Wrong { reason, help: help.to_owned() }
    }

    fn at(self, path: &Path) -> DataError {
        let Wrong { reason, help } = self;
        DataError::WrongFormat { path: path.to_owned(), kind: "Parquet file of pictures", reason, help }
    }
}

pub(super) struct Parquet {
    path: String,
    files: Vec<File>,
    groups: Vec<(u32, Group)>,
    /// Pictures of each row group and those before it.
    ends: Vec<usize>,
    /// −1 where there is none; empty where no picture has one.
    labels: Vec<i32>,
    classes: Vec<String>,
    passed: Vec<String>,
    reading: Reading,
    shuffle: Shuffle,
    opened: Opened,
    cache: Cache,
    noticed: Noticed,
}

struct File {
    path: PathBuf,
    /// Below the folder that was named.
    name: String,
    identity: Identity,
    /// Number of its first picture.
    begin: usize,
}

impl Parquet {
    /// Reads the footers and labels of the files that `path` names: one, ranges in braces, or all below a folder.
    pub(super) fn open(path: &str, names: &Names, reading: Reading, shuffle: Shuffle) -> Result<Parquet, DataError> {
        let paths = pattern::paths(path, FILES)?;
        let root = Path::new(path);
        if root.is_dir() {
            of_one_split(root, &paths)?;
        }
        let call = format!("parquet(\"{path}\"");
        let read = |path: PathBuf| {
            super::is_file(&path)?;
            file::Opened::read(&path, names, &call).map_err(|wrong| wrong.at(&path))
        };
        let read: Vec<file::Opened> = paths.into_par_iter().map(read).collect::<Result<_, _>>()?;
        let passed: Vec<String> = read.iter().find_map(|file| file.passed.clone()).into_iter().collect();
        let rows = |file: &file::Opened| file.groups.iter().map(|group| group.rows as usize).sum::<usize>();
        if read.iter().map(rows).sum::<usize>() == 0 {
            let path = root.to_owned();
            return Err(DataError::EmptyFolder { path, formats: decode::READ, noun: "picture", passed });
        }
        let classes = classes(&read)?;
        let mut source = Parquet {
            path: path.to_owned(),
            files: Vec::with_capacity(read.len()),
            groups: Vec::new(),
            ends: Vec::new(),
            labels: Vec::new(),
            classes,
            passed,
            reading,
            shuffle,
            opened: Opened::default(),
            cache: Cache::default(),
            noticed: Noticed::default(),
        };
        for file in read {
            let within = file.path.strip_prefix(root).ok().filter(|within| !within.as_os_str().is_empty());
            let name = within.unwrap_or(Path::new(file.path.file_name().unwrap_or_default())).display().to_string();
            let (number, begin) = (source.files.len() as u32, source.len());
            source.files.push(File { path: file.path, name, identity: file.identity, begin });
            for group in file.groups.into_iter().filter(|group| group.rows > 0) {
                source.ends.push(source.len() + group.rows as usize);
                source.groups.push((number, group));
            }
            if !source.classes.is_empty() {
                source.labels.extend(file.labels);
            }
        }
        Ok(source)
    }

    /// Number of the row group that a picture lies in, and of its row there.
    fn place(&self, index: usize) -> (usize, u32) {
        let at = self.ends.partition_point(|end| *end <= index);
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        (at, (index - begin) as u32)
    }

    /// The file that a picture lies in, and the number of its row there.
    fn row(&self, index: usize) -> (&File, usize) {
        let (at, _) = self.place(index);
        let file = &self.files[self.groups[at].0 as usize];
        (file, index - file.begin)
    }

    /// The picture's file, within its page.
    fn value(&self, index: usize) -> Result<ByteArray, String> {
        let (at, row) = self.place(index);
        let (number, group) = &self.groups[at];
        let file = &self.files[*number as usize];
        let load = |key: Option<u32>, place: &page::Place| {
            self.cache.page((at as u32, key), place.size as usize, || {
                let read = self.opened.read(*number as usize, &file.path, place.offset, place.length as usize);
                page::unpack(read.map_err(|error| error.to_string())?, &group.column)
            })
        };
        let (number, row) = group.place(row);
        let dictionary = group.dictionary.as_ref().map(|place| load(None, place)).transpose()?;
        let page = load(Some(number as u32), &group.pages[number].place)?;
        let value = page::value(dictionary, page, row as usize, &group.column)?;
        let value = value.ok_or("it has no bytes: its row is null, or names a file that was not embedded")?;
        let limit = self.reading.most_bytes();
        if value.len() as u64 > limit {
            return Err(format!("{} bytes are more than the {limit} that `data.max_pixels` allows", value.len()));
        }
        Ok(value)
    }
}

/// Refuses a folder of files of several splits, `train-00000-of-00002.parquet` and `test-00000-of-00001.parquet`.
fn of_one_split(root: &Path, paths: &[PathBuf]) -> Result<(), DataError> {
    // By the folder and what stands before `-00000-of-00002`: files, and the number of them all as it is written.
    let mut splits: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for path in paths {
        let shown = path.display().to_string();
        let Some((before, count)) = shown.strip_suffix(".parquet").and_then(|stem| stem.rsplit_once("-of-")) else {
            continue;
        };
        let Some((split, _)) = before.rsplit_once('-') else { continue };
        splits.entry(split.to_owned()).or_insert_with(|| (0, count.to_owned())).0 += 1;
    }
    let name = |split: &str| Path::new(split).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named: Vec<String> = splits.keys().map(|split| name(split)).collect();
    let Some((split, (files, count))) =
        splits.iter().find(|(split, _)| name(split) == "train").or(splits.iter().next())
    else {
        return Ok(());
    };
    if named.iter().all(|other| *other == named[0]) {
        return Ok(());
    }
    let numbers = count.len();
    let example = if count.bytes().all(|byte| byte.is_ascii_digit()) {
        format!("write `parquet(\"{split}-{{{:0numbers$}..{:0numbers$}}}-of-{count}.parquet\")`", 0, files - 1)
    } else {
        "move the files of each split into a folder of its own".to_owned()
    };
    let reason = format!("it holds files of several splits: {}", named.join(", "));
    Err(DataError::WrongFormat { path: root.to_owned(), kind: "folder of one split", reason, help: example })
}

/// Names of the classes: as the files say them, else numbers; none where no picture has a label.
fn classes(files: &[file::Opened]) -> Result<Vec<String>, DataError> {
    let wrong =
        |file: &file::Opened, reason: String, help: &str| Wrong { reason, help: help.to_owned() }.at(&file.path);
    let most = files.iter().flat_map(|file| &file.labels).max().copied().unwrap_or(-1);
    let Ok(most) = usize::try_from(most) else { return Ok(Vec::new()) };
    for file in files {
        if file.labels.is_empty() && file.groups.iter().any(|group| group.rows > 0) {
            return Err(wrong(
                file,
                "its pictures have no labels, and those of others have".to_owned(),
                "leave it out",
            ));
        }
        if let Some(row) = file.labels.iter().position(|label| *label < 0) {
            let reason = format!("its row {row} has no label, and others have one");
            return Err(wrong(file, reason, "write a label for each picture, or for none"));
        }
    }
    let mut named = files.iter().filter_map(|file| file.classes.as_ref().map(|classes| (file, classes)));
    let Some((first, classes)) = named.next() else {
        // Labels that are hashes or the like would make more names than there are pictures by far.
        let holder = files.iter().find(|file| file.labels.iter().any(|label| *label as usize == most));
        return match holder {
            Some(file) if most >= MOST_CLASSES => {
                let reason = format!("a row has label {most}, of a million classes at most");
                Err(wrong(file, reason, "number the classes from 0"))
            }
            _ => Ok((0..=most).map(|class| class.to_string()).collect()),
        };
    };
    if let Some((other, _)) = named.find(|(_, others)| *others != classes) {
        let reason = format!("its classes have other names than those of `{}`", first.path.display());
        return Err(wrong(other, reason, "name files of one set"));
    }
    if classes.len() <= most {
        let reason = format!("it names {} classes, and a row has label {most}", classes.len());
        return Err(wrong(first, reason, "get it anew: its labels and its metadata are not of one set"));
    }
    Ok(classes.clone())
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let decode::Decoded { image, deep } = decode::decode(self.value(index)?.data(), self.reading)?;
        if let Some(deep) = deep {
            let (low, high) = self.reading.range.unwrap_or((0, u16::MAX));
            let call = format!("parquet(\"{}\"", self.path);
            let of = Of { call: &call, range: (low.into(), high.into()), kind: ", of 16 bits," };
            self.noticed.note(&self.name(index), deep, &of);
        }
        Ok(image)
    }

    fn file(&self, index: usize) -> Option<Result<Vec<u8>, String>> {
        Some(self.value(index).map(|value| value.data().to_vec()))
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.labels.get(index).map(|label| (*label).into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let (file, row) = self.row(index);
        format!("{}/{row}", file.name)
    }

    fn passed(&self) -> &[String] {
        &self.passed
    }

    fn noticed(&self) -> Vec<String> {
        self.noticed.take()
    }

    fn identity(&self, index: usize) -> Identity {
        let (file, row) = self.row(index);
        file.identity.part(row as u64)
    }

    fn groups(&self) -> &[usize] {
        if self.shuffle == Shuffle::Shards { &self.ends } else { &[] }
    }

    fn check(&self) -> Result<(), DataError> {
        let folder = self.files.first().and_then(|file| file.path.parent());
        match folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            Some(folder) => Err(DataError::FolderGone { path: folder.to_owned() }),
            None => Ok(()),
        }
    }
}
