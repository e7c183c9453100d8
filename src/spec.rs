//! Plain resolved settings: what a pipeline says about data, views, training and evaluation, with every name
//! looked up, every unit checked and every default filled in.
//!
//! Before: `elab` makes a [`Spec`]. After: `data`, `train`, `eval` and `run` read it. It is what `resolved.ron` holds.
//!
//! **Invariant:** plain data. No spans, no syntax, no tensors; serializable as it stands.

mod clock;
mod schedule;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use clock::Clock;
pub use schedule::{Duration, End, Schedule, Tick};

/// Everything a pipeline says outside its graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub name: String,
    /// `param` values as written after overrides, for the record.
    pub params: Vec<(String, String)>,
    pub data: DataSpec,
    /// In the order of the file; a view stands after the view it derives from.
    pub views: Vec<ViewSpec>,
    pub train: TrainSpec,
    pub evaluate: EvaluateSpec,
    /// Pipelines whose modules this one uses, frozen: a run of each is named when this one's starts.
    pub imports: Vec<ImportSpec>,
    /// Modules, branches, losses and monitors, and what is evaluated, as the graphs were made of them. Empty in runs of versions
    /// that did not record it.
    #[serde(default)]
    pub definitions: Vec<Definition>,
    /// Path of the module that `cmaec export` writes, such as `encoder`.
    pub export: Option<String>,
}

impl Spec {
    /// Samples that are computed at once: the whole batch where nobody has chosen less.
    pub fn micro_batch(&self) -> usize {
        match self.train.micro_batch {
            MicroBatch::Auto => self.data.batch_size,
            MicroBatch::Of(samples) => samples,
        }
    }

    /// Micro-batches of a step.
    pub fn micro_batches(&self) -> usize {
        self.data.batch_size / self.micro_batch().max(1)
    }

    /// `64`, or `256 in 4 micro-batches of 64`.
    pub fn batch_text(&self) -> String {
        match self.micro_batches() {
            1 => self.data.batch_size.to_string(),
            count => format!("{} in {count} micro-batches of {}", self.data.batch_size, self.micro_batch()),
        }
    }
}

/// `use pipeline vq_tokenizer as tok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSpec {
    /// First part of the paths of its tensors here: `tok`.
    pub alias: String,
    /// Name of the pipeline.
    pub pipeline: String,
}

/// A definition outside of the settings. Its text and its arguments are for people and for telling runs apart: what is computed
/// is in the graphs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Such as `model.encoder`, `online.mask` or `losses.contrastive`.
    pub name: String,
    /// Canonical, after overrides.
    pub text: String,
    /// The block of a module that goes by this name.
    pub block: Option<BlockSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSpec {
    pub name: String,
    /// As evaluated, defaults included.
    pub arguments: Vec<(String, String)>,
}

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
    },
    /// Files as MNIST's: pictures, and labels where they have some.
    Idx { images: String, labels: Option<String> },
    /// Arrays that NumPy saved, in folders as pictures are. `range`: what of the values becomes black and white; by default all of
    /// whole numbers, and 0 to 1 of floats. `layout`: told by the number of channels where it is not said.
    Npy { path: String, range: Option<(f64, f64)>, layout: Option<ArrayLayout> },
    /// Tar files as WebDataset has them: one, those of a range in braces (`{000..999}.tar`), or all of a folder.
    TarShards { path: String, range: Option<(u16, u16)>, shuffle: Shuffle },
    /// Rendered objects.
    Shapes(ShapesSpec),
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
    /// Shards are, and then pictures within a window that goes over them.
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
    /// (v / 255 − mean) / std per channel; as many values as channels.
    Normalize {
        mean: Vec<f64>,
        std: Vec<f64>,
    },
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    F32,
    /// The oracle's precision: slow, for tests and `verify`.
    F64,
    /// f32, but for the products of layers, whose operands are rounded to bf16.
    Bf16,
}

impl Precision {
    /// As in `train { precision = … }`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F64 => "f64",
            Precision::Bf16 => "bf16",
        }
    }
}

/// What of the forward pass is computed again for the backward pass instead of being kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Recompute {
    #[default]
    None,
    /// All that repeated blocks compute but what they give on.
    Blocks,
}

/// How much of a batch is computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MicroBatch {
    /// As much as fits: `train::fit` finds it before a run starts, and the run keeps it.
    #[default]
    Auto,
    Of(usize),
}

