//! Names that evaluation did not come by, for an [`Index`](super::index::Index): those of branches not taken, of blocks and functions
//! that nothing calls, of arguments, of what follows an error.
//!
//! It walks over the trees in the scopes that the evaluator has left, binds in them what the evaluator would, and asks the evaluator's
//! lookup: what was evaluated is noted already, and stays.

use std::rc::Rc;
use std::sync::Arc;

use crate::source::{SourceId, Span};
use crate::syntax::ast::{
    Argument, Binding, Block, BlockEntry, Change, Dim, Entry, Expr, ExprKind, File, Function, Item, Loop, Name,
    Override, Param, ParamType, Pipeline, RuleSelector, Section, SectionKind, ShapeType, Statement, Use, Variant,
};

use super::Machine;
use super::files::PipelineItem;
use super::index::{Defined, Meaning, SharedIndex, What};
use super::members::{Slots, member};
use super::scope::Scope;
use super::section::section_word;
use super::value::{Kind, Value};

impl Machine<'_> {
    /// Fills the index up; `evaluated` is the pipeline that was, with its scope.
    pub fn note_rest(&mut self, evaluated: Option<(&Pipeline, &Rc<Scope>)>) {
        let Some(index) = self.index.clone() else { return };
        {
            let mut index = index.borrow_mut();
            index.modules = self.modules.clone();
            index.views = self.views.clone();
        }
        let files = index.borrow().files.clone();
        let muted = self.diagnostics.mute(true);
        let mut naming = Naming { machine: self, index, evaluated, evaluating: false };
        // The last is the one that was asked for: what it uses has been read before it.
        files.iter().for_each(|(id, file)| naming.file(*id, file));
        self.diagnostics.mute(muted);
    }
}

struct Naming<'n, 'a> {
    machine: &'n mut Machine<'a>,
    index: SharedIndex,
    evaluated: Option<(&'n Pipeline, &'n Rc<Scope>)>,
    /// Whether it goes over `evaluate`.
    evaluating: bool,
}

impl Naming<'_, '_> {
    fn note(&self, at: Span, meaning: Meaning) {
        self.index.borrow_mut().names.entry(at).or_insert(meaning);
    }

    fn word(&self, at: Span, word: String) {
        self.note(at, Meaning::Word(word.into()));
    }

    fn value(&self, span: Span) -> Option<Value> {
        self.index.borrow().values.get(&span).cloned()
    }

    /// A name is given; to the value of an expression, where there is one.
    fn define(&self, name: &Name, what: What, value: Option<&Expr>, scope: Option<&Scope>) {
        let span = value.map(|value| value.span);
        if let Some(scope) = scope
            && scope.definition(&name.text) != Some(Some(name.span))
        {
            let value = span.and_then(|span| self.value(span));
            scope.define(name, value.unwrap_or(Value::new(Kind::Poison, name.span)));
        }
        self.note(name.span, Meaning::Text(name.span));
        self.index.borrow_mut().definitions.push(Defined { name: name.clone(), what, value: span });
    }

    fn field_of(&self, owner: Span, name: &Name) {
        self.index.borrow_mut().fields.insert((owner, name.text.clone()), name.span);
    }

    /// What follows `at` sees `scope`.
    fn seen_from(&self, at: Span, scope: &Rc<Scope>) {
        self.index.borrow_mut().scopes.push((at, scope.clone()));
    }

    fn file(&mut self, id: SourceId, file: &File) {
        for used in &file.uses {
            match used {
                Use::Items { module, items, .. } => {
                    for name in items {
                        let found = self.machine.file_item(id, &name.text);
                        self.machine.note_name(name, &Scope::new(id), found.as_ref());
                    }
                    let first = items.first().and_then(|name| self.index.borrow().names.get(&name.span).cloned());
                    if let (Some(Meaning::Text(at)), Some(last)) = (first, module.last()) {
                        self.note(last.span, Meaning::Text(Span { start: 0, end: 0, ..at }));
                    }
                }
                Use::Pipeline { module, alias, .. } => {
                    let Some(name) = module.last() else { continue };
                    let scope = self.machine.files_scope(id);
                    let found = scope.pipelines.iter().find(|(known, _, _)| known.span == alias.span);
                    if let Some((_, item, _)) = found {
                        self.note(name.span, Meaning::Text(name_of(item).span));
                    }
                    if alias.span != name.span {
                        self.define(alias, What::Import, None, None);
                    }
                }
            }
        }
        for item in &file.items {
            match item {
                Item::Block(block) => self.block(id, block),
                Item::Function(function) => {
                    self.define(&function.name, What::Function, None, None);
                    self.function(function, &Scope::new(id));
                }
                Item::Pipeline(pipeline) => {
                    let ended = self.evaluated.filter(|(evaluated, _)| evaluated.name.span == pipeline.name.span);
                    let scope = ended.map_or_else(|| Scope::new(id), |(_, scope)| scope.clone());
                    self.pipeline(pipeline, &scope);
                }
                Item::Variant(variant) => self.variant(id, variant),
            }
        }
    }

