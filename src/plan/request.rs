//! What a run of a graph shall give.

use crate::spec::Recompute;

/// What a run shall give back besides losses and monitors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Gradients of `graph.total` with respect to all trained tensors.
    pub gradients: bool,
    /// Names from `graph.outputs`.
    pub outputs: Vec<String>,
    /// Stops at the first value that is not finite, with an error that names its op and place. It reads every value
    /// back: for finding out, not for training.
    pub check_finite: bool,
    /// What the backward pass computes again; matters where gradients are asked for.
    pub recompute: Recompute,
    /// Layers' products round their operands to bf16 and add up in f32; all else stays in the backend's precision.
    pub bf16: bool,
}
