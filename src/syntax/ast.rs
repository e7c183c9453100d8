//! The tree of a `.cmae` file: what was written, where. Nothing is looked up yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::source::Span;

#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    pub text: Arc<str>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct File {
    pub uses: Vec<Use>,
    pub items: Vec<Item>,
    /// Names within what could not be read, which may define or use them.
    pub unread: BTreeSet<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Use {
    /// `use a::b::{c, d}`: items `c` and `d` of module `a::b`.
    Items { module: Vec<Name>, items: Vec<Name>, span: Span },
    /// `use pipeline a::p as q`: the pipeline `p` of module `a::p`.
    Pipeline { module: Vec<Name>, alias: Name, span: Span },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    Block(Arc<Block>),
    Function(Arc<Function>),
    Pipeline(Arc<Pipeline>),
    Variant(Arc<Variant>),
}

impl Item {
    pub fn name(&self) -> &Name {
        match self {
            Item::Block(block) => &block.name,
            Item::Function(function) => &function.name,
            Item::Pipeline(pipeline) => &pipeline.name,
            Item::Variant(variant) => &variant.name,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub name: Name,
    pub params: Vec<Param>,
    pub entries: Vec<BlockEntry>,
    pub forward: Function,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BlockEntry {
    Tensor(TensorDecl),
    Require(Require),
    Binding(Binding),
}

#[derive(Debug, Clone, PartialEq)]
pub struct TensorDecl {
    pub is_state: bool,
    pub name: Name,
    pub shape: ShapeType,
    pub init: Expr,
    pub when: Option<Expr>,
    pub frozen: Option<Frozen>,
    pub role: Option<Name>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Frozen {
    pub when: Option<Expr>,
}

/// A `fn`, or a block's `forward`.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    pub name: Name,
    pub params: Vec<Param>,
    pub returns: Option<ParamType>,
    pub statements: Vec<Statement>,
    pub result: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    Assign(Name, Expr),
    Update(Name, Expr),
    /// `init state = value`: from the first batch.
    Initial(Name, Expr),
    Require(Require),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Require {
    pub condition: Expr,
    /// With `{name}` for values in scope.
    pub message: Arc<str>,
    pub help: Option<Arc<str>>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: Name,
    pub ty: ParamType,
    pub default: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ParamType {
    Shape(ShapeType),
    Named { name: Name, optional: bool },
    Record(Vec<(Name, ParamType)>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ShapeType {
    pub dims: Vec<Dim>,
    pub optional: bool,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Dim {
    /// `..`
    Rest(Span),
    Expr(Expr),
}

/// `name = value`, with the clauses of `model` and of a block's head.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    pub name: Name,
    pub value: Expr,
    pub repeat: Option<Repeat>,
    /// `from weights(…)`: what its weights begin as.
    pub from: Option<Expr>,
    pub when: Option<Expr>,
}

impl Binding {
    /// `name = value`, without clauses.
    pub fn plain(name: Name, value: Expr) -> Binding {
        Binding { name, value, repeat: None, from: None, when: None }
    }
}

/// `name in values`
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    pub name: Name,
    pub values: Expr,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Repeat {
    pub count: Expr,
    pub index: Option<Name>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    pub name: Name,
    pub params: Vec<(Name, Expr)>,
    pub sections: Vec<Section>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    pub kind: SectionKind,
    /// The word that opens it.
    pub span: Span,
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SectionKind {
    Data,
    Views,
    Model,
    Branch(Name, Option<Loop>),
    Losses,
    Monitor,
    Train,
    Evaluate,
    Export,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Binding(Binding),
    /// A call by itself, in `evaluate`; the value of `export`.
    Expr(Expr),
    Require(Require),
    Rule(Rule),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub selector: RuleSelector,
    /// `for i in 0..12`: a rule for each.
    pub each: Option<Loop>,
    pub settings: Vec<(Name, Expr)>,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RuleSelector {
    Roles(Vec<Name>),
    Paths(Vec<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    pub name: Name,
    pub base: Name,
    pub overrides: Vec<Override>,
}

/// What a variant or `--set` changes of its base.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// `train.epochs`; of a branch its name, of rules `train.parameters`.
    pub path: Vec<Name>,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// `train.epochs = 800`: what the base has, or leaves at its default. It goes by the path's last name.
    Set(Binding),
    /// `add losses.see = …`, `param layers = [3, 6]`: what the base may not have.
    Add(Binding),
    /// `remove losses.see`
    Remove,
    /// `branch online { … }`, or the rules of `parameters { … }` as a section `train` that holds nothing else: in the place of the
    /// base's, or with `add` beside them.
    Section { section: Section, adds: bool },
}

impl Override {
    /// What the path's definition, parameter or argument becomes.
    pub fn value(&self) -> Option<&Expr> {
        match &self.change {
            Change::Set(binding) | Change::Add(binding) => Some(&binding.value),
            Change::Remove | Change::Section { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// What could not be read, which has been told.
    Unread,
    None,
    Int(i64),
    Float(f64),
    /// `75%` is 0.75.
    Ratio(f64),
    Pixels(i64),
    Epochs(f64),
    Steps(f64),
    Bool(bool),
    Str(Arc<str>),
    /// One name, or several with `::` (`op::linear`).
    Path(Vec<Name>),
    Field(Box<Expr>, Name),
    Index(Box<Expr>, Box<Expr>),
    Call(Box<Expr>, Vec<Argument>),
    Unary(UnaryOp, Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    Range(Box<Expr>, Box<Expr>),
    /// value |> callee
    Pipe(Box<Expr>, Box<Expr>),
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Record(Vec<(Name, Expr)>),
    /// `item for a in …, b in … if condition`: a list.
    Comprehension {
        item: Box<Expr>,
        /// The first varies slowest.
        loops: Vec<Loop>,
        condition: Option<Box<Expr>>,
    },
}

impl Expr {
    /// The expressions that it is made of, in the order of the text.
    pub fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Field(base, _) | ExprKind::Unary(_, base) => vec![base],
            ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Range(a, b) | ExprKind::Pipe(a, b) => {
                vec![a, b]
            }
            ExprKind::Call(callee, arguments) => {
                std::iter::once(&**callee).chain(arguments.iter().map(|argument| &argument.value)).collect()
            }
            ExprKind::If { condition, then, otherwise } => vec![then, condition, otherwise],
            ExprKind::Tuple(items) | ExprKind::List(items) => items.iter().collect(),
            ExprKind::Record(fields) => fields.iter().map(|(_, value)| value).collect(),
            ExprKind::Comprehension { item, loops, condition } => {
                let over = loops.iter().map(|one| &one.values);
                std::iter::once(&**item).chain(over).chain(condition.as_deref()).collect()
            }
            ExprKind::Path(_)
            | ExprKind::Unread
            | ExprKind::None
            | ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Ratio(_)
            | ExprKind::Pixels(_)
            | ExprKind::Epochs(_)
            | ExprKind::Steps(_)
            | ExprKind::Bool(_)
            | ExprKind::Str(_) => Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Argument {
    pub name: Option<Name>,
    pub value: Expr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    Neg,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
}

impl BinaryOp {
    pub const ALL: [BinaryOp; 13] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Rem,
        BinaryOp::Equal,
        BinaryOp::NotEqual,
        BinaryOp::Less,
        BinaryOp::LessEqual,
        BinaryOp::Greater,
        BinaryOp::GreaterEqual,
        BinaryOp::And,
        BinaryOp::Or,
    ];

    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Less => "<",
            BinaryOp::LessEqual => "<=",
            BinaryOp::Greater => ">",
            BinaryOp::GreaterEqual => ">=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
        }
    }
}
