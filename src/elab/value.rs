//! Values of the language: what an expression evaluates to.
//!
//! **Invariant:** a value knows where it was written, so that an error can label the culprit and not only the place
//! where it did harm.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::decl::Init;
use crate::op::Type;
use crate::source::Span;
use crate::spec::{Clip, Duration, Optimizer, Schedule, SourceSpec, ViewOp, ViewSpec, WeightsSpec};
use crate::syntax::ast;

/// A value and the place that it comes from.
#[derive(Debug, Clone)]
pub struct Value {
    pub kind: Kind,
    pub span: Span,
    /// Of a number that is no whole one because a division did not come out even.
    pub quotient: Option<Rc<Quotient>>,
}

/// A division of whole numbers with a rest: a number like others, until a size or a count is wanted.
#[derive(Debug)]
pub struct Quotient {
    pub left: Value,
    pub right: Value,
    /// The operands as they were written.
    pub names: (String, String),
}

/// Index of a module instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModuleId(pub usize);

/// A value of the graph under construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub id: u32,
    pub ty: Type,
}

#[derive(Debug, Clone)]
pub enum Kind {
    None,
    Int(i64),
    Float(f64),
    Ratio(f64),
    Pixels(i64),
    Duration(Duration),
    Bool(bool),
    Str(Arc<str>),
    Range(Rc<(Value, Value)>),
    Tuple(Rc<Vec<Value>>),
    List(Rc<Vec<Value>>),
    Record(Rc<Vec<(Arc<str>, Value)>>),
    /// Names without values of their own: `adamw`, `normalize`, `op::linear`.
    Builtin(Arc<str>),
    Block(Rc<Definition<ast::Block>>),
    Function(Rc<Definition<ast::Function>>),
    Module(ModuleId),
    /// A repeated module.
    Modules(Rc<Vec<ModuleId>>),
    /// A module that is left out: it passes its input through.
    Absent,
    /// A parameter or state by path; becomes a tensor where it is read.
    Stored(Rc<str>, Type),
    Tensor(Tensor),
    /// A source before `data` gives it a name.
    NewSource(SourceSpec),
    /// A data source by name.
    Source(Arc<str>),
    /// A view by index.
    View(usize),
    /// Steps of a view without a source.
    Recipe(Rc<Vec<Step>>),
    Schedule(Schedule),
    /// A schedule whose numbers are meant for a batch of that size.
    SchedulePer(Schedule, f64),
    Optimizer(Optimizer),
    Clip(Clip),
    /// What a module begins with.
    Weights(Rc<WeightsSpec>),
    Init(Init),
    /// What a state starts from: the centres of a tensor's rows, found in that many rounds.
    KMeans(Tensor, usize),
    /// An error that was reported where it arose.
    Poison,
}

/// One step of a view and where it was written.
#[derive(Debug, Clone)]
pub struct Step {
    pub op: ViewOp,
    pub span: Span,
}

/// A view under construction or done; views without a name are pieces of a longer chain.
#[derive(Debug, Clone)]
pub struct View {
    pub spec: ViewSpec,
    pub span: Span,
}

/// An item together with the file whose names it sees.
#[derive(Debug)]
pub struct Definition<T> {
    pub item: Arc<T>,
    pub file: crate::source::SourceId,
}

impl Value {
    pub fn new(kind: Kind, span: Span) -> Self {
        Value { kind, span, quotient: None }
    }

