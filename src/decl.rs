//! Declarations: what a graph takes in and what it stores, as the compiler finds them and the run time fills them.
//!
//! Before: `elab` declares tensors, `shape` inputs. After: `graph` lays them out, `data` and `train` fill them.
//!
//! **Invariant:** plain data, serializable as it stands.

use serde::{Deserialize, Serialize};

use crate::op::Type;
use crate::spec::{Role, Scaling, Schedule, ViewSpec};

/// What fills an input of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InputKind {
    /// `[B, C, H, W]`: the normalised pictures of a view.
    View { view: String },
    /// Uniform in [0, 1), keyed by (seed, epoch, sample, input name): what masks are drawn from.
    Noise,
    /// `[B, C, H, W]`: the normalised pictures of a view, each that of the sample before it in the batch, the first that of the last.
    Beside { view: String },
    /// Int `[B]`: class ids of the samples, −1 where one has none.
    Label,
    /// Int `[B]`: those of the samples before them, as [`InputKind::Beside`] has their pictures.
    LabelBeside,
    /// Uniform in [0, 1) for the batch as a whole, keyed by (seed, step, input name): drop path, sampling, a mask that a
    /// batch shares.
    Random,
    /// Normal with mean 0 and deviation 1 for the batch as a whole, keyed as [`InputKind::Random`] is: directions, noise.
    Normal,
    /// A scalar: the number in force at the step.
    Schedule(Schedule),
    /// `[B, N]`, 1 where removed.
    BlockMask(BlockMask),
    /// Int `[B, context_patches + targets · target_patches]`.
    MultiBlock(MultiBlock),
    /// `[B, 5]`: where a view's picture lies in the source's, as top, left, height and width in shares of the source's
    /// sides, and 1 where it is flipped.
    Geometry { view: String },
    /// Int `[B, H, W]`: the class of each pixel of a view, −1 where it has none: ignored by its source, or outside of its picture.
    LabelMap { view: String, classes: usize },
    /// What another part of a step made, where a step is cut into parts: ids, or the gradient of a value.
    Joined,
}

/// Rectangles of patches until enough are removed, keyed as noise is.
///
/// Each rectangle: area uniform between `min_patches` and what is left, log-uniform aspect (height / width), both sides
/// rounded and smaller than the grid, a uniform place; taken if it removes something new and not too much; after ten
/// tries none was found.
/// Source: Bao et al. 2022 (BEiT), appendix; the rule of microsoft/unilm's masking generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockMask {
    pub rows: usize,
    pub columns: usize,
    /// Patches removed, uniform over one of these ranges, which are as likely; fractions are cut off.
    pub removed: Vec<(f64, f64)>,
    pub min_patches: usize,
    pub max_patches: usize,
    pub aspect: (f64, f64),
    /// Goes on until the count is met, at last patch by patch; else it stops where no rectangle is found: at most that many.
    pub exact: bool,
}

impl BlockMask {
    /// Tries for one rectangle.
    pub const TRIES: usize = 10;

    /// Height and width of the rectangle that two numbers in [0, 1) give while `left` patches may still be removed; `None` where it
    /// is as long as the grid.
    pub fn sides(&self, left: usize, area: f64, aspect: f64) -> Option<(usize, usize)> {
        let between = |low: f64, high: f64, share: f64| low + (high - low) * share;
        let area = between(self.min_patches as f64, left.min(self.max_patches) as f64, area);
        let aspect = libm::exp(between(libm::log(self.aspect.0), libm::log(self.aspect.1), aspect));
        let height = (area * aspect).sqrt().round_ties_even() as usize;
        let width = (area / aspect).sqrt().round_ties_even() as usize;
        (height < self.rows && width < self.columns).then_some((height, width))
    }
}

/// A context block and target blocks, keyed as noise is; ids in the order of the image, cut to static counts by chance.
///
/// The context's ids come first, those of the targets after them. A block too small for its count is made larger.
/// Source: Assran et al. 2023 (I-JEPA), section 3; there the counts are the least of each batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiBlock {
    pub rows: usize,
    pub columns: usize,
    pub targets: usize,
    pub target_patches: usize,
    /// Share of the grid.
    pub target_scale: (f64, f64),
    /// Height / width.
    pub target_aspect: (f64, f64),
    /// Patches that are in no target.
    pub context_patches: usize,
    pub context_scale: (f64, f64),
    /// Last rows and columns that no block reaches.
    #[serde(default)]
    pub margin: usize,
}

