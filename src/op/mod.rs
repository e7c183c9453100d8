//! The closed set of primitive operations: what the language calls `op::…`, what a graph's nodes are, and what every
//! backend implements. Its shape rules stand in [`shape`], its derivatives in `graph::grad`.
//!
//! The last group is the backward pass's own: `graph::grad` makes those ops and the language has no word for them. A
//! backend that differentiates with a tape of its own never meets them.
//!
//! **Invariant:** an op is an arm in each exhaustive table: its operands, type and cost (`shape::{arity, infer, flops}`), its
//! derivative (`grad::vjp`), whether it joins samples (`accumulate::rows`), and what computes it (`dfdx::ops`, `cpu::step`,
//! `xla::lower`). None of them has a `_` arm, so that a new op stops the build at each. What asks for a property alone, such as
//! [`Op::is_element_wise`], names the ops that have it, and of all others it is not so.
//!
//! Dims: `B` batch, `N` tokens, `D` width, `P` patch, `C` channels, `H` height, `W` width, `h` heads.

mod backward;
mod error;
mod forward;
pub mod interpolate;
pub mod shape;
pub mod size;

use serde::{Deserialize, Serialize};

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

/// A primitive operation with its static attributes. Axes count from 0 and are in range; operands are in the order of
/// the doc comments, optional ones (marked `?`) last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    // Leaves: no operands; the shape is the node's own type.
    /// A value of the batch: a view, a mask's noise, labels, a scheduled number.
    Input {
        name: String,
    },
    /// A parameter, fixed tensor, EMA copy or state, by path, as it is before the step.
    Param {
        path: String,
    },
    /// Every element is `value`.
    Full {
        value: f64,
    },
    /// `Int[n]`: 0, 1, …, n − 1.
    Iota,
    /// `[to, from]`: weights that resize an axis of `from` values to `to` by Keys' cubic: see [`interpolate`].
    ResizeWeights {
        from: usize,
        to: usize,
    },

    // Element-wise; operands of one shape (the compiler writes `Broadcast` where they differ).
    Add,
    Sub,
    Mul,
    Div,
    /// The greater of both; where they are equal, half of the gradient goes to each.
    Maximum,
    /// The lesser of both; where they are equal, half of the gradient goes to each.
    Minimum,
    /// a < b as 0.0 or 1.0; no gradient. Operands float or both int.
    Less,
    /// a = b as 0.0 or 1.0; no gradient. Operands float or both int.
    Equal,
    /// (condition, a, b): a where condition ≠ 0, else b. No gradient to the condition.
    Select,
    AddConst {
        value: f64,
    },
    MulConst {
        value: f64,
    },
    PowConst {
        value: f64,
    },
    /// −x.
    Neg,
    /// eˣ.
    Exp,
    /// The natural logarithm.
    Log,
    /// √x.
    Sqrt,
    /// |x|; no gradient at 0.
    Abs,
    /// x where it is above 0, else 0.
    Relu,
    /// x·Φ(x) with the exact Φ (erf), not the tanh approximation.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// The sine of x in radians.
    Sin,
    /// The cosine of x in radians.
    Cos,
    /// Greatest whole number that is not above; no gradient.
    Floor,
    /// (y, x): the angle of the point (x, y), in −π..=π; no gradient.
    Atan2,
    /// Int → float.
    ToFloat,
    /// Float → int, towards zero.
    ToInt,

    // Reductions over `axes` (sorted); `keep` leaves them as size 1.
    /// Over `axis`, or over all; `keep` leaves a reduced axis as size 1.
    Sum {
        axes: Vec<usize>,
        keep: bool,
    },
    /// As `sum`, divided by the number of what is added.
    Mean {
        axes: Vec<usize>,
        keep: bool,
    },

    // Structure.
    /// Same elements in row-major order under the node's shape.
    Reshape,
    /// Output axis i is input axis `axes[i]`.
    Permute {
        axes: Vec<usize>,
    },
    /// To the node's shape: axes aligned from the right, size 1 (or a missing axis) repeated.
    Broadcast,
    /// `start..end` of one axis.
    Slice {
        axis: usize,
        start: usize,
        end: usize,
    },
    /// Two operands or more, along `axis`.
    Concat {
        axis: usize,
    },

    // Products.
    /// (a, b): `[.., m, k] · [.., k, n]` with equal leading axes; `transpose_b` reads b as `[.., n, k]`.
    Matmul {
        transpose_b: bool,
    },
    /// (x, weight, bias?): `[.., in]`, `[out, in]`, `[out]` → `[.., out]`.
    Linear,
    /// (q, k, v, bias?): `[B, h, N, d]`, `[B, h, M, d]`, `[B, h, M, d]`, `[h, N, M]` → `[B, h, N, d]`:
    /// softmax(q·kᵀ·scale + bias)·v.
    Attention {
        scale: f64,
    },

    /// (x `[B, C, H, W]`, weight `[O, C / groups, kh, kw]`, bias? `[O]`) → `[B, O, H', W']` with
    /// `H' = (H + 2·padding − kh) / stride + 1`: cross-correlation, zeros around.
    Conv2d {
        stride: usize,
        padding: usize,
        groups: usize,
    },

    // Normalisations and losses.
    /// (x, weight?, bias?) over the last axis, biased variance; weight and bias come together or not at all.
    LayerNorm {
        eps: f64,
    },
    /// (x, weight?, bias?): each feature of the last axis over all other axes, biased batch statistics.
    BatchNorm {
        eps: f64,
    },
    /// Over the last axis.
    Softmax,
    /// The logarithm of `softmax`, over the last axis.
    LogSoftmax,
    /// (logits `[.., K]`, ids Int `[..]`) → `[..]`: −log softmax at the id.
    CrossEntropy,
    /// x / max(‖x‖₂, eps) over the last axis.
    L2Normalize {
        eps: f64,
    },

    // Images and tokens.
    /// `[B, C, H, W]` → `[B, N, ph·pw·C]`, patches left to right, top to bottom.
    Patchify {
        patch: (usize, usize),
        order: PatchOrder,
    },
    /// The inverse, to the node's shape `[B, C, H, W]`.
    Unpatchify {
        patch: (usize, usize),
        order: PatchOrder,
    },
    /// (x `[B, N, D]`, ids Int `[B, K]`) → `[B, K, D]`.
    GatherTokens,
    /// Int `[..]` → float `[.., classes]`.
    OneHot {
        classes: usize,
    },
    /// Index of the largest value of the last axis, the first of equals; Int.
    Argmax,
    /// Stable ascending order of the last axis; Int. Operand float or int.
    Argsort,

    /// Identity with no gradient.
    StopGradient,
    /// Rows of all processes along axis 0; the identity with one.
    AllGather,

    // The backward pass. `g` is the gradient of the op's result, `y` the result. An op with several gradients gives them
    // one behind the other in one flat value, of which slices are read: a value a node, and no copy.
    /// (a `[.., k, m]`, b `[.., k, n]`) → `[.., m, n]`: aᵀ·b.
    TransposedMatmul,
    /// (x, g) → g·(Φ(x) + x·φ(x)).
    GeluGrad,
    /// (y, g) → y·(g − Σ g·y) over the last axis.
    SoftmaxGrad,
    /// (y, g) → g − eʸ·Σ g over the last axis.
    LogSoftmaxGrad,
    /// (logits `[.., K]`, ids Int `[..]`, g `[..]`) → `[.., K]`.
    CrossEntropyGrad,
    /// (x, g) → the gradient of x.
    L2NormalizeGrad {
        eps: f64,
    },
    /// (x, g, weight?) → flat: x, then weight and bias where there is a weight.
    LayerNormGrad {
        eps: f64,
    },
    /// (x, g, weight?) → flat: x, then weight and bias where there is a weight.
    BatchNormGrad {
        eps: f64,
    },
    /// (q, k, v, g, bias?) → flat: q, k, v, then the bias where there is one.
    AttentionGrad {
        scale: f64,
    },
    /// (g `[B, O, H', W']`, weight) → the node's shape `[B, C, H, W]`.
    Conv2dInputGrad {
        stride: usize,
        padding: usize,
        groups: usize,
    },
    /// (g `[B, O, H', W']`, x `[B, C, H, W]`) → the node's shape `[O, C / groups, kh, kw]`.
    Conv2dWeightGrad {
        stride: usize,
        padding: usize,
        groups: usize,
    },
    /// (g `[B, K, D]`, ids Int `[B, K]`) → `[B, tokens, D]`: rows added up where ids are equal, zero where none is.
    ScatterTokens {
        tokens: usize,
    },
}