    fn block(&mut self, id: SourceId, block: &Block) {
        self.define(&block.name, What::Block, None, None);
        let scope = Scope::new(id);
        self.params(&block.params, &scope);
        self.seen_from(block.name.span, &scope);
        for entry in &block.entries {
            match entry {
                BlockEntry::Tensor(decl) => {
                    self.shape(&decl.shape, &scope);
                    self.expr(&decl.init, &scope);
                    let frozen = decl.frozen.iter().filter_map(|frozen| frozen.when.as_ref());
                    decl.when.iter().chain(frozen).for_each(|when| self.expr(when, &scope));
                    decl.role.iter().for_each(|role| self.word(role.span, format!("role.{}", role.text)));
                    self.define(&decl.name, What::Stored, None, Some(&scope));
                }
                BlockEntry::Require(require) => self.expr(&require.condition, &scope),
                BlockEntry::Binding(binding) => self.binding(binding, What::Module, &scope),
            }
        }
        self.function(&block.forward, &Scope::inside(&scope));
    }

    fn params(&mut self, params: &[Param], scope: &Rc<Scope>) {
        for param in params {
            if let ParamType::Named { name, .. } = &param.ty {
                self.word(name.span, format!("type.{}", name.text));
            }
            param.default.iter().for_each(|default| self.expr(default, scope));
            self.define(&param.name, What::Argument, param.default.as_ref(), Some(scope));
        }
        params.iter().for_each(|param| self.param_type(&param.ty, scope));
    }

    fn param_type(&mut self, ty: &ParamType, scope: &Rc<Scope>) {
        match ty {
            ParamType::Named { .. } => {}
            ParamType::Shape(shape) => self.shape(shape, scope),
            ParamType::Record(fields) => fields.iter().for_each(|(_, ty)| self.param_type(ty, scope)),
        }
    }

    /// The first signature that has a dim gives it its name.
    fn shape(&mut self, shape: &ShapeType, scope: &Rc<Scope>) {
        for dim in &shape.dims {
            let Dim::Expr(expr) = dim else { continue };
            match &expr.kind {
                ExprKind::Path(names) if names.len() == 1 && scope.definition(&names[0].text).is_none() => {
                    self.define(&names[0], What::Dim, None, Some(scope));
                }
                _ => self.expr(expr, scope),
            }
        }
    }

    fn function(&mut self, function: &Function, scope: &Rc<Scope>) {
        self.params(&function.params, scope);
        self.seen_from(function.name.span, scope);
        for statement in &function.statements {
            match statement {
                Statement::Assign(name, value) => {
                    self.expr(value, scope);
                    // Each time the name is given anew, what follows sees another value.
                    scope.define(name, self.value(value.span).unwrap_or(Value::new(Kind::Poison, name.span)));
                    self.define(name, What::Value, Some(value), None);
                }
                Statement::Update(name, value) | Statement::Initial(name, value) => {
                    self.name(name, scope);
                    self.expr(value, scope);
                }
                Statement::Require(require) => self.expr(&require.condition, scope),
            }
        }
        self.expr(&function.result, scope);
        function.returns.iter().for_each(|returns| self.param_type(returns, scope));
    }

