//! Shapes beside the names of values.

use serde_json::{Value, json};

use super::describe::briefly;
use super::protocol::Range;
use super::world::World;
use crate::elab::{Defined, What};

/// Of all values that are named within a range.
pub fn within(world: &World<'_>, range: Option<Range>) -> Value {
    world.analysis.index.definitions.iter().filter_map(|defined| hint(world, defined, range)).collect()
}

fn hint(world: &World<'_>, defined: &Defined, range: Option<Range>) -> Option<Value> {
    let Defined { name, what, value } = defined;
    let shown = matches!(what, What::Value | What::View | What::Loss | What::Monitor);
    if !shown || Some(name.span.source) != world.analysis.root {
        return None;
    }
    let at = world.document.text.position(name.span.end as usize);
    if range.is_some_and(|range| at < range.start || range.end < at) {
        return None;
    }
    let (value, analysis) = world.analysis.value((*value)?)?;
    let text = briefly(&value, &analysis.index)?;
    // 1: of types.
    Some(json!({ "position": { "line": at.line, "character": at.character }, "label": format!(": {text}"), "kind": 1 }))
}
