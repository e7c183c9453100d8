//! Sections of a pipeline: which there are, what `model` defines, and the counts that settings are.

use crate::diag::{Code, Diagnostic, suggest};
use crate::source::Span;
use crate::syntax::ast::{Binding, Entry, Expr, ExprKind, Name, Pipeline, Section, SectionKind};

use super::args::MAX_COUNT;
use super::misfit::wrong_type;
use super::value::Value;

/// The one setting of `evaluate`; all other names are definitions and calls.
pub const EVALUATION_BATCH: &str = "batch_size";

/// What `evaluate` calls: by itself, or as the value of a definition.
pub const EVALUATION_CALLS: [&str; 5] = ["knn", "linear", "classify", "segment", "reconstructions"];

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

/// The word by which a path names a section: a branch goes by its own name.
pub fn section_word(section: &Section) -> String {
    match &section.kind {
        SectionKind::Data => "data".into(),
        SectionKind::Views => "views".into(),
        SectionKind::Model => "model".into(),
        SectionKind::Branch(name, _) => name.text.to_string(),
        SectionKind::Losses => "losses".into(),
        SectionKind::Monitor => "monitor".into(),
        SectionKind::Train => "train".into(),
        SectionKind::Evaluate => "evaluate".into(),
        SectionKind::Export => "export".into(),
    }
}

pub fn section_words(pipeline: &Pipeline) -> Vec<String> {
    pipeline.sections.iter().map(section_word).collect()
}

/// What a section binds, in its order.
pub fn bindings(section: &Section) -> impl Iterator<Item = &Binding> {
    section.entries.iter().filter_map(|e| match e {
        Entry::Binding(binding) => Some(binding),
        _ => None,
    })
}

pub fn bindings_mut(section: &mut Section) -> impl Iterator<Item = &mut Binding> {
    section.entries.iter_mut().filter_map(|e| match e {
        Entry::Binding(binding) => Some(binding),
        _ => None,
    })
}

/// Name of a call that stands by itself: `knn(…)` in `evaluate`.
pub fn call_of(entry: &Entry) -> Option<String> {
    let Entry::Expr(Expr { kind: ExprKind::Call(callee, _), .. }) = entry else { return None };
    match &callee.kind {
        ExprKind::Path(names) if names.len() == 1 => Some(names[0].text.to_string()),
        _ => None,
    }
}

/// A change names what `owner` does not have.
pub fn missing(name: &Name, owner: &str, known: Vec<String>) -> Diagnostic {
    Diagnostic::new(Code::UnknownSetting, format!("{owner} has no `{}`", name.text))
        .label(name.span, "not there")
        .maybe_help(suggest(&name.text, known.iter().map(String::as_str)))
}
