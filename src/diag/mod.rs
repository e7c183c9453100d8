//! Diagnostics: what is wrong in a file, where, and what to write instead.
//!
//! Every phase pushes into one [`Diagnostics`]; the next phase starts only without errors. They stay structured until
//! [`render`] draws them.
//!
//! **Invariant:** every [`Code`] has a section in its page under `codes/`, whose example gives that code (a test), but for
//! those that arise as a run starts.

mod code;
mod render;
mod suggest;

pub use code::Code;
pub use render::{render, render_json};
pub use suggest::suggest;

use crate::source::Span;

/// Marker that a diagnostic was pushed and the value it was about is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported;

/// One error: a short lower-case clause, a label on each culprit, and a line to type.
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
}

/// The sink of all phases.
#[derive(Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) -> Reported {
        // A block used twelve times would say the same thing twelve times.
        if !self.list.contains(&diagnostic) {
            self.list.push(diagnostic);
        }
        Reported
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }
}
