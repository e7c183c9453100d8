//! Names that are declared and not read: parameters, imports, definitions. A warning, since a setting that changes nothing misleads
//! its reader, and none beside an error, whose misspelt name may be the one that was to read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, is_near};
use crate::syntax::ast::{
    Binding, Block, BlockEntry, Change, Dim, Entry, Expr, ExprKind, File, Function, Item, Name, Override, Param,
    ParamType, Pipeline, Require, RuleSelector, Section, SectionKind, ShapeType, Statement, Use,
};

use super::reads::Reads;
use super::section::{EVALUATION_BATCH, EVALUATION_CALLS};
use super::{Machine, foreign};

pub type Names = BTreeSet<Arc<str>>;

impl Machine<'_> {
    pub(super) fn check_unused_in_block(&mut self, block: &Block) {
        let mut used = Names::new();
        in_block(block, &mut used);
        self.report_unused(&block.name, block.params.iter().map(|p| &p.name), &used);
        self.check_unused_in_function(&block.forward);
    }

    pub(super) fn check_unused_in_function(&mut self, function: &Function) {
        let (mut used, mut body) = (Names::new(), Names::new());
        in_function(function, &mut used);
        in_body(function, &mut body);
        // A tensor may be there for its sizes alone.
        let gives_sizes = |param: &&Param| match &param.ty {
            ParamType::Shape(shape) => {
                let mut dims = Names::new();
                in_shape(shape, &mut dims);
                !dims.is_disjoint(&body)
            }
            _ => false,
        };
        let asked = function.params.iter().filter(|p| !gives_sizes(p)).map(|p| &p.name);
        self.report_unused(&function.name, asked, &used);
        for (i, statement) in function.statements.iter().enumerate() {
            let Statement::Assign(name, _) = statement else { continue };
            let mut later = Names::new();
            function.statements[i + 1..].iter().for_each(|statement| in_statement(statement, &mut later));
            in_expr(&function.result, &mut later);
            function.returns.iter().for_each(|returns| in_type(returns, &mut later));
            if !later.contains(&name.text) {
                self.report_unused(&function.name, std::iter::once(name), &later);
            }
        }
    }

    /// `read` are the names that `pipeline` reads in any of its forms, from the text as written to the last change: who
    /// replaces a definition need not mend its parameters too. What a change sets must be read by the last form.
    pub(super) fn check_unused_in_pipeline(&mut self, pipeline: &Pipeline, read: &Names, changes: &[Override]) {
        let params = pipeline.params.iter().map(|(n, _)| n);
        self.report_unused(&pipeline.name, params, read);
        let last = names_read(pipeline);
        for change in changes {
            if let [name] = change.path.as_slice()
                && pipeline.params.iter().any(|(n, _)| n.text == name.text)
                && read.contains(&name.text)
                && !last.contains(&name.text)
            {
                let message = format!("`{}` is set, but nothing reads it", name.text);
                self.diagnostics.push(
                    Diagnostic::new(Code::UnusedSetting, message)
                        .label(name.span, "changes nothing")
                        .help("leave it out: the definitions that read it were replaced"),
                );
            }
        }
    }

    /// Views, values of branches and definitions of `evaluate` that nothing reads; `reads` are those of all forms of the pipeline.
    pub(super) fn check_unread(&mut self, pipeline: &Pipeline, reads: &Reads) {
        for section in &pipeline.sections {
            let (owner, by_field) = match &section.kind {
                SectionKind::Views => ("views".to_owned(), true),
                SectionKind::Branch(name, _) => (name.text.to_string(), true),
                SectionKind::Evaluate => ("evaluate".to_owned(), false),
                _ => continue,
            };
            for entry in &section.entries {
                let Entry::Binding(binding) = entry else { continue };
                let name = &binding.name.text;
                // `evaluate` reads these itself.
                let asked = !by_field && (&**name == "features" || is_evaluation(binding));
                let set = !by_field && &**name == EVALUATION_BATCH;
                if asked || set || is_meant(name) || reads.name(name) || by_field && reads.field(&owner, name) {
                    continue;
                }
                let setting = !by_field && foreign::argument(name, &[EVALUATION_BATCH]).is_some();
                let help = if setting || !by_field && is_near(name, EVALUATION_BATCH) {
                    format!("did you mean `{EVALUATION_BATCH}`?")
                } else {
                    format!("use it, remove it, or call it `_{name}`")
                };
                self.diagnostics.push(
                    Diagnostic::new(Code::UnusedName, format!("nothing reads `{owner}.{name}`"))
                        .label(binding.name.span, "no loss, no monitor and no evaluation hangs on it")
                        .help(help),
                );
            }
        }
    }

    /// What `use` brings into a user's own file, and none of its items reads. What a variant's file brings in its base may read.
    pub(super) fn check_unused_imports(&mut self, file: &File) {
        if file.items.iter().any(|item| matches!(item, Item::Variant(_))) {
            return;
        }
        let mut used = Names::new();
        for item in &file.items {
            match item {
                Item::Block(block) => in_block(block, &mut used),
                Item::Function(function) => in_function(function, &mut used),
                Item::Pipeline(pipeline) => used.extend(names_read(pipeline)),
                Item::Variant(_) => {}
            }
        }
        let imported = file.uses.iter().flat_map(|item| match item {
            Use::Items { items, .. } => items.as_slice(),
            Use::Pipeline { alias, .. } => std::slice::from_ref(alias),
        });
        for name in imported.filter(|name| !used.contains(&name.text)) {
            self.diagnostics.push(
                Diagnostic::new(Code::UnusedName, format!("nothing reads `{}`, which is imported", name.text))
                    .label(name.span, "imported here")
                    .help("remove it from the `use`"),
            );
        }
    }

    fn report_unused<'n>(&mut self, owner: &Name, params: impl Iterator<Item = &'n Name>, used: &Names) {
        for name in params.filter(|n| !used.contains(&n.text) && !is_meant(&n.text)) {
            self.diagnostics.push(
                Diagnostic::new(Code::UnusedName, format!("nothing reads `{}` of `{}`", name.text, owner.text))
                    .label(name.span, "declared here")
                    .help(format!("use it, remove it, or call it `_{}`", name.text)),
            );
        }
    }
}

