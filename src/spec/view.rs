//! The `views` section: what becomes of a picture, step by step.

use serde::{Deserialize, Serialize};

/// What a view's pixels come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewFrom {
    /// A data source, decoded anew for this view.
    Source(String),
    /// Another view, drawn once a sample and shared by all that derive from it.
    View(String),
    /// No source: a recipe, applied to whatever picture it is given (evaluation).
    Recipe,
}

/// What makes numbers of a picture's bytes, channel by channel: `(v / 255 − mean) / std`, in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

impl Scaling {
    /// The formula of one channel.
    ///
    /// # Panics
    /// Where there is no such channel: the compiler gives each its mean and deviation.
    pub fn of_channel(&self, channel: usize) -> impl Fn(u8) -> f32 + use<> {
        let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
        move |v| (f32::from(v) / 255.0 - mean) / std
    }
}

/// A picture made from a sample. Sizes are (height, width) in pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewSpec {
    pub name: String,
    pub from: ViewFrom,
    pub ops: Vec<ViewOp>,
    /// Size after `ops`; `None` where it is that of the source's pictures.
    pub size: Option<(usize, usize)>,
    pub channels: usize,
    /// True once normalised: a float picture that the graph may take in.
    pub normalized: bool,
}

impl ViewSpec {
    /// That of the last step, where it is `normalize`. What comes before it is exact in bytes: every other step makes an 8-bit picture of
    /// an 8-bit picture, as the loader's types hold.
    pub fn scaling(&self) -> Option<Scaling> {
        match self.ops.last() {
            Some(ViewOp::Normalize { mean, std }) => Some(Scaling { mean: mean.clone(), std: std.clone() }),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    Bilinear,
    Bicubic,
    Lanczos,
}

/// What stands in the place of what is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filling {
    /// In all channels.
    Level(u8),
    /// Each value by itself, uniform over 0..=255.
    Noise,
}

/// One step of a view. Images are 8-bit until `Normalize`; ratios and probabilities lie in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ViewOp {
    /// Box of area share `scale` and aspect (width / height, log-uniform) `ratio`, resized to `size`.
    RandomResizedCrop {
        size: (usize, usize),
        scale: (f64, f64),
        ratio: (f64, f64),
        interpolation: Interpolation,
    },
    /// The same box, not resized: for what is resized more than once.
    RandomCrop {
        scale: (f64, f64),
        ratio: (f64, f64),
    },
    /// To exactly `size`.
    Resize {
        size: (usize, usize),
        interpolation: Interpolation,
    },
    /// The aspect kept: to the smallest picture that covers `size`. Of a square that is the short side's length.
    ResizeCover {
        size: (usize, usize),
        interpolation: Interpolation,
    },
    CenterCrop {
        size: (usize, usize),
    },
    /// Fixed window with its top left corner at `at` (row, column).
    Crop {
        size: (usize, usize),
        at: (usize, usize),
    },
    /// Window whose row and column offsets are independent and uniform over `by.0..=by.1`.
    RandomShift {
        size: (usize, usize),
        by: (usize, usize),
    },
    /// Left to right with probability `p`.
    RandomFlip {
        p: f64,
    },
    RandomApply {
        p: f64,
        ops: Vec<ViewOp>,
    },
    /// Factors uniform in 1 ± value (hue: ± value of a full turn), in random order.
    ColorJitter {
        brightness: f64,
        contrast: f64,
        saturation: f64,
        hue: f64,
    },
    RandomGrayscale {
        p: f64,
    },
    /// Sigma in pixels, uniform over the range.
    GaussianBlur {
        sigma: (f64, f64),
    },
    /// 255 − v where v ≥ threshold.
    Solarize {
        threshold: u8,
    },
    /// `ops` operations drawn from RandAugment's list, at step `magnitude` of `0..bins`; without `color`, none that needs colour.
    RandAugment {
        ops: usize,
        magnitude: usize,
        bins: usize,
        color: bool,
    },
    /// With probability `p` a box of area share `scale` and aspect (height / width, log-uniform) `ratio` is filled.
    RandomErasing {
        p: f64,
        scale: (f64, f64),
        ratio: (f64, f64),
        filling: Filling,
    },
    /// (v / 255 − mean) / std per channel; as many values as channels.
    Normalize {
        mean: Vec<f64>,
        std: Vec<f64>,
    },
}

impl ViewOp {
    /// Whether a box and a mirror tell where the step's pixels come from.
    pub fn keeps_box(&self) -> bool {
        match self {
            ViewOp::RandAugment { .. } => false,
            ViewOp::RandomApply { ops, .. } => ops.iter().all(ViewOp::keeps_box),
            ViewOp::RandomResizedCrop { .. }
            | ViewOp::RandomCrop { .. }
            | ViewOp::Resize { .. }
            | ViewOp::ResizeCover { .. }
            | ViewOp::CenterCrop { .. }
            | ViewOp::Crop { .. }
            | ViewOp::RandomShift { .. }
            | ViewOp::RandomFlip { .. }
            | ViewOp::ColorJitter { .. }
            | ViewOp::RandomGrayscale { .. }
            | ViewOp::GaussianBlur { .. }
            | ViewOp::Solarize { .. }
            | ViewOp::RandomErasing { .. }
            | ViewOp::Normalize { .. } => true,
        }
    }
}

/// The smallest size of the same aspect as `size` that covers `least`: one side is `least`'s, the other, cut to whole pixels as
/// torchvision does, is no less than `least`'s.
pub fn covering_size((height, width): (usize, usize), least: (usize, usize)) -> (usize, usize) {
    if least.0 * width >= least.1 * height {
        (least.0, least.0 * width / height)
    } else {
        (least.1 * height / width, least.1)
    }
}
