//! The canonical text of expressions: it parses to the tree that it was printed from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cmae::diag::Diagnostics;
use cmae::source::{Sources, Span};
use cmae::syntax::ast::{
    Argument, BinaryOp, Block, BlockEntry, Dim, Entry, Expr, ExprKind, File, Function, Item, Loop, Name, ParamType,
    Require, RuleSelector, Section, SectionKind, ShapeType, Statement, UnaryOp,
};
use cmae::syntax::{parse_expr, parse_file};

use crate::command::root;

/// The tree as text without its spans: what printing must keep.
fn shape(expr: &Expr) -> String {
    let text = format!("{expr:?}");
    let mut parts = text.split("Span {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + part.split_once('}').map_or("", |(_, rest)| rest))
}

fn parsed(text: &str) -> Expr {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let id = sources.add_text("expression", text);
    parse_expr(&sources, id, &mut diagnostics).unwrap_or_else(|_| panic!("`{text}`: {:?}", diagnostics.list()))
}

/// Prints, and expects the same tree of it, and the same text of that.
fn assert_kept(expr: &Expr) {
    let text = expr.to_string();
    let again = parsed(&text);
    assert_eq!(shape(&again), shape(expr), "{text}");
    assert_eq!(again.to_string(), text);
    assert!(!text.contains('\n'));
}

#[derive(Default)]
struct Found<'t>(Vec<&'t Expr>);

impl<'t> Found<'t> {
    fn file(&mut self, file: &'t File) {
        for item in &file.items {
            match item {
                Item::Block(block) => self.block(block),
                Item::Function(function) => self.function(function),
                Item::Pipeline(pipeline) => {
                    self.0.extend(pipeline.params.iter().map(|(_, value)| value));
                    pipeline.sections.iter().for_each(|section| self.section(section));
                }
                Item::Variant(variant) => self.0.extend(variant.overrides.iter().filter_map(|change| change.value())),
            }
        }
    }

    fn block(&mut self, block: &'t Block) {
        block.params.iter().for_each(|param| self.param(&param.ty, param.default.as_ref()));
        for entry in &block.entries {
            match entry {
                BlockEntry::Tensor(tensor) => {
                    self.dims(&tensor.shape);
                    self.0.push(&tensor.init);
                    self.0.extend(&tensor.when);
                    self.0.extend(tensor.frozen.iter().filter_map(|frozen| frozen.when.as_ref()));
                }
                BlockEntry::Require(require) => self.require(require),
                BlockEntry::Binding(binding) => self.binding(binding),
            }
        }
        self.function(&block.forward);
    }

    fn function(&mut self, function: &'t Function) {
        function.params.iter().for_each(|param| self.param(&param.ty, param.default.as_ref()));
        for statement in &function.statements {
            match statement {
                Statement::Assign(_, value) | Statement::Update(_, value) | Statement::Initial(_, value) => {
                    self.0.push(value);
                }
                Statement::Require(require) => self.require(require),
            }
        }
        self.0.push(&function.result);
    }

    fn param(&mut self, ty: &'t ParamType, default: Option<&'t Expr>) {
        if let ParamType::Shape(shape) = ty {
            self.dims(shape);
        }
        self.0.extend(default);
    }

    fn dims(&mut self, shape: &'t ShapeType) {
        self.0.extend(shape.dims.iter().filter_map(|dim| match dim {
            Dim::Expr(expr) => Some(expr),
            Dim::Rest(_) => None,
        }));
    }

    fn require(&mut self, require: &'t Require) {
        self.0.push(&require.condition);
    }

    fn binding(&mut self, binding: &'t cmae::syntax::ast::Binding) {
        self.0.push(&binding.value);
        self.0.extend(binding.repeat.iter().map(|repeat| &repeat.count));
        self.0.extend(&binding.when);
    }

    fn section(&mut self, section: &'t Section) {
        if let SectionKind::Branch(_, Some(looped)) = &section.kind {
            self.0.push(&looped.values);
        }
        for entry in &section.entries {
            match entry {
                Entry::Binding(binding) => self.binding(binding),
                Entry::Expr(expr) => self.0.push(expr),
                Entry::Require(require) => self.require(require),
                Entry::Rule(rule) => {
                    if let RuleSelector::Paths(paths) = &rule.selector {
                        self.0.extend(paths);
                    }
                    self.0.extend(rule.each.iter().map(|each| &each.values));
                    self.0.extend(rule.settings.iter().map(|(_, value)| value));
                }
            }
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it is in the repository") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "cmae") {
            found.push(path);
        }
    }
}

#[test]
fn every_expression_of_the_shipped_files_is_kept() {
    let mut paths = Vec::new();
    ["pipelines", "stdlib"].iter().for_each(|folder| files(&root(folder), &mut paths));
    let mut count = 0;
    for path in &paths {
        let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
        let id = sources.load(path).expect("it can be read");
        let file = parse_file(&sources, id, &mut diagnostics).expect("it is right");
        let mut found = Found::default();
        found.file(&file);
        count += found.0.len();
        found.0.iter().for_each(|expr| assert_kept(expr));
    }
    assert!(paths.len() > 50 && count > 1500, "{} files, {count} expressions", paths.len());
}

/// Trees that a seed makes, of every kind, each in every place.
struct Trees(u64, Span);

