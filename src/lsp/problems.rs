//! Diagnostics as editors show them.

use serde_json::{Value, json};

use super::analysis::Analysis;
use super::places::place;
use super::protocol::{ERROR, Range, WARNING};
use super::uri;
use super::world::Document;
use crate::diag::{Code, Diagnostic, Severity};
use crate::source::Span;
use crate::syntax::ast::Use;

/// All that is wrong in a document, or hardly meant.
pub fn json(analysis: &Analysis, document: &Document) -> Vec<Value> {
    analysis.found.iter().map(|told| one(analysis, document, told)).collect()
}

pub fn one(analysis: &Analysis, document: &Document, told: &Diagnostic) -> Value {
    let severity = if told.severity() == Severity::Error { ERROR } else { WARNING };
    let message = match &told.help {
        Some(help) => format!("{}\nhelp: {help}", told.message),
        None => told.message.clone(),
    };
    let mut json = json!({
        "range": range(analysis, document, told).json(), "severity": severity, "code": told.code.as_str(), "source": "cmaec", "message": message,
    });
    let related: Vec<Value> = told
        .labels
        .iter()
        .filter_map(|(span, text)| {
            let (path, range) = place(analysis, *span, document)?;
            let uri = if path == document.path { document.uri.clone() } else { uri::of(&path) };
            Some(json!({ "location": { "uri": uri, "range": range.json() }, "message": text }))
        })
        .collect();
    if !related.is_empty() {
        json["relatedInformation"] = related.into();
    }
    if told.code == Code::UnusedName {
        // 1: faded, since nothing reads it.
        json["tags"] = json!([1]);
    }
    json
}

/// Where it is shown: at its first place in the document, else at the `use` that brings in the other file.
pub fn range(analysis: &Analysis, document: &Document, told: &Diagnostic) -> Range {
    let own = told.labels.iter().map(|(span, _)| *span).find(|span| Some(span.source) == analysis.root);
    let span = own.or_else(|| first_use(analysis));
    span.map_or(document.text.range(0, 0), |span| document.text.range(span.start as usize, span.end as usize))
}

fn first_use(analysis: &Analysis) -> Option<Span> {
    let (_, file) = analysis.index.files.iter().find(|(id, _)| Some(*id) == analysis.root)?;
    file.uses.first().map(|used| match used {
        Use::Items { span, .. } | Use::Pipeline { span, .. } => *span,
    })
}
