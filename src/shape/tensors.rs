//! What expressions ask of tensors, answered by the trace.

use super::calls;
use super::trace::{Operand, Trace, TypedInitial};
use crate::decl::InputKind;
use crate::diag::{Code, Diagnostic};
use crate::elab::{Dims, Kind, Tensor, Tensors, Value, View};
use crate::op::{Op, Type};
use crate::source::Span;
use crate::spec::Schedule;
use crate::syntax::ast::BinaryOp;

impl Trace {
    /// Name and shape of a view's pictures.
    fn pictures(&self, view: &View, span: Span) -> Result<(String, Type), Diagnostic> {
        let spec = &view.spec;
        let (Some((height, width)), true) = (spec.size, spec.normalized) else {
            let (what, help) = if spec.size.is_none() {
                let help = "give it a size before `normalize`: `|> random_resized_crop(224px)`, or `|> resize(256px) |> center_crop(224px)`";
                ("has no fixed size", help.to_owned())
            } else {
                let statistics = if spec.channels == 3 { "imagenet" } else { "mean: 0.5, std: 0.5" };
                ("is not normalized", format!("end it with `|> normalize({statistics})`"))
            };
            return Err(Diagnostic::new(Code::ViewOrder, format!("the view `{}` {what}", spec.name))
                .label(span, "used as a tensor here")
                .label(view.span, "defined here")
                .help(help));
        };
        Ok((spec.name.clone(), Type::float([self.batch, spec.channels, height, width])))
    }

    /// Refuses what only batches of training bring.
    pub(super) fn in_training(&self, op: &str, span: Span) -> Result<(), Diagnostic> {
        if self.training {
            return Ok(());
        }
        Err(Diagnostic::new(Code::NotCallable, format!("`{op}` is a matter of training, and this is evaluated"))
            .label(span, "evaluated too")
            .help("choose by the mode, as in `op::beside(views.x) if training else views.x`; losses are of training alone"))
    }
}

impl Trace {
    /// Where `op` holds of the operands 1, else 0. All comparisons are made of two ops, which every backend has; NaN is unequal to
    /// everything and neither less nor more.
    fn compared(&mut self, op: BinaryOp, a: Operand, b: Operand, span: Span) -> Result<Value, Diagnostic> {
        let name = if matches!(op, BinaryOp::Equal | BinaryOp::NotEqual) { "equal" } else { "less" };
        let [a, b] = self.pair(a, b, name, span)?;
        let (low, high) = if matches!(op, BinaryOp::Greater | BinaryOp::GreaterEqual) { (b, a) } else { (a, b) };
        let mut emit = |op: Op, operands: &[(Tensor, Span)]| self.emit(op, operands, None, span);
        let holds = match op {
            BinaryOp::Equal => emit(Op::Equal, &[low, high])?,
            BinaryOp::NotEqual => {
                let equal = emit(Op::Equal, &[low, high])?;
                let negated = emit(Op::Neg, &[(equal, span)])?;
                emit(Op::AddConst { value: 1.0 }, &[(negated, span)])?
            }
            BinaryOp::LessEqual | BinaryOp::GreaterEqual => {
                let less = emit(Op::Less, &[low.clone(), high.clone()])?;
                let equal = emit(Op::Equal, &[low, high])?;
                emit(Op::Add, &[(less, span), (equal, span)])?
            }
            _ => emit(Op::Less, &[low, high])?,
        };
        Ok(Value::new(Kind::Tensor(holds), span))
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
                    BinaryOp::Less
                    | BinaryOp::LessEqual
                    | BinaryOp::Greater
                    | BinaryOp::GreaterEqual
                    | BinaryOp::Equal
                    | BinaryOp::NotEqual => return self.compared(op, a, b, span),
                    BinaryOp::Rem | BinaryOp::And | BinaryOp::Or => {
                        let help = match op {
                            BinaryOp::Rem => "write `a - b * op::floor(a / b)`",
                            BinaryOp::And => "comparisons give 1 and 0: write `(a < b) * (c < d)`",
                            _ => "comparisons give 1 and 0: write `op::maximum(a < b, c < d)`",
                        };
                        return Err(Diagnostic::new(
                            Code::BadOperands,
                            format!("`{}` is not an operation on tensors", op.symbol()),
                        )
                        .label(span, "here")
                        .help(help));
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
        let (name, ty) = self.pictures(view, span)?;
        self.shared_input(format!("views.{name}"), InputKind::View { view: name }, ty, span)
    }

    fn beside(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic> {
        self.in_training("op::beside", span)?;
        let (name, ty) = self.pictures(view, span)?;
        self.shared_input(format!("beside.{name}"), InputKind::Beside { view: name }, ty, span)
    }

    fn geometry(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic> {
        let (view, ty) = (view.spec.name.clone(), Type::float([self.batch, 5]));
        self.shared_input(format!("geometry.{view}"), InputKind::Geometry { view }, ty, span)
    }

    fn label_map(&mut self, view: &View, classes: usize, span: Span) -> Result<Tensor, Diagnostic> {
        let (view, ty) = self.pictures(view, span)?;
        let ty = Type::int([ty.shape[0], ty.shape[2], ty.shape[3]]);
        self.shared_input(format!("label_map.{view}"), InputKind::LabelMap { view, classes }, ty, span)
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