impl Trees {
    fn below(&mut self, bound: u64) -> u64 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn name(&mut self) -> Name {
        let names = ["a", "encoder", "in", "init", "x_1", "_", "epochs", "px", "e3"];
        Name { text: names[self.below(names.len() as u64) as usize].into(), span: self.span() }
    }

    fn span(&self) -> Span {
        self.1
    }

    fn number(&mut self) -> f64 {
        match self.below(4) {
            0 => self.below(100) as f64,
            1 => self.below(1_000_000) as f64 / 1000.0,
            2 => f64::from_bits(self.below(1 << 31) << 32 | self.below(1 << 31)).abs(),
            _ => libm::pow(self.below(1000) as f64 / 10.0, self.below(40) as f64 - 20.0),
        }
    }

    /// A number that a text can hold.
    fn finite(&mut self) -> f64 {
        loop {
            let value = self.number();
            if value.is_finite() {
                return value;
            }
        }
    }

    fn items(&mut self, depth: u32, least: u64) -> Vec<Expr> {
        let count = least + self.below(3);
        (0..count).map(|_| self.expr(depth)).collect()
    }

    fn boxed(&mut self, depth: u32) -> Box<Expr> {
        Box::new(self.expr(depth))
    }

    fn comprehension(&mut self, depth: u32) -> ExprKind {
        let count = 1 + self.below(2);
        let loops = (0..count).map(|_| Loop { name: self.name(), values: self.expr(depth) }).collect();
        let condition = (self.below(2) == 0).then(|| self.boxed(depth));
        ExprKind::Comprehension { item: self.boxed(depth), loops, condition }
    }

    fn arguments(&mut self, depth: u32) -> Vec<Argument> {
        let count = self.below(3);
        (0..count)
            .map(|_| Argument { name: (self.below(2) == 0).then(|| self.name()), value: self.expr(depth) })
            .collect()
    }

    fn expr(&mut self, depth: u32) -> Expr {
        use BinaryOp::{Add, And, Div, Equal, Greater, GreaterEqual, Less, LessEqual, Mul, NotEqual, Or, Rem, Sub};
        let ops = [Add, Sub, Mul, Div, Rem, Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual, And, Or];
        let leaves = 10;
        let kinds = if depth == 0 { leaves } else { leaves + 12 };
        let kind = match self.below(kinds) {
            0 => ExprKind::None,
            1 => ExprKind::Int(self.below(1 << 31) as i64),
            2 => ExprKind::Float(self.finite()),
            // What a text can say is the hundredth of a number.
            3 => ExprKind::Ratio(self.finite() / 100.0),
            4 => ExprKind::Pixels(self.below(1000) as i64),
            5 => ExprKind::Epochs(self.finite()),
            6 => ExprKind::Steps(self.finite()),
            7 => ExprKind::Bool(self.below(2) == 0),
            8 => {
                let texts = ["", "a \"quoted\" one", "D:\\data\\x", "\\\"", "{i}.*", "é // no comment"];
                ExprKind::Str(Arc::from(texts[self.below(texts.len() as u64) as usize]))
            }
            9 => {
                let count = 1 + self.below(2);
                ExprKind::Path((0..count).map(|_| self.name()).collect())
            }
            10 => ExprKind::Field(self.boxed(depth - 1), self.name()),
            11 => ExprKind::Index(self.boxed(depth - 1), self.boxed(depth - 1)),
            12 => ExprKind::Call(self.boxed(depth - 1), self.arguments(depth - 1)),
            13 => {
                let op = if self.below(2) == 0 { UnaryOp::Neg } else { UnaryOp::Not };
                ExprKind::Unary(op, self.boxed(depth - 1))
            }
            14 => {
                let op = ops[self.below(ops.len() as u64) as usize];
                ExprKind::Binary(op, self.boxed(depth - 1), self.boxed(depth - 1))
            }
            15 => ExprKind::Range(self.boxed(depth - 1), self.boxed(depth - 1)),
            16 => ExprKind::Pipe(self.boxed(depth - 1), self.boxed(depth - 1)),
            17 => {
                let [condition, then, otherwise] = [(); 3].map(|()| self.boxed(depth - 1));
                ExprKind::If { condition, then, otherwise }
            }
            18 => ExprKind::Tuple(self.items(depth - 1, 1)),
            19 => ExprKind::List(self.items(depth - 1, 0)),
            20 => {
                let count = 1 + self.below(2);
                ExprKind::Record((0..count).map(|_| (self.name(), self.expr(depth - 1))).collect())
            }
            _ => self.comprehension(depth - 1),
        };
        Expr { kind, span: self.span() }
    }
}

#[test]
fn so_are_trees_that_nobody_wrote() {
    let mut trees = Trees(12, parsed("x").span);
    for _ in 0..3000 {
        assert_kept(&trees.expr(4));
    }
}

#[test]
fn the_text_is_what_one_would_write() {
    for text in [
        "cosine(base: 0.0015, warmup: 10%)",
        "7%",
        "-(a + b) * c - d - (e - f)",
        "x if a and (b or c) else y",
        "[f(u, v) for u in a, v in 0..3 if u != v]",
        "mean(loss(s[i], t) for i in 0..2)",
        "master |> crop(16px, at: (0px, 0px)) |> normalize(mean: 0.3, std: 0.35)",
        "(1,)",
        "op::linear(x, {a: 1, b: [2]}.a)",
        "(75%).x",
        "0.1..2.0",
        "40 epochs",
    ] {
        assert_eq!(parsed(text).to_string(), text);
    }
}
