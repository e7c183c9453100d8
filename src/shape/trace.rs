//! The trace: every op that an expression calls becomes a typed value with the place that it was written.
//!
//! **Invariant:** a value's type is what `op::shape::infer` says of its operands; nothing is typed by hand.

use crate::decl::{InputDecl, InputKind};
use crate::diag::{Code, Diagnostic};
use crate::elab::{Dims, Kind, Tensor, Tensors, Value, View};
use crate::op::{Op, Type, shape};
use crate::source::Span;
use crate::spec::Schedule;
use crate::syntax::ast::BinaryOp;

use super::calls;

/// One typed value.
#[derive(Debug, Clone)]
pub struct TypedNode {
    pub op: Op,
    pub inputs: Vec<u32>,
    pub ty: Type,
    pub scope: String,
}

/// A state whose first value is the k-means of `value`.
#[derive(Debug, Clone)]
pub struct TypedInitial {
    pub path: String,
    pub value: u32,
    pub rounds: usize,
}

/// All values of one mode, in the order of evaluation.
#[derive(Debug, Default)]
pub struct Trace {
    pub nodes: Vec<TypedNode>,
    pub inputs: Vec<InputDecl>,
    /// Where each input that is shared was first asked for, by name.
    pub places: Vec<(String, Span)>,
    /// (state path, new value), in program order.
    pub updates: Vec<(String, u32)>,
    /// States whose first value comes from the first batch.
    pub initial: Vec<TypedInitial>,
    pub batch: usize,
    training: bool,
    scope: Vec<String>,
    /// Leaves made already, so that a parameter or view is one value however often it is read.
    leaves: std::collections::HashMap<String, Tensor>,
}

impl Trace {
    pub fn new(batch: usize, training: bool) -> Self {
        Trace { batch, training, ..Trace::default() }
    }

    /// Adds a value; `operands` carry the spans that an error labels.
    pub fn emit(
        &mut self,
        op: Op,
        operands: &[(Tensor, Span)],
        declared: Option<Type>,
        span: Span,
    ) -> Result<Tensor, Diagnostic> {
        let types: Vec<&Type> = operands.iter().map(|(t, _)| &t.ty).collect();
        match shape::infer(&op, &types, declared.as_ref()) {
            Ok(ty) => {
                let id = self.nodes.len() as u32;
                let inputs = operands.iter().map(|(t, _)| t.id).collect();
                self.nodes.push(TypedNode { op, inputs, ty: ty.clone(), scope: self.scope_path() });
                Ok(Tensor { id, ty })
            }
            Err(error) => {
                let name = op.name();
                let mut diagnostic = Diagnostic::new(Code::OpShape, format!("`{name}`: {}", error.message))
                    .label(span, "in this operation");
                for index in error.operands {
                    if let Some((tensor, at)) = operands.get(index) {
                        diagnostic = diagnostic.label(*at, format!("this is {}", Dims(&tensor.ty.shape)));
                    }
                }
                Err(diagnostic.maybe_help(error.help))
            }
        }
    }

    fn scope_path(&self) -> String {
        self.scope.last().cloned().unwrap_or_default()
    }