/// Names that a pipeline's parameters and sections read.
pub(super) fn names_read(pipeline: &Pipeline) -> Names {
    let mut used = Names::new();
    for (_, value) in &pipeline.params {
        in_expr(value, &mut used);
    }
    pipeline.sections.iter().for_each(|section| in_section(section, &mut used));
    used
}

/// Names that a section reads.
pub(super) fn names_in(section: &Section) -> Names {
    let mut used = Names::new();
    in_section(section, &mut used);
    used
}

/// Adds the names that a change brings in.
pub(super) fn in_change(change: &Change, used: &mut Names) {
    match change {
        Change::Set(binding) | Change::Add(binding) => in_binding(binding, used),
        Change::Section { section, .. } => in_section(section, used),
        Change::Remove => {}
    }
}

fn in_section(section: &Section, used: &mut Names) {
    if let SectionKind::Branch(_, Some(over)) = &section.kind {
        in_expr(&over.values, used);
    }
    for entry in &section.entries {
        match entry {
            Entry::Binding(binding) => in_binding(binding, used),
            Entry::Expr(expr) => in_expr(expr, used),
            Entry::Require(require) => in_require(require, used),
            Entry::Rule(rule) => {
                rule.settings.iter().for_each(|(_, e)| in_expr(e, used));
                rule.each.iter().for_each(|l| in_expr(&l.values, used));
                if let RuleSelector::Paths(paths) = &rule.selector {
                    paths.iter().for_each(|e| in_path(e, used));
                }
            }
        }
    }
}

