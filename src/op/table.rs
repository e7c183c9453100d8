//! The table of the ops: each with its attributes, its name, its operands, its family, what its gradient is, and what it computes.
//!
//! Before: nothing. After: [`Op`]'s properties are read from its row, as are the number and the element types of operands
//! ([`shape`](super::shape)), the parameters of ops that have no others in the language, and the page of the operations.
//!
//! **Invariant:** a row is written with the op itself, so that none can be without; what else an op costs is told in
//! [`op`](super).

use serde::{Deserialize, Serialize};

use super::PatchOrder;

/// What is the same of an op whatever its attributes are.
#[derive(Debug)]
pub struct Row {
    /// In the language, in the text form of graphs, and in messages.
    pub name: &'static str,
    /// Names of the operands, in order.
    pub names: &'static [&'static str],
    /// What stands in the place of each.
    pub operands: &'static [Operand],
    pub family: Family,
    pub gradient: Gradient,
    about: &'static str,
}

impl Row {
    /// What the op computes, in one line.
    pub fn about(&self) -> &'static str {
        self.about.trim()
    }
}

/// One place among the operands.
#[derive(Debug, Clone, Copy)]
pub struct Operand {
    pub holds: Holds,
    pub need: Need,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Numbers,
    Ids,
    /// What the first operand holds.
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Needed,
    /// May be left out with all that follow.
    Optional,
    /// There if the one before it is, and not without.
    WithLast,
    /// Any number of them, or none.
    Repeated,
}

impl Operand {
    const NUMBERS: Operand = Operand { holds: Holds::Numbers, need: Need::Needed };

    const fn ids(self) -> Self {
        Operand { holds: Holds::Ids, ..self }
    }

    const fn either(self) -> Self {
        Operand { holds: Holds::Either, ..self }
    }

    const fn optional(self) -> Self {
        Operand { need: Need::Optional, ..self }
    }

    const fn with_last(self) -> Self {
        Operand { need: Need::WithLast, ..self }
    }

    const fn repeated(self) -> Self {
        Operand { need: Need::Repeated, ..self }
    }
}

/// What kind of thing an op does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// No operands: a value from outside, or the same at every step.
    Leaf,
    /// Element i of the result depends on the elements i of the operands alone, which are of one shape.
    ElementWise,
    /// From one element type to the other.
    Cast,
    Reduction,
    /// Moves values, and computes none.
    Structure,
    /// Sums of products, over an axis that operands share.
    Product,
    /// By factors of whole matrices.
    Factor,
    Normalisation,
    Loss,
    /// Moves values between images, patches, tokens and classes.
    Tokens,
    /// By size.
    Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// From the result to an operand, or to a parameter.
    Flows,
    /// None.
    Flat,
    /// The op is of the backward pass, which is not differentiated again.
    Backward,
}

