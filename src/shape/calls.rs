//! How `op::NAME(…)` is called: parameters in order, and the op and attributes that they make.

use crate::decl::{BlockMask, InputKind, MultiBlock};
use crate::diag::{Code, Diagnostic};
use crate::elab::{Kind, Tensor, Value};
use crate::op::{Op, PatchOrder, Type};
use crate::source::Span;

use super::trace::{Operand, Trace};

/// Every callable op with its parameters; `?` ends those that may be left out.
const CALLS: &[(&str, &[&str])] = &[
    ("neg", &["x"]),
    ("exp", &["x"]),
    ("log", &["x"]),
    ("sqrt", &["x"]),
    ("abs", &["x"]),
    ("relu", &["x"]),
    ("gelu", &["x"]),
    ("tanh", &["x"]),
    ("sigmoid", &["x"]),
    ("sin", &["x"]),
    ("cos", &["x"]),
    ("floor", &["x"]),
    ("atan2", &["y", "x"]),
    ("to_float", &["x"]),
    ("to_int", &["x"]),
    ("pow", &["x", "exponent"]),
    ("maximum", &["a", "b"]),
    ("minimum", &["a", "b"]),
    ("less", &["a", "b"]),
    ("equal", &["a", "b"]),
    ("select", &["condition", "a", "b"]),
    ("sum", &["x", "axis?", "keep?"]),
    ("mean", &["x", "axis?", "keep?"]),
    ("reshape", &["x", "shape"]),
    ("permute", &["x", "axes"]),
    ("broadcast", &["x", "shape"]),
    ("slice", &["x", "axis", "start", "end"]),
    ("concat", &["tensors", "axis"]),
    ("matmul", &["a", "b", "transpose_b?"]),
    ("linear", &["x", "weight", "bias?"]),
    ("attention", &["q", "k", "v", "scale", "bias?"]),
    ("conv2d", &["x", "weight", "bias?", "stride?", "padding?", "groups?"]),
    ("layer_norm", &["x", "weight?", "bias?", "eps?"]),
    ("batch_norm", &["x", "weight?", "bias?", "eps?"]),
    ("softmax", &["x"]),
    ("log_softmax", &["x"]),
    ("cross_entropy", &["logits", "ids"]),
    ("l2_normalize", &["x", "eps?"]),
    ("patchify", &["images", "patch", "order?"]),
    ("unpatchify", &["patches", "patch", "size", "channels", "order?"]),
    ("gather_tokens", &["x", "ids"]),
    ("one_hot", &["ids", "classes"]),
    ("argmax", &["x"]),
    ("argsort", &["x"]),
    ("iota", &["count"]),
    ("full", &["shape", "value"]),
    ("noise", &["count"]),
    ("random", &["shape"]),
    ("resize_weights", &["from", "to"]),
    ("block_mask", &["grid", "removed", "min_patches?", "max_patches?", "aspect?", "exact?"]),
    (
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
    ),
    ("stop_gradient", &["x"]),
    ("all_gather", &["x"]),
];

/// Parameters of `op::NAME`, in order; `?` ends those that may be left out.
pub fn signature(op: &str) -> Option<&'static [&'static str]> {
    CALLS.iter().find(|(name, _)| *name == op).map(|(_, params)| *params)
}

/// Every operation that the language can call.
pub fn names() -> Vec<&'static str> {
    CALLS.iter().map(|(name, _)| *name).collect()
}

/// Arguments of one call, by position in the signature.
struct Args<'a> {
    op: &'a str,
    names: &'static [&'static str],
    values: &'a [Option<Value>],
    span: Span,
}

type Read<T> = Result<T, Diagnostic>;

