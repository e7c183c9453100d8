//! Where a name is defined, and where it is used.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::analysis::Analysis;
use super::places::{Key, key, name_at, place, place_in};
use super::protocol::Range;
use super::world::World;
use crate::elab::Meaning;
use crate::source::Span;

pub fn definition(world: &World<'_>, at: usize) -> Value {
    let Some((_, Meaning::Text(at))) = name_at(world, at) else { return Value::Null };
    let Some((path, range)) = place(&world.analysis, at, world.document) else { return Value::Null };
    json!({ "uri": world.uri(&path), "range": range.json() })
}

/// Files and ranges of all uses that open documents know of, the definition first.
pub fn uses(world: &World<'_>, at: usize) -> Option<Vec<(PathBuf, Range)>> {
    let (_, Meaning::Text(at)) = name_at(world, at)? else { return None };
    let defined = place(&world.analysis, at, world.document)?;
    let mut found = vec![defined.clone()];
    for analysis in world.analyses() {
        for span in spans(&analysis, &key(&world.analysis, at)) {
            let place = place_in(&analysis, span, world.encoding);
            found.extend(place.filter(|place| !found.contains(place)));
        }
    }
    Some(found)
}

/// Names of an analysis that mean what is defined at a place.
pub fn spans(analysis: &Analysis, defined: &Key) -> Vec<Span> {
    let same = |meaning: &Meaning| matches!(meaning, Meaning::Text(at) if key(analysis, *at) == *defined);
    analysis.index.names.iter().filter(|(_, meaning)| same(meaning)).map(|(span, _)| *span).collect()
}

pub fn all(world: &World<'_>, at: usize, with_definition: bool) -> Value {
    let found = uses(world, at).unwrap_or_default().into_iter().skip(usize::from(!with_definition));
    found.map(|(path, range)| json!({ "uri": world.uri(&path), "range": range.json() })).collect()
}

/// Of the document alone.
pub fn here(world: &World<'_>, at: usize) -> Value {
    let found = uses(world, at).unwrap_or_default().into_iter();
    found.filter(|(path, _)| *path == world.document.path).map(|(_, range)| json!({ "range": range.json() })).collect()
}
