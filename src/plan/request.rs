//! What a run of a graph shall give.

use crate::graph::accumulate::{Micro, Parts};
use crate::graph::{Graph, Program};
use crate::spec::{Precision, Recompute, Residual};

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
    /// Layers' products round their operands to bf16 and add up in f32, and a backend may store in bf16 what layers give one another; all
    /// else stays in the backend's precision.
    pub bf16: bool,
    /// With `bf16`, sums along the residual stream may be stored in bf16 too.
    pub bf16_residual: bool,
}

impl Request {
    /// What a step of `program` asks for beside losses, monitors and updates; `outputs` names values of its training graph.
    pub fn of_step(program: &Program, outputs: &[String]) -> Request {
        let train = &program.spec.train;
        Request {
            gradients: true,
            outputs: outputs.to_vec(),
            check_finite: false,
            recompute: train.recompute,
            bf16: train.precision == Precision::Bf16,
            bf16_residual: train.residual == Residual::Bf16,
        }
    }
}

/// What is asked for in each part of a step by micro-batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRequests {
    /// Of the gradients that are known beforehand.
    pub known: Request,
    /// Of a micro-batch: the way forward, or both ways where it is run once.
    pub forward: Request,
    pub coupled: Request,
    /// Of a micro-batch that is run once more.
    pub backward: Request,
}

impl PartRequests {
    /// Together they are `request` for the whole graph.
    pub fn new(parts: &Parts, request: &Request) -> Self {
        let outputs = |graph: &Graph| graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        let (known, gradients) = match &parts.micro {
            Micro::Twice { .. } => (Vec::new(), false),
            Micro::Once { known, .. } => (outputs(known), request.gradients),
        };
        PartRequests {
            known: Request { gradients: false, outputs: known, ..request.clone() },
            forward: Request { gradients, outputs: outputs(parts.micro.forward()), ..request.clone() },
            coupled: Request { outputs: outputs(&parts.coupled), ..request.clone() },
            backward: Request { outputs: Vec::new(), ..request.clone() },
        }
    }
}
