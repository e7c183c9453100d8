//! Sections of a pipeline: which there are, what `model` defines, and the counts that settings are.

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::syntax::ast::{Entry, Pipeline, Section, SectionKind};

use super::args::MAX_COUNT;
use super::misfit::wrong_type;
use super::value::Value;

/// The one setting of `evaluate`; all other names are definitions and calls.
pub const EVALUATION_BATCH: &str = "batch_size";

/// What `evaluate` calls: by itself, or as the value of a definition of its name.
pub const EVALUATION_CALLS: [&str; 2] = ["knn", "reconstructions"];

/// Names that `model` defines, with their places.
pub fn model_definitions(pipeline: &Pipeline) -> Vec<(String, Span)> {
    let entries = sections(pipeline, SectionKind::Model).flat_map(|s| &s.entries);
    let names = entries.filter_map(|entry| match entry {
        Entry::Binding(binding) => Some((binding.name.text.to_string(), binding.value.span)),
        _ => None,
    });
    names.collect()
}

/// Sections of `pipeline` of one kind.
pub fn sections(pipeline: &Pipeline, kind: SectionKind) -> impl Iterator<Item = &Section> {
    pipeline.sections.iter().filter(move |s| s.kind == kind)
}

/// The value of `what`, a count.
pub fn whole(what: &str, value: &Value) -> Result<usize, Diagnostic> {
    match value.whole() {
        Some(n) if n > MAX_COUNT => {
            let message = format!("{what} is {n}, {MAX_COUNT} is the most");
            Err(Diagnostic::new(Code::TooLarge, message).label(value.span, "too large").help("write a smaller number"))
        }
        Some(n) if n > 0 => Ok(n as usize),
        _ => Err(wrong_type(what, value, "a whole number from 1")),
    }
}
