//! The trace: every op that an expression calls becomes a typed value with the place that it was written.
//!
//! **Invariant:** a value's type is what `op::shape::infer` says of its operands; nothing is typed by hand.

use crate::decl::{InputDecl, InputKind};
use crate::diag::{Code, Diagnostic};
use crate::elab::{Dims, Kind, Tensor, Value};
use crate::op::{Op, Type, shape};
use crate::source::Span;

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
    pub(super) training: bool,
    pub(super) scope: Vec<String>,
    /// Leaves made already, so that a parameter or view is one value however often it is read.
    pub(super) leaves: std::collections::HashMap<String, Tensor>,
    /// Inputs of each name that a place gave so far.
    numbered: std::collections::HashMap<String, usize>,
    /// Of all inputs.
    names: std::collections::HashSet<String>,
    /// Of all values.
    elements: usize,
    flops: u64,
}

/// Values of one mode; the largest pipeline has five thousand.
const MAX_VALUES: usize = 100_000;
/// Numbers that all values of one mode hold: 2⁴⁶, so that sums of bytes stay below 2⁶³ with their gradients.
const MAX_HELD: usize = 1 << 46;
/// Floating-point operations of one forward pass: 2⁶⁰, minutes of the fastest machine there is.
const MAX_FLOPS: u64 = 1 << 60;

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
                self.account(&op, &types, &ty, span)?;
                let id = self.nodes.len() as u32;
                let inputs = operands.iter().map(|(t, _)| t.id).collect();
                self.nodes.push(TypedNode { op, inputs, ty: ty.clone(), scope: self.scope_path() });
                Ok(Tensor { id, ty })
            }
            Err(error) => {
                let name = op.name();
                let mut diagnostic = Diagnostic::new(error.code, format!("`{name}`: {}", error.message))
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

    /// Counts a value, what it holds and what it costs, against what no run needs.
    fn account(&mut self, op: &Op, operands: &[&Type], ty: &Type, span: Span) -> Result<(), Diagnostic> {
        self.elements = self.elements.saturating_add(ty.elements());
        self.flops = self.flops.saturating_add(shape::flops(op, operands, ty));
        let (found, what, help) = match () {
            () if self.nodes.len() >= MAX_VALUES => (
                format!("more than {MAX_VALUES} values"),
                "values",
                "repeat fewer blocks, or let loops run over fewer items",
            ),
            () if self.elements > MAX_HELD => (
                format!("{:.1e} numbers, {MAX_HELD:.1e} are the most", self.elements as f64),
                "numbers",
                "make sizes smaller",
            ),
            () if self.flops > MAX_FLOPS => (
                format!("{:.1e} operations, {MAX_FLOPS:.1e} are the most", self.flops as f64),
                "operations",
                "make sizes smaller",
            ),
            () => return Ok(()),
        };
        Err(Diagnostic::new(Code::GraphTooLarge, format!("a step computes {found}"))
            .label(span, format!("too many {what} here"))
            .help(help))
    }

    pub(super) fn scope_path(&self) -> String {
        self.scope.last().cloned().unwrap_or_default()
    }

    pub(super) fn leaf(&mut self, key: String, op: Op, ty: Type, span: Span) -> Result<Tensor, Diagnostic> {
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
    pub(super) fn shared_input(
        &mut self,
        name: String,
        kind: InputKind,
        ty: Type,
        span: Span,
    ) -> Result<Tensor, Diagnostic> {
        let known = self.inputs.iter().find(|i| i.kind == kind && i.ty == ty).map(|i| i.name.clone());
        let name = known.unwrap_or_else(|| {
            let name = self.free_name(name);
            self.inputs.push(InputDecl { name: name.clone(), kind, ty: ty.clone() });
            self.places.push((name.clone(), span));
            name
        });
        self.leaf(name.clone(), Op::Input { name }, ty, span)
    }

    /// `base`, or with the first number behind it that no input has.
    pub(super) fn free_name(&mut self, base: String) -> String {
        let last = self.numbered.entry(base.clone()).or_insert(0);
        *last += 1;
        let mut name = if *last == 1 { base.clone() } else { format!("{base}{last}") };
        while !self.names.insert(name.clone()) {
            *last += 1;
            name = format!("{base}{last}");
        }
        name
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
