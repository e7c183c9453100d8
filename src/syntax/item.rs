//! Items, blocks, functions and pipelines: pest pairs → [`ast`](super::ast).

use std::sync::Arc;

use pest::iterators::Pair;

use super::ast::{
    Binding, Block, BlockEntry, Change, Dim, Entry, File, Frozen, Function, Item, Name, Override, Param, ParamType,
    Pipeline, Repeat, Require, RuleSelector, Section, SectionKind, ShapeType, Statement, TensorDecl, Use, Variant,
};
use super::{Builder, Rule, ast};
use crate::source::Span;

impl Builder<'_> {
    pub(super) fn file(&self, pair: Pair<'_, Rule>) -> File {
        let unread = self.mended.map(|mended| mended.unread.clone()).unwrap_or_default();
        let mut file = File { unread, ..File::default() };
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::use_item => self.use_item(inner, &mut file.uses),
                Rule::item => file.items.push(self.item(only(inner))),
                _ => {}
            }
        }
        file
    }

    fn use_item(&self, pair: Pair<'_, Rule>, uses: &mut Vec<Use>) {
        let span = self.span(&pair);
        let what = pair.into_inner().nth(1).expect("`use` is followed by what is used");
        if what.as_rule() == Rule::use_pipeline {
            let (mut module, mut alias) = (Vec::new(), None);
            for part in what.into_inner() {
                match part.as_rule() {
                    Rule::use_path => module = part.into_inner().map(|p| self.name(p)).collect(),
                    Rule::name => alias = Some(self.name(part)),
                    _ => {}
                }
            }
            let alias = alias.or_else(|| module.last().cloned()).expect("`use pipeline` has a path");
            uses.push(Use::Pipeline { module, alias, span });
            return;
        }
        self.use_names(what, &[], span, uses);
    }

    /// A path behind `prefix`, or all of the group that it ends in.
    fn use_names(&self, pair: Pair<'_, Rule>, prefix: &[Name], span: Span, uses: &mut Vec<Use>) {
        let mut inner = pair.into_inner();
        let path = inner.next().expect("`use` has a path");
        let mut module: Vec<Name> = prefix.iter().cloned().chain(path.into_inner().map(|p| self.name(p))).collect();
        let Some(group) = inner.next() else {
            let items: Vec<Name> = module.pop().into_iter().collect();
            uses.push(Use::Items { module, items, span });
            return;
        };
        // Items of one file stay together; what has a path of its own is another file.
        let mut items = Vec::new();
        for tree in group.into_inner() {
            let mut parts = tree.clone().into_inner();
            let names: Vec<Name> = parts.next().into_iter().flat_map(Pair::into_inner).map(|p| self.name(p)).collect();
            match (names.as_slice(), parts.next()) {
                ([item], None) => items.push(item.clone()),
                _ => {
                    let span = self.span(&tree);
                    self.use_names(tree, &module, span, uses);
                }
            }
        }
        if !items.is_empty() {
            uses.push(Use::Items { module, items, span });
        }
    }

    fn item(&self, pair: Pair<'_, Rule>) -> Item {
        match pair.as_rule() {
            Rule::block => Item::Block(Arc::new(self.block(pair))),
            Rule::function => Item::Function(Arc::new(self.function(pair, None))),
            Rule::pipeline => Item::Pipeline(Arc::new(self.pipeline(pair))),
            _ => Item::Variant(Arc::new(self.variant(pair))),
        }
    }

    fn block(&self, pair: Pair<'_, Rule>) -> Block {
        let (mut name, mut params, mut entries, mut forward) = (None, Vec::new(), Vec::new(), None);
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::name => name = Some(self.name(inner)),
                Rule::params => params = self.params(inner),
                Rule::block_entry => {
                    let inner = only(inner);
                    entries.push(match inner.as_rule() {
                        Rule::tensor_decl => BlockEntry::Tensor(self.tensor_decl(inner)),
                        Rule::require => BlockEntry::Require(self.require(inner)),
                        _ => BlockEntry::Binding(self.binding(inner)),
                    });
                }
                Rule::forward => forward = Some(inner),
                _ => {}
            }
        }
        let name = name.expect("a block has a name");
        let forward = forward.expect("a block has a forward");
        let forward = self.function(forward, Some(name.clone()));
        Block { name, params, entries, forward }
    }

    /// A `fn`, or with `name` given a block's `forward`.
    fn function(&self, pair: Pair<'_, Rule>, name: Option<Name>) -> Function {
        let (mut name, mut params, mut returns, mut body) = (name, Vec::new(), None, None);
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::name => name = Some(self.name(inner)),
                Rule::params => params = self.params(inner),
                Rule::returns => returns = Some(self.param_type(only(inner))),
                Rule::body => body = Some(inner),
                _ => {}
            }
        }
        let (mut statements, mut result) = (Vec::new(), None);
        for inner in body.expect("a function has a body").into_inner() {
            match inner.as_rule() {
                Rule::statement => {
                    let inner = only(inner);
                    statements.push(match inner.as_rule() {
                        Rule::require => Statement::Require(self.require(inner)),
                        Rule::update => {
                            let (name, value) = self.name_and_value(inner);
                            Statement::Update(name, value)
                        }
                        Rule::initial => {
                            let (name, value) = self.name_and_value(inner);
                            Statement::Initial(name, value)
                        }
                        _ => {
                            let (name, value) = self.name_and_value(inner);
                            Statement::Assign(name, value)
                        }
                    });
                }
                _ => result = Some(self.expr(inner)),
            }
        }
        Function {
            name: name.expect("a function has a name"),
            params,
            returns,
            statements,
            result: result.expect("a body ends in an expression"),
        }
    }

    fn params(&self, pair: Pair<'_, Rule>) -> Vec<Param> {
        pair.into_inner()
            .map(|param| {
                let mut inner = param.into_inner();
                let name = self.name(inner.next().expect("a parameter has a name"));
                let ty = self.param_type(inner.next().expect("a parameter has a type"));
                let default = inner.next().map(|p| self.expr(p));
                Param { name, ty, default }
            })
            .collect()
    }

    fn param_type(&self, pair: Pair<'_, Rule>) -> ParamType {
        match pair.as_rule() {
            Rule::shape => ParamType::Shape(self.shape(pair)),
            Rule::record_type => ParamType::Record(
                pair.into_inner()
                    .map(|field| {
                        let mut inner = field.into_inner();
                        let name = self.name(inner.next().expect("a record field has a name"));
                        (name, self.param_type(inner.next().expect("a record field has a type")))
                    })
                    .collect(),
            ),
            _ => {
                let mut inner = pair.into_inner();
                let name = self.name(inner.next().expect("a type has a name"));
                ParamType::Named { name, optional: inner.next().is_some() }
            }
        }
    }

    fn shape(&self, pair: Pair<'_, Rule>) -> ShapeType {
        let span = self.span(&pair);
        let (mut dims, mut optional) = (Vec::new(), false);
        for inner in pair.into_inner() {
            if inner.as_rule() == Rule::optional {
                optional = true;
                continue;
            }
            let inner = only(inner);
            dims.push(match inner.as_rule() {
                Rule::rest_dims => Dim::Rest(self.span(&inner)),
                _ => Dim::Expr(self.expr(inner)),
            });
        }
        ShapeType { dims, optional, span }
    }

    fn tensor_decl(&self, pair: Pair<'_, Rule>) -> TensorDecl {
        let mut is_state = false;
        let (mut name, mut shape, mut init, mut when, mut frozen, mut role) = (None, None, None, None, None, None);
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::kw_state => is_state = true,
                Rule::name => name = Some(self.name(inner)),
                Rule::shape => shape = Some(self.shape(inner)),
                Rule::expr => init = Some(self.expr(inner)),
                Rule::when => when = Some(self.when(inner)),
                Rule::frozen => {
                    let clause = inner.into_inner().find(|p| p.as_rule() == Rule::when);
                    frozen = Some(Frozen { when: clause.map(|p| self.when(p)) });
                }
                Rule::role => role = inner.into_inner().nth(1).map(|p| self.name(p)),
                _ => {}
            }
        }
        TensorDecl {
            is_state,
            name: name.expect("a tensor has a name"),
            shape: shape.expect("a tensor has a shape"),
            init: init.expect("a tensor has an initial value"),
            when,
            frozen,
            role,
        }
    }

    fn when(&self, pair: Pair<'_, Rule>) -> ast::Expr {
        self.expr(pair.into_inner().nth(1).expect("`when` has a condition"))
    }

    fn require(&self, pair: Pair<'_, Rule>) -> Require {
        let span = self.span(&pair);
        let mut inner = pair.into_inner().skip(1);
        let condition = self.expr(inner.next().expect("`require` has a condition"));
        let message = self.string(inner.next().expect("`require` has a message"));
        Require { condition, message, help: inner.next().map(|p| self.string(p)), span }
    }

    fn name_and_value(&self, pair: Pair<'_, Rule>) -> (Name, ast::Expr) {
        let mut inner = pair.into_inner().filter(|p| !matches!(p.as_rule(), Rule::kw_update | Rule::kw_init));
        let name = self.name(inner.next().expect("an assignment has a name"));
        (name, self.expr(inner.next().expect("an assignment has a value")))
    }

    fn binding(&self, pair: Pair<'_, Rule>) -> Binding {
        let mut inner = pair.into_inner();
        let name = self.name(inner.next().expect("a binding has a name"));
        self.bound(name, inner)
    }

    /// A binding from its value on.
    fn bound<'p>(&self, name: Name, mut inner: impl Iterator<Item = Pair<'p, Rule>>) -> Binding {
        let value = self.expr(inner.next().expect("a binding has a value"));
        let mut binding = Binding::plain(name, value);
        for clause in inner {
            match clause.as_rule() {
                Rule::repeat => {
                    let mut parts =
                        clause.into_inner().filter(|p| !matches!(p.as_rule(), Rule::kw_repeat | Rule::kw_as));
                    let count = self.expr(parts.next().expect("`repeat` has a count"));
                    binding.repeat = Some(Repeat { count, index: parts.next().map(|p| self.name(p)) });
                }
                Rule::from => binding.from = clause.into_inner().nth(1).map(|p| self.expr(p)),
                _ => binding.when = Some(self.when(clause)),
            }
        }
        binding
    }

    fn pipeline(&self, pair: Pair<'_, Rule>) -> Pipeline {
        let span = self.span(&pair);
        let (mut name, mut params, mut sections) = (None, Vec::new(), Vec::new());
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::name => name = Some(self.name(inner)),
                Rule::pipeline_param => {
                    let mut parts = inner.into_inner().skip(1);
                    let name = self.name(parts.next().expect("a parameter has a name"));
                    params.push((name, self.expr(parts.next().expect("a parameter has a value"))));
                }
                Rule::section | Rule::evaluate | Rule::branch | Rule::train | Rule::export => {
                    sections.push(self.section(inner))
                }
                _ => {}
            }
        }
        Pipeline { name: name.expect("a pipeline has a name"), params, sections, span }
    }

    fn section(&self, pair: Pair<'_, Rule>) -> Section {
        let rule = pair.as_rule();
        let mut inner = pair.into_inner().peekable();
        let head = inner.next().expect("a section opens with a word");
        let span = self.span(&head);
        let kind = match (rule, head.as_str().trim()) {
            (Rule::branch, _) => {
                let name = self.name(inner.next().expect("a branch has a name"));
                let looped = inner.next_if(|p| p.as_rule() == Rule::for_loop).map(|p| self.a_loop(p));
                SectionKind::Branch(name, looped)
            }
            (Rule::train, _) => SectionKind::Train,
            (Rule::export, _) => SectionKind::Export,
            (_, "data") => SectionKind::Data,
            (_, "views") => SectionKind::Views,
            (_, "model") => SectionKind::Model,
            (_, "losses") => SectionKind::Losses,
            (_, "monitor") => SectionKind::Monitor,
            _ => SectionKind::Evaluate,
        };
        let mut entries = Vec::new();
        for entry in inner {
            match entry.as_rule() {
                Rule::binding => entries.push(Entry::Binding(self.binding(entry))),
                Rule::assignment => {
                    let (name, value) = self.name_and_value(entry);
                    entries.push(Entry::Binding(Binding::plain(name, value)));
                }
                Rule::require => entries.push(Entry::Require(self.require(entry))),
                Rule::call_entry => {
                    let called = entry.into_inner().find(|p| p.as_rule() == Rule::expr);
                    entries.push(Entry::Expr(self.expr(called.expect("an entry that is a call has it"))));
                }
                Rule::expr => entries.push(Entry::Expr(self.expr(entry))),
                Rule::parameters => entries.extend(self.rules(entry)),
                _ => {}
            }
        }
        Section { kind, span, entries }
    }

    fn rules(&self, pair: Pair<'_, Rule>) -> impl Iterator<Item = Entry> {
        let rules = pair.into_inner().filter(|p| p.as_rule() == Rule::parameter_rule);
        rules.map(|rule| Entry::Rule(self.rule(rule)))
    }

    fn rule(&self, pair: Pair<'_, Rule>) -> ast::Rule {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let selector = inner.next().expect("a rule has a selector");
        let is_roles = selector.as_rule() == Rule::rule_roles;
        let (mut roles, mut paths, mut each) = (Vec::new(), Vec::new(), None);
        for part in selector.into_inner().skip(1) {
            match part.as_rule() {
                Rule::name => roles.push(self.name(part)),
                Rule::for_loop => each = Some(self.a_loop(part)),
                _ => paths.push(self.expr(part)),
            }
        }
        let selector = if is_roles { RuleSelector::Roles(roles) } else { RuleSelector::Paths(paths) };
        let settings = inner.map(|p| self.name_and_value(p)).collect();
        ast::Rule { selector, each, settings, span }
    }

    fn variant(&self, pair: Pair<'_, Rule>) -> Variant {
        let mut names = Vec::new();
        let mut overrides = Vec::new();
        for inner in pair.into_inner() {
            match inner.as_rule() {
                Rule::name => names.push(self.name(inner)),
                Rule::override_entry => overrides.push(self.override_entry(inner)),
                Rule::branch | Rule::parameters => overrides.push(self.changed_section(inner, false)),
                Rule::addition => {
                    let mut added = inner.into_inner().skip(1).peekable();
                    let section = added.next_if(|p| matches!(p.as_rule(), Rule::branch | Rule::parameters));
                    overrides.push(match section {
                        Some(section) => self.changed_section(section, true),
                        None => {
                            let (path, binding) = self.changed(added);
                            Override { path, change: Change::Add(binding) }
                        }
                    });
                }
                Rule::removal => {
                    let removed = inner.into_inner().filter(|p| p.as_rule() == Rule::dotted);
                    overrides.extend(removed.map(|p| Override { path: self.dotted(p), change: Change::Remove }));
                }
                Rule::pipeline_param => {
                    let mut parts = inner.into_inner().skip(1);
                    let name = self.name(parts.next().expect("a parameter has a name"));
                    let value = self.expr(parts.next().expect("a parameter has a value"));
                    let path = vec![name.clone()];
                    overrides.push(Override { path, change: Change::Add(Binding::plain(name, value)) });
                }
                _ => {}
            }
        }
        let mut names = names.into_iter();
        Variant {
            name: names.next().expect("a variant has a name"),
            base: names.next().expect("a variant has a base"),
            overrides,
        }
    }

    pub(super) fn override_entry(&self, pair: Pair<'_, Rule>) -> Override {
        let (path, binding) = self.changed(pair.into_inner());
        Override { path, change: Change::Set(binding) }
    }

    /// A dotted name, and what it is bound to.
    fn changed<'p>(&self, mut inner: impl Iterator<Item = Pair<'p, Rule>>) -> (Vec<Name>, Binding) {
        let path = self.dotted(inner.next().expect("a change has a path"));
        let last = path.last().cloned().expect("a path has a name");
        let binding = self.bound(last, inner);
        (path, binding)
    }

    pub(super) fn dotted(&self, pair: Pair<'_, Rule>) -> Vec<Name> {
        pair.into_inner().map(|p| self.name(p)).collect()
    }

    /// A branch, or the rules of `parameters`.
    fn changed_section(&self, pair: Pair<'_, Rule>, adds: bool) -> Override {
        let (path, section) = match pair.as_rule() {
            Rule::branch => {
                let section = self.section(pair);
                let SectionKind::Branch(name, _) = &section.kind else { unreachable!("a branch is read as one") };
                (vec![name.clone()], section)
            }
            _ => {
                let span = self.span(&pair.clone().into_inner().next().expect("rules open with a word"));
                let path = ["train", "parameters"].map(|word| Name { text: word.into(), span });
                (path.to_vec(), Section { kind: SectionKind::Train, span, entries: self.rules(pair).collect() })
            }
        };
        Override { path, change: Change::Section { section, adds } }
    }
}

/// The one pair inside.
fn only(pair: Pair<'_, Rule>) -> Pair<'_, Rule> {
    pair.into_inner().next().expect("the grammar gives this rule one alternative")
}
