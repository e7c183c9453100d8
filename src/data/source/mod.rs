//! Where pictures come from: a numbered set of pictures, some with a class.
//!
//! **Invariant:** a source never changes once opened; index `i` is the same picture in every run, on every machine.

mod checked;
mod cifar;
mod digits;
mod files;
mod fingerprint;
mod folder;
mod identity;
mod idx;
mod kept;
mod labels;
mod listing;
mod litter;
mod names;
mod noticed;
mod npy;
mod npy_header;
mod opened;
mod parquet;
mod passed;
mod pattern;
mod recognise;
mod shapes;
mod shard_index;
mod similar;
mod tar_shards;
mod written;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use fingerprint::Fingerprint;
pub use identity::{Identity, identities};
pub use labels::{counts, join};
pub use recognise::recognise;
pub use tar_shards::CLASSES;
pub use written::written;

use super::decode::Reading;
use super::{DataError, Image, LabelMap};
use crate::spec::{CifarKind, SourceSpec};

/// A numbered set of pictures, which many threads read at once.
pub trait Source: Send + Sync {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The picture at `index`, which is less than `len`.
    ///
    /// # Errors
    /// Why this picture cannot be read or decoded: one clause, without its name.
    fn image(&self, index: usize) -> Result<Image, String>;

    /// The class of each pixel of the picture at `index`; `None` where pictures have no label maps.
    ///
    /// # Errors
    /// Why it cannot be read or decoded: one clause, without the picture's name.
    fn label_map(&self, _index: usize) -> Option<Result<LabelMap, String>> {
        None
    }

    /// Index into `classes`; `None` where pictures have no class.
    fn label(&self, index: usize) -> Option<i64>;

    /// Names of the classes, in the order of the labels; empty where pictures have no class.
    fn classes(&self) -> &[String];

    /// What to call the picture in a message.
    fn name(&self, index: usize) -> String;

    /// What was passed over as it was opened, and what came by another way than by name: a line a kind.
    fn passed(&self) -> &[String] {
        &[]
    }

    /// What there is to say of pictures that were read since the last call: each kind of it once.
    fn noticed(&self) -> Vec<String> {
        Vec::new()
    }

    /// The file of the picture, byte for byte; `None` where it has none: pixels among others, or arrays.
    ///
    /// # Errors
    /// Why it cannot be read: one clause, without its name.
    fn file(&self, _index: usize) -> Option<Result<Vec<u8>, String>> {
        None
    }

    /// What the picture is, whatever source it is read by.
    fn identity(&self, index: usize) -> Identity;

    /// What tells this source from itself after pictures came or went.
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self)
    }

    /// Where groups of pictures end that are best read one after the other, in rising order; empty where any order is as good.
    fn groups(&self) -> &[usize] {
        &[]
    }

    /// What writes down what opening it took long to find out, for [`Opening::kept`]; `None` where there is nothing to be kept.
    fn keeps(&self) -> Option<Writes<'_>> {
        None
    }

    /// Whether the source as a whole is still there: asked when a picture cannot be read.
    fn check(&self) -> Result<(), DataError> {
        Ok(())
    }
}

/// What a source holds, in lines for people that call it `name`: `data.train: 300 pictures, 3 classes`, then what was passed
/// over and noticed.
pub fn describe(name: &str, source: &dyn Source) -> Vec<String> {
    let pictures = if source.len() == 1 { "picture" } else { "pictures" };
    let labels = match source.classes() {
        [] => "no labels".to_owned(),
        [class] => format!("1 class, `{class}`"),
        classes => format!("{} classes", classes.len()),
    };
    let found = format!("{} {pictures}, {labels}", source.len());
    let lines = [found].into_iter().chain(source.passed().iter().cloned()).chain(source.noticed());
    lines.map(|line| format!("{name}: {line}")).collect()
}

/// Writes to a file.
pub type Writes<'s> = Box<dyn FnMut(&mut dyn Write) -> std::io::Result<()> + 's>;

/// How a source is opened, beside what it is.
#[derive(Clone, Copy)]
pub struct Opening<'o> {
    /// Counts files as they are listed.
    pub listed: &'o AtomicUsize,
    /// A file that [`Source::keeps`] has written: taken up where it is this source's and still true.
    pub kept: Option<&'o Path>,
}

