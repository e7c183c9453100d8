//! Ops of StableHLO as methods: each knows the type of its result.
//!
//! What is said of an op's edges (a reduction that drops NaN, an id out of range) is what plugins do, found by running them.

use super::text::{Function, Region, Scalar, TensorType, Value, axes, number, sizes};

/// How two values are compared. With NaN only `Ne` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Order::Lt => "LT",
            Order::Le => "LE",
            Order::Gt => "GT",
            Order::Ge => "GE",
            Order::Eq => "EQ",
            Order::Ne => "NE",
        }
    }
}

/// What a reduction does with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    Sum,
    /// Drops NaN where other values are.
    Greatest,
    Least,
    /// Of truths.
    All,
}

impl Reduction {
    fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "stablehlo.add",
            Reduction::Greatest => "stablehlo.maximum",
            Reduction::Least => "stablehlo.minimum",
            Reduction::All => "stablehlo.and",
        }
    }

    /// What changes no result.
    fn initial(self, scalar: Scalar) -> String {
        match (self, scalar.is_float()) {
            (Reduction::Sum, _) => number(0.0, scalar),
            (Reduction::All, _) => number(1.0, scalar),
            (Reduction::Greatest, true) => number(f64::NEG_INFINITY, scalar),
            (Reduction::Least, true) => number(f64::INFINITY, scalar),
            (Reduction::Greatest, false) => i64::MIN.to_string(),
            (Reduction::Least, false) => i64::MAX.to_string(),
        }
    }
}

/// Axes of a product's operands: those that run beside one another, and those that are summed over.
#[derive(Debug, Clone, Copy)]
pub struct Contraction<'a> {
    pub batch: [&'a [usize]; 2],
    pub over: [usize; 2],
}

/// `compare_type` of values that are no floats in a total order.
fn compare_type(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::F32 | Scalar::F64 | Scalar::Bf16 => "FLOAT",
        Scalar::I64 => "SIGNED",
        Scalar::U32 | Scalar::U8 | Scalar::I1 => "UNSIGNED",
    }
}

/// Full precision of f32 operands too, for which accelerators else use fewer bits. Operands of bf16 have no more.
pub(super) fn precision(scalar: Scalar) -> String {
    let name = if scalar == Scalar::Bf16 { "DEFAULT" } else { "HIGHEST" };
    format!("precision_config = [#stablehlo<precision {name}>, #stablehlo<precision {name}>]")
}

impl Function {
    /// Every element is `value`, rounded to the element type.
    pub fn constant(&mut self, value: f64, ty: &TensorType) -> Value {
        self.splat(&number(value, ty.scalar), ty)
    }

    fn splat(&mut self, value: &str, ty: &TensorType) -> Value {
        self.one("stablehlo.constant", &[], &format!("value = dense<{value}> : {ty}"), ty.clone())
    }

    /// These values, row by row.
    pub fn table(&mut self, values: &[f64], ty: &TensorType) -> Value {
        // The digits of a single value would be read as a splat's.
        if let [one] = values {
            return self.constant(*one, ty);
        }
        let mut digits = String::new();
        let mut byte = |byte: u8| digits.push_str(&format!("{byte:02X}"));
        for value in values {
            match ty.scalar {
                Scalar::F32 => (*value as f32).to_le_bytes().into_iter().for_each(&mut byte),
                Scalar::F64 => value.to_le_bytes().into_iter().for_each(&mut byte),
                other => unreachable!("no table of {}", other.name()),
            }
        }
        self.one("stablehlo.constant", &[], &format!("value = dense<\"0x{digits}\"> : {ty}"), ty.clone())
    }

    /// 0, 1, … along `axis`.
    pub fn iota(&mut self, shape: &[usize], axis: usize) -> Value {
        let ty = TensorType::new(shape, Scalar::I64);
        self.one("stablehlo.iota", &[], &format!("iota_dimension = {axis} : i64"), ty)
    }

    /// An op of one operand that keeps its type; `name` is StableHLO's.
    pub fn unary(&mut self, name: &str, x: &Value) -> Value {
        self.one(&format!("stablehlo.{name}"), &[x], "", x.ty.clone())
    }

    /// An op of two operands of one type that keeps it.
    pub fn binary(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        debug_assert_eq!(a.ty, b.ty, "{name}");
        self.one(&format!("stablehlo.{name}"), &[a, b], "", a.ty.clone())
    }

    pub fn add(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("add", a, b)
    }

    pub fn sub(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("subtract", a, b)
    }