    fn leaf(&mut self, key: String, op: Op, ty: Type, span: Span) -> Result<Tensor, Diagnostic> {
        if let Some(tensor) = self.leaves.get(&key) {
            return Ok(tensor.clone());
        }
        let tensor = self.emit(op, &[], Some(ty), span)?;
        self.leaves.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// A new input, named after the place that asks for it and after what it is.
    pub fn input(&mut self, what: &str, kind: InputKind, ty: Type, span: Span) -> Result<Tensor, Diagnostic> {
        let name = self.free_name(format!("{}.{what}", self.scope_path()));
        self.inputs.push(InputDecl { name: name.clone(), kind, ty: ty.clone() });
        self.emit(Op::Input { name }, &[], Some(ty), span)
    }

    /// The input that `kind` fills, declared where it is first read: known by what it is, never by its name alone. `name` is what it
    /// is called, with a number behind where another input has that name.
    fn shared_input(&mut self, name: String, kind: InputKind, ty: Type, span: Span) -> Result<Tensor, Diagnostic> {
        let known = self.inputs.iter().find(|i| i.kind == kind && i.ty == ty).map(|i| i.name.clone());
        let name = known.unwrap_or_else(|| {
            let name = self.free_name(name);
            self.inputs.push(InputDecl { name: name.clone(), kind, ty: ty.clone() });
            self.places.push((name.clone(), span));
            name
        });
        self.leaf(name.clone(), Op::Input { name }, ty, span)
    }

    fn free_name(&self, base: String) -> String {
        let taken = |name: &str| self.inputs.iter().any(|i| i.name == name);
        if !taken(&base) {
            return base;
        }
        (2..).map(|i| format!("{base}{i}")).find(|n| !taken(n)).expect("there are more numbers than inputs")
    }

    /// Repeats `tensor` to `shape` where it has another.
    pub fn broadcast(&mut self, tensor: &Tensor, shape: &[usize], at: Span, span: Span) -> Result<Tensor, Diagnostic> {
        if tensor.ty.shape == shape {
            return Ok(tensor.clone());
        }
        let ty = Type { dtype: tensor.ty.dtype, shape: shape.to_vec() };
        self.emit(Op::Broadcast, &[(tensor.clone(), at)], Some(ty), span)
    }

    /// Two operands brought to their common shape, axes aligned from the right.
    pub fn align(
        &mut self,
        left: (Tensor, Span),
        right: (Tensor, Span),
        what: &str,
        span: Span,
    ) -> Result<[(Tensor, Span); 2], Diagnostic> {
        let (a, b) = (&left.0.ty.shape, &right.0.ty.shape);
        let rank = a.len().max(b.len());
        let dim = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
        let mut common = Vec::with_capacity(rank);
        for i in 0..rank {
            let (x, y) = (dim(a, i), dim(b, i));
            if x != y && x != 1 && y != 1 {
                let message = format!("`{what}` joins {} and {}, whose sizes {x} and {y} differ", Dims(a), Dims(b));
                return Err(Diagnostic::new(Code::OpShape, message)
                    .label(span, "in this operation")
                    .label(left.1, format!("this is {}", Dims(a)))
                    .label(right.1, format!("this is {}", Dims(b))));
            }
            common.push(x.max(y));
        }
        Ok([
            (self.broadcast(&left.0, &common, left.1, span)?, left.1),
            (self.broadcast(&right.0, &common, right.1, span)?, right.1),
        ])
    }
}

/// A tensor operand with its span, or a number.
pub enum Operand {
    Tensor(Tensor, Span),
    Number(f64),
}

impl Operand {
    pub fn of(value: &Value) -> Option<Operand> {
        match &value.kind {
            Kind::Tensor(tensor) => Some(Operand::Tensor(tensor.clone(), value.span)),
            _ => value.number().map(Operand::Number),
        }
    }
}

impl Tensors for Trace {
    fn signature(&self, op: &str) -> Option<&'static [&'static str]> {
        calls::signature(op)
    }

