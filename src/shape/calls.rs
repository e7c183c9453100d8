//! How `op::NAME(…)` is called: parameters in order, and the op and attributes that they make.

use crate::decl::InputKind;
use crate::diag::{Code, Diagnostic};
use crate::elab::{Kind, Tensor, Value};
use crate::op::table::{Row, TABLE};
use crate::op::{Op, Type};
use crate::source::Span;

use super::arguments::{Args, Read};
use super::masks;
use super::trace::{Operand, Trace};

/// Ops that are called by their own names with their operands and nothing else: parameters are the row's.
const PLAIN: &[Op] = &[
    Op::Neg,
    Op::Exp,
    Op::Log,
    Op::Sqrt,
    Op::Abs,
    Op::Relu,
    Op::Gelu,
    Op::Tanh,
    Op::Sigmoid,
    Op::Sin,
    Op::Cos,
    Op::Floor,
    Op::Atan2,
    Op::ToFloat,
    Op::ToInt,
    Op::Maximum,
    Op::Minimum,
    Op::Less,
    Op::Equal,
    Op::Softmax,
    Op::LogSoftmax,
    Op::CrossEntropy,
    Op::LogDet,
    Op::GatherTokens,
    Op::Argmax,
    Op::Argsort,
    Op::StopGradient,
];

/// A call that takes more: its name, its parameters (`?` ends those that may be left out), and what makes its value.
struct Call {
    name: &'static str,
    params: &'static [&'static str],
    make: Make,
    /// What it gives; where it is an op, the row says so.
    about: Option<&'static str>,
}

type Make = for<'t, 'a, 'b> fn(&'t mut Trace, &'a Args<'b>) -> Read<Tensor>;

const fn op(name: &'static str, params: &'static [&'static str], make: Make) -> Call {
    Call { name, params, make, about: None }
}

impl Call {
    const fn about(self, about: &'static str) -> Self {
        Call { about: Some(about), ..self }
    }
}

/// Name, parameters and function stand together, so that none can be written without the others.
const CALLS: &[Call] = &[
    op("pow", &["x", "exponent"], pow).about("x to a constant power."),
    op("select", &["condition", "a", "b"], select),
    op("sum", &["x", "axis?", "keep?"], |trace, args| reduce(trace, args, |axes, keep| Op::Sum { axes, keep })),
    op("mean", &["x", "axis?", "keep?"], |trace, args| reduce(trace, args, |axes, keep| Op::Mean { axes, keep })),
    op("reshape", &["x", "shape"], reshape),
    op("permute", &["x", "axes"], permute),
    op("broadcast", &["x", "shape"], broadcast),
    op("slice", &["x", "axis", "start", "end"], slice),
    op("concat", &["tensors", "axis"], concat),
    op("matmul", &["a", "b", "transpose_b?"], matmul),
    op("linear", &["x", "weight", "bias?"], |trace, args| with(trace, args, &["x", "weight"], &["bias"], Op::Linear)),
    op("attention", &["q", "k", "v", "scale", "bias?"], attention),
    op("conv2d", &["x", "weight", "bias?", "stride?", "padding?", "groups?"], conv2d),
    op("layer_norm", &["x", "weight?", "bias?", "eps?"], layer_norm),
    op("batch_norm", &["x", "weight?", "bias?", "eps?"], batch_norm),
    op("l2_normalize", &["x", "eps?"], l2_normalize),
    op("patchify", &["images", "patch", "order?"], patchify),
    op("unpatchify", &["patches", "patch", "size", "channels", "order?"], unpatchify),
    op("one_hot", &["ids", "classes"], one_hot),
    op("iota", &["count"], iota),
    op("full", &["shape", "value"], full),
    op("resize_weights", &["from", "to"], resize_weights),
    op("noise", &["count"], noise).about(
        "`[B, count]`, uniform over [0, 1), for each sample: keyed by seed, epoch, sample and place in the pipeline.",
    ),
    op("random", &["shape"], random)
        .about("Of any shape, uniform over [0, 1), for the batch: keyed by seed, step and place in the pipeline."),
    op("normal", &["shape"], normal)
        .about("Of any shape, normal with mean 0 and deviation 1, for the batch: keyed as `random` is."),
    op("labels", &["beside?"], labels).about(
        "Int `[B]`: the classes of the samples, −1 where one has none; with `beside: true` of the samples before, as `op::beside`.",
    ),
    op("block_mask", &["grid", "removed", "min_patches?", "max_patches?", "aspect?", "exact?"], block_mask)
        .about("`[B, N]`, 1 where removed: rectangles of patches, drawn for each sample (`std::masks::block_mask`)."),
    op(
        "multi_block",
        &[
            "grid",
            "targets",
            "target_patches",
            "target_scale",
            "target_aspect",
            "context_patches",
            "context_scale",
            "margin?",
        ],
        multi_block,
    )
    .about("Ids of a context block and of target blocks, drawn for each sample (`std::masks::multi_block`)."),
];

fn plain(name: &str) -> Option<&'static Op> {
    PLAIN.iter().find(|op| op.name() == name)
}

