//! What names reach at a place: the scope that the evaluator has left there, and values through their fields.

use std::sync::Arc;

use super::analysis::Analysis;
use super::world::World;
use crate::elab::{Kind, Scope, Value};

/// What can be seen from a place, in the last analysis that knows.
pub fn scope(analysis: &Analysis, byte: usize) -> Option<&Scope> {
    let root = analysis.root?;
    let before = analysis.index.scopes.iter().filter(|(at, _)| at.source == root && at.start as usize <= byte);
    before.max_by_key(|(at, _)| at.start).map(|(_, scope)| &**scope)
}

/// The value that `a.b` names at a place, and the analysis that it is of.
pub fn reached<'w>(world: &'w World<'_>, names: &[Arc<str>], byte: usize) -> Option<(Value, &'w Analysis)> {
    let of = |analysis: &'w Analysis| {
        let (first, rest) = names.split_first()?;
        let mut value = scope(analysis, byte)?.get(first)?;
        for name in rest {
            value = field(&value, name, analysis)?;
        }
        (!matches!(value.kind, Kind::Poison)).then_some((value, analysis))
    };
    of(&world.analysis).or_else(|| of(world.analysis.before.as_deref()?))
}

fn field(value: &Value, name: &str, analysis: &Analysis) -> Option<Value> {
    match &value.kind {
        Kind::Record(fields) => fields.iter().find(|(field, _)| &**field == name).map(|(_, value)| value.clone()),
        Kind::List(items) => field(items.first()?, name, analysis),
        _ => analysis.index.module(value)?.scope.own(name),
    }
}
