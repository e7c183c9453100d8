//! Tar files of pictures, as WebDataset has them: many shards, each read where its index says that a picture lies.
//!
//! Since any picture can be read at any time, the loader's order is that of every other source: drawn from all pictures, and a
//! run that is taken up again goes on where it was. `shuffle: "shards"` keeps reads together instead, for disks and networks on
//! which that is faster: see `Order` in `loader`.
//!
//! **Invariant:** pictures stand in the order of the shards' names and of each shard's files.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::checked::{Reader, Writer};
use super::kept::is_settled;
use super::noticed::{Noticed, Of};
use super::opened::Opened;
use super::pattern::{self, Kind};
use super::shard_index::{Index, Sample};
use super::{DataError, Identity, Image, Opening, Source, Writes};
use crate::data::decode::{self, Reading};
use crate::spec::Shuffle;

/// Beside them, names of their classes, a line each.
pub const CLASSES: &str = "classes.txt";

pub(super) const SHARDS: Kind = Kind { ending: "tar", noun: "shard", call: "tar_shards", below: false };

pub(super) struct TarShards {
    pattern: String,
    shards: Vec<Shard>,
    /// Pictures of each shard and those before it.
    ends: Vec<usize>,
    classes: Vec<String>,
    passed: Vec<String>,
    reading: Reading,
    shuffle: Shuffle,
    opened: Opened,
    noticed: Noticed,
    /// Of each shard, where they were indexed now and the indices may be kept.
    stamps: Option<Vec<Stamp>>,
}

struct Shard {
    path: PathBuf,
    identity: Identity,
    index: Index,
}

/// What tells a file from itself with other bytes: its path, its length, and when it was last changed.
type Stamp = (PathBuf, u64, SystemTime);

/// Of the indices of shards that a run keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    shards: Vec<Stamp>,
}

/// Of the layout of such a file.
const VERSION: u32 = 1;

impl TarShards {
    /// Indexes the shards that `pattern` names: a tar file, ranges in braces (`{000..999}.tar`), or all of a folder.
    pub(super) fn open(
        pattern: &str,
        reading: Reading,
        shuffle: Shuffle,
        opening: Opening<'_>,
    ) -> Result<TarShards, DataError> {
        let (paths, begun) = (pattern::paths(pattern, SHARDS)?, SystemTime::now());
        let stamps: Option<Vec<Stamp>> = paths.iter().map(|path| stamp(path)).collect();
        let known = opening.kept.zip(stamps.as_ref()).and_then(|(kept, stamps)| Shard::kept(kept, stamps));
        let settled = |stamps: &Vec<Stamp>| stamps.iter().all(|(.., changed)| is_settled(*changed, begun));
        let stamps = stamps.filter(|stamps| known.is_none() && settled(stamps));
        let shards = match known {
            Some(shards) => shards,
            None => paths
                .into_par_iter()
                .map(|path| {
                    let shard = Shard::read(path)?;
                    opening.listed.fetch_add(shard.index.samples().len(), Ordering::Relaxed);
                    Ok(shard)
                })
                .collect::<Result<Vec<Shard>, DataError>>()?,
        };
        let ends: Vec<usize> = (shards.iter())
            .scan(0, |end, shard| {
                *end += shard.index.samples().len();
                Some(*end)
            })
            .collect();
        let passed = without_picture(&shards);
        if ends.last().is_none_or(|len| *len == 0) {
            let path = PathBuf::from(pattern);
            return Err(DataError::EmptyFolder { path, formats: decode::READ, noun: "picture", passed });
        }
        let classes = classes(&shards)?;
        let (opened, noticed) = (Opened::default(), Noticed::default());
        let pattern = pattern.to_owned();
        Ok(TarShards { pattern, shards, ends, classes, passed, reading, shuffle, opened, noticed, stamps })
    }

    /// Number of the shard, the shard, and the number of the picture there.
    fn place(&self, index: usize) -> (usize, &Shard, usize) {
        let at = self.ends.partition_point(|end| *end <= index);
        let shard = &self.shards[at];
        (at, shard, index + shard.index.samples().len() - self.ends[at])
    }

    fn sample(&self, index: usize) -> Sample {
        let (_, shard, number) = self.place(index);
        shard.index.samples()[number]
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>, String> {
        let (at, shard, number) = self.place(index);
        let Sample { offset, length, .. } = shard.index.samples()[number];
        let limit = self.reading.most_bytes();
        if u64::from(length) > limit {
            return Err(format!("{length} bytes are more than the {limit} that `data.max_pixels` allows"));
        }
        self.opened.read(at, &shard.path, offset, length as usize).map_err(|error| error.to_string())
    }
}

/// `None` where the system does not tell.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((path.to_owned(), metadata.len(), metadata.modified().ok()?))
}

impl Shard {
    /// The shards with these stamps, as the file at `kept` has them; `None` where it is of others, or not whole.
    fn kept(kept: &Path, stamps: &[Stamp]) -> Option<Vec<Shard>> {
        let (header, mut file) = Reader::open::<Kept>(kept)?;
        if header.version != VERSION || header.shards != stamps {
            return None;
        }
        let mut shards = Vec::with_capacity(stamps.len());
        for (path, ..) in stamps {
            shards.push(Shard {
                path: path.clone(),
                identity: Identity::of_file(path),
                index: Index::take(&mut file)?,
            });
        }
        file.ends_whole().then_some(shards)
    }