fn with_more(name: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.name == name)
}

/// Parameters of `op::NAME`, in order; `?` ends those that may be left out.
pub fn signature(op: &str) -> Option<&'static [&'static str]> {
    plain(op).map(|op| op.row().names).or_else(|| with_more(op).map(|call| call.params))
}

/// What `op::NAME` computes.
pub fn about(op: &str) -> Option<&'static str> {
    let own = with_more(op).and_then(|call| call.about);
    own.or_else(|| TABLE.iter().find(|row| row.name == op).map(Row::about))
}

/// Every operation that the language can call.
pub fn names() -> Vec<&'static str> {
    PLAIN.iter().map(Op::name).chain(CALLS.iter().map(|call| call.name)).collect()
}

/// Calls an op with one value for each parameter of its [`signature`].
pub fn call(trace: &mut Trace, op: &str, values: &[Option<Value>], span: Span) -> Read<Tensor> {
    let args = |names| Args { op, names, values, span };
    match (plain(op), with_more(op)) {
        (Some(op), _) => of_operands(trace, &args(op.row().names), op.clone()),
        (None, Some(call)) => (call.make)(trace, &args(call.params)),
        (None, None) => {
            Err(Diagnostic::new(Code::UnknownName, format!("there is no `op::{op}`")).label(span, "not known"))
        }
    }
}

/// Two operands of an element-wise op are brought to one shape; one of them may be a number.
fn of_operands(trace: &mut Trace, args: &Args<'_>, op: Op) -> Read<Tensor> {
    match args.names {
        [a, b] if op.is_element_wise() => {
            let operands = trace.pair(args.operand(a)?, args.operand(b)?, args.op, args.span)?;
            trace.emit(op, &operands, None, args.span)
        }
        names => with(trace, args, names, &[], op),
    }
}

fn of_x(trace: &mut Trace, args: &Args<'_>, op: Op) -> Read<Tensor> {
    trace.emit(op, &[args.tensor("x")?], None, args.span)
}

/// The tensors `needed`, then those of `optional` that are given.
fn with(trace: &mut Trace, args: &Args<'_>, needed: &[&str], optional: &[&str], op: Op) -> Read<Tensor> {
    let mut operands = needed.iter().map(|name| args.tensor(name)).collect::<Read<Vec<_>>>()?;
    for name in optional {
        operands.extend(args.maybe_tensor(name)?);
    }
    trace.emit(op, &operands, None, args.span)
}

fn reduce(trace: &mut Trace, args: &Args<'_>, op: fn(Vec<usize>, bool) -> Op) -> Read<Tensor> {
    let x = args.tensor("x")?;
    let (axes, keep) = (args.axes("axis", x.0.ty.shape.len())?, args.flag("keep")?);
    trace.emit(op(axes, keep), &[x], None, args.span)
}

fn pow(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    of_x(trace, args, Op::PowConst { value: args.float("exponent", None)? })
}

fn l2_normalize(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    of_x(trace, args, Op::L2Normalize { eps: args.float("eps", Some(1e-12))? })
}

fn select(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let condition = args.tensor("condition")?;
    let to_shape = |trace: &mut Trace, operand: Operand| -> Read<(Tensor, Span)> {
        let like = Operand::Tensor(condition.0.clone(), condition.1);
        let [_, value] = trace.pair(like, operand, "select", args.span)?;
        Ok(value)
    };
    let a = to_shape(trace, args.operand("a")?)?;
    let b = to_shape(trace, args.operand("b")?)?;
    trace.emit(Op::Select, &[condition, a, b], None, args.span)
}

fn reshape(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let x = args.tensor("x")?;
    let shape = args.filled_counts("shape", x.0.ty.elements())?;
    let ty = Type { dtype: x.0.ty.dtype, shape };
    trace.emit(Op::Reshape, &[x], Some(ty), args.span)
}

fn broadcast(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let x = args.tensor("x")?;
    let ty = Type { dtype: x.0.ty.dtype, shape: args.counts("shape")? };
    trace.emit(Op::Broadcast, &[x], Some(ty), args.span)
}