    fn pipeline(&mut self, pipeline: &Pipeline, scope: &Rc<Scope>) {
        self.define(&pipeline.name, What::Pipeline, None, None);
        self.seen_from(pipeline.name.span, scope);
        for (name, value) in &pipeline.params {
            self.expr(value, scope);
            self.define(name, What::Parameter, Some(value), Some(scope));
        }
        // Seen from everywhere, before and behind where they stand.
        for section in &pipeline.sections {
            let named = |word: &str| Name { text: word.into(), span: section.span };
            match &section.kind {
                SectionKind::Branch(name, _) => self.define(name, What::Branch, None, Some(scope)),
                SectionKind::Data | SectionKind::Views => {
                    let name = named(if section.kind == SectionKind::Data { "data" } else { "views" });
                    if scope.definition(&name.text).is_none() {
                        scope.define(&name, Value::new(Kind::Poison, name.span));
                    }
                }
                SectionKind::Model => {
                    for entry in &section.entries {
                        let Entry::Binding(Binding { name, value, .. }) = entry else { continue };
                        if scope.definition(&name.text).is_none() {
                            let value = self.value(value.span).unwrap_or(Value::new(Kind::Poison, name.span));
                            scope.define(name, value);
                        }
                    }
                }
                _ => {}
            }
        }
        pipeline.sections.iter().for_each(|section| self.section(section, scope));
    }

    fn section(&mut self, section: &Section, outer: &Rc<Scope>) {
        let inner = match &section.kind {
            SectionKind::Model | SectionKind::Data | SectionKind::Train | SectionKind::Export => outer.clone(),
            _ => Scope::inside(outer),
        };
        self.seen_from(section.span, &inner);
        self.evaluating = section.kind == SectionKind::Evaluate;
        let (what, owner) = match &section.kind {
            SectionKind::Data => (What::Source, Some(section.span)),
            SectionKind::Views => (What::View, Some(section.span)),
            SectionKind::Model => (What::Module, None),
            SectionKind::Branch(name, over) => {
                over.iter().for_each(|over| self.a_loop(over, &inner));
                (What::Value, Some(name.span))
            }
            SectionKind::Losses => (What::Loss, None),
            SectionKind::Monitor => (What::Monitor, None),
            SectionKind::Train | SectionKind::Evaluate | SectionKind::Export => (What::Value, None),
        };
        for entry in &section.entries {
            match entry {
                Entry::Binding(binding) if section.kind == SectionKind::Train => {
                    self.word(binding.name.span, format!("train.{}", binding.name.text));
                    self.expr(&binding.value, outer);
                }
                Entry::Binding(binding) if section.kind == SectionKind::Data && is_setting(binding) => {
                    self.word(binding.name.span, format!("data.{}", binding.name.text));
                    self.expr(&binding.value, outer);
                }
                Entry::Binding(binding) => {
                    owner.iter().for_each(|owner| self.field_of(*owner, &binding.name));
                    // `data.train` is a name of the section's alone.
                    let scope = if section.kind == SectionKind::Data { Scope::inside(outer) } else { inner.clone() };
                    self.binding(binding, what, &scope);
                }
                Entry::Expr(expr) => self.expr(expr, &inner),
                Entry::Require(require) => self.expr(&require.condition, &inner),
                Entry::Rule(rule) => {
                    let scope = Scope::inside(outer);
                    rule.each.iter().for_each(|each| self.a_loop(each, &scope));
                    match &rule.selector {
                        RuleSelector::Roles(roles) => {
                            roles.iter().for_each(|role| self.word(role.span, format!("role.{}", role.text)));
                        }
                        RuleSelector::Paths(paths) => paths.iter().for_each(|path| self.expr(path, &scope)),
                    }
                    for (name, value) in &rule.settings {
                        self.word(name.span, format!("rule.{}", name.text));
                        self.expr(value, &scope);
                    }
                }
            }
        }
        self.evaluating = false;
    }

    /// `name = value`, with its clauses.
    fn binding(&mut self, binding: &Binding, what: What, scope: &Rc<Scope>) {
        let Binding { name, value, repeat, from, when } = binding;
        when.iter().chain(from).for_each(|when| self.expr(when, scope));
        match repeat {
            None => self.expr(value, scope),
            Some(repeat) => {
                self.expr(&repeat.count, scope);
                let inner = Scope::inside(scope);
                repeat.index.iter().for_each(|index| self.define(index, What::Loop, None, Some(&inner)));
                self.expr(value, &inner);
            }
        }
        self.copies(name, value);
        self.define(name, what, Some(value), Some(scope));
    }

