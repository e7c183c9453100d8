//! The `train` section: optimizer, rules for parameters, precision, how much is computed at once; and averaged copies.

use serde::{Deserialize, Serialize};

use super::{Duration, Schedule};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    F32,
    /// The oracle's precision: slow, for tests and `verify`.
    F64,
    /// f32, but for the products of layers, whose operands are rounded to bf16, and what layers give one another, which is stored so.
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

/// Whether what the optimizer keeps is shared out over ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShardOptimizer {
    #[default]
    Auto,
    Always,
    Never,
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
    /// `residual = bf16` (the default) or `f32`: what sums along the residual stream are stored in. Heard where `precision` is `bf16`, by the
    /// `xla` backend on NVIDIA; all else keeps them in f32.
    #[serde(default)]
    pub residual: Residual,
    /// `recompute = none`, or `blocks`: less memory for about a fifth more products, and the same numbers. Needs the `cpu`
    /// backend, which in bf16 makes norms and activations again by itself.
    #[serde(default)]
    pub recompute: Recompute,
    /// `shard_optimizer = auto`, `true` or `false`: whether ranks that share a batch share out what the optimizer keeps of each
    /// parameter, and each updates its own part (ZeRO-1: Rajbhandari et al. 2020). The numbers are the same; `auto` does it where
    /// memory asks for it.
    #[serde(default)]
    pub shard_optimizer: ShardOptimizer,
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