impl MultiBlock {
    /// Rows and columns that blocks lie within.
    pub fn reach(&self) -> (usize, usize) {
        (self.rows.saturating_sub(self.margin), self.columns.saturating_sub(self.margin))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputDecl {
    /// Unique; also the name in the graph's `Input` node. A view's is `views.NAME`, noise's its call path.
    pub name: String,
    pub kind: InputKind,
    pub ty: Type,
}

impl InputDecl {
    /// Whether it has rows of each of a batch's `samples` samples; else it is the same for all. Noise for the batch as a whole has a
    /// row for each sample, or is shared by all.
    pub fn has_rows(&self, samples: usize) -> bool {
        match &self.kind {
            InputKind::View { .. }
            | InputKind::Beside { .. }
            | InputKind::Noise
            | InputKind::Label
            | InputKind::LabelBeside
            | InputKind::BlockMask(_)
            | InputKind::MultiBlock(_)
            | InputKind::Geometry { .. }
            | InputKind::LabelMap { .. } => true,
            InputKind::Random | InputKind::Normal => self.ty.shape.first() == Some(&samples),
            InputKind::Schedule(_) | InputKind::Joined => false,
        }
    }

    /// The same for `own` of a batch's `samples` samples.
    pub fn of_rows(&self, samples: usize, own: usize) -> InputDecl {
        let mut decl = self.clone();
        if own < samples && self.has_rows(samples) {
            decl.ty.shape[0] = decl.ty.shape[0] / samples * own;
        }
        decl
    }

    /// What makes numbers of the bytes that its view, one of `views`, ends in before it is normalised. `None` for what is no picture.
    pub fn scaling(&self, views: &[ViewSpec]) -> Option<Scaling> {
        let (InputKind::View { view } | InputKind::Beside { view }) = &self.kind else { return None };
        views.iter().find(|spec| spec.name == *view)?.scaling()
    }
}

/// How a tensor is filled before training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Init {
    Zeros,
    Ones,
    Constant(f64),
    /// Mean 0.
    Normal {
        std: f64,
    },
    /// Mean 0, redrawn outside ±`cut` std.
    TruncNormal {
        std: f64,
        cut: f64,
    },
    /// Uniform within ±√(6 / (fan_in + fan_out)); a weight of rank > 2 counts as `[first, rest]`.
    XavierUniform,
    /// Uniform within ±1/√fan_in (PyTorch's default of linear layers); `fan_in` is given for biases.
    FanInUniform {
        fan_in: usize,
    },
    /// Fixed 2-D sin-cos positions `[1, zero_rows + rows·columns, dim]`; the first `zero_rows` rows are zero.
    /// `column_first`: [sin x, cos x, sin y, cos y] as MAE; else the row's y come first, as MoCo v3 and CMAE.
    SinCos2d {
        rows: usize,
        columns: usize,
        zero_rows: usize,
        column_first: bool,
    },
    /// Equal to another tensor: an EMA copy at the start.
    CopyOf(String),
    /// The tensor `path` of a run of the imported pipeline `import`.
    Imported {
        import: String,
        path: String,
    },
}

/// Why an initial value cannot fill a shape, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub why: String,
    pub help: String,
}

impl Init {
    /// Whether it fills tensors of `shape`, each value of them.
    pub fn fills(&self, shape: &[usize]) -> Result<(), Unfit> {
        match self {
            Init::Zeros
            | Init::Ones
            | Init::Constant(_)
            | Init::Normal { .. }
            | Init::TruncNormal { .. }
            | Init::FanInUniform { .. }
            | Init::CopyOf(_)
            | Init::Imported { .. } => Ok(()),
            Init::XavierUniform if shape.len() < 2 => Err(Unfit {
                why: format!(
                    "`xavier_uniform` hangs on inputs and outputs: it wants 2 dims or more, found {}",
                    shape.len()
                ),
                help: "write `zeros`, `normal(0.02)`, or `fan_in_uniform(fan_in: …)`".into(),
            }),
            Init::XavierUniform => Ok(()),
            Init::SinCos2d { rows, columns, zero_rows, .. } => {
                let Some((width, leading)) = shape.split_last() else {
                    return Err(Unfit {
                        why: "`sincos_2d` fills a table, found a scalar".into(),
                        help: "write a shape such as `[1, 196, 768]`".into(),
                    });
                };
                let (wanted, made) = (leading.iter().product::<usize>(), rows * columns + zero_rows);
                if width % 4 != 0 {
                    return Err(Unfit {
                        why: format!("`sincos_2d` fills widths that are multiples of 4, found {width}"),
                        help: format!("write a width of {}", width.div_ceil(4) * 4),
                    });
                }
                if wanted == made {
                    return Ok(());
                }
                let zeros = if *zero_rows > 0 { format!(" and {zero_rows} of zeros") } else { String::new() };
                let grid = wanted.saturating_sub(*zero_rows);
                let side = (1..=grid).take_while(|side| side * side <= grid).filter(|side| grid % side == 0).last();
                Err(Unfit {
                    why: format!("`sincos_2d` makes {rows} × {columns} rows{zeros}, the table has {wanted}"),
                    help: match side {
                        Some(side) => format!("write a grid of {grid}, such as `sincos_2d(({side}, {}))`", grid / side),
                        None => format!("write a table of {made} rows"),
                    },
                })
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TensorKind {
    /// Receives a gradient.
    Trained,
    /// Averaged copy without gradient.
    Ema,
    /// Never changes: fixed positions, frozen modules.
    Fixed,
    /// Written by `Graph::updates`: running statistics, queues, centres.
    State,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorDecl {
    /// Such as `encoder.blocks.3.attn.qkv.weight`.
    pub path: String,
    pub shape: Vec<usize>,
    pub role: Role,
    pub kind: TensorKind,
    pub init: Init,
}

impl TensorDecl {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