    fn op_names(&self) -> Vec<&'static str> {
        calls::names()
    }

    fn call(&mut self, op: &str, args: Vec<Option<Value>>, span: Span) -> Result<Value, Diagnostic> {
        let tensor = calls::call(self, op, &args, span)?;
        Ok(Value::new(Kind::Tensor(tensor), span))
    }

    fn binary(&mut self, op: BinaryOp, left: &Value, right: &Value, span: Span) -> Result<Value, Diagnostic> {
        let bad = |value: &Value| {
            Diagnostic::new(
                Code::NotATensor,
                format!("`{}` wants tensors or numbers, found {}", op.symbol(), value.describe()),
            )
            .label(value.span, format!("this is {}", value.describe()))
        };
        let a = Operand::of(left).ok_or_else(|| bad(left))?;
        let b = Operand::of(right).ok_or_else(|| bad(right))?;
        let one = |trace: &mut Trace, op: Op, t: Tensor, at: Span| trace.emit(op, &[(t, at)], None, span);
        let tensor = match (op, a, b) {
            (BinaryOp::Add, Operand::Tensor(t, at), Operand::Number(value))
            | (BinaryOp::Add, Operand::Number(value), Operand::Tensor(t, at)) => {
                one(self, Op::AddConst { value }, t, at)?
            }
            (BinaryOp::Sub, Operand::Tensor(t, at), Operand::Number(value)) => {
                one(self, Op::AddConst { value: -value }, t, at)?
            }
            (BinaryOp::Sub, Operand::Number(value), Operand::Tensor(t, at)) => {
                let negated = one(self, Op::Neg, t, at)?;
                one(self, Op::AddConst { value }, negated, at)?
            }
            (BinaryOp::Mul, Operand::Tensor(t, at), Operand::Number(value))
            | (BinaryOp::Mul, Operand::Number(value), Operand::Tensor(t, at)) => {
                one(self, Op::MulConst { value }, t, at)?
            }
            (BinaryOp::Div, Operand::Tensor(t, at), Operand::Number(value)) => {
                if value == 0.0 {
                    return Err(Diagnostic::new(Code::BadOperands, "a tensor is divided by zero")
                        .label(right.span, "this is zero"));
                }
                one(self, Op::MulConst { value: 1.0 / value }, t, at)?
            }
            (BinaryOp::Div, Operand::Number(value), Operand::Tensor(t, at)) => {
                let inverse = one(self, Op::PowConst { value: -1.0 }, t, at)?;
                one(self, Op::MulConst { value }, inverse, at)?
            }
            (_, a, b) => {
                let op = match op {
                    BinaryOp::Add => Op::Add,
                    BinaryOp::Sub => Op::Sub,
                    BinaryOp::Mul => Op::Mul,
                    BinaryOp::Div => Op::Div,
                    BinaryOp::Less => Op::Less,
                    BinaryOp::Equal => Op::Equal,
                    BinaryOp::Rem
                    | BinaryOp::NotEqual
                    | BinaryOp::LessEqual
                    | BinaryOp::Greater
                    | BinaryOp::GreaterEqual
                    | BinaryOp::And
                    | BinaryOp::Or => {
                        return Err(Diagnostic::new(
                            Code::BadOperands,
                            format!("`{}` is not an operation on tensors", op.symbol()),
                        )
                        .label(span, "here")
                        .help("tensors know `+ - * / < ==` and the operations of `op::`"));
                    }
                };
                let [a, b] = self.pair(a, b, op.name(), span)?;
                self.emit(op, &[a, b], None, span)?
            }
        };
        Ok(Value::new(Kind::Tensor(tensor), span))
    }

    fn index(&mut self, tensor: &Tensor, index: i64, span: Span) -> Result<Value, Diagnostic> {
        let Some((first, rest)) = tensor.ty.shape.split_first() else {
            return Err(Diagnostic::new(Code::OpShape, "a scalar has no items").label(span, "indexed here"));
        };
        let start = if index < 0 { *first as i64 + index } else { index };
        if start < 0 || start >= *first as i64 {
            return Err(Diagnostic::new(Code::OutOfRange, format!("index {index} of {first} items"))
                .label(span, "out of range")
                .help(format!("write an index from 0 to {}", first.saturating_sub(1))));
        }
        let start = start as usize;
        let slice = Op::Slice { axis: 0, start, end: start + 1 };
        let item = self.emit(slice, &[(tensor.clone(), span)], None, span)?;
        let ty = Type { dtype: tensor.ty.dtype, shape: rest.to_vec() };
        let item = self.emit(Op::Reshape, &[(item, span)], Some(ty), span)?;
        Ok(Value::new(Kind::Tensor(item), span))
    }

    fn stored(&mut self, path: &str, ty: &Type, span: Span) -> Result<Tensor, Diagnostic> {
        self.leaf(format!("param {path}"), Op::Param { path: path.to_owned() }, ty.clone(), span)
    }

    fn view(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic> {
        let spec = &view.spec;
        let (Some((height, width)), true) = (spec.size, spec.normalized) else {
            let (what, help) = if spec.size.is_none() {
                ("has no fixed size", "end it with `random_resized_crop(…)` or `center_crop(…)`, then `normalize(…)`")
            } else {
                ("is not normalized", "end it with `normalize(imagenet)`, or `normalize(mean: …, std: …)`")
            };
            return Err(Diagnostic::new(Code::ViewOrder, format!("the view `{}` {what}", spec.name))
                .label(span, "used as a tensor here")
                .label(view.span, "defined here")
                .help(help));
        };
        let name = format!("views.{}", spec.name);
        let ty = Type::float([self.batch, spec.channels, height, width]);
        self.shared_input(name, InputKind::View { view: spec.name.clone() }, ty, span)
    }

    fn geometry(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic> {
        let (view, ty) = (view.spec.name.clone(), Type::float([self.batch, 5]));
        self.shared_input(format!("geometry.{view}"), InputKind::Geometry { view }, ty, span)
    }

    fn schedule(&mut self, schedule: &Schedule, span: Span) -> Result<Tensor, Diagnostic> {
        if !self.training {
            // What is evaluated sees the number that training ends with.
            return self.emit(Op::Full { value: schedule.last() }, &[], Some(Type::float([])), span);
        }
        let name = format!("schedule.{}", self.scope_path());
        self.shared_input(name, InputKind::Schedule(schedule.clone()), Type::float([]), span)
    }

    fn update(&mut self, path: &str, value: &Tensor, span: Span) -> Result<(), Diagnostic> {
        let value = self.emit(Op::StopGradient, &[(value.clone(), span)], None, span)?;
        // In program order: a later reading, as by a second call of the same module, sees the new value.
        self.updates.retain(|(updated, _)| updated != path);
        self.updates.push((path.to_owned(), value.id));
        self.leaves.insert(format!("param {path}"), value);
        Ok(())
    }

    fn initial(
        &mut self,
        path: &str,
        state: &Type,
        value: &Tensor,
        rounds: usize,
        span: Span,
    ) -> Result<(), Diagnostic> {
        let (wanted, found) = (&state.shape, &value.ty.shape);
        let ([centres, width], rows) = (wanted.as_slice(), value.ty.elements() / found.last().copied().unwrap_or(1))
        else {
            return Err(Diagnostic::new(Code::OpShape, format!("k-means fills [K, D], the state is {}", Dims(wanted)))
                .label(span, "this state"));
        };
        if found.last() != Some(width) || rows < *centres {
            let message = format!("{centres} centres of width {width} cannot come from {}", Dims(found));
            return Err(Diagnostic::new(Code::OpShape, message).label(span, format!("this is {}", Dims(wanted))).help(
                format!("a batch must give {centres} rows or more: raise `data.batch_size`, or lower the count"),
            ));
        }
        // A second call of the same module finds the state as the first leaves it.
        if self.training && !self.initial.iter().any(|i| i.path == path) {
            self.initial.push(TypedInitial { path: path.to_owned(), value: value.id, rounds });
        }
        Ok(())
    }

    fn enter(&mut self, name: &str) {
        self.scope.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.scope.pop();
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

impl Trace {
    /// Two operands as tensors of one shape; a number becomes a constant of the other's shape.
    pub fn pair(&mut self, a: Operand, b: Operand, what: &str, span: Span) -> Result<[(Tensor, Span); 2], Diagnostic> {
        let constant = |trace: &mut Trace, value: f64, like: &Tensor| {
            let ty = Type::float(like.ty.shape.clone());
            trace.emit(Op::Full { value }, &[], Some(ty), span).map(|t| (t, span))
        };
        let float = |trace: &mut Trace, t: Tensor, at: Span| -> Result<(Tensor, Span), Diagnostic> {
            // A number beside ids compares as a float.
            if t.ty.dtype == crate::op::DType::Int {
                return trace.emit(Op::ToFloat, &[(t, at)], None, span).map(|t| (t, at));
            }
            Ok((t, at))
        };
        match (a, b) {
            (Operand::Tensor(a, at_a), Operand::Tensor(b, at_b)) => self.align((a, at_a), (b, at_b), what, span),
            (Operand::Tensor(a, at), Operand::Number(value)) => {
                let a = float(self, a, at)?;
                let b = constant(self, value, &a.0)?;
                Ok([a, b])
            }
            (Operand::Number(value), Operand::Tensor(b, at)) => {
                let b = float(self, b, at)?;
                let a = constant(self, value, &b.0)?;
                Ok([a, b])
            }
            (Operand::Number(_), Operand::Number(_)) => {
                Err(Diagnostic::new(Code::NotATensor, format!("`{what}` wants a tensor")).label(span, "two numbers"))
            }
        }
    }
}