/// What the residual stream of blocks, and the sums of its gradients, may be stored in where `precision` is `bf16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Residual {
    #[default]
    F32,
    /// Each sum is rounded once; a tenth fewer bytes are moved.
    Bf16,
}

/// The `train` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// `epochs = 300`: passes over the training data; half an epoch is one too.
    pub epochs: f64,
    /// `seed = 0`: what initial weights, views and masks hang on.
    pub seed: u64,
    /// `optimizer = adamw(…)`, `sgd(…)` or `lars(…)`.
    pub optimizer: Optimizer,
    /// `micro_batch = auto`, or a divisor of `data.batch_size`: samples that are computed at once, which is the machine's choice.
    /// The step is that of the whole batch, for losses that compare samples too.
    #[serde(default)]
    pub micro_batch: MicroBatch,
    /// `learning_rate = cosine(…)`, another schedule or a number. Already scaled: the peak is
    /// `base · batch_size / per` where the pipeline says `per`.
    pub learning_rate: Schedule,
    /// `clip = global_norm(3.0)` or `each_norm(3.0)`.
    pub clip: Option<Clip>,
    /// `parameters { … }`. Ordered; for each setting the first rule that matches a parameter and gives that setting
    /// counts.
    pub rules: Vec<ParameterRule>,
    /// `precision = f32`: of parameters, gradients and moments. Sums over many of them are in f64.
    pub precision: Precision,
    /// `residual = f32` or `bf16`: what sums along the residual stream are stored in. Heard where `precision` is `bf16`, by the
    /// `xla` backend on NVIDIA; all else keeps them in f32.
    #[serde(default)]
    pub residual: Residual,
    /// `recompute = none`, or `blocks`: less memory for about a fifth more products, and the same numbers. Needs the `cpu`
    /// backend.
    #[serde(default)]
    pub recompute: Recompute,
    /// `checkpoint_every = 1 epochs`; one is written at the end too.
    pub checkpoint_every: Duration,
    /// `keep = 3`: checkpoints kept; older ones are removed.
    pub keep: usize,
    /// `log_every_steps = 1`: steps between two lines of `metrics.jsonl`.
    pub log_every_steps: usize,
}

/// What turns gradients into updates. `g` is the gradient after clipping, `lr` the learning rate in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Decoupled weight decay (Loshchilov & Hutter 2019): `p ← p·(1 − lr·wd)`, then Adam's step with bias correction.
    AdamW { betas: (f64, f64), eps: f64, weight_decay: Schedule },
    /// PyTorch's SGD without dampening: `g ← g + wd·p`, `b ← μ·b + g`, `p ← p − lr·b`, or with Nesterov's momentum
    /// `p ← p − lr·(g + μ·b)`.
    Sgd { momentum: f64, nesterov: bool, weight_decay: Schedule },
    /// LARS (You et al. 2017) as in the code of BYOL and Barlow Twins: `g ← g + wd·p`; if adapted,
    /// `g ← g · η‖p‖ / (‖g‖ + eps)` where both norms are above zero; `b ← μ·b + g`, `p ← p − lr·b`. With `separate_norms` the
    /// denominator is the paper's, as timm and lightly have it: the norm of the gradient without decay plus `wd·‖p‖`.
    Lars { momentum: f64, trust_coefficient: f64, eps: f64, separate_norms: bool, weight_decay: Schedule },
}

impl Optimizer {
    /// For all parameters that no rule gives another.
    pub fn weight_decay(&self) -> &Schedule {
        match self {
            Optimizer::AdamW { weight_decay, .. }
            | Optimizer::Sgd { weight_decay, .. }
            | Optimizer::Lars { weight_decay, .. } => weight_decay,
        }
    }

    /// What is kept of each trained value from step to step, by the names that checkpoints give it.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Optimizer::AdamW { .. } => &["first", "second"],
            Optimizer::Sgd { .. } | Optimizer::Lars { .. } => &["momentum"],
        }
    }
}

/// A bound on gradients, as PyTorch's `clip_grad_norm_`: a gradient of norm `n` is scaled by `max / (n + 1e-6)` where
/// that is below 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Clip {
    /// One norm over all parameters that a gradient reaches, one factor for all.
    GlobalNorm(f64),
    /// A norm and a factor for each tensor (DINO, iBOT).
    EachNorm(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    Weight,
    Bias,
    Norm,
    Token,
    Position,
}

impl Role {
    pub const ALL: [Role; 5] = [Role::Weight, Role::Bias, Role::Norm, Role::Token, Role::Position];