fn in_binding(binding: &Binding, used: &mut Names) {
    in_expr(&binding.value, used);
    binding.repeat.iter().for_each(|r| in_expr(&r.count, used));
    binding.from.iter().chain(&binding.when).for_each(|e| in_expr(e, used));
}

/// Names that an expression reads.
pub fn names_of(expr: &Expr) -> Names {
    let mut names = Names::new();
    in_expr(expr, &mut names);
    names
}

/// Whether an expression reads `name`.
pub(super) fn reads(expr: &Expr, name: &str) -> bool {
    names_of(expr).contains(name)
}

/// Whether a name says that nothing is to read it.
fn is_meant(name: &str) -> bool {
    name.starts_with('_')
}

fn in_block(block: &Block, used: &mut Names) {
    for param in &block.params {
        in_param(param, used);
    }
    for entry in &block.entries {
        match entry {
            BlockEntry::Tensor(decl) => {
                in_shape(&decl.shape, used);
                in_expr(&decl.init, used);
                let frozen = decl.frozen.as_ref().and_then(|f| f.when.as_ref());
                decl.when.iter().chain(frozen).for_each(|e| in_expr(e, used));
            }
            BlockEntry::Require(require) => in_require(require, used),
            BlockEntry::Binding(binding) => in_binding(binding, used),
        }
    }
    in_function(&block.forward, used);
}

fn in_function(function: &Function, used: &mut Names) {
    for param in &function.params {
        in_param(param, used);
    }
    in_body(function, used);
}

/// What follows the parameters.
fn in_body(function: &Function, used: &mut Names) {
    if let Some(returns) = &function.returns {
        in_type(returns, used);
    }
    function.statements.iter().for_each(|statement| in_statement(statement, used));
    in_expr(&function.result, used);
}

fn in_statement(statement: &Statement, used: &mut Names) {
    match statement {
        Statement::Assign(_, value) | Statement::Update(_, value) | Statement::Initial(_, value) => {
            in_expr(value, used)
        }
        Statement::Require(require) => in_require(require, used),
    }
}

fn in_param(param: &Param, used: &mut Names) {
    in_type(&param.ty, used);
    param.default.iter().for_each(|e| in_expr(e, used));
}

fn in_type(ty: &ParamType, used: &mut Names) {
    match ty {
        ParamType::Shape(shape) => in_shape(shape, used),
        ParamType::Record(fields) => fields.iter().for_each(|(_, ty)| in_type(ty, used)),
        ParamType::Named { .. } => {}
    }
}

fn in_shape(shape: &ShapeType, used: &mut Names) {
    for dim in &shape.dims {
        if let Dim::Expr(expr) = dim {
            in_expr(expr, used);
        }
    }
}

fn in_require(require: &Require, used: &mut Names) {
    in_expr(&require.condition, used);
    for text in std::iter::once(&require.message).chain(&require.help) {
        used.extend(super::rules::names_in(text).map(Arc::from));
    }
}

/// A path of a parameter rule, whose text may name values: `"encoder.blocks.{i}.*"`.
fn in_path(expr: &Expr, used: &mut Names) {
    match &expr.kind {
        ExprKind::Str(text) => used.extend(super::rules::names_in(text).map(Arc::from)),
        _ => in_expr(expr, used),
    }
}

/// Adds the names that an expression reads.
fn in_expr(expr: &Expr, used: &mut Names) {
    match &expr.kind {
        ExprKind::Path(names) => used.extend(names.first().map(|n| n.text.clone())),
        _ => expr.parts().into_iter().for_each(|part| in_expr(part, used)),
    }
}

/// Whether a definition of `evaluate` is one of its calls, or turns one off.
fn is_evaluation(binding: &Binding) -> bool {
    let called = match &binding.value.kind {
        ExprKind::None => return true,
        ExprKind::Call(callee, _) => &callee.kind,
        _ => return EVALUATION_CALLS.contains(&&*binding.name.text),
    };
    matches!(called, ExprKind::Path(names) if names.len() == 1 && EVALUATION_CALLS.contains(&&*names[0].text))
}
