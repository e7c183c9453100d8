//! Code actions: what the help line of a diagnostic says, done.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::places::place;
use super::problems;
use super::protocol::Range;
use super::world::World;
use crate::diag::{Change, changes};

/// Ways to mend what is wrong within a range.
pub fn within(world: &World<'_>, range: Option<Range>) -> Value {
    let mut found = Vec::new();
    for told in &world.analysis.found {
        let at = problems::range(&world.analysis, world.document, told);
        if range.is_some_and(|range| !range.touches(at)) {
            continue;
        }
        let ways = changes(told, &world.analysis.sources);
        let sole = ways.len() == 1;
        for change in ways {
            let Some(edit) = edit(world, &change) else { continue };
            found.push(json!({
                "title": change.title, "kind": "quickfix", "edit": edit, "isPreferred": sole,
                "diagnostics": [problems::one(&world.analysis, world.document, told)],
            }));
        }
    }
    found.into()
}

fn edit(world: &World<'_>, change: &Change) -> Option<Value> {
    let mut files: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for edit in &change.edits {
        let (path, range) = place(&world.analysis, edit.span, world.document)?;
        files.entry(world.uri(&path)).or_default().push(json!({ "range": range.json(), "newText": edit.text }));
    }
    Some(json!({ "changes": files }))
}