    /// `momentum.encoder` is a copy of what `ema(encoder, …)` names.
    fn copies(&self, name: &Name, value: &Expr) {
        let ExprKind::Call(callee, arguments) = &value.kind else { return };
        if self.index.borrow().names.get(&callee.span) != Some(&Meaning::Word("ema".into())) {
            return;
        }
        for argument in arguments.iter().filter(|argument| argument.name.is_none()) {
            let last = match &argument.value.kind {
                ExprKind::Path(names) => names.last(),
                ExprKind::Field(_, name) => Some(name),
                _ => None,
            };
            let Some(last) = last else { continue };
            let meaning = self.index.borrow().names.get(&last.span).cloned();
            if let Some(Meaning::Text(at)) = meaning {
                self.index.borrow_mut().fields.insert((name.span, last.text.clone()), at);
            }
        }
    }

    fn variant(&mut self, id: SourceId, variant: &Variant) {
        self.define(&variant.name, What::Pipeline, None, None);
        let files = self.machine.files_scope(id);
        if let Some((_, item, _)) = files.pipelines.iter().find(|(name, _, _)| name.text == variant.base.text) {
            self.note(variant.base.span, Meaning::Text(name_of(item).span));
        }
        let base = self.evaluated.filter(|(pipeline, _)| pipeline.name.text == variant.name.text);
        let scope = base.map_or_else(|| Scope::new(id), |(_, scope)| Scope::inside(scope));
        self.seen_from(variant.name.span, &scope);
        for change in &variant.overrides {
            if let Some((pipeline, _)) = base {
                self.change(change, pipeline);
            }
            match &change.change {
                Change::Set(binding) | Change::Add(binding) => {
                    self.expr(&binding.value, &scope);
                    binding.repeat.iter().for_each(|repeat| self.expr(&repeat.count, &scope));
                    binding.from.iter().chain(&binding.when).for_each(|clause| self.expr(clause, &scope));
                }
                Change::Section { section, .. } => self.section(section, &scope),
                Change::Remove => {}
            }
        }
    }

    /// What the path of a change names in the pipeline that it made.
    fn change(&mut self, change: &Override, pipeline: &Pipeline) {
        match change.path.as_slice() {
            [name] => {
                if let Some((param, _)) = pipeline.params.iter().find(|(param, _)| param.text == name.text) {
                    self.note(name.span, Meaning::Text(param.span));
                }
            }
            [word, name, rest @ ..] => {
                let section = pipeline.sections.iter().find(|section| section_word(section) == *word.text);
                let Some(section) = section else { return };
                if let SectionKind::Branch(branch, _) = &section.kind {
                    self.note(word.span, Meaning::Text(branch.span));
                }
                let mut bindings = section.entries.iter().filter_map(|entry| match entry {
                    Entry::Binding(binding) => Some(binding),
                    _ => None,
                });
                let Some(binding) = bindings.find(|binding| binding.name.text == name.text) else { return };
                match section.kind {
                    SectionKind::Train => self.word(name.span, format!("train.{}", name.text)),
                    _ => self.note(name.span, Meaning::Text(binding.name.span)),
                }
                if let (ExprKind::Call(callee, _), [argument, ..]) = (&binding.value.kind, rest) {
                    let slots = self
                        .value(callee.span)
                        .map(|callee| Slots::of(&callee, &self.index.borrow()))
                        .unwrap_or_default();
                    if let Some(at) = slots.place(&argument.text) {
                        self.note(argument.span, Meaning::Text(at));
                    }
                }
            }
            [] => {}
        }
    }

    fn a_loop(&mut self, over: &Loop, scope: &Rc<Scope>) {
        self.expr(&over.values, scope);
        self.define(&over.name, What::Loop, None, Some(scope));
    }

    fn name(&mut self, name: &Name, scope: &Rc<Scope>) {
        if self.index.borrow().names.contains_key(&name.span) {
            return;
        }
        // An import is made where it is first read, which is not here.
        let is_bound = scope.definition(&name.text).is_some();
        let found = match is_bound || !self.machine.may_import(scope.file, &name.text) {
            true => self.machine.find(&name.text, name.span, scope).and_then(Result::ok),
            false => None,
        };
        self.machine.note_name(name, scope, found.as_ref());
    }