    pub fn mul(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("multiply", a, b)
    }

    pub fn div(&mut self, a: &Value, b: &Value) -> Value {
        self.binary("divide", a, b)
    }

    /// x + `value`.
    pub fn plus(&mut self, x: &Value, value: f64) -> Value {
        let constant = self.constant(value, &x.ty);
        self.add(x, &constant)
    }

    /// x · `value`.
    pub fn times(&mut self, x: &Value, value: f64) -> Value {
        if value == 1.0 {
            return x.clone();
        }
        let constant = self.constant(value, &x.ty);
        self.mul(x, &constant)
    }

    pub fn compare(&mut self, a: &Value, order: Order, b: &Value) -> Value {
        let kind = compare_type(a.scalar());
        self.compare_as(a, order, b, kind)
    }

    /// A comparison in which NaN too has its place: see [`Function::sorted_places`].
    fn compare_as(&mut self, a: &Value, order: Order, b: &Value, kind: &str) -> Value {
        debug_assert_eq!(a.ty, b.ty);
        let attributes = format!(
            "comparison_direction = #stablehlo<comparison_direction {}>, compare_type = #stablehlo<comparison_type {kind}>",
            order.name()
        );
        self.one("stablehlo.compare", &[a, b], &attributes, TensorType::new(a.shape(), Scalar::I1))
    }

    /// [`Function::compare`] with one number.
    pub fn compare_to(&mut self, x: &Value, order: Order, value: f64) -> Value {
        let constant = self.constant(value, &x.ty);
        self.compare(x, order, &constant)
    }

    /// a where `truth` holds, else b.
    pub fn select(&mut self, truth: &Value, a: &Value, b: &Value) -> Value {
        debug_assert_eq!(a.ty, b.ty);
        self.one("stablehlo.select", &[truth, a, b], "", a.ty.clone())
    }

    pub fn convert(&mut self, x: &Value, scalar: Scalar) -> Value {
        if x.scalar() == scalar {
            return x.clone();
        }
        self.one("stablehlo.convert", &[x], "", TensorType::new(x.shape(), scalar))
    }

    /// Of each element whether it is neither NaN nor infinite.
    pub fn is_finite(&mut self, x: &Value) -> Value {
        self.one("stablehlo.is_finite", &[x], "", TensorType::new(x.shape(), Scalar::I1))
    }

    /// Whether every element is finite: one truth. Never by a greatest value, which NaN does not count for.
    pub fn all_finite(&mut self, x: &Value) -> Value {
        let truths = self.is_finite(x);
        let all: Vec<usize> = (0..x.rank()).collect();
        self.reduce(&truths, &all, Reduction::All)
    }

    pub fn reshape(&mut self, x: &Value, shape: &[usize]) -> Value {
        if x.shape() == shape {
            return x.clone();
        }
        self.one("stablehlo.reshape", &[x], "", TensorType::new(shape, x.scalar()))
    }

