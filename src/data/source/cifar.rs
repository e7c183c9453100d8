//! CIFAR-10 and CIFAR-100 in their binary version: files of records, each of labels and 32 × 32 pixels.
//!
//! Records of CIFAR-10 are a label and 3072 pixels; those of CIFAR-100 have a coarse label before the fine one, which counts
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>). The split `val` is the one that is published as the test batch.
//!
//! **Invariant:** once it is open, all is in memory, 184 MB at most, and every label is one of the classes.

use std::path::{Path, PathBuf};

use super::{DataError, Identity, Image, Source};
use crate::spec::{CifarKind, Split};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// What the two have of their own.
struct Layout {
    kind: &'static str,
    /// Bytes before the pixels; the last is the label.
    labels: usize,
    classes: usize,
    train: &'static [&'static str],
    val: &'static [&'static str],
    /// Names of the classes, a line each.
    names: &'static str,
    /// What the archive unpacks to.
    folder: &'static str,
    /// A file of the version for Python, which is not read.
    python: &'static str,
}

const CIFAR10: Layout = Layout {
    kind: "CIFAR-10 file",
    labels: 1,
    classes: 10,
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    val: &["test_batch.bin"],
    names: "batches.meta.txt",
    folder: "cifar-10-batches-bin",
    python: "data_batch_1",
};

const CIFAR100: Layout = Layout {
    kind: "CIFAR-100 file",
    labels: 2,
    classes: 100,
    train: &["train.bin"],
    val: &["test.bin"],
    names: "fine_label_names.txt",
    folder: "cifar-100-binary",
    python: "train",
};

pub(super) struct Cifar {
    layout: &'static Layout,
    batches: Vec<Batch>,
    /// Records of each batch and those before it.
    ends: Vec<usize>,
    classes: Vec<String>,
    channels: usize,
}

struct Batch {
    name: &'static str,
    identity: Identity,
    bytes: Vec<u8>,
}

/// Which set lies in `root` or in the archive's folder below it, and the split that is read first; `None` where neither does.
pub(super) fn lies_in(root: &Path) -> Option<(CifarKind, Split)> {
    [(CifarKind::Cifar10, &CIFAR10), (CifarKind::Cifar100, &CIFAR100)].into_iter().find_map(|(kind, layout)| {
        let folder = layout.lies_in(root)?;
        // Names such as `train.bin` are others' too.
        let holds = |name: &str| {
            let length = std::fs::metadata(folder.join(name)).map_or(0, |found| found.len());
            length > 0 && length.is_multiple_of(layout.record() as u64)
        };
        let splits = [(Split::Train, layout.train[0]), (Split::Val, layout.val[0])];
        splits.into_iter().find(|(_, name)| holds(name)).map(|(split, _)| (kind, split))
    })
}

impl Cifar {
    /// Opens the files of a split in `root`, or in the folder below it that the archive unpacks to.
    pub(super) fn open(root: &Path, kind: CifarKind, split: Split, channels: usize) -> Result<Cifar, DataError> {
        let layout = match kind {
            CifarKind::Cifar10 => &CIFAR10,
            CifarKind::Cifar100 => &CIFAR100,
        };
        super::is_folder(root)?;
        let root = layout.place(root)?;
        let names = match split {
            Split::Train => layout.train,
            Split::Val => layout.val,
        };
        let batches: Vec<Batch> = names.iter().map(|name| layout.batch(&root, name)).collect::<Result<_, _>>()?;
        let ends = batches.iter().scan(0, |end, batch| {
            *end += batch.bytes.len() / layout.record();
            Some(*end)
        });
        Ok(Cifar { layout, ends: ends.collect(), batches, classes: layout.class_names(&root)?, channels })
    }

    /// Batch and record there.
    fn place(&self, index: usize) -> (&Batch, usize) {
        let at = self.ends.partition_point(|end| *end <= index);
        let batch = &self.batches[at];
        (batch, index + batch.bytes.len() / self.layout.record() - self.ends[at])
    }

    fn record(&self, index: usize) -> &[u8] {
        let (batch, number) = self.place(index);
        &batch.bytes[number * self.layout.record()..][..self.layout.record()]
    }
}

impl Layout {
    /// Bytes.
    fn record(&self) -> usize {
        self.labels + PIXELS
    }

    /// Where this set lies: in `root`, or in the archive's folder below it.
    fn lies_in(&self, root: &Path) -> Option<PathBuf> {
        let first = |folder: &Path| [self.train[0], self.val[0]].iter().any(|name| folder.join(name).is_file());
        [root.to_owned(), root.join(self.folder)].into_iter().find(|folder| first(folder))
    }

    fn place(&self, root: &Path) -> Result<PathBuf, DataError> {
        self.lies_in(root).ok_or_else(|| {
            let help = if root.join(self.python).is_file() {
                format!("these are the files for Python: get the binary version, which unpacks to `{}`", self.folder)
            } else {
                format!("name the folder `{}` of the binary version's archive", self.folder)
            };
            let reason = format!("it holds no `{}`", self.train[0]);
            DataError::WrongFormat { path: root.to_owned(), kind: self.folder_kind(), reason, help }
        })
    }

    fn folder_kind(&self) -> &'static str {
        if self.labels == 1 { "folder of CIFAR-10" } else { "folder of CIFAR-100" }
    }

    fn batch(&self, root: &Path, name: &'static str) -> Result<Batch, DataError> {
        let path = root.join(name);
        let bytes = super::read_file(&path)?;
        let wrong = |reason: String| DataError::WrongFormat {
            path: path.clone(),
            kind: self.kind,
            reason,
            help: "get it anew: its end is missing, or it is another file".to_owned(),
        };
        if bytes.is_empty() || bytes.len() % self.record() != 0 {
            return Err(wrong(format!("{} bytes are no records of {}", bytes.len(), self.record())));
        }
        let label = |record: &[u8]| usize::from(record[self.labels - 1]);
        if let Some(number) = bytes.chunks_exact(self.record()).position(|record| label(record) >= self.classes) {
            let label = label(&bytes[number * self.record()..]);
            return Err(wrong(format!("its record {number} has label {label}, of {} classes", self.classes)));
        }
        Ok(Batch { name, identity: Identity::of_file(&path), bytes })
    }

    /// As the file of names has them; numbers where there is none.
    fn class_names(&self, root: &Path) -> Result<Vec<String>, DataError> {
        let path = root.join(self.names);
        if !path.is_file() {
            return Ok((0..self.classes).map(|class| class.to_string()).collect());
        }
        let text = String::from_utf8_lossy(&super::read_file(&path)?).into_owned();
        let names: Vec<String> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if names.len() == self.classes {
            return Ok(names);
        }
        let reason = format!("it has {} lines for {} classes", names.len(), self.classes);
        let help = "get it anew, or remove it: classes then go by their numbers".to_owned();
        Err(DataError::WrongFormat { path, kind: "list of names", reason, help })
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let planes = &self.record(index)[self.layout.labels..];
        let (red, rest) = planes.split_at(SIDE * SIDE);
        let (green, blue) = rest.split_at(SIDE * SIDE);
        let pixels = red.iter().zip(green).zip(blue).flat_map(|((red, green), blue)| [*red, *green, *blue]);
        Image::new(SIDE, SIDE, 3, pixels.collect()).into_channels(self.channels)
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.record(index)[self.layout.labels - 1].into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let (batch, number) = self.place(index);
        format!("{}/{number}", batch.name)
    }

    fn identity(&self, index: usize) -> Identity {
        let (batch, number) = self.place(index);
        batch.identity.part(number as u64)
    }
}
