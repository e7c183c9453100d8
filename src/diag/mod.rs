//! Diagnostics: what is wrong in a file, or hardly meant, where, and what to write instead.
//!
//! Every phase pushes into one [`Diagnostics`]; the next phase starts only without errors. They stay structured until
//! [`render`] draws them.
//!
//! **Invariant:** every [`Code`] has a section in its page under `codes/`, whose example gives that code (a test), but for
//! those that arise as a run starts.

mod code;
mod render;
mod suggest;

use std::collections::BTreeSet;

pub use code::Code;
pub use render::{render, render_json};
pub use suggest::suggest;

use crate::source::{SourceId, Span};

/// Marker that a diagnostic was pushed and the value it was about is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported;

/// Whether what a diagnostic says keeps the pipeline from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It runs, and does something that its author hardly meant.
    Warning,
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One error or warning: a short lower-case clause, a label on each culprit, and a line to type.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub code: Code,
    pub message: String,
    pub labels: Vec<(Span, String)>,
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { code, message: message.into(), labels: Vec::new(), help: None }
    }

    /// Adds a label; the first one says where the error is. A span that has a label already keeps it.
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if !self.labels.iter().any(|(s, _)| *s == span) {
            self.labels.push((span, text.into()));
        }
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// Errors that are told: nobody mends more at once, and those of a text that is broken throughout would not end.
const MAX_TOLD: usize = 50;

/// The sink of all phases.
///
/// It knows which texts are the library's and which calls of the user's are under way, so that whatever goes wrong within the
/// library is shown first where the user asked for it.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// The same as they were pushed, before any label moved.
    pushed: Vec<Diagnostic>,
    library: BTreeSet<SourceId>,
    calls: Vec<Span>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) -> Reported {
        // A block used twelve times would say the same thing twelve times.
        if !self.is_full() && !self.pushed.contains(&diagnostic) {
            self.pushed.push(diagnostic.clone());
            let placed = self.placed(diagnostic);
            self.list.push(placed);
        }
        Reported
    }

    /// With a label in the user's text first: one that it has, or the innermost call that led into the library.
    fn placed(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        let in_library = |span: &Span| self.library.contains(&span.source);
        match diagnostic.labels.first() {
            Some((first, _)) if in_library(first) => {}
            _ => return diagnostic,
        }
        let own = diagnostic.labels.iter().position(|(span, _)| !in_library(span));
        let call = self.calls.iter().rev().find(|span| !in_library(span));
        match (own, call) {
            (Some(own), _) => diagnostic.labels[..=own].rotate_right(1),
            (None, Some(call)) => diagnostic.labels.insert(0, (*call, "this leads there".into())),
            (None, None) => {}
        }
        diagnostic
    }

    /// The text `source` is the library's.
    pub fn add_library(&mut self, source: SourceId) {
        self.library.insert(source);
    }

    /// What follows is asked for by the call at `span`, until [`Diagnostics::leave`].
    pub fn enter(&mut self, span: Span) {
        self.calls.push(span);
    }

    pub fn leave(&mut self) {
        self.calls.pop();
    }

    /// Whether the next phase may start.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity() == Severity::Error)
    }

    /// Whether what is pushed now is not told any more.
    pub fn is_full(&self) -> bool {
        self.list.len() >= MAX_TOLD && self.has_errors()
    }

    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    pub fn warnings(&self) -> Vec<Diagnostic> {
        self.list.iter().filter(|diagnostic| diagnostic.severity() == Severity::Warning).cloned().collect()
    }
}
