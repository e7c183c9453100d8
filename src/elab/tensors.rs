//! The seam between evaluation and the graph: what an expression may do with tensors.
//!
//! `shape` implements [`Tensors`] with a trace that types every value; everywhere else [`NoTensors`] says that a number
//! known before the run is wanted.

use std::any::Any;

use crate::diag::{Code, Diagnostic};
use crate::op::Type;
use crate::source::Span;
use crate::spec::Schedule;
use crate::syntax::ast::BinaryOp;

use super::value::{Tensor, Value, View};

/// Makes values of a graph. Operands of kind `Tensor` only: the machine resolves parameters and views first.
pub trait Tensors {
    /// Parameter names of `op::NAME`, in order; `?` ends those that may be left out.
    fn signature(&self, op: &str) -> Option<&'static [&'static str]>;
    /// All op names, for suggestions.
    fn op_names(&self) -> Vec<&'static str>;
    /// `op::NAME` with one value for each parameter of its signature.
    fn call(&mut self, op: &str, args: Vec<Option<Value>>, span: Span) -> Result<Value, Diagnostic>;
    fn binary(&mut self, op: BinaryOp, left: &Value, right: &Value, span: Span) -> Result<Value, Diagnostic>;
    /// Item `index` of the first axis.
    fn index(&mut self, tensor: &Tensor, index: i64, span: Span) -> Result<Value, Diagnostic>;
    fn stored(&mut self, path: &str, ty: &Type, span: Span) -> Result<Tensor, Diagnostic>;
    fn view(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic>;
    /// Where the picture of `view` lies in its source's.
    fn geometry(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic>;
    /// The pictures of `view`, each that of the sample before it.
    fn beside(&mut self, view: &View, span: Span) -> Result<Tensor, Diagnostic>;
    /// The class of each pixel of `view`, one of `classes`.
    fn label_map(&mut self, view: &View, classes: usize, span: Span) -> Result<Tensor, Diagnostic>;
    /// A number that changes over time, as it is at the step.
    fn schedule(&mut self, schedule: &Schedule, span: Span) -> Result<Tensor, Diagnostic>;
    /// The state at `path` starts as the centres that `rounds` of k-means find in `value` of the first batch.
    fn initial(
        &mut self,
        path: &str,
        state: &Type,
        value: &Tensor,
        rounds: usize,
        span: Span,
    ) -> Result<(), Diagnostic>;
    /// The state at `path` becomes `value` after the forward pass.
    fn update(&mut self, path: &str, value: &Tensor, span: Span) -> Result<(), Diagnostic>;
    /// What follows belongs to `name`, until [`leave`](Tensors::leave).
    fn enter(&mut self, name: &str);
    fn leave(&mut self);
    /// For getting the concrete trace back.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Outside branches, losses and evaluation there are no tensors.
pub struct NoTensors;

fn static_expected(span: Span) -> Diagnostic {
    Diagnostic::new(Code::StaticExpected, "a tensor stands where a value known before the run is wanted")
        .label(span, "this is computed during training")
        .help("use it in a `branch`, in `losses` or in `forward`")
}

impl Tensors for NoTensors {
    fn signature(&self, _: &str) -> Option<&'static [&'static str]> {
        None
    }
    fn op_names(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn call(&mut self, _: &str, _: Vec<Option<Value>>, span: Span) -> Result<Value, Diagnostic> {
        Err(static_expected(span))
    }
    fn binary(&mut self, _: BinaryOp, _: &Value, _: &Value, span: Span) -> Result<Value, Diagnostic> {
        Err(static_expected(span))
    }
    fn index(&mut self, _: &Tensor, _: i64, span: Span) -> Result<Value, Diagnostic> {
        Err(static_expected(span))
    }
    fn stored(&mut self, _: &str, _: &Type, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn view(&mut self, _: &View, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn geometry(&mut self, _: &View, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn beside(&mut self, _: &View, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn label_map(&mut self, _: &View, _: usize, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn schedule(&mut self, _: &Schedule, span: Span) -> Result<Tensor, Diagnostic> {
        Err(static_expected(span))
    }
    fn initial(&mut self, _: &str, _: &Type, _: &Tensor, _: usize, span: Span) -> Result<(), Diagnostic> {
        Err(static_expected(span))
    }
    fn update(&mut self, _: &str, _: &Tensor, span: Span) -> Result<(), Diagnostic> {
        Err(static_expected(span))
    }
    fn enter(&mut self, _: &str) {}
    fn leave(&mut self) {}
    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
