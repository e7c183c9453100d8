//! Declarations: what a graph takes in and what it stores, as the compiler finds them and the run time fills them.
//!
//! Before: `elab` declares tensors, `shape` inputs. After: `graph` lays them out, `data` and `train` fill them.
//!
//! **Invariant:** plain data, serializable as it stands.

use serde::{Deserialize, Serialize};

use crate::op::Type;
use crate::spec::Role;

/// What fills an input of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum InputKind {
    /// `[B, C, H, W]`: the normalised pictures of a view.
    View { view: String },
    /// Uniform in [0, 1), keyed by (seed, epoch, sample, input name): what masks are drawn from.
    Noise,
    /// Int `[B]`: class ids of the samples.
    Label,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputDecl {
    /// Unique; also the name in the graph's `Input` node. A view's is `views.NAME`, noise's its call path.
    pub name: String,
    pub kind: InputKind,
    pub ty: Type,
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
    /// Mean 0, redrawn outside ±2 std.
    TruncNormal {
        std: f64,
    },
    /// Uniform within ±√(6 / (fan_in + fan_out)); a weight of rank > 2 counts as `[first, rest]`.
    XavierUniform,
    /// Uniform within ±1/√fan_in (PyTorch's default of linear layers); `fan_in` is given for biases.
    FanInUniform {
        fan_in: usize,
    },
    /// Fixed 2-D sin-cos positions `[1, first_rows + rows·columns, dim]`; the first `zero_rows` rows are zero.
    /// `column_first`: [sin x, cos x, sin y, cos y] as MAE; else the row's y come first, as MoCo v3 and CMAE.
    SinCos2d {
        rows: usize,
        columns: usize,
        zero_rows: usize,
        column_first: bool,
    },
    /// Equal to another tensor: an EMA copy at the start.
    CopyOf(String),
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
