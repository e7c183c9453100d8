//! The closed set of primitive operations: what the language calls `op::…`, what a graph's nodes are, and what every
//! backend implements. Its shape rules stand in [`shape`], its derivatives in `graph::grad`.
//!
//! The last group of the table is the backward pass's own: `graph::grad` makes those ops and the language has no word for them. A
//! backend that differentiates with a tape of its own never meets them.
//!
//! **Invariant:** an op is a row of [`table`], and an arm in each exhaustive match: its type (`shape::infer`), its derivative
//! (`grad::vjp`), whether it joins samples (`accumulate::rows`), what computes it (`dfdx::ops`, `cpu::step`, `xla::lower`), and what it is
//! for others (`onnx::lower`).
//! None of them has a `_` arm, so that a new op stops the build at each.
//!
//! Dims: `B` batch, `N` tokens, `D` width, `P` patch, `C` channels, `H` height, `W` width, `h` heads.

mod backward;
mod error;
mod forward;
pub mod interpolate;
pub mod shape;
pub mod size;
pub mod table;

use serde::{Deserialize, Serialize};

pub use table::Op;

/// `Float` is whatever precision the backend runs in; `Int` is i64 on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    Float,
    Int,
}

/// Element type and static shape; rank 0 is a scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Type {
    pub dtype: DType,
    pub shape: Vec<usize>,
}

impl Type {
    pub fn float(shape: impl Into<Vec<usize>>) -> Self {
        Type { dtype: DType::Float, shape: shape.into() }
    }

    pub fn int(shape: impl Into<Vec<usize>>) -> Self {
        Type { dtype: DType::Int, shape: shape.into() }
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Order of the values within a flattened patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PatchOrder {
    /// Row, column, channel: MAE's.
    RowColumnChannel,
    /// Channel, row, column: that of a convolution's weight, and of pixel shuffle.
    ChannelRowColumn,
}