    /// What kind of thing it is, with its article, for messages.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::None => "none".into(),
            Kind::Int(_) | Kind::Float(_) => format!("the number {self}"),
            Kind::Ratio(_) => format!("the ratio {self}"),
            Kind::Pixels(_) => format!("the length {self}"),
            Kind::Duration(_) => format!("the duration {self}"),
            Kind::Bool(_) => format!("{self}"),
            Kind::Str(_) => format!("the string {self}"),
            Kind::Range(_) => format!("the range {self}"),
            Kind::Tuple(_) => format!("the tuple {self}"),
            Kind::List(_) => "a list".into(),
            Kind::Record(_) => "a record".into(),
            Kind::Builtin(name) => format!("`{name}`"),
            Kind::Block(def) => format!("the block `{}`", def.item.name.text),
            Kind::Function(def) => format!("the function `{}`", def.item.name.text),
            Kind::Module(_) => "a module".into(),
            Kind::Modules(ids) => format!("a list of {} modules", ids.len()),
            Kind::Absent => "a module that is left out".into(),
            Kind::Stored(_, ty) => format!("a tensor {}", Dims(&ty.shape)),
            Kind::Tensor(tensor) => format!("a tensor {}", Dims(&tensor.ty.shape)),
            Kind::NewSource(_) => "a data source".into(),
            Kind::Source(name) => format!("the data source `{name}`"),
            Kind::View(_) => "a view".into(),
            Kind::Recipe(_) => "a view recipe".into(),
            Kind::Schedule(_) => "a schedule".into(),
            Kind::SchedulePer(..) => "a learning rate's schedule, which says `per`".into(),
            Kind::Optimizer(_) => "an optimizer".into(),
            Kind::Clip(_) => "a bound on gradients".into(),
            Kind::Weights(_) => "weights of a file".into(),
            Kind::Init(_) | Kind::KMeans(..) => "an initial value".into(),
            Kind::Poison => "an error".into(),
        }
    }

    /// Whether it is computed at run time: a tensor, what is read as one, or a number that changes over time.
    pub fn is_tensor(&self) -> bool {
        matches!(self.kind, Kind::Tensor(_) | Kind::Stored(..) | Kind::View(_) | Kind::Schedule(_))
    }

    /// The items of a tuple or list.
    pub fn items(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::Tuple(items) | Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// Int, float or ratio as a number.
    pub fn number(&self) -> Option<f64> {
        match self.kind {
            Kind::Int(i) => Some(i as f64),
            Kind::Float(f) | Kind::Ratio(f) => Some(f),
            _ => None,
        }
    }

    /// A whole number: an int, or a float that is one.
    pub fn whole(&self) -> Option<i64> {
        match self.kind {
            Kind::Int(i) => Some(i),
            Kind::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Some(f as i64),
            _ => None,
        }
    }
}

/// As one would write it in a file.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &[Value]| {
            for (i, item) in items.iter().enumerate() {
                write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
            }
            Ok(())
        };
        match &self.kind {
            Kind::None => write!(f, "none"),
            Kind::Int(i) => write!(f, "{i}"),
            // Nobody counts so many zeros.
            Kind::Float(x) if x.abs() >= 1e16 => write!(f, "{x:e}"),
            Kind::Float(x) => write!(f, "{x}"),
            // 0.07 · 100 is 7.000000000000001: twelve digits are more than anybody writes.
            Kind::Ratio(x) => write!(f, "{}%", (x * 1e14).round() / 1e12),
            Kind::Pixels(p) => write!(f, "{p}px"),
            Kind::Duration(Duration::Epochs(n)) => write!(f, "{n} epochs"),
            Kind::Duration(Duration::Steps(n)) => write!(f, "{n} steps"),
            Kind::Duration(Duration::Share(n)) => write!(f, "{}%", n * 100.0),
            Kind::Bool(b) => write!(f, "{b}"),
            Kind::Str(s) => write!(f, "\"{s}\""),
            Kind::Range(range) => write!(f, "{}..{}", range.0, range.1),
            Kind::Tuple(items) => {
                write!(f, "(")?;
                list(f, items)?;
                write!(f, ")")
            }
            Kind::List(items) => {
                write!(f, "[")?;
                list(f, items)?;
                write!(f, "]")
            }
            Kind::Builtin(name) => write!(f, "{name}"),
            _ => write!(f, "{}", self.describe()),
        }
    }
}

/// A shape as messages show it: `[4, 17, 512]`.
pub struct Dims<'a>(pub &'a [usize]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        write!(f, "]")
    }
}