    fn read(path: PathBuf) -> Result<Shard, DataError> {
        super::is_file(&path)?;
        match Index::read(&path) {
            Ok(index) => Ok(Shard { identity: Identity::of_file(&path), path, index }),
            Err(reason) => {
                let help = if reason.starts_with("it is compressed") {
                    format!("decompress it: `gunzip \"{}\"`", path.display())
                } else {
                    "write or get it anew, or leave it out of the range".to_owned()
                };
                Err(DataError::WrongFormat { path, kind: "shard that is read", reason, help })
            }
        }
    }

    /// The last part of its path.
    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }
}

/// A line on the samples in which there is no picture.
fn without_picture(shards: &[Shard]) -> Vec<String> {
    let count: usize = shards.iter().map(|shard| shard.index.without_picture.0).sum();
    let first = shards.iter().find(|shard| shard.index.without_picture.0 > 0);
    let Some(shard) = first else { return Vec::new() };
    let example = format!("{}/{}", shard.name(), shard.index.without_picture.1);
    vec![match count {
        1 => format!("1 sample holds no picture: `{example}`"),
        _ => format!("{count} samples hold no picture, such as `{example}`"),
    }]
}

/// Names of the classes: as a file beside the first shard has them, else numbers; none where no picture has a label.
fn classes(shards: &[Shard]) -> Result<Vec<String>, DataError> {
    let wrong = |path: &Path, kind, reason, help: &str| {
        Err(DataError::WrongFormat { path: path.to_owned(), kind, reason, help: help.to_owned() })
    };
    let most = shards.iter().flat_map(|shard| shard.index.samples()).map(|sample| sample.label).max().unwrap_or(-1);
    if most < 0 {
        return Ok(Vec::new());
    }
    for shard in shards {
        if let Some(number) = shard.index.samples().iter().position(|sample| sample.label < 0) {
            let reason = format!("`{}` has no label, and others have one", shard.index.key(number));
            return wrong(&shard.path, "shard that is read", reason, "write a `.cls` for each picture, or for none");
        }
    }
    let Ok(count) = usize::try_from(most).map(|most| most + 1) else { return Ok(Vec::new()) };
    let path = shards[0].path.with_file_name(CLASSES);
    if path.is_file() {
        let text = String::from_utf8_lossy(&super::read_file(&path)?).into_owned();
        let names: Vec<String> = text.lines().map(str::to_owned).collect();
        if names.len() < count {
            let reason = format!("it has {} lines, and a picture has label {most}", names.len());
            return wrong(&path, "list of classes", reason, "write a line for each class, or remove it");
        }
        return Ok(names);
    }
    // Labels that are hashes or the like would make more names than there are pictures by far.
    if count > 1 << 20 {
        let reason = format!("a picture has label {most}, of a million classes at most");
        return wrong(&shards[0].path, "shard that is read", reason, "number the classes from 0");
    }
    Ok((0..count).map(|class| class.to_string()).collect())
}

impl Source for TarShards {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let decode::Decoded { image, deep } = decode::decode(&self.bytes(index)?, self.reading)?;
        if let Some(deep) = deep {
            let (low, high) = self.reading.range.unwrap_or((0, u16::MAX));
            let call = format!("tar_shards(\"{}\"", self.pattern);
            let of = Of { call: &call, range: (low.into(), high.into()), kind: ", of 16 bits," };
            self.noticed.note(&self.name(index), deep, &of);
        }
        Ok(image)
    }

    fn file(&self, index: usize) -> Option<Result<Vec<u8>, String>> {
        Some(self.bytes(index))
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.sample(index).label.into()).filter(|label| *label >= 0)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let (_, shard, number) = self.place(index);
        format!("{}/{}", shard.name(), shard.index.key(number))
    }

    fn passed(&self) -> &[String] {
        &self.passed
    }

    fn noticed(&self) -> Vec<String> {
        self.noticed.take()
    }

    fn identity(&self, index: usize) -> Identity {
        let (_, shard, number) = self.place(index);
        shard.identity.part(shard.index.samples()[number].offset)
    }

    fn keeps(&self) -> Option<Writes<'_>> {
        let shards = self.stamps.as_ref()?;
        Some(Box::new(move |to| {
            let mut file = Writer::new(to, &Kept { version: VERSION, shards: shards.clone() })?;
            self.shards.iter().try_for_each(|shard| shard.index.put(&mut file))?;
            file.finish()
        }))
    }

    fn groups(&self) -> &[usize] {
        if self.shuffle == Shuffle::Shards { &self.ends } else { &[] }
    }

    fn check(&self) -> Result<(), DataError> {
        let folder = self.shards.first().and_then(|shard| shard.path.parent());
        match folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            Some(folder) => Err(DataError::FolderGone { path: folder.to_owned() }),
            None => Ok(()),
        }
    }
}