    /// Axis i of the result is axis `order[i]` of x.
    pub fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let shape: Vec<usize> = order.iter().map(|axis| x.shape()[*axis]).collect();
        let ty = TensorType::new(shape, x.scalar());
        self.one("stablehlo.transpose", &[x], &format!("permutation = {}", sizes(order)), ty)
    }

    /// Axis i of x goes to axis `to[i]` of the result, repeated where it has one value; other axes repeat the whole.
    pub fn broadcast(&mut self, x: &Value, shape: &[usize], to: &[usize]) -> Value {
        if x.shape() == shape {
            return x.clone();
        }
        let ty = TensorType::new(shape, x.scalar());
        self.one("stablehlo.broadcast_in_dim", &[x], &format!("broadcast_dimensions = {}", sizes(to)), ty)
    }

    /// A vector of the features of `like`, repeated to its shape.
    pub fn along_last(&mut self, x: &Value, like: &Value) -> Value {
        self.broadcast(x, like.shape(), &[like.rank() - 1])
    }

    /// What a reduction over `axes` has made of `like`, repeated to its shape.
    pub fn spread(&mut self, x: &Value, like: &Value, axes: &[usize]) -> Value {
        let kept: Vec<usize> = (0..like.rank()).filter(|axis| !axes.contains(axis)).collect();
        self.broadcast(x, like.shape(), &kept)
    }

    /// `starts..ends` of each axis.
    pub fn slice(&mut self, x: &Value, starts: &[usize], ends: &[usize]) -> Value {
        let shape: Vec<usize> = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
        if x.shape() == shape {
            return x.clone();
        }
        let attributes = format!(
            "start_indices = {}, limit_indices = {}, strides = {}",
            sizes(starts),
            sizes(ends),
            sizes(&vec![1; starts.len()])
        );
        self.one("stablehlo.slice", &[x], &attributes, TensorType::new(shape, x.scalar()))
    }

    pub fn concat(&mut self, parts: &[&Value], axis: usize) -> Value {
        if let [one] = parts {
            return (*one).clone();
        }
        let mut shape = parts[0].shape().to_vec();
        shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
        let ty = TensorType::new(shape, parts[0].scalar());
        self.one("stablehlo.concatenate", parts, &format!("dimension = {axis} : i64"), ty)
    }

    /// Over `axes`, which the result has no longer.
    pub fn reduce(&mut self, x: &Value, axes: &[usize], how: Reduction) -> Value {
        if axes.is_empty() {
            return x.clone();
        }
        let scalar = TensorType::new([], x.scalar());
        let initial = self.splat(&how.initial(x.scalar()), &scalar);
        let body = self.fold(how, &scalar);
        let kept = x.shape().iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, size)| *size);
        let ty = TensorType::new(kept.collect::<Vec<_>>(), x.scalar());
        let attributes = format!("dimensions = {}", sizes(axes));
        self.op("stablehlo.reduce", &[x, &initial], &attributes, &[body], &[ty]).remove(0)
    }

    /// The region that joins two values of a reduction.
    pub(super) fn fold(&mut self, how: Reduction, scalar: &TensorType) -> Region {
        self.region(&[scalar.clone(), scalar.clone()], |body, values| {
            vec![body.one(how.name(), &[&values[0], &values[1]], "", scalar.clone())]
        })
    }

    pub fn sum(&mut self, x: &Value, axes: &[usize]) -> Value {
        self.reduce(x, axes, Reduction::Sum)
    }

    pub fn mean(&mut self, x: &Value, axes: &[usize]) -> Value {
        let count: usize = axes.iter().map(|axis| x.shape()[*axis]).product();
        let sum = self.sum(x, axes);
        self.times(&sum, 1.0 / count as f64)
    }

    /// Σ a·b over the contracted axes. Axes of the result: batch, then the others of a, then those of b. Its element type is
    /// that of the sum: bf16 operands may add up in f32.
    pub fn dot(&mut self, a: &Value, b: &Value, how: Contraction<'_>, sum: Scalar) -> Value {
        let Contraction { batch, over } = how;
        let free = |x: &Value, side: usize| {
            let is_free = |axis: &usize| !batch[side].contains(axis) && *axis != over[side];
            (0..x.rank()).filter(is_free).map(|axis| x.shape()[axis]).collect::<Vec<_>>()
        };
        let mut shape: Vec<usize> = batch[0].iter().map(|axis| a.shape()[*axis]).collect();
        shape.extend(free(a, 0));
        shape.extend(free(b, 1));
        let attributes = format!(
            "dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = {}, rhs_batching_dimensions = {}, \
             lhs_contracting_dimensions = [{}], rhs_contracting_dimensions = [{}]>, {}",
            axes(batch[0]),
            axes(batch[1]),
            over[0],
            over[1],
            precision(a.scalar())
        );
        self.one("stablehlo.dot_general", &[a, b], &attributes, TensorType::new(shape, sum))
    }

    /// The lower factor of symmetric positive definite matrices; above it something. Without a factor NaN, or what a plugin makes.
    pub fn cholesky(&mut self, x: &Value) -> Value {
        self.one("stablehlo.cholesky", &[x], "lower = true", x.ty.clone())
    }

    /// y with lower · y = x, of what stands on and below the diagonal of `lower`.
    pub fn lower_solve(&mut self, lower: &Value, x: &Value) -> Value {
        let attributes = "left_side = true, lower = true, unit_diagonal = false, \
                          transpose_a = #stablehlo<transpose NO_TRANSPOSE>";
        self.one("stablehlo.triangular_solve", &[lower, x], attributes, x.ty.clone())
    }

    /// The places that put the last axis in ascending order, equal values in theirs: with −0 = 0, and NaN last.
    pub fn sorted_places(&mut self, x: &Value) -> Value {
        let axis = x.rank() - 1;
        // In the total order −0 comes before 0, and a negative NaN first. Chosen, not x + 0, which a compiler may take away.
        let (x, kind) = if x.scalar().is_float() {
            let (zero, nan) = (self.constant(0.0, &x.ty), self.constant(f64::NAN, &x.ty));
            let is_zero = self.compare(x, Order::Eq, &zero);
            let x = self.select(&is_zero, &zero, x);
            let is_nan = self.compare(&x, Order::Ne, &x);
            (self.select(&is_nan, &nan, &x), "TOTALORDER")
        } else {
            (x.clone(), compare_type(x.scalar()))
        };
        let places = self.iota(x.shape(), axis);
        let (one, place) = (TensorType::new([], x.scalar()), TensorType::new([], Scalar::I64));
        let arguments = [one.clone(), one, place.clone(), place];
        let body =
            self.region(&arguments, |body, values| vec![body.compare_as(&values[0], Order::Lt, &values[1], kind)]);
        let attributes = format!("dimension = {axis} : i64, is_stable = true");
        let types = [x.ty.clone(), places.ty.clone()];
        self.op("stablehlo.sort", &[&x, &places], &attributes, &[body], &types).remove(1)
    }

    /// Values that go round through `body` while `condition`, a truth, holds of them. Both may read all that was made before.
    pub fn repeat(
        &mut self,
        initial: &[&Value],
        condition: impl FnOnce(&mut Function, &[Value]) -> Value,
        body: impl FnOnce(&mut Function, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let types: Vec<TensorType> = initial.iter().map(|value| value.ty.clone()).collect();
        let condition = self.region(&types, |function, values| vec![condition(function, values)]);
        let body = self.region(&types, body);
        self.op("stablehlo.while", initial, "", &[condition, body], &types)
    }

    /// The values, of which no compiler may say that they were computed before.
    pub fn barrier(&mut self, values: &[&Value]) -> Vec<Value> {
        let types: Vec<TensorType> = values.iter().map(|value| value.ty.clone()).collect();
        self.op("stablehlo.optimization_barrier", values, "", &[], &types)
    }

    /// x as it lies in memory, in bf16: whatever reads it reads half of the bytes, and nothing computes it again instead.
    pub(super) fn stored(&mut self, x: &Value) -> Value {
        let rounded = self.convert(x, Scalar::Bf16);
        self.barrier(&[&rounded]).remove(0)
    }

    /// Σ over windows of `a` of products with `b`, as `how` says.
    pub(super) fn convolution(&mut self, a: &Value, b: &Value, how: &Convolution<'_>, result: TensorType) -> Value {
        let Convolution { dims, stride, input_dilation, kernel_dilation, reversed, padding, groups, batch_groups } =
            how;
        let both = |size: &usize| sizes(&[*size, *size]);
        let [[top, bottom], [left, right]] = padding;
        let attributes = format!(
            "window_strides = {}, padding = dense<[[{top}, {bottom}], [{left}, {right}]]> : tensor<2x2xi64>, \
             lhs_dilation = {}, rhs_dilation = {}, window_reversal = array<i1: {reversed}, {reversed}>, \
             dimension_numbers = #stablehlo.conv<{dims}>, feature_group_count = {groups} : i64, \
             batch_group_count = {batch_groups} : i64, {}",
            both(stride),
            both(input_dilation),
            both(kernel_dilation),
            precision(a.scalar())
        );
        self.one("stablehlo.convolution", &[a, b], &attributes, result)
    }

    /// The part of `x` of these sizes that begins at `starts`, one scalar of ids for each axis.
    pub fn dynamic_slice(&mut self, x: &Value, starts: &[&Value], lengths: &[usize]) -> Value {
        let operands: Vec<&Value> = [x].into_iter().chain(starts.iter().copied()).collect();
        let attributes = format!("slice_sizes = {}", sizes(lengths));
        let ty = TensorType::new(lengths, x.scalar());
        self.one("stablehlo.dynamic_slice", &operands, &attributes, ty)
    }

    /// `x` with `part` in the place that begins at `starts`.
    pub fn dynamic_update(&mut self, x: &Value, part: &Value, starts: &[&Value]) -> Value {
        let operands: Vec<&Value> = [x, part].into_iter().chain(starts.iter().copied()).collect();
        self.one("stablehlo.dynamic_update_slice", &operands, "", x.ty.clone())
    }
}

/// A convolution over two axes, or one that is a gradient of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution<'a> {
    /// Which axis is which: `[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]`.
    pub dims: &'a str,
    pub stride: usize,
    pub input_dilation: usize,
    pub kernel_dilation: usize,
    pub reversed: bool,
    /// Of each axis, before and behind; negative where values are left out.
    pub padding: [[i64; 2]; 2],
    pub groups: usize,
    pub batch_groups: usize,
}
