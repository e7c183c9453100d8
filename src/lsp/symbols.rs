//! What a document defines, as an outline.

use serde_json::{Value, json};

use super::world::World;
use crate::elab::What;

pub fn of(world: &World<'_>) -> Value {
    let text = &world.document.text;
    let own =
        world.analysis.index.definitions.iter().filter(|known| Some(known.name.span.source) == world.analysis.root);
    own.filter_map(|known| {
        let (start, end) = (known.name.span.start as usize, known.name.span.end as usize);
        let whole = known.value.map_or(end, |value| (value.end as usize).max(end));
        Some(json!({
            "name": &*known.name.text, "detail": known.what.words(), "kind": kind(known.what)?,
            "range": text.range(start, whole).json(), "selectionRange": text.range(start, end).json(),
        }))
    })
    .collect()
}

/// `SymbolKind` of the protocol; what is of a body alone is in no outline.
fn kind(what: What) -> Option<u8> {
    Some(match what {
        What::Pipeline => 2,
        What::Block | What::Module => 5,
        What::Function => 12,
        What::Branch => 3,
        What::Parameter => 14,
        What::Source | What::View | What::Loss | What::Monitor => 13,
        What::Stored => 8,
        What::Value | What::Argument | What::Dim | What::Loop | What::Import => return None,
    })
}
