//! The `data` section: where pictures come from, how many make a batch, and what may be broken.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// By name; `train` is always there.
    pub sources: Vec<(String, SourceSpec)>,
    /// Samples of an optimizer step.
    pub batch_size: usize,
    /// Channels of every decoded image.
    pub channels: usize,
    /// Batches that may stand ready before they are asked for; fewer where 2 GiB have no room for them.
    pub prefetch_batches: usize,
    /// Share of broken images past which training stops, but for a few, unless it is 0: others stand in for them. An evaluation,
    /// where none does, leaves them out and says how many.
    pub max_broken: f64,
    /// Pixels past which an image is broken: read from its header, before memory is taken for it.
    #[serde(default = "max_pixels")]
    pub max_pixels: usize,
}

/// Where Pillow takes a picture for a bomb: twice a quarter of a gigabyte of 24-bit colour.
pub const MAX_PIXELS: usize = 178_956_970;

/// Of runs that were started before there was such a limit.
fn max_pixels() -> usize {
    MAX_PIXELS
}

impl DataSpec {
    pub fn source(&self, name: &str) -> Option<&SourceSpec> {
        self.sources.iter().find(|(n, _)| n == name).map(|(_, s)| s)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SourceSpec {
    /// The binary version of CIFAR-10 or CIFAR-100, whose files lie in `path`.
    Cifar { kind: CifarKind, path: String, split: Split },
    /// The embedded handwritten digits; `split` is `train` or `val`.
    Digits { split: String },
    /// `path/CLASS/**/FILE`, or `path/FILE` without classes; classes are the sorted folder names. `range`: what of 16-bit
    /// values becomes black and white, where that is not all of them.
    ImageFolder {
        path: String,
        #[serde(default)]
        range: Option<(u16, u16)>,
        #[serde(default)]
        label_maps: Option<LabelMaps>,
    },
    /// Files as MNIST's: pictures, and labels where they have some.
    Idx { images: String, labels: Option<String> },
    /// Arrays that NumPy saved, in folders as pictures are. `range`: what of the values becomes black and white; by default all of
    /// whole numbers, and 0 to 1 of floats. `layout`: told by the number of channels where it is not said.
    Npy { path: String, range: Option<(f64, f64)>, layout: Option<ArrayLayout> },
    /// Files of Parquet as Hugging Face's `datasets` writes them: one, those of a range in braces, or all below a folder. `image` and
    /// `label` are columns; where no label is named, that of the name `label` is read if it is there.
    Parquet { path: String, image: String, label: Option<String>, range: Option<(u16, u16)>, shuffle: Shuffle },
    /// Tar files as WebDataset has them: one, those of a range in braces (`{000..999}.tar`), or all of a folder.
    TarShards { path: String, range: Option<(u16, u16)>, shuffle: Shuffle },
    /// Rendered objects.
    Shapes(ShapesSpec),
}

impl SourceSpec {
    /// What its classes are, where that is known without its files.
    pub fn classes(&self) -> Option<String> {
        match self {
            SourceSpec::Cifar { kind: CifarKind::Cifar10, .. } => Some("the 10 classes of CIFAR-10".into()),
            SourceSpec::Cifar { kind: CifarKind::Cifar100, .. } => Some("the 100 classes of CIFAR-100".into()),
            SourceSpec::Digits { .. } => Some("the 10 digits".into()),
            SourceSpec::Shapes(shapes) => Some(format!("{} shapes", shapes.classes)),
            SourceSpec::ImageFolder { .. }
            | SourceSpec::Idx { .. }
            | SourceSpec::Npy { .. }
            | SourceSpec::Parquet { .. }
            | SourceSpec::TarShards { .. } => None,
        }
    }

    /// Whether the pixels of its pictures have classes.
    pub fn has_label_maps(&self) -> bool {
        matches!(self, SourceSpec::Shapes(_) | SourceSpec::ImageFolder { label_maps: Some(_), .. })
    }

    /// Channels of its pictures, where those are known without its files.
    pub fn channels(&self) -> Option<usize> {
        match self {
            SourceSpec::Cifar { .. } => Some(3),
            SourceSpec::Digits { .. } | SourceSpec::Idx { .. } => Some(1),
            // Rendered with as many as are asked for.
            SourceSpec::Shapes(_)
            | SourceSpec::ImageFolder { .. }
            | SourceSpec::Npy { .. }
            | SourceSpec::Parquet { .. }
            | SourceSpec::TarShards { .. } => None,
        }
    }
}

/// Where the classes of a folder's pixels are: of `a/b.jpg` in `path/a/b.png`. `ignore`: the number of pixels that have none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelMaps {
    pub path: String,
    pub ignore: Option<u16>,
}

/// `count` rendered pictures of `size` (height, width), of `classes` classes. The others are strengths of nuisances:
/// at 0 all pictures have the same, at 1 it takes its full range (`docs/shapes.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapesSpec {
    pub split: Split,
    pub count: usize,
    pub size: (usize, usize),
    pub classes: usize,
    pub color: f64,
    pub position: f64,
    pub scale: f64,
    pub rotation: f64,
    pub background: f64,
    pub texture: f64,
}

/// How the order of an epoch is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shuffle {
    /// From all pictures.
    All,
    /// Shards, or row groups, are, and then pictures within a window that goes over them.
    Shards,
}

/// Axes of an array of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrayLayout {
    /// Row, column, channel.
    Hwc,
    /// Channel, row, column.
    Chw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CifarKind {
    Cifar10,
    Cifar100,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Split {
    Train,
    Val,
}
