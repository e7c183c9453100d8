//! The mapping between a file of reference tensors and a pipeline, written in RON.
//!
//! Before: `tests/golden/maps/NAME.ron`, or a user's own. After: [`super::plan`] follows it.
//!
//! **Invariant:** a mapping only names and joins: it holds no number that could bend a comparison.
//!
//! # The format
//!
//! ```ron
//! (
//!     pipeline: "pipelines/mae_vitb.cmae",   // path from the project's root
//!     mode: Train,                           // Train: a step with gradients. Eval: the graph of `evaluate.features`
//!     rename: [("{loss}.grad.{x}", "grad.{loss}.{x}")],  // (file's pattern, name that it goes by)
//!     set: [("mask_ratio", "mask_ratio")],   // (setting, expression)
//!     inputs: [("views.train", "input.pixel_values")],   // (graph's input, file's tensor)
//!     tensors: [("{rest}", ["{rest}"])],     // (pipeline's path, file's names joined along axis 0)
//!     reshape: ["encoder.patch_embed.*"],    // paths for which only the number of values must agree
//!     fixed: Compare,                        // or Load
//!     outputs: [("expect.loss", "losses.total")],        // (file's tensor, graph's value)
//!     step_losses: (tensor: "expect.step_losses", columns: ["losses.total"]),
//!     steps: "steps",                        // expression
//!     null_after: "4 * adamw.lr",            // expression
//!     ignore: ["expect.ids_restore"],        // globs
//! )
//! ```
//!
//! Only `pipeline` and `mode` must be there.
//!
//! **File.** Names start with a section. `weights.NAME` is the state before the first step, `grad.NAME` the gradient
//! of the total loss in the first step, `after1.NAME` a state tensor (running statistics) as the first step's forward
//! pass leaves it, `after.NAME` the state after all steps, optimizer and EMA included. Those four are found by
//! `tensors`, which is written without the section. Everything else is named in `inputs`, `outputs`, `step_losses` or
//! `ignore`: a tensor of the file that none of them names is an error, so that nothing is passed over by oversight.
//!
//! **Other names.** A file whose names have their section elsewhere is read as if they had the names that `rename` gives; the first
//! pattern that matches counts. Reports and tolerances keep the file's own.
//!
//! **Inputs.** A name that is no input of the graph but a value of it, such as `online.mask.mask`, is given instead of computed.
//!
//! **Expressions** (`set`, `steps`, `null_after`) are of the pipeline's language. In them the keys of the file's
//! `config` are names: `adamw.lr` is nested, `image_size[0]` an item of a list. The compiler evaluates them, with the
//! file's config as [`super::file::ConfigScope`]; this module carries their text. `shape_of.NAME` is the shape of the file's tensor
//! NAME: `shape_of.input.img[0]`.
//!
//! **Patterns** (`tensors`): `{i}`, or any other name, stands for one path component, `{rest}` (or a name that starts
//! so, such as `{rest2}`) for any text with dots. The first rule whose pattern matches the pipeline's path and whose
//! names are all in the file counts, so a particular rule stands before a general one. Several names are joined along
//! axis 0, as timm's `qkv` is made of three linear layers; gradients and states are cut in the same way.
//!
//! **Shapes** must agree. Where the same values in the same order have another shape (a patch embedding as a linear
//! layer and as a convolution), the path is named in `reshape`.
//!
//! **Fixed positions.** Sin-cos positions are computed by the pipeline. With `fixed: Compare` (the default) they must
//! agree with the file's before they are overwritten; `Load` takes the file's for good.
//!
//! **Graph's values** (`outputs`, `columns`): `losses.NAME`, `losses.total`, `monitors.NAME`, or the name of an output
//! of the graph, such as `online.query` or `features`.
//!
//! **Null gradients.** For parameters that the file lists under `null_gradient` the gradient is compared with zero.
//! Adam turns their rounding noise into steps of up to the learning rate in any direction; `null_after` is the absolute
//! tolerance for these values (and for those of their EMA copies) in `after`; in f32 also for single values whose gradient in
//! the file is below 2⁻²⁰ of its tensor's greatest, which f32 cannot tell from noise.

