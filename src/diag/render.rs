//! Draws diagnostics for people, with miette.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::{Diagnostic, Severity};
use crate::source::{SourceId, Sources};

/// One source's share of a diagnostic, as miette wants it.
#[derive(Debug)]
struct Part {
    message: String,
    code: Option<&'static str>,
    severity: miette::Severity,
    help: Option<String>,
    labels: Vec<LabeledSpan>,
    source: Option<NamedSource<String>>,
    related: Vec<Part>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Part {}

impl miette::Diagnostic for Part {
    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.related.is_empty() {
            return None;
        }
        Some(Box::new(self.related.iter().map(|part| part as &dyn miette::Diagnostic)))
    }
}

/// Text for a terminal; `color` as the terminal allows.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let part = part_of(diagnostic, sources);
        if handler.render_report(&mut text, &part).is_err() {
            // The handler fails only where a span lies outside its source.
            text.push_str(&format!("{}: {}\n", diagnostic.code.as_str(), diagnostic.message));
        }
        text.push('\n');
    }
    text
}

fn part_of(diagnostic: &Diagnostic, sources: &Sources) -> Part {
    // miette shows one source a report: labels elsewhere become related reports, in the order of the labels.
    let mut order: Vec<SourceId> = Vec::new();
    for (span, _) in &diagnostic.labels {
        if !order.contains(&span.source) {
            order.push(span.source);
        }
    }
    let mut parts = order.iter().map(|id| {
        let source = sources.get(*id);
        let labels = diagnostic.labels.iter().filter(|(span, _)| span.source == *id);
        Part {
            message: String::new(),
            code: None,
            // Places of one error in other files: no errors of their own.
            severity: miette::Severity::Advice,
            help: None,
            labels: labels
                .map(|(span, text)| {
                    let length = (span.end - span.start) as usize;
                    LabeledSpan::new(Some(text.clone()), span.start as usize, length)
                })
                .collect(),
            source: Some(NamedSource::new(&source.name, source.text.to_string())),
            related: Vec::new(),
        }
    });
    let first = parts.next();
    let related = parts.map(|part| Part { message: "and here".into(), ..part }).collect();
    let (labels, source) = first.map_or((Vec::new(), None), |part| (part.labels, part.source));
    let (severity, message) = match diagnostic.severity() {
        Severity::Error => (miette::Severity::Error, diagnostic.message.clone()),
        Severity::Warning => (miette::Severity::Warning, format!("warning: {}", diagnostic.message)),
    };
    Part {
        message,
        code: Some(diagnostic.code.as_str()),
        severity,
        help: diagnostic.help.clone(),
        labels,
        source,
        related,
    }
}