/// As [`open_as`], anew.
pub fn open(spec: &SourceSpec, channels: usize, max_pixels: usize) -> Result<Arc<dyn Source>, DataError> {
    open_as(spec, channels, max_pixels, Opening { listed: &AtomicUsize::new(0), kept: None })
}

/// Opens the source that `spec` names; its pictures will have `channels` channels and at most `max_pixels` pixels.
///
/// # Errors
/// Where a folder or file is missing, unreadable, empty, of another format or of mixed layout, or a split has an unknown name.
pub fn open_as(
    spec: &SourceSpec,
    channels: usize,
    max_pixels: usize,
    opening: Opening<'_>,
) -> Result<Arc<dyn Source>, DataError> {
    if let (Some((call, found)), false) = (channels_of(spec), matches!(channels, 1 | 3)) {
        return Err(DataError::NoSuchChannels { call, found, channels });
    }
    Ok(match spec {
        SourceSpec::Cifar { kind, path, split } => {
            Arc::new(cifar::Cifar::open(Path::new(path), *kind, *split, channels)?)
        }
        SourceSpec::Digits { split } => Arc::new(digits::Digits::open(split, channels)?),
        SourceSpec::ImageFolder { path, range, label_maps } => {
            let reading = Reading { channels, max_pixels, range: *range };
            Arc::new(folder::ImageFolder::open(Path::new(path), label_maps.as_ref(), reading, opening)?)
        }
        SourceSpec::Idx { images, labels } => {
            let labels = labels.as_deref().map(Path::new);
            Arc::new(idx::Idx::open(Path::new(images), labels, channels, max_pixels)?)
        }
        SourceSpec::Npy { path, range, layout } => {
            let settings = npy::Settings { channels, max_pixels, range: *range, layout: *layout };
            Arc::new(npy::Npy::open(Path::new(path), settings, opening)?)
        }
        SourceSpec::Parquet { path, image, label, range, shuffle } => {
            let reading = Reading { channels, max_pixels, range: *range };
            let names = parquet::Names { image: image.clone(), label: label.clone() };
            Arc::new(parquet::Parquet::open(path, &names, reading, *shuffle)?)
        }
        SourceSpec::TarShards { path, range, shuffle } => {
            let reading = Reading { channels, max_pixels, range: *range };
            Arc::new(tar_shards::TarShards::open(path, reading, *shuffle, opening)?)
        }
        SourceSpec::Shapes(spec) => Arc::new(shapes::Shapes::open(spec, channels)),
    })
}

/// What a source is called, and how many channels its pictures have, where that is known without a look at them.
fn channels_of(spec: &SourceSpec) -> Option<(&'static str, usize)> {
    match spec {
        SourceSpec::Cifar { kind: CifarKind::Cifar10, .. } => Some(("cifar10", 3)),
        SourceSpec::Cifar { kind: CifarKind::Cifar100, .. } => Some(("cifar100", 3)),
        SourceSpec::Digits { .. } => Some(("digits", 1)),
        SourceSpec::Idx { .. } => Some(("idx", 1)),
        SourceSpec::Shapes(_) => Some(("shapes", 3)),
        SourceSpec::ImageFolder { .. }
        | SourceSpec::Npy { .. }
        | SourceSpec::Parquet { .. }
        | SourceSpec::TarShards { .. } => None,
    }
}

/// Refuses what is no folder.
fn is_folder(path: &Path) -> Result<(), DataError> {
    if path.is_dir() {
        Ok(())
    } else if path.exists() {
        Err(DataError::NotAFolder { path: path.to_owned() })
    } else {
        Err(DataError::FolderNotFound { path: path.to_owned(), similar: similar::similar(path, Path::is_dir) })
    }
}

/// All bytes of a file, which takes no more memory than it is long.
fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    is_file(path)?;
    std::fs::read(path).map_err(|source| DataError::Io { path: path.to_owned(), source })
}

/// Refuses what is no file.
fn is_file(path: &Path) -> Result<(), DataError> {
    if path.is_file() {
        Ok(())
    } else if path.exists() {
        Err(DataError::NotAFile { path: path.to_owned() })
    } else {
        Err(DataError::FileNotFound { path: path.to_owned(), similar: similar::similar(path, Path::is_file) })
    }
}
