//! What a pipeline's text reads of its own: names by themselves, and fields of its sections and branches.
//!
//! Before: the tree. After: [`super::unused`] tells of definitions that nothing reads.
//!
//! **Invariant:** where a record is read as a whole, or by an index, all of its fields are.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::syntax::ast::{Binding, Change, Entry, Expr, ExprKind, Pipeline, RuleSelector, Section, SectionKind};

/// Names that stand by themselves, and `base.field` of a name.
#[derive(Debug, Default)]
pub(super) struct Reads {
    names: BTreeSet<Arc<str>>,
    fields: BTreeSet<(Arc<str>, Arc<str>)>,
}

impl Reads {
    /// Whether the field `name` of what goes by `base` is read, or all of it.
    pub fn field(&self, base: &str, name: &str) -> bool {
        self.names.contains(base) || self.fields.contains(&(base.into(), name.into()))
    }

    pub fn name(&self, name: &str) -> bool {
        self.names.contains(name) || self.fields.iter().any(|(base, _)| &**base == name)
    }

    pub fn of(pipeline: &Pipeline) -> Reads {
        let mut reads = Reads::default();
        pipeline.params.iter().for_each(|(_, value)| reads.expr(value));
        pipeline.sections.iter().for_each(|section| reads.section(section));
        reads
    }

    /// Adds what a change brings in.
    pub fn change(&mut self, change: &Change) {
        match change {
            Change::Set(binding) | Change::Add(binding) => self.binding(binding),
            Change::Section { section, .. } => self.section(section),
            Change::Remove => {}
        }
    }

    fn section(&mut self, section: &Section) {
        if let SectionKind::Branch(_, Some(over)) = &section.kind {
            self.expr(&over.values);
        }
        section.entries.iter().for_each(|entry| self.entry(entry));
    }

    fn binding(&mut self, binding: &Binding) {
        self.expr(&binding.value);
        binding.repeat.iter().for_each(|repeat| self.expr(&repeat.count));
        binding.from.iter().chain(&binding.when).for_each(|clause| self.expr(clause));
    }

    fn entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Binding(binding) => self.binding(binding),
            Entry::Expr(expr) => self.expr(expr),
            Entry::Require(require) => self.expr(&require.condition),
            Entry::Rule(rule) => {
                rule.settings.iter().for_each(|(_, value)| self.expr(value));
                rule.each.iter().for_each(|each| self.expr(&each.values));
                if let RuleSelector::Paths(paths) = &rule.selector {
                    paths.iter().for_each(|path| self.expr(path));
                }
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Path(names) => self.names.extend(names.first().map(|name| name.text.clone())),
            // Names that a rule's path holds in braces.
            ExprKind::Str(text) => self.names.extend(super::rules::names_in(text).map(Arc::from)),
            ExprKind::Field(base, field) => match &base.kind {
                ExprKind::Path(names) if names.len() == 1 => {
                    self.fields.insert((names[0].text.clone(), field.text.clone()));
                }
                _ => self.expr(base),
            },
            _ => expr.parts().into_iter().for_each(|part| self.expr(part)),
        }
    }
}
