//! Renaming: a name everywhere that it means the same.
//!
//! **Invariant:** what was right is right under the new name: names that stand for `name: name` keep what they were for, and a name that
//! is taken is refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::analysis::Analysis;
use super::library;
use super::places::{Key, defined, key, name_at, place_in};
use super::references::spans;
use super::world::World;
use crate::elab::{Defined, Meaning, What};
use crate::source::Span;
use crate::syntax::ast::{Entry, Expr, ExprKind, Item, RuleSelector};
use crate::syntax::token::{KEYWORDS, Kind, tokens};

/// Where the name at a place is defined, if it may be renamed.
fn target(world: &World<'_>, byte: usize) -> Option<(Span, Span)> {
    let (span, Meaning::Text(at)) = name_at(world, byte)? else { return None };
    let source = world.analysis.sources.get(at.source);
    let own = !source.library && !library::holds(std::path::Path::new(&source.name));
    // A file, a section, or a record's field that is an expression has no name of its own.
    let named = world.analysis.index.names.get(&at) == Some(&Meaning::Text(at));
    (own && named && world.analysis.sources.slice(at) == world.analysis.sources.slice(span)).then_some((span, at))
}

pub fn prepare(world: &World<'_>, byte: usize) -> Value {
    let Some((span, _)) = target(world, byte) else { return Value::Null };
    let range = world.document.text.range(span.start as usize, span.end as usize);
    json!({ "range": range.json(), "placeholder": world.analysis.sources.slice(span) })
}

pub fn edits(world: &World<'_>, byte: usize, new: &str) -> Result<Value, String> {
    let Some((_, at)) = target(world, byte) else {
        return Err("this is no name of a file of yours".to_owned());
    };
    let old = world.analysis.sources.slice(at).to_owned();
    let mut letters = new.chars();
    let is_name = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name || KEYWORDS.contains(&new) {
        return Err(format!("`{new}` is no name: write letters, digits and `_`"));
    }
    if is_taken(&world.analysis, at, new) {
        return Err(format!("`{new}` is taken here"));
    }
    let target = key(&world.analysis, at);
    let mut files: BTreeMap<String, Vec<(u32, u32, Value)>> = BTreeMap::new();
    for analysis in world.analyses() {
        let mut found: Vec<(Span, String)> = Vec::new();
        for span in spans(&analysis, &target) {
            let text = match analysis.index.shorthands.get(&span) {
                Some(_) => format!("{old}: {new}"),
                None => new.to_owned(),
            };
            found.push((span, text));
        }
        // Names that were for a parameter because they are called as it is.
        for (span, parameter) in &analysis.index.shorthands {
            let renamed = parameter.is_some_and(|parameter| key(&analysis, parameter) == target);
            let both = found.iter_mut().find(|(known, _)| known == span);
            match (renamed, both) {
                (true, None) => found.push((*span, format!("{new}: {old}"))),
                (true, Some((_, text))) => *text = new.to_owned(),
                _ => {}
            }
        }
        if defined(&world.analysis, at).is_some_and(|known| known.what == What::Module) {
            found.extend(paths(&analysis, &old, new));
        }
        found.extend(braces(&analysis, &target, &old, new));
        for (span, text) in found {
            let Some((path, range)) = place_in(&analysis, span, world.encoding) else { continue };
            let edits = files.entry(world.uri(&path)).or_default();
            if !edits.iter().any(|(start, end, _)| (*start, *end) == (span.start, span.end)) {
                edits.push((span.start, span.end, json!({ "range": range.json(), "newText": text })));
            }
        }
    }
    let changes: BTreeMap<String, Vec<Value>> =
        files.into_iter().map(|(uri, edits)| (uri, edits.into_iter().map(|(_, _, edit)| edit).collect())).collect();
    Ok(json!({ "changes": changes }))
}

/// Whether something that can be seen where the name is defined goes by the new one.
fn is_taken(analysis: &Analysis, at: Span, new: &str) -> bool {
    let scopes = analysis.index.scopes.iter().filter(|(from, _)| from.source == at.source);
    let around = scopes.filter(|(from, _)| from.start <= at.start).max_by_key(|(from, _)| from.start);
    around.is_some_and(|(_, scope)| scope.definition(new).is_some())
}

/// Names in braces within texts, as in the messages of `require` and the paths of rules, of the item that defines the name.
fn braces(analysis: &Analysis, target: &Key, old: &str, new: &str) -> Vec<(Span, String)> {
    let own = |known: &&Defined| key(analysis, known.name.span) == *target;
    let Some(known) = analysis.index.definitions.iter().find(own) else { return Vec::new() };
    let (source, at) = (known.name.span.source, known.name.span.start);
    let items = analysis.index.definitions.iter().filter(|item| {
        item.name.span.source == source && matches!(item.what, What::Block | What::Function | What::Pipeline)
    });
    let starts = items.map(|item| item.name.span.start);
    let from = starts.clone().filter(|start| *start < at).max().unwrap_or(0) as usize;
    let to = starts.filter(|start| *start > at).min().map_or(usize::MAX, |start| start as usize);
    let text = &analysis.sources.get(source).text;
    let texts =
        tokens(text).into_iter().filter(|token| token.kind == Kind::Text && from <= token.start && token.start < to);
    let mut found = Vec::new();
    for within in texts {
        let mut start = within.start;
        while let Some(open) = text[start..within.end].find('{') {
            let open = start + open + 1;
            let close = text[open..within.end].find('}').map_or(within.end, |close| open + close);
            let names = tokens(&text[open..close]).into_iter().filter(|token| text[open..close][token.range()] == *old);
            found.extend(names.map(|name| (Span::new(source, open + name.start, open + name.end), new.to_owned())));
            start = close;
        }
    }
    found
}

/// Paths in texts of rules that begin with a module's name, or with that of its copy.
fn paths(analysis: &Analysis, old: &str, new: &str) -> Vec<(Span, String)> {
    let mut found = Vec::new();
    for (_, file) in &analysis.index.files {
        let pipelines = file.items.iter().filter_map(|item| match item {
            Item::Pipeline(pipeline) => Some(pipeline),
            _ => None,
        });
        for entry in pipelines.flat_map(|pipeline| &pipeline.sections).flat_map(|section| &section.entries) {
            let Entry::Rule(rule) = entry else { continue };
            let RuleSelector::Paths(paths) = &rule.selector else { continue };
            for Expr { kind, span } in paths {
                let ExprKind::Str(text) = kind else { continue };
                let Some(rest) = text.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with('.')) else {
                    continue;
                };
                found.push((*span, format!("\"{new}{rest}\"")));
            }
        }
    }
    found
}