fn permute(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    of_x(trace, args, Op::Permute { axes: args.counts("axes")? })
}

fn slice(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let x = args.tensor("x")?;
    let axis = args.axis(x.0.ty.shape.len())?;
    trace.emit(Op::Slice { axis, start: args.count("start")?, end: args.count("end")? }, &[x], None, args.span)
}

fn concat(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let list = args.get("tensors").and_then(Value::items).ok_or_else(|| args.wrong("tensors", "a list"))?;
    let mut tensors = Vec::new();
    for value in list {
        match &value.kind {
            Kind::Tensor(tensor) => tensors.push((tensor.clone(), value.span)),
            _ => return Err(args.wrong("tensors", "a list of tensors")),
        }
    }
    let rank = tensors.first().map_or(0, |(t, _)| t.ty.shape.len());
    // One tensor joined with nothing is itself.
    match tensors.as_slice() {
        [(only, _)] => Ok(only.clone()),
        _ => trace.emit(Op::Concat { axis: args.axis(rank)? }, &tensors, None, args.span),
    }
}

fn matmul(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    with(trace, args, &["a", "b"], &[], Op::Matmul { transpose_b: args.flag("transpose_b")? })
}

fn attention(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    with(trace, args, &["q", "k", "v"], &["bias"], Op::Attention { scale: args.float("scale", None)? })
}

fn conv2d(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let op = Op::Conv2d {
        stride: args.count_or("stride", 1)?,
        padding: args.count_or("padding", 0)?,
        groups: args.count_or("groups", 1)?,
    };
    with(trace, args, &["x", "weight"], &["bias"], op)
}

fn layer_norm(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    with(trace, args, &["x"], &["weight", "bias"], Op::LayerNorm { eps: args.float("eps", Some(1e-6))? })
}

fn batch_norm(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    with(trace, args, &["x"], &["weight", "bias"], Op::BatchNorm { eps: args.float("eps", Some(1e-5))? })
}

fn patchify(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let op = Op::Patchify { patch: args.size("patch")?, order: args.order()? };
    with(trace, args, &["images"], &[], op)
}

fn unpatchify(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let patches = args.tensor("patches")?;
    let (height, width) = args.size("size")?;
    let batch = patches.0.ty.shape.first().copied().unwrap_or(1);
    let ty = Type::float([batch, args.count("channels")?, height, width]);
    let op = Op::Unpatchify { patch: args.size("patch")?, order: args.order()? };
    trace.emit(op, &[patches], Some(ty), args.span)
}

fn one_hot(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    with(trace, args, &["ids"], &[], Op::OneHot { classes: args.count("classes")? })
}

fn iota(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    trace.emit(Op::Iota, &[], Some(Type::int([args.count("count")?])), args.span)
}

fn full(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let ty = Type::float(args.counts("shape")?);
    trace.emit(Op::Full { value: args.float("value", None)? }, &[], Some(ty), args.span)
}

fn resize_weights(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let (from, to) = (args.count("from")?, args.count("to")?);
    trace.emit(Op::ResizeWeights { from, to }, &[], Some(Type::float([to, from])), args.span)
}

fn noise(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let ty = Type::float([trace.batch, args.count("count")?]);
    trace.input("noise", InputKind::Noise, ty, args.span)
}

fn random(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let ty = Type::float(args.counts("shape")?);
    trace.input("random", InputKind::Random, ty, args.span)
}

fn normal(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let ty = Type::float(args.counts("shape")?);
    trace.input("normal", InputKind::Normal, ty, args.span)
}

fn labels(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    trace.in_training("op::labels", args.span)?;
    let (name, kind) = match args.flag("beside")? {
        true => ("beside.labels", InputKind::LabelBeside),
        false => ("labels", InputKind::Label),
    };
    trace.shared_input(name.to_owned(), kind, Type::int([trace.batch]), args.span)
}

fn block_mask(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let mask = masks::block_mask(args)?;
    let ty = Type::float([trace.batch, mask.rows * mask.columns]);
    trace.input("block", InputKind::BlockMask(mask), ty, args.span)
}

fn multi_block(trace: &mut Trace, args: &Args<'_>) -> Read<Tensor> {
    let blocks = masks::multi_block(args)?;
    // Past what a number holds it is too large in any case, which the shape's rule says.
    let of_targets = blocks.targets.saturating_mul(blocks.target_patches);
    let ty = Type::int([trace.batch, blocks.context_patches.saturating_add(of_targets)]);
    trace.input("blocks", InputKind::MultiBlock(blocks), ty, args.span)
}
