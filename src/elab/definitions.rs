//! What a pipeline defines, as text after overrides: for the record of a run, and to tell runs apart by.
//!
//! Before: modules are made. After: [`crate::spec::Spec::definitions`].

use std::rc::Rc;
use std::sync::Arc;

use super::Machine;
use super::scope::Scope;
use super::section::sections;
use super::value::{Kind, Value};
use crate::spec::{BlockSpec, Definition};
use crate::syntax::ast::{Binding, Entry, Pipeline, Section, SectionKind};

impl Machine<'_> {
    /// Notes a definition of `model` whose module, if it makes one of its own name, has been made.
    pub(super) fn note_definition(&mut self, binding: &Binding, prefix: &str, scope: &Rc<Scope>) {
        let path = format!("{prefix}{}", binding.name.text);
        let block = match scope.own(&binding.name.text).map(|value| value.kind) {
            Some(Kind::Module(id)) if self.modules[id.0].path == path => {
                let module = &self.modules[id.0];
                let params = module.def.item.params.iter().map(|param| &param.name.text);
                let argument = |name: &Arc<str>| Some((name.to_string(), self.argument_text(&module.scope.own(name)?)));
                let name = module.def.item.name.text.to_string();
                Some(BlockSpec { name, arguments: params.filter_map(argument).collect() })
            }
            _ => None,
        };
        self.definitions.push(Definition { name: format!("model.{path}"), text: binding.to_string(), block });
    }

    /// A module goes by its path, a list by its items.
    fn argument_text(&self, value: &Value) -> String {
        let list = |items: &[Value]| items.iter().map(|item| self.argument_text(item)).collect::<Vec<_>>().join(", ");
        match &value.kind {
            Kind::Module(id) => self.modules[id.0].path.clone(),
            Kind::Tuple(items) => format!("({})", list(items)),
            Kind::List(items) => format!("[{}]", list(items)),
            Kind::Record(fields) => {
                let field = |(name, value): &(Arc<str>, Value)| format!("{name}: {}", self.argument_text(value));
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
            _ => value.to_string(),
        }
    }

    /// All that `pipeline` and those that it imports define, the modules first.
    pub fn take_definitions(&mut self, pipeline: &Pipeline) -> Vec<Definition> {
        let mut found = std::mem::take(&mut self.definitions);
        for section in &pipeline.sections {
            if let SectionKind::Branch(name, looped) = &section.kind {
                if let Some(looped) = looped {
                    let text = format!("for {} in {}", looped.name.text, looped.values);
                    found.push(Definition { name: name.text.to_string(), text, block: None });
                }
                found.extend(of_section(&name.text, section));
            }
        }
        for (word, kind) in
            [("losses", SectionKind::Losses), ("monitor", SectionKind::Monitor), ("evaluate", SectionKind::Evaluate)]
        {
            found.extend(sections(pipeline, kind).flat_map(|section| of_section(word, section)));
        }
        found
    }
}

/// `word.NAME` of each definition. Calls that stand by themselves are settings.
fn of_section<'s>(word: &'s str, section: &'s Section) -> impl Iterator<Item = Definition> + 's {
    section.entries.iter().filter_map(move |entry| match entry {
        Entry::Binding(binding) => {
            Some(Definition { name: format!("{word}.{}", binding.name.text), text: binding.to_string(), block: None })
        }
        _ => None,
    })
}