/// Each row: `Variant { attributes }: "name"(operands) Family Gradient;`. Operands are numbers and needed; brackets hold what else
/// they are, by the methods of [`Operand`].
macro_rules! ops {
    ($($(#[doc = $about:literal])+ $op:ident $({ $($attribute:ident: $of:ty),+ })?: $name:literal
        ($($operand:ident $([$($mark:ident)+])?),*) $family:ident $gradient:ident;)+) => {
        /// A primitive operation with its static attributes. Axes count from 0 and are in range; operands are in the order of
        /// the table, optional ones last.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Op {
            $($(#[doc = $about])+ $op $({ $($attribute: $of),+ })?,)+
        }

        /// Ops without attributes: places in [`TABLE`].
        enum Place {
            $($op,)+
        }

        /// All ops, in the order of their variants.
        pub const TABLE: &[Row] = &[$(Row {
            name: $name,
            names: &[$(stringify!($operand)),*],
            operands: &[$(Operand::NUMBERS $($(.$mark())+)?),*],
            family: Family::$family,
            gradient: Gradient::$gradient,
            about: concat!($($about),+),
        }),+];

        impl Op {
            pub fn row(&self) -> &'static Row {
                let place = match self {
                    $(Op::$op { .. } => Place::$op,)+
                };
                &TABLE[place as usize]
            }
        }
    };
}

ops! {
    // Leaves: no operands; the shape is the node's own type.
    /// A value of the batch: a view, a mask's noise, labels, a scheduled number.
    Input { name: String }: "input"() Leaf Flat;
    /// A parameter, fixed tensor, EMA copy or state, by path, as it is before the step.
    Param { path: String }: "param"() Leaf Flows;
    /// Every element is `value`.
    Full { value: f64 }: "full"() Leaf Flat;
    /// `Int[n]`: 0, 1, …, n − 1.
    Iota: "iota"() Leaf Flat;
    /// `[to, from]`: weights that resize an axis of `from` values to `to` by Keys' cubic.
    ResizeWeights { from: usize, to: usize }: "resize_weights"() Leaf Flat;

    // Element-wise; operands of one shape (the compiler writes `Broadcast` where they differ).
    /// a + b.
    Add: "add"(a, b) ElementWise Flows;
    /// a − b.
    Sub: "sub"(a, b) ElementWise Flows;
    /// a · b.
    Mul: "mul"(a, b) ElementWise Flows;
    /// a / b.
    Div: "div"(a, b) ElementWise Flows;
    /// The greater of both; where they are equal, half of the gradient goes to each.
    Maximum: "maximum"(a, b) ElementWise Flows;
    /// The lesser of both; where they are equal, half of the gradient goes to each.
    Minimum: "minimum"(a, b) ElementWise Flows;
    /// a < b as 0.0 or 1.0; no gradient. Operands float or both int.
    Less: "less"(a[either], b[either]) ElementWise Flat;
    /// a = b as 0.0 or 1.0; no gradient. Operands float or both int.
    Equal: "equal"(a[either], b[either]) ElementWise Flat;
    /// (condition, a, b): a where condition ≠ 0, else b. No gradient to the condition.
    Select: "select"(condition, a, b) ElementWise Flows;
    /// x + value.
    AddConst { value: f64 }: "add_const"(x) ElementWise Flows;
    /// x · value.
    MulConst { value: f64 }: "mul_const"(x) ElementWise Flows;
    /// x to the power `value`.
    PowConst { value: f64 }: "pow_const"(x) ElementWise Flows;
    /// −x.
    Neg: "neg"(x) ElementWise Flows;
    /// eˣ.
    Exp: "exp"(x) ElementWise Flows;
    /// The natural logarithm.
    Log: "log"(x) ElementWise Flows;
    /// √x.
    Sqrt: "sqrt"(x) ElementWise Flows;
    /// |x|; no gradient at 0.
    Abs: "abs"(x) ElementWise Flows;
    /// x where it is above 0, else 0.
    Relu: "relu"(x) ElementWise Flows;
    /// x·Φ(x) with the exact Φ (erf), not the tanh approximation.
    Gelu: "gelu"(x) ElementWise Flows;
    /// The hyperbolic tangent.
    Tanh: "tanh"(x) ElementWise Flows;
    /// 1 / (1 + e⁻ˣ).
    Sigmoid: "sigmoid"(x) ElementWise Flows;
    /// The sine of x in radians.
    Sin: "sin"(x) ElementWise Flows;
    /// The cosine of x in radians.
    Cos: "cos"(x) ElementWise Flows;
    /// Greatest whole number that is not above; no gradient.
    Floor: "floor"(x) ElementWise Flat;
    /// (y, x): the angle of the point (x, y), in −π..=π; no gradient.
    Atan2: "atan2"(y, x) ElementWise Flat;
    /// Int → float.
    ToFloat: "to_float"(x[ids]) Cast Flat;
    /// Float → int, towards zero.
    ToInt: "to_int"(x) Cast Flat;

    // Reductions over `axes`, which are sorted.
    /// Over `axis`, or over all; `keep` leaves a reduced axis as size 1.
    Sum { axes: Vec<usize>, keep: bool }: "sum"(x) Reduction Flows;
    /// As `sum`, divided by the number of what is added.
    Mean { axes: Vec<usize>, keep: bool }: "mean"(x) Reduction Flows;

    // Structure.
    /// Same elements in row-major order under the node's shape.
    Reshape: "reshape"(x[either]) Structure Flows;
    /// Output axis i is input axis `axes[i]`.
    Permute { axes: Vec<usize> }: "permute"(x[either]) Structure Flows;
    /// To the node's shape: axes aligned from the right, size 1 (or a missing axis) repeated.
    Broadcast: "broadcast"(x[either]) Structure Flows;
    /// `start..end` of one axis.
    Slice { axis: usize, start: usize, end: usize }: "slice"(x[either]) Structure Flows;
    /// Two operands or more, along `axis`.
    Concat { axis: usize }: "concat"(a[either], b[either], more[either repeated]) Structure Flows;

    // Products.
    /// (a, b): `[.., m, k] · [.., k, n]` with equal leading axes; `transpose_b` reads b as `[.., n, k]`.
    Matmul { transpose_b: bool }: "matmul"(a, b) Product Flows;
    /// (x, weight, bias?): `[.., in]`, `[out, in]`, `[out]` → `[.., out]`.
    Linear: "linear"(x, weight, bias[optional]) Product Flows;
    /// (q, k, v, bias?): `[B, h, N, d]`, `[B, h, M, d]`, `[B, h, M, d]`, `[h, N, M]` → `[B, h, N, d]`:
    /// softmax(q·kᵀ·scale + bias)·v.
    Attention { scale: f64 }: "attention"(q, k, v, bias[optional]) Product Flows;
    /// (x `[B, C, H, W]`, weight `[O, C / groups, kh, kw]`, bias? `[O]`) → `[B, O, H', W']` with
    /// `H' = (H + 2·padding − kh) / stride + 1`: cross-correlation, zeros around.
    Conv2d { stride: usize, padding: usize, groups: usize }: "conv2d"(x, weight, bias[optional]) Product Flows;

    // Normalisations and losses.
    /// (x, weight?, bias?) over the last axis, biased variance; weight and bias come together or not at all.
    LayerNorm { eps: f64 }: "layer_norm"(x, weight[optional], bias[with_last]) Normalisation Flows;
    /// (x, weight?, bias?): each feature of the last axis over all other axes, biased batch statistics.
    BatchNorm { eps: f64 }: "batch_norm"(x, weight[optional], bias[with_last]) Normalisation Flows;
    /// Over the last axis.
    Softmax: "softmax"(x) Normalisation Flows;
    /// The logarithm of `softmax`, over the last axis.
    LogSoftmax: "log_softmax"(x) Normalisation Flows;
    /// (logits `[.., K]`, ids Int `[..]`) → `[..]`: −log softmax at the id.
    CrossEntropy: "cross_entropy"(logits, ids[ids]) Loss Flows;
    /// x / max(‖x‖₂, eps) over the last axis.
    L2Normalize { eps: f64 }: "l2_normalize"(x) Normalisation Flows;

    // Matrices.
    /// (x `[.., n, n]`) → `[..]`: the logarithm of the determinant of a symmetric positive definite matrix, of which
    /// (x + xᵀ) / 2 is read; NaN where that is not positive definite.
    LogDet: "log_det"(x) Factor Flows;

    // Images and tokens.
    /// `[B, C, H, W]` → `[B, N, ph·pw·C]`, patches left to right, top to bottom.
    Patchify { patch: (usize, usize), order: PatchOrder }: "patchify"(images) Tokens Flows;
    /// The inverse, to the node's shape `[B, C, H, W]`.
    Unpatchify { patch: (usize, usize), order: PatchOrder }: "unpatchify"(patches) Tokens Flows;
    /// (x `[B, N, D]`, ids Int `[B, K]`) → `[B, K, D]`.
    GatherTokens: "gather_tokens"(x, ids[ids]) Tokens Flows;
    /// Int `[..]` → float `[.., classes]`.
    OneHot { classes: usize }: "one_hot"(ids[ids]) Tokens Flat;

    // By size.
    /// Index of the largest value of the last axis, the first of equals; Int.
    Argmax: "argmax"(x) Order Flat;
    /// Stable ascending order of the last axis; Int. Operand float or int.
    Argsort: "argsort"(x[either]) Order Flat;

    // What gradients see.
    /// Identity with no gradient.
    StopGradient: "stop_gradient"(x[either]) Structure Flat;

    // Between ranks, where a batch is spread over several. No pipeline names them.
    /// Blocks of all ranks along `axis`, which is the first that is not 1, in the order of the ranks.
    AllGather { axis: usize, ranks: usize }: "all_gather"(x[either]) Structure Flows;
    /// Identity on what all ranks hold alike; its gradient is the sum of theirs.
    Replicate { ranks: usize }: "replicate"(x) Structure Flows;
    /// The sum of what all ranks have; what follows is alike on all, so that its gradient is the identity.
    AllReduce { ranks: usize }: "all_reduce"(x) Structure Flows;

    // The backward pass. `g` is the gradient of the op's result, `y` the result. An op with several gradients gives them
    // one behind the other in one flat value, of which slices are read: a value a node, and no copy.
    /// (a `[.., k, m]`, b `[.., k, n]`) → `[.., m, n]`: aᵀ·b.
    TransposedMatmul: "transposed_matmul"(a, b) Product Backward;
    /// (x, g) → g·(Φ(x) + x·φ(x)).
    GeluGrad: "gelu_grad"(x, g) ElementWise Backward;
    /// (y, g) → y·(g − Σ g·y) over the last axis.
    SoftmaxGrad: "softmax_grad"(y, g) Normalisation Backward;
    /// (y, g) → g − eʸ·Σ g over the last axis.
    LogSoftmaxGrad: "log_softmax_grad"(y, g) Normalisation Backward;
    /// (logits `[.., K]`, ids Int `[..]`, g `[..]`) → `[.., K]`.
    CrossEntropyGrad: "cross_entropy_grad"(logits, ids[ids], g) Loss Backward;
    /// (x, g) → the gradient of x.
    L2NormalizeGrad { eps: f64 }: "l2_normalize_grad"(x, g) Normalisation Backward;
    /// (x `[.., n, n]`, g `[..]`) → `[.., n, n]`: g times the inverse of (x + xᵀ) / 2.
    LogDetGrad: "log_det_grad"(x, g) Factor Backward;
    /// (x, g, weight?) → flat: x, then weight and bias where there is a weight.
    LayerNormGrad { eps: f64 }: "layer_norm_grad"(x, g, weight[optional]) Normalisation Backward;
    /// (x, g, weight?) → flat: x, then weight and bias where there is a weight.
    BatchNormGrad { eps: f64 }: "batch_norm_grad"(x, g, weight[optional]) Normalisation Backward;
    /// (q, k, v, g, bias?) → flat: q, k, v, then the bias where there is one.
    AttentionGrad { scale: f64 }: "attention_grad"(q, k, v, g, bias[optional]) Product Backward;
    /// (g `[B, O, H', W']`, weight) → the node's shape `[B, C, H, W]`.
    Conv2dInputGrad { stride: usize, padding: usize, groups: usize }: "conv2d_input_grad"(g, weight) Product Backward;
    /// (g `[B, O, H', W']`, x `[B, C, H, W]`) → the node's shape `[O, C / groups, kh, kw]`.
    Conv2dWeightGrad { stride: usize, padding: usize, groups: usize }: "conv2d_weight_grad"(g, x) Product Backward;
    /// g → this rank's block of it along `axis`, which is the first that is not 1.
    OwnRows { axis: usize, ranks: usize }: "own_rows"(g) Structure Backward;
    /// (g `[B, K, D]`, ids Int `[B, K]`) → `[B, tokens, D]`: rows added up where ids are equal, zero where none is.
    ScatterTokens { tokens: usize }: "scatter_tokens"(g, ids[ids]) Tokens Backward;
}

impl Op {
    /// The name in the language, the text form of graphs, and messages.
    pub fn name(&self) -> &'static str {
        self.row().name
    }

    pub fn family(&self) -> Family {
        self.row().family
    }

    /// Whether the op belongs to the backward pass, which is not differentiated again.
    pub fn is_backward(&self) -> bool {
        self.row().gradient == Gradient::Backward
    }

    /// Whether element i of the result depends on the elements i of the operands alone.
    pub fn is_element_wise(&self) -> bool {
        self.family() == Family::ElementWise
    }

    /// Whether a gradient can flow from the result to any operand.
    pub fn is_differentiable(&self) -> bool {
        self.row().gradient == Gradient::Flows
    }
}