    pub fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Bias => "bias",
            Role::Norm => "norm",
            Role::Token => "token",
            Role::Position => "position",
        }
    }
}

/// Settings for the parameters that a selector matches: `role bias, norm: weight_decay = 0`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterRule {
    pub selector: Selector,
    /// In place of the optimizer's.
    pub weight_decay: Option<Schedule>,
    /// In place of the section's.
    pub learning_rate: Option<Schedule>,
    /// Times whatever learning rate is in force.
    pub learning_rate_factor: Option<f64>,
    /// False: not adapted by LARS. Other optimizers adapt nothing.
    pub adaptation: Option<bool>,
    /// Not updated before this time. Its gradient counts in a global norm all the same, as in DINO's code, where it is
    /// dropped after clipping.
    pub frozen_until: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Selector {
    Roles(Vec<Role>),
    /// Globs over parameter paths: `*` stands for any text, `encoder.blocks.*`.
    Paths(Vec<String>),
}

impl Selector {
    pub fn matches(&self, path: &str, role: Role) -> bool {
        match self {
            Selector::Roles(roles) => roles.contains(&role),
            Selector::Paths(globs) => globs.iter().any(|glob| glob_matches(glob, path)),
        }
    }
}

/// Whether `glob`, in which `*` stands for any text (dots too), matches the whole of `text`.
pub fn glob_matches(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// When an averaged copy moves toward its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmaMoment {
    BeforeForward,
    AfterForward,
    AfterStep,
}

/// `copy ← momentum · copy + (1 − momentum) · source` for each pair of parameter paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmaSpec {
    pub name: String,
    pub momentum: Schedule,
    pub when: EmaMoment,
    /// (copy, source).
    pub pairs: Vec<(String, String)>,
    /// What the copies read of their sources themselves, for it never moves: (path that a copy would have, source).
    pub shared: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EvaluateSpec {
    pub knn: Option<KnnSpec>,
    pub reconstructions: Option<ReconstructionsSpec>,
}

/// Weighted kNN (Wu et al. 2018): votes exp(cosine / temperature) of the `k` nearest of `bank`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnnSpec {
    pub bank: String,
    pub queries: String,
    pub k: usize,
    pub temperature: f64,
    pub every: Duration,
    /// Pictures of the bank that vote, and queries that are classified.
    #[serde(default)]
    pub bank_limit: Limit,
    #[serde(default)]
    pub query_limit: Limit,
    /// Of those of the bank, the pictures that vote on what a model has to beat: raw pixels and the untrained encoder.
    #[serde(default = "baseline_limit")]
    pub baseline_limit: Limit,
}

/// Pictures of a bank that baselines take where nothing is said: with more their accuracy hardly changes, and each evaluation that
/// takes a run up again waits for them.
pub const BASELINE_LIMIT: Limit = Limit::Count(50_000);

/// Of runs that were started before there was such a limit.
fn baseline_limit() -> Limit {
    BASELINE_LIMIT
}

/// How many of some pictures are taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Limit {
    /// So many, or all where there are fewer.
    Count(usize),
    /// That part of them, above 0 and up to 1.
    Share(f64),
}

impl Default for Limit {
    fn default() -> Limit {
        Limit::Share(1.0)
    }
}

impl Limit {
    /// Of `pictures`: at least one, where there is one.
    pub fn of(self, pictures: usize) -> usize {
        let taken = match self {
            Limit::Count(count) => count,
            Limit::Share(share) => (share * pictures as f64).round() as usize,
        };
        taken.max(1).min(pictures)
    }
}

impl FromStr for Limit {
    type Err = String;

    /// As it is written: `50000` or `10%`.
    fn from_str(text: &str) -> Result<Limit, String> {
        let limit = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse().ok().map(|percent: f64| Limit::Share(percent / 100.0)),
            None => text.trim().parse().ok().map(Limit::Count),
        };
        match limit {
            Some(limit @ Limit::Count(1..)) => Ok(limit),
            Some(limit @ Limit::Share(share)) if share > 0.0 && share <= 1.0 => Ok(limit),
            _ => Err("it is neither a count of pictures such as 50000 nor a share such as 10%".to_owned()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconstructionsSpec {
    pub count: usize,
    pub every: Duration,
    /// The view whose mean and std turn the pictures back into colours.
    pub view: String,
    /// The source that the pictures are taken from.
    pub source: String,
}