    fn expr(&mut self, expr: &Expr, scope: &Rc<Scope>) {
        match &expr.kind {
            ExprKind::Path(names) => match names.as_slice() {
                [name] => self.name(name, scope),
                [op, name] if &*op.text == "op" => self.word(expr.span, format!("op::{}", name.text)),
                _ => {}
            },
            ExprKind::Field(base, name) => {
                self.expr(base, scope);
                self.field(base, name);
            }
            ExprKind::Call(callee, arguments) => self.call(callee, arguments, scope),
            ExprKind::Comprehension { item, loops, condition } => {
                let inner = Scope::inside(scope);
                loops.iter().for_each(|over| self.a_loop(over, &inner));
                self.expr(item, &inner);
                condition.iter().for_each(|condition| self.expr(condition, &inner));
            }
            ExprKind::Record(fields) => {
                for (name, value) in fields {
                    self.expr(value, scope);
                    if name.span == value.span {
                        self.index.borrow_mut().shorthands.insert(name.span, None);
                    }
                }
            }
            _ => expr.parts().into_iter().for_each(|part| self.expr(part, scope)),
        }
    }

    fn call(&mut self, callee: &Expr, arguments: &[Argument], scope: &Rc<Scope>) {
        // `knn`, `linear` and `reconstructions` are no values, whatever else goes by their names.
        let evaluation = match &callee.kind {
            ExprKind::Path(names) if self.evaluating && super::EVALUATION_CALLS.contains(&&*names[0].text) => {
                let word: Arc<str> = format!("evaluate.{}", names[0].text).into();
                self.note(callee.span, Meaning::Word(word.clone()));
                Some(word)
            }
            _ => None,
        };
        if evaluation.is_none() {
            self.expr(callee, scope);
        }
        let value = self.value(callee.span).or_else(|| match &callee.kind {
            _ if evaluation.is_some() => None,
            ExprKind::Path(names) if names.len() == 1 => {
                self.machine.find(&names[0].text, callee.span, scope).and_then(Result::ok)
            }
            _ => None,
        });
        let slots = value.map(|value| Slots::of(&value, &self.index.borrow())).unwrap_or_default();
        let word = match self.index.borrow().names.get(&callee.span) {
            Some(Meaning::Word(word)) => Some(word.clone()),
            _ => None,
        };
        let word = evaluation.or(word);
        for Argument { name, value } in arguments {
            match (name, &value.kind) {
                (Some(name), _) => match (slots.place(&name.text), &word) {
                    (Some(at), _) => self.note(name.span, Meaning::Text(at)),
                    (None, Some(word)) => self.word(name.span, format!("{word}.{}", name.text)),
                    (None, None) => {}
                },
                (None, ExprKind::Path(names)) if names.len() == 1 && slots.holds(&names[0].text) => {
                    self.index.borrow_mut().shorthands.insert(value.span, slots.place(&names[0].text));
                }
                _ => {}
            }
            self.expr(value, scope);
        }
    }

    /// `base.name`
    fn field(&mut self, base: &Expr, name: &Name) {
        let mut base = base;
        // A loop's branch is a list of records of one form.
        while let ExprKind::Index(of, _) = &base.kind {
            base = of;
        }
        let last = match &base.kind {
            ExprKind::Path(names) => names.last().map(|name| name.span),
            ExprKind::Field(_, name) => Some(name.span),
            _ => None,
        };
        let owner = last.and_then(|last| self.index.borrow().names.get(&last).cloned());
        if let Some(Meaning::Text(owner)) = owner {
            let at = self.index.borrow().fields.get(&(owner, name.text.clone())).copied();
            if let Some(at) = at {
                return self.note(name.span, Meaning::Text(at));
            }
        }
        let Some(value) = self.value(base.span) else { return };
        let found = match &value.kind {
            Kind::Record(fields) => fields.iter().find(|(field, _)| *field == name.text).map(|(_, value)| value.span),
            _ => self.index.borrow().module(&value).and_then(|module| member(&module.def.item, &name.text)),
        };
        if let Some(at) = found.filter(|at| *at != name.span) {
            self.note(name.span, Meaning::Text(at));
        }
    }
}

fn is_setting(binding: &Binding) -> bool {
    super::DATA_SETTINGS.contains(&&*binding.name.text)
}

fn name_of(item: &PipelineItem) -> &Name {
    match item {
        PipelineItem::Plain(pipeline) => &pipeline.name,
        PipelineItem::Variant(variant) => &variant.name,
    }
}