use serde::{Deserialize, Serialize};

use crate::pattern::{Pattern, PatternError};

/// Which graph of the pipeline is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Train,
    Eval,
}

/// What is done with the pipeline's own sin-cos positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FixedPositions {
    #[default]
    Compare,
    Load,
}

/// Losses of every step, in one tensor `[steps, columns]` of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepLosses {
    pub tensor: String,
    pub columns: Vec<String>,
}

/// A mapping; the fields are described above.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Map {
    pub pipeline: String,
    pub mode: Mode,
    #[serde(default)]
    pub set: Vec<(String, String)>,
    #[serde(default)]
    pub inputs: Vec<(String, String)>,
    #[serde(default)]
    pub rename: Vec<(String, String)>,
    #[serde(default)]
    pub tensors: Vec<(String, Vec<String>)>,
    #[serde(default)]
    pub reshape: Vec<String>,
    #[serde(default)]
    pub fixed: FixedPositions,
    #[serde(default)]
    pub outputs: Vec<(String, String)>,
    #[serde(default)]
    pub step_losses: Option<StepLosses>,
    #[serde(default)]
    pub steps: Option<String>,
    #[serde(default)]
    pub null_after: Option<String>,
    #[serde(default)]
    pub ignore: Vec<String>,
}

/// Why a mapping could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("the mapping is not readable at line {line}, column {column}: {message}")]
    Syntax { line: usize, column: usize, message: String },
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("`{name}` uses `{{{placeholder}}}`, which `{path}` does not have (help: use one of {there})")]
    Placeholder { path: String, name: String, placeholder: String, there: String },
    #[error("the rule for `{path}` names no tensor of the file (help: name one, or leave the rule out)")]
    NoNames { path: String },
}

/// A rule of `tensors`, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub path: Pattern,
    pub names: Vec<Pattern>,
}

impl Rule {
    /// The file's names for the pipeline's `path`; `None` where the rule does not match it.
    pub fn names_for(&self, path: &str) -> Option<Vec<String>> {
        let bindings = self.path.matches(path)?;
        Some(self.names.iter().map(|name| name.fill(&bindings)).collect())
    }
}

impl Map {
    /// Reads and checks a mapping.
    pub fn parse(text: &str) -> Result<Map, MapError> {
        let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        let map: Map = options.from_str(text).map_err(|error| MapError::Syntax {
            line: error.span.start.line,
            column: error.span.start.col,
            message: error.code.to_string(),
        })?;
        map.rules()?;
        map.renaming()?;
        Ok(map)
    }

    /// The rules of `rename`, in order.
    pub fn renaming(&self) -> Result<Vec<Rule>, MapError> {
        self.rename.iter().map(|(path, name)| rule(path, std::slice::from_ref(name))).collect()
    }

    /// The rules of `tensors`, in order.
    pub fn rules(&self) -> Result<Vec<Rule>, MapError> {
        self.tensors.iter().map(|(path, names)| rule(path, names)).collect()
    }
}

/// A rule from its text.
fn rule(path: &str, names: &[String]) -> Result<Rule, MapError> {
    let pattern = Pattern::parse(path)?;
    if names.is_empty() {
        return Err(MapError::NoNames { path: path.to_owned() });
    }
    let mut patterns = Vec::with_capacity(names.len());
    for name in names {
        let parsed = Pattern::parse(name)?;
        let there = pattern.placeholders();
        if let Some(unknown) = parsed.placeholders().into_iter().find(|p| !there.contains(p)) {
            return Err(MapError::Placeholder {
                path: path.to_owned(),
                name: name.clone(),
                placeholder: unknown.to_owned(),
                there: there.iter().map(|p| format!("{{{p}}}")).collect::<Vec<_>>().join(", "),
            });
        }
        patterns.push(parsed);
    }
    Ok(Rule { path: pattern, names: patterns })
}
