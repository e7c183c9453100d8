//! Where a place of the compiler's lies for an editor, and what stands at a place of the editor's.

use std::path::{Path, PathBuf};

use super::analysis::Analysis;
use super::document::{Encoding, Text};
use super::library;
use super::protocol::Range;
use super::world::{Document, World};
use crate::elab::{Defined, Meaning};
use crate::source::Span;

/// File and range of a span. The document's own text is at hand; others are those that were compiled.
pub fn place(analysis: &Analysis, span: Span, document: &Document) -> Option<(PathBuf, Range)> {
    let (start, end) = (span.start as usize, span.end as usize);
    if Some(span.source) == analysis.root {
        return Some((document.path.clone(), document.text.range(start, end)));
    }
    let source = analysis.sources.get(span.source);
    let path = library::file(source)?;
    Some((path, Text::new(&*source.text, document.text.encoding()).range(start, end)))
}

/// The same of an analysis of another document, whose texts are those that were compiled.
pub fn place_in(analysis: &Analysis, span: Span, encoding: Encoding) -> Option<(PathBuf, Range)> {
    let source = analysis.sources.get(span.source);
    let path = library::file(source)?;
    Some((path, Text::new(&*source.text, encoding).range(span.start as usize, span.end as usize)))
}

/// A place whichever analysis speaks of it: the library's texts are the same in all, and in the files that hold them.
pub type Key = (String, u32, u32);

pub fn key(analysis: &Analysis, span: Span) -> Key {
    let source = analysis.sources.get(span.source);
    if let Some(pipeline) = source.name.strip_prefix("std::") {
        return (format!("std/{pipeline}.cmae"), span.start, span.end);
    }
    let file = Path::new(&source.name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let library = source.library || library::holds(Path::new(&source.name));
    (if library { format!("std/{file}") } else { source.name.clone() }, span.start, span.end)
}

/// The name that a byte of the document lies in, or stands right behind, and what it means.
pub fn name_at(world: &World<'_>, at: usize) -> Option<(Span, Meaning)> {
    let root = world.analysis.root?;
    let names = &world.analysis.index.names;
    let (low, high) = (Span::new(root, 0, 0), Span::new(root, at, usize::MAX >> 1));
    let mut found = names.range(low..=high).rev().take_while(|(span, _)| span.source == root);
    let (span, meaning) = found.find(|(span, _)| span.start as usize <= at)?;
    (at <= span.end as usize).then(|| (*span, meaning.clone()))
}

/// What is defined at a place, and the analysis that knows it.
pub fn defined(analysis: &Analysis, at: Span) -> Option<&Defined> {
    analysis.index.definitions.iter().find(|defined| defined.name.span == at)
}

/// The innermost expression around a byte whose value is known.
pub fn expression_at(analysis: &Analysis, at: usize) -> Option<Span> {
    let root = analysis.root?;
    let around = |span: &&Span| span.source == root && span.start as usize <= at && at < span.end as usize;
    analysis.index.values.keys().filter(around).min_by_key(|span| span.end - span.start).copied()
}
