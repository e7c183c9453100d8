//! Plain resolved settings: what a pipeline says about data, views, training and evaluation, with every name
//! looked up, every unit checked and every default filled in.
//!
//! Before: `elab` makes a [`Spec`]. After: `data`, `train`, `eval` and `run` read it. It is what `resolved.ron` holds.
//!
//! **Invariant:** plain data. No spans, no syntax, no tensors; serializable as it stands.

mod clock;
mod data;
pub mod evaluate;
mod schedule;
mod train;
mod view;
mod weights;

use serde::{Deserialize, Serialize};

pub use clock::Clock;
pub use data::{ArrayLayout, CifarKind, DataSpec, LabelMaps, MAX_PIXELS, ShapesSpec, Shuffle, SourceSpec, Split};
pub use evaluate::{
    BASELINE_LIMIT, Classification, EvaluateSpec, Evaluation, Judging, KnnSpec, Limit, LinearSpec, ReconstructionsSpec,
    Segmentation, Solver,
};
pub use schedule::{Duration, End, Schedule, Tick};
pub use train::{
    Clip, EmaMoment, EmaSpec, MicroBatch, Optimizer, ParameterRule, Precision, Recompute, Residual, Role, Selector,
    ShardOptimizer, TrainSpec, glob_matches,
};
pub use view::{Filling, Interpolation, Scaling, ViewFrom, ViewOp, ViewSpec, covering_size};
pub use weights::{AUTO_NAMES, WeightsSpec};

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
    /// Modules that begin with weights of files.
    #[serde(default)]
    pub weights: Vec<WeightsSpec>,
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