impl Op {
    /// The name in the language, the text form of graphs, and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Param { .. } => "param",
            Op::Full { .. } => "full",
            Op::Iota => "iota",
            Op::ResizeWeights { .. } => "resize_weights",
            Op::Add => "add",
            Op::Sub => "sub",
            Op::Mul => "mul",
            Op::Div => "div",
            Op::Maximum => "maximum",
            Op::Minimum => "minimum",
            Op::Less => "less",
            Op::Equal => "equal",
            Op::Select => "select",
            Op::AddConst { .. } => "add_const",
            Op::MulConst { .. } => "mul_const",
            Op::PowConst { .. } => "pow_const",
            Op::Neg => "neg",
            Op::Exp => "exp",
            Op::Log => "log",
            Op::Sqrt => "sqrt",
            Op::Abs => "abs",
            Op::Relu => "relu",
            Op::Gelu => "gelu",
            Op::Tanh => "tanh",
            Op::Sigmoid => "sigmoid",
            Op::Sin => "sin",
            Op::Cos => "cos",
            Op::Floor => "floor",
            Op::Atan2 => "atan2",
            Op::ToFloat => "to_float",
            Op::ToInt => "to_int",
            Op::Sum { .. } => "sum",
            Op::Mean { .. } => "mean",
            Op::Reshape => "reshape",
            Op::Permute { .. } => "permute",
            Op::Broadcast => "broadcast",
            Op::Slice { .. } => "slice",
            Op::Concat { .. } => "concat",
            Op::Matmul { .. } => "matmul",
            Op::Linear => "linear",
            Op::Attention { .. } => "attention",
            Op::Conv2d { .. } => "conv2d",
            Op::LayerNorm { .. } => "layer_norm",
            Op::BatchNorm { .. } => "batch_norm",
            Op::Softmax => "softmax",
            Op::LogSoftmax => "log_softmax",
            Op::CrossEntropy => "cross_entropy",
            Op::L2Normalize { .. } => "l2_normalize",
            Op::Patchify { .. } => "patchify",
            Op::Unpatchify { .. } => "unpatchify",
            Op::GatherTokens => "gather_tokens",
            Op::OneHot { .. } => "one_hot",
            Op::Argmax => "argmax",
            Op::Argsort => "argsort",
            Op::StopGradient => "stop_gradient",
            Op::AllGather => "all_gather",
            Op::TransposedMatmul => "transposed_matmul",
            Op::GeluGrad => "gelu_grad",
            Op::SoftmaxGrad => "softmax_grad",
            Op::LogSoftmaxGrad => "log_softmax_grad",
            Op::CrossEntropyGrad => "cross_entropy_grad",
            Op::L2NormalizeGrad { .. } => "l2_normalize_grad",
            Op::LayerNormGrad { .. } => "layer_norm_grad",
            Op::BatchNormGrad { .. } => "batch_norm_grad",
            Op::AttentionGrad { .. } => "attention_grad",
            Op::Conv2dInputGrad { .. } => "conv2d_input_grad",
            Op::Conv2dWeightGrad { .. } => "conv2d_weight_grad",
            Op::ScatterTokens { .. } => "scatter_tokens",
        }
    }

    /// Whether the op belongs to the backward pass, which is not differentiated again.
    pub fn is_backward(&self) -> bool {
        matches!(
            self,
            Op::TransposedMatmul
                | Op::GeluGrad
                | Op::SoftmaxGrad
                | Op::LogSoftmaxGrad
                | Op::CrossEntropyGrad
                | Op::L2NormalizeGrad { .. }
                | Op::LayerNormGrad { .. }
                | Op::BatchNormGrad { .. }
                | Op::AttentionGrad { .. }
                | Op::Conv2dInputGrad { .. }
                | Op::Conv2dWeightGrad { .. }
                | Op::ScatterTokens { .. }
        )
    }

    /// Whether element i of the result depends on the elements i of the operands alone.
    pub fn is_element_wise(&self) -> bool {
        matches!(
            self,
            Op::Add
                | Op::Sub
                | Op::Mul
                | Op::Div
                | Op::Maximum
                | Op::Minimum
                | Op::Less
                | Op::Equal
                | Op::Select
                | Op::AddConst { .. }
                | Op::MulConst { .. }
                | Op::PowConst { .. }
                | Op::Neg
                | Op::Exp
                | Op::Log
                | Op::Sqrt
                | Op::Abs
                | Op::Relu
                | Op::Gelu
                | Op::GeluGrad
                | Op::Tanh
                | Op::Sigmoid
                | Op::Sin
                | Op::Cos
                | Op::Floor
                | Op::Atan2
        )
    }

    /// Whether a gradient can flow from the result to any operand.
    pub fn is_differentiable(&self) -> bool {
        !self.is_backward()
            && !matches!(
                self,
                Op::Input { .. }
                    | Op::Full { .. }
                    | Op::Iota
                    | Op::ResizeWeights { .. }
                    | Op::Floor
                    | Op::Atan2
                    | Op::ToInt
                    | Op::Less
                    | Op::Equal
                    | Op::ToFloat
                    | Op::OneHot { .. }
                    | Op::Argmax
                    | Op::Argsort
                    | Op::StopGradient
            )
    }
}