impl Args<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        let index = self.names.iter().position(|n| n.trim_end_matches('?') == name)?;
        self.values[index].as_ref()
    }

    fn wrong(&self, name: &str, wanted: &str) -> Diagnostic {
        let what = format!("`{name}` of `op::{}` wants {wanted}", self.op);
        match self.get(name) {
            Some(value) => Diagnostic::new(Code::WrongType, format!("{what}, found {}", value.describe()))
                .label(value.span, format!("this is {}", value.describe())),
            None => Diagnostic::new(Code::MissingArgument, what).label(self.span, "missing in this call"),
        }
    }

    fn tensor(&self, name: &str) -> Read<(Tensor, Span)> {
        self.maybe_tensor(name)?.ok_or_else(|| self.wrong(name, "a tensor"))
    }

    fn maybe_tensor(&self, name: &str) -> Read<Option<(Tensor, Span)>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value { kind: Kind::Tensor(tensor), span }) => Ok(Some((tensor.clone(), *span))),
            Some(_) => Err(self.wrong(name, "a tensor")),
        }
    }

    fn float(&self, name: &str, default: Option<f64>) -> Read<f64> {
        match (self.get(name).map(Value::number), default) {
            (Some(Some(number)), _) => Ok(number),
            (None, Some(default)) => Ok(default),
            _ => Err(self.wrong(name, "a number")),
        }
    }

    fn count(&self, name: &str) -> Read<usize> {
        let value = self.get(name).and_then(Value::whole).and_then(|n| usize::try_from(n).ok());
        value.ok_or_else(|| self.wrong(name, "a whole number from 0"))
    }

    fn flag(&self, name: &str) -> Read<bool> {
        match self.get(name).map(|v| &v.kind) {
            None => Ok(false),
            Some(Kind::Bool(b)) => Ok(*b),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// A tuple of whole numbers; one number is a tuple of one.
    fn counts(&self, name: &str) -> Read<Vec<usize>> {
        let Some(value) = self.get(name) else { return Err(self.wrong(name, "whole numbers")) };
        let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let counts: Option<Vec<usize>> =
            items.iter().map(|v| v.whole().and_then(|n| usize::try_from(n).ok())).collect();
        counts.ok_or_else(|| self.wrong(name, "whole numbers such as (2, 3)"))
    }

    /// The same, where one number may be −1: what `elements` leave for it.
    fn filled_counts(&self, name: &str, elements: usize) -> Read<Vec<usize>> {
        let items = self.get(name).and_then(Value::items).unwrap_or_default();
        let open: Vec<usize> = (0..items.len()).filter(|i| items[*i].whole() == Some(-1)).collect();
        let [open] = open.as_slice() else { return self.counts(name) };
        let others: Option<usize> = (0..items.len())
            .filter(|i| i != open)
            .map(|i| items[i].whole().and_then(|n| usize::try_from(n).ok()))
            .try_fold(1_usize, |product, n| product.checked_mul(n?));
        let Some(others) = others.filter(|n| *n > 0) else {
            return Err(self.wrong(name, "whole numbers such as (2, -1)"));
        };
        // Where it does not come out even, the rule of `reshape` says so with both numbers.
        let fill = |i: usize| if i == *open { elements / others } else { items[i].whole().unwrap_or(0) as usize };
        Ok((0..items.len()).map(fill).collect())
    }

    /// Axes, counted from the end where negative, sorted; all of them where none are given.
    fn axes(&self, name: &str, rank: usize) -> Read<Vec<usize>> {
        let Some(value) = self.get(name) else { return Ok((0..rank).collect()) };
        let items = value.items().map_or_else(|| vec![value.clone()], <[Value]>::to_vec);
        let mut axes = Vec::new();
        for item in items {
            let axis = item.whole().ok_or_else(|| self.wrong(name, "an axis such as 1 or (1, 2)"))?;
            axes.push(self.axis_in(axis, rank, item.span)?);
        }
        axes.sort_unstable();
        Ok(axes)
    }

    fn axis(&self, rank: usize) -> Read<usize> {
        let axis = self.get("axis").and_then(Value::whole).ok_or_else(|| self.wrong("axis", "an axis such as 1"))?;
        self.axis_in(axis, rank, self.get("axis").map_or(self.span, |v| v.span))
    }

    fn axis_in(&self, axis: i64, rank: usize, span: Span) -> Read<usize> {
        let resolved = if axis < 0 { axis + rank as i64 } else { axis };
        if (0..rank as i64).contains(&resolved) {
            return Ok(resolved as usize);
        }
        Err(Diagnostic::new(Code::OutOfRange, format!("axis {axis} of a tensor with {rank} axes"))
            .label(span, "out of range")
            .help(format!("write an axis from 0 to {}", rank.saturating_sub(1))))
    }

    /// (height, width) of a patch or picture, from lengths or whole numbers.
    fn size(&self, name: &str) -> Read<(usize, usize)> {
        let side = |value: &Value| match value.kind {
            Kind::Pixels(n) | Kind::Int(n) if n > 0 => Some(n as usize),
            _ => None,
        };
        let size = self.get(name).and_then(|value| match value.items() {
            Some([height, width]) => Some((side(height)?, side(width)?)),
            Some(_) => None,
            None => side(value).map(|s| (s, s)),
        });
        size.ok_or_else(|| self.wrong(name, "a size such as 16px"))
    }

    /// Rows and columns of patches.
    fn grid(&self) -> Read<(usize, usize)> {
        match self.counts("grid")?.as_slice() {
            [rows, columns] if *rows > 0 && *columns > 0 => Ok((*rows, *columns)),
            _ => Err(self.wrong("grid", "rows and columns such as (14, 14)")),
        }
    }

    /// (low, high) of a range of numbers or ratios; a number is a range of one.
    fn range(&self, name: &str) -> Read<(f64, f64)> {
        let value = self.get(name);
        let range = value.and_then(|value| match &value.kind {
            Kind::Range(range) => Some((range.0.number()?, range.1.number()?)),
            _ => value.number().map(|n| (n, n)),
        });
        match range {
            Some((low, high)) if low <= high => Ok((low, high)),
            _ => Err(self.wrong(name, "a range such as 0.75..1.5")),
        }
    }

    fn block_mask(&self) -> Read<BlockMask> {
        let (rows, columns) = self.grid()?;
        let patches = (rows * columns) as f64;
        let wanted = "a count of patches, a range of ratios, or a list of such ranges";
        // A count stands for itself, a ratio for its share of the patches.
        let bounds = |value: &Value| -> Read<(f64, f64)> {
            let one = |value: &Value| match value.kind {
                Kind::Ratio(share) => Some(share * patches),
                Kind::Int(count) => Some(count as f64),
                _ => None,
            };
            let found = match &value.kind {
                Kind::Range(range) => one(&range.0).zip(one(&range.1)),
                _ => one(value).map(|n| (n, n)),
            };
            found.filter(|(low, high)| 0.0 <= *low && low <= high && *high < patches).ok_or_else(|| {
                Diagnostic::new(
                    Code::OutOfRange,
                    format!("`removed` of `op::block_mask` is {value}, a grid has {patches} patches"),
                )
                .label(value.span, "more than there are, or no count")
                .help("write a count such as `75`, or a range such as `10%..50%`")
            })
        };
        let removed = match self.get("removed") {
            Some(value) => match value.items() {
                Some(items) => items.iter().map(bounds).collect::<Read<Vec<_>>>()?,
                None => vec![bounds(value)?],
            },
            None => return Err(self.wrong("removed", wanted)),
        };
        if removed.is_empty() {
            return Err(self.wrong("removed", wanted));
        }
        let or = |name: &str, default: usize| if self.get(name).is_some() { self.count(name) } else { Ok(default) };
        let exact = self.flag("exact")?;
        let aspect = if self.get("aspect").is_some() { self.range("aspect")? } else { (0.3, 1.0 / 0.3) };
        let (min_patches, max_patches) = (or("min_patches", 16)?, or("max_patches", rows * columns)?);
        Ok(BlockMask { rows, columns, removed, min_patches, max_patches, aspect, exact })
    }

    fn multi_block(&self) -> Read<MultiBlock> {
        let (rows, columns) = self.grid()?;
        let blocks = MultiBlock {
            rows,
            columns,
            targets: self.count("targets")?,
            target_patches: self.count("target_patches")?,
            target_scale: self.range("target_scale")?,
            target_aspect: self.range("target_aspect")?,
            context_patches: self.count("context_patches")?,
            context_scale: self.range("context_scale")?,
            margin: if self.get("margin").is_some() { self.count("margin")? } else { 0 },
        };
        let (patches, least) = (rows * columns, blocks.target_patches + blocks.context_patches);
        if blocks.target_patches == 0 || blocks.context_patches == 0 || least > patches {
            let message = format!(
                "{} patches of a target and {} of the context do not fit a grid of {patches}",
                blocks.target_patches, blocks.context_patches
            );
            return Err(Diagnostic::new(Code::OutOfRange, message)
                .label(self.span, "in this call")
                .help("write smaller counts for `target_patches` and `context_patches`"));
        }
        Ok(blocks)
    }

    fn order(&self) -> Read<PatchOrder> {
        match self.get("order").map(|v| &v.kind) {
            None => Ok(PatchOrder::RowColumnChannel),
            Some(Kind::Str(text)) if &**text == "row_column_channel" => Ok(PatchOrder::RowColumnChannel),
            Some(Kind::Str(text)) if &**text == "channel_row_column" => Ok(PatchOrder::ChannelRowColumn),
            Some(_) => Err(self.wrong("order", "\"row_column_channel\" or \"channel_row_column\"")),
        }
    }
}

/// Calls an op of [`CALLS`] with one value for each parameter.
pub fn call(trace: &mut Trace, op: &str, values: &[Option<Value>], span: Span) -> Result<Tensor, Diagnostic> {
    let args = Args { op, names: signature(op).unwrap_or_default(), values, span };
    let unary = |trace: &mut Trace, op: Op| trace.emit(op, &[args.tensor("x")?], None, span);
    match op {
        "neg" => unary(trace, Op::Neg),
        "exp" => unary(trace, Op::Exp),
        "log" => unary(trace, Op::Log),
        "sqrt" => unary(trace, Op::Sqrt),
        "abs" => unary(trace, Op::Abs),
        "relu" => unary(trace, Op::Relu),
        "gelu" => unary(trace, Op::Gelu),
        "tanh" => unary(trace, Op::Tanh),
        "sigmoid" => unary(trace, Op::Sigmoid),
        "sin" => unary(trace, Op::Sin),
        "cos" => unary(trace, Op::Cos),
        "floor" => unary(trace, Op::Floor),
        "to_float" => unary(trace, Op::ToFloat),
        "to_int" => unary(trace, Op::ToInt),
        "softmax" => unary(trace, Op::Softmax),
        "log_softmax" => unary(trace, Op::LogSoftmax),
        "argmax" => unary(trace, Op::Argmax),
        "argsort" => unary(trace, Op::Argsort),
        "stop_gradient" => unary(trace, Op::StopGradient),
        "all_gather" => unary(trace, Op::AllGather),
        "pow" => {
            let value = args.float("exponent", None)?;
            unary(trace, Op::PowConst { value })
        }
        "l2_normalize" => {
            let eps = args.float("eps", Some(1e-12))?;
            unary(trace, Op::L2Normalize { eps })
        }
        "maximum" | "minimum" | "less" | "equal" | "atan2" => {
            let kind = match op {
                "maximum" => Op::Maximum,
                "minimum" => Op::Minimum,
                "atan2" => Op::Atan2,
                "less" => Op::Less,
                _ => Op::Equal,
            };
            let operand = |name: &str| {
                args.get(name).and_then(Operand::of).ok_or_else(|| args.wrong(name, "a tensor or a number"))
            };
            let (first, second) = if op == "atan2" { ("y", "x") } else { ("a", "b") };
            let [a, b] = trace.pair(operand(first)?, operand(second)?, op, span)?;
            trace.emit(kind, &[a, b], None, span)
        }
        "select" => {
            let operand = |name: &str| {
                args.get(name).and_then(Operand::of).ok_or_else(|| args.wrong(name, "a tensor or a number"))
            };
            let condition = args.tensor("condition")?;
            let to_shape = |trace: &mut Trace, operand: Operand| -> Read<(Tensor, Span)> {
                let like = Operand::Tensor(condition.0.clone(), condition.1);
                let [_, value] = trace.pair(like, operand, "select", span)?;
                Ok(value)
            };
            let a = to_shape(trace, operand("a")?)?;
            let b = to_shape(trace, operand("b")?)?;
            trace.emit(Op::Select, &[condition, a, b], None, span)
        }
        "sum" | "mean" => {
            let x = args.tensor("x")?;
            let (axes, keep) = (args.axes("axis", x.0.ty.shape.len())?, args.flag("keep")?);
            let op = if op == "sum" { Op::Sum { axes, keep } } else { Op::Mean { axes, keep } };
            trace.emit(op, &[x], None, span)
        }
        "reshape" | "broadcast" => {
            let x = args.tensor("x")?;
            let shape =
                if op == "reshape" { args.filled_counts("shape", x.0.ty.elements())? } else { args.counts("shape")? };
            let ty = Type { dtype: x.0.ty.dtype, shape };
            let op = if op == "reshape" { Op::Reshape } else { Op::Broadcast };
            trace.emit(op, &[x], Some(ty), span)
        }
        "permute" => {
            let x = args.tensor("x")?;
            trace.emit(Op::Permute { axes: args.counts("axes")? }, &[x], None, span)
        }
        "slice" => {
            let x = args.tensor("x")?;
            let axis = args.axis(x.0.ty.shape.len())?;
            trace.emit(Op::Slice { axis, start: args.count("start")?, end: args.count("end")? }, &[x], None, span)
        }
        "concat" => {
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
                _ => trace.emit(Op::Concat { axis: args.axis(rank)? }, &tensors, None, span),
            }
        }
        "matmul" => {
            let op = Op::Matmul { transpose_b: args.flag("transpose_b")? };
            trace.emit(op, &[args.tensor("a")?, args.tensor("b")?], None, span)
        }
        "linear" => {
            let mut operands = vec![args.tensor("x")?, args.tensor("weight")?];
            operands.extend(args.maybe_tensor("bias")?);
            trace.emit(Op::Linear, &operands, None, span)
        }
        "attention" => {
            let mut operands = vec![args.tensor("q")?, args.tensor("k")?, args.tensor("v")?];
            operands.extend(args.maybe_tensor("bias")?);
            trace.emit(Op::Attention { scale: args.float("scale", None)? }, &operands, None, span)
        }
        "conv2d" => {
            let mut operands = vec![args.tensor("x")?, args.tensor("weight")?];
            operands.extend(args.maybe_tensor("bias")?);
            let or = |name: &str, default: usize| if args.get(name).is_some() { args.count(name) } else { Ok(default) };
            let op = Op::Conv2d { stride: or("stride", 1)?, padding: or("padding", 0)?, groups: or("groups", 1)? };
            trace.emit(op, &operands, None, span)
        }
        "layer_norm" | "batch_norm" => {
            let eps = args.float("eps", Some(if op == "layer_norm" { 1e-6 } else { 1e-5 }))?;
            let mut operands = vec![args.tensor("x")?];
            operands.extend(args.maybe_tensor("weight")?);
            operands.extend(args.maybe_tensor("bias")?);
            let op = if op == "layer_norm" { Op::LayerNorm { eps } } else { Op::BatchNorm { eps } };
            trace.emit(op, &operands, None, span)
        }
        "cross_entropy" => trace.emit(Op::CrossEntropy, &[args.tensor("logits")?, args.tensor("ids")?], None, span),
        "patchify" => {
            let images = args.tensor("images")?;
            trace.emit(Op::Patchify { patch: args.size("patch")?, order: args.order()? }, &[images], None, span)
        }
        "unpatchify" => {
            let patches = args.tensor("patches")?;
            let (height, width) = args.size("size")?;
            let batch = patches.0.ty.shape.first().copied().unwrap_or(1);
            let ty = Type::float([batch, args.count("channels")?, height, width]);
            trace.emit(Op::Unpatchify { patch: args.size("patch")?, order: args.order()? }, &[patches], Some(ty), span)
        }
        "gather_tokens" => trace.emit(Op::GatherTokens, &[args.tensor("x")?, args.tensor("ids")?], None, span),
        "one_hot" => trace.emit(Op::OneHot { classes: args.count("classes")? }, &[args.tensor("ids")?], None, span),
        "iota" => trace.emit(Op::Iota, &[], Some(Type::int([args.count("count")?])), span),
        "full" => {
            let ty = Type::float(args.counts("shape")?);
            trace.emit(Op::Full { value: args.float("value", None)? }, &[], Some(ty), span)
        }
        "resize_weights" => {
            let (from, to) = (args.count("from")?, args.count("to")?);
            trace.emit(Op::ResizeWeights { from, to }, &[], Some(Type::float([to, from])), span)
        }
        "noise" => {
            let ty = Type::float([trace.batch, args.count("count")?]);
            trace.input("noise", InputKind::Noise, ty, span)
        }
        "random" => {
            let ty = Type::float(args.counts("shape")?);
            trace.input("random", InputKind::Random, ty, span)
        }
        "block_mask" => {
            let mask = args.block_mask()?;
            let ty = Type::float([trace.batch, mask.rows * mask.columns]);
            trace.input("block", InputKind::BlockMask(mask), ty, span)
        }
        "multi_block" => {
            let blocks = args.multi_block()?;
            let ty = Type::int([trace.batch, blocks.context_patches + blocks.targets * blocks.target_patches]);
            trace.input("blocks", InputKind::MultiBlock(blocks), ty, span)
        }
        _ => Err(Diagnostic::new(Code::UnknownName, format!("there is no `op::{op}`")).label(span, "not known")),
    }
}
