//! Diagnostics for programs: JSON lines, SARIF 2.1.0, and the commands by which GitHub's workflows mark lines of a change.
//!
//! **Invariant:** each format holds the code, the severity, the message with its help, and every place.

use serde_json::{Value, json};

use super::{Change, Code, Diagnostic, Severity, changes};
use crate::source::{Sources, Span};

/// One JSON object a line: severity, code, message, help, labels (file, line, column, end_line, end_column, text), fixes: ways to mend
/// it, each a title and edits that belong together (place as of labels, and the text that is to stand there).
pub fn render_json(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let labels: Vec<Value> = diagnostic.labels.iter().map(|(span, label)| placed(sources, *span, label)).collect();
        let fix = |Change { title, edits }: Change| {
            let edits: Vec<Value> = edits.iter().map(|edit| placed(sources, edit.span, &edit.text)).collect();
            json!({ "title": title, "edits": edits })
        };
        let fixes: Vec<Value> = changes(diagnostic, sources).into_iter().map(fix).collect();
        let object = json!({
            "severity": diagnostic.severity().name(), "code": diagnostic.code.as_str(), "message": diagnostic.message,
            "help": diagnostic.help, "labels": labels, "fixes": fixes,
        });
        text.push_str(&object.to_string());
        text.push('\n');
    }
    text
}

/// A place and what is said of it, or is to stand there.
fn placed(sources: &Sources, span: Span, text: &str) -> Value {
    let place = Place::of(sources, span);
    json!({
        "file": place.file, "line": place.start.0, "column": place.start.1,
        "end_line": place.end.0, "end_column": place.end.1, "text": text,
    })
}

/// One workflow command a line, at the first place of each: <https://docs.github.com/actions>, "workflow commands".
pub fn render_github(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut text = String::new();
    for diagnostic in diagnostics {
        let mut properties = Vec::new();
        if let Some((span, _)) = diagnostic.labels.first() {
            let Place { file, start, end } = Place::of(sources, *span);
            properties.push(format!("file={}", property(file)));
            properties.push(format!("line={},col={}", start.0, start.1));
            // Columns are read only where the line is one.
            let end_column = if end.0 == start.0 { format!(",endColumn={}", end.1) } else { String::new() };
            properties.push(format!("endLine={}{end_column}", end.0));
        }
        properties.push(format!("title={}", property(diagnostic.code.as_str())));
        let (severity, message) = (diagnostic.severity().name(), data(&in_words(diagnostic)));
        text.push_str(&format!("::{severity} {}::{message}\n", properties.join(",")));
    }
    text
}

/// The message, and on a line of its own the help.
fn in_words(diagnostic: &Diagnostic) -> String {
    match &diagnostic.help {
        Some(help) => format!("{}\nhelp: {help}", diagnostic.message),
        None => diagnostic.message.clone(),
    }
}

/// One log of all that was told: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
#[derive(Debug, Default)]
pub struct Sarif {
    /// Codes of which there are results, in the order of their first.
    codes: Vec<Code>,
    results: Vec<Value>,
}

impl Sarif {
    pub fn add(&mut self, diagnostics: &[Diagnostic], sources: &Sources) {
        for diagnostic in diagnostics {
            let rule = self.codes.iter().position(|code| *code == diagnostic.code).unwrap_or_else(|| {
                self.codes.push(diagnostic.code);
                self.codes.len() - 1
            });
            let mut places = diagnostic.labels.iter().map(|(span, text)| location(sources, *span, text));
            let mut result = json!({
                "ruleId": diagnostic.code.as_str(),
                "ruleIndex": rule,
                "level": diagnostic.severity().name(),
                "message": { "text": in_words(diagnostic) },
                "locations": places.next().into_iter().collect::<Vec<_>>(),
            });
            let related: Vec<Value> = places.collect();
            if !related.is_empty() {
                result["relatedLocations"] = related.into();
            }
            let fixes: Vec<Value> = changes(diagnostic, sources).iter().map(|change| fix(sources, change)).collect();
            if !fixes.is_empty() {
                result["fixes"] = fixes.into();
            }
            self.results.push(result);
        }
    }

    /// The whole log.
    pub fn text(&self) -> String {
        let rules: Vec<Value> = self.codes.iter().map(|code| rule(*code)).collect();
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": { "name": "cmaec", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
                "columnKind": "unicodeCodePoints",
                "results": self.results,
            }],
        });
        format!("{log:#}\n")
    }
}

/// A code as the log describes it, with its page.
fn rule(code: Code) -> Value {
    let page = code.explanation().unwrap_or_default();
    let first = page.split("\n\n").nth(1).unwrap_or(code.as_str()).trim().replace('\n', " ");
    let level = if code.severity() == Severity::Error { "error" } else { "warning" };
    json!({
        "id": code.as_str(),
        "shortDescription": { "text": first },
        "help": { "text": page.trim(), "markdown": page.trim() },
        "defaultConfiguration": { "level": level },
    })
}

fn location(sources: &Sources, span: Span, text: &str) -> Value {
    let Place { file, start, end } = Place::of(sources, span);
    json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(file) },
            "region": { "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1 },
        },
        "message": { "text": text },
    })
}

/// A change as the log describes it: of each file, what is replaced by what.
fn fix(sources: &Sources, change: &Change) -> Value {
    let replaced: Vec<Value> = change
        .edits
        .iter()
        .map(|edit| {
            let Place { file, start, end } = Place::of(sources, edit.span);
            json!({
                "artifactLocation": { "uri": uri(file) },
                "replacements": [{
                    "deletedRegion": {
                        "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1,
                    },
                    "insertedContent": { "text": edit.text },
                }],
            })
        })
        .collect();
    json!({ "description": { "text": change.title }, "artifactChanges": replaced })
}

/// A path as a reference of RFC 3986: with `/`, and what is not plain in percent signs.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Lines and columns of a span, from 1, in letters; the end is behind the last.
struct Place<'s> {
    file: &'s str,
    start: (usize, usize),
    end: (usize, usize),
}

impl<'s> Place<'s> {
    fn of(sources: &'s Sources, span: Span) -> Self {
        let source = sources.get(span.source);
        let at = |byte: u32| {
            let before = source.text.get(..byte as usize).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |i| i + 1);
            (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
        };
        Place { file: &source.name, start: at(span.start), end: at(span.end) }
    }
}
