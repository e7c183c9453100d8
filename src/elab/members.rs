//! What can be named of a callee and of a module, with the places where a text defines it.

use std::sync::Arc;

use crate::source::Span;
use crate::syntax::ast::{Block, BlockEntry, Param};

use super::builtin;
use super::index::Index;
use super::value::{Kind, Value};

/// Parameters by name, with the places of those that stand in a text.
#[derive(Default)]
pub struct Slots(Vec<(Arc<str>, Option<Span>)>);

impl Slots {
    /// What a call of `callee` takes.
    pub fn of(callee: &Value, index: &Index) -> Slots {
        let of = |params: &[Param]| Slots(params.iter().map(|p| (p.name.text.clone(), Some(p.name.span))).collect());
        match &callee.kind {
            Kind::Block(def) => of(&def.item.params),
            Kind::Function(def) => of(&def.item.params),
            Kind::Module(_) | Kind::Modules(_) => match index.module(callee) {
                Some(module) => of(&module.def.item.forward.params),
                None => Slots::default(),
            },
            Kind::Builtin(word) => {
                let names = match word.strip_prefix("op::") {
                    Some(op) => (index.signature)(op),
                    None => builtin::parameters(word),
                };
                let names = names.unwrap_or_default().iter();
                Slots(names.map(|name| (name.trim_end_matches('?').into(), None)).collect())
            }
            _ => Slots::default(),
        }
    }

    pub fn holds(&self, name: &str) -> bool {
        self.0.iter().any(|(slot, _)| &**slot == name)
    }

    pub fn place(&self, name: &str) -> Option<Span> {
        self.0.iter().find(|(slot, _)| &**slot == name)?.1
    }
}

/// Where a field of a module is defined.
pub fn member(block: &Block, name: &str) -> Option<Span> {
    let params = block.params.iter().map(|param| &param.name);
    let entries = block.entries.iter().filter_map(|entry| match entry {
        BlockEntry::Tensor(decl) => Some(&decl.name),
        BlockEntry::Binding(binding) => Some(&binding.name),
        BlockEntry::Require(_) => None,
    });
    params.chain(entries).find(|known| &*known.text == name).map(|known| known.span)
}
