//! Diagnostics: what is wrong in a file, or hardly meant, where, and what to write instead.
//!
//! Every phase pushes into one [`Diagnostics`]; the next phase starts only without errors. They stay structured until
//! [`render`] draws them.
//!
//! **Invariant:** every [`Code`] has a section in its page under `codes/`, whose example gives that code (a test), but for
//! those that arise as a run starts.

mod change;
mod code;
mod formats;
mod render;
mod suggest;

use std::collections::BTreeSet;

pub use change::{Change, Edit, changes};
pub use code::Code;
pub use formats::{Sarif, render_github, render_json};
pub use render::render;
pub use suggest::{is_near, listed, nearest, suggest};

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
    /// What mends it, where who found it knows the places: all of them together. Else see [`changes`].
    pub edits: Vec<Edit>,
}

impl Diagnostic {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Diagnostic { code, message: message.into(), labels: Vec::new(), help: None, edits: Vec::new() }
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

    /// What stands at `span` becomes `text`: a part of what mends it.
    pub fn edit(mut self, span: Span, text: impl Into<String>) -> Self {
        self.edits.push(Edit { span, text: text.into() });
        self
    }

    /// Takes `help` where there is one.
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Takes in the place of `other`, where it is the same name that is not known there either: one definition is missing, or one name
    /// misspelt throughout.
    fn takes_in(&mut self, other: &Diagnostic) -> bool {
        const PLACES: usize = 5;
        let same = self.code == Code::UnknownName
            && (self.code, &self.message, &self.help) == (other.code, &other.message, &other.help);
        if let (true, Some((span, _))) = (same, other.labels.first())
            && self.labels.len() < PLACES
            && !self.labels.iter().any(|(told, _)| told == span)
        {
            self.labels.push((*span, "nor here".into()));
        }
        same
    }

    /// Whether one change of the file mends both: the same culprit, and the same line to type.
    fn mends_as(&self, other: &Diagnostic) -> bool {
        // The same name, unknown at another place, is to be mended there too, unless both want what stands elsewhere.
        let culprits = |d: &Diagnostic| -> Vec<Span> {
            let first = usize::from(d.code == Code::UnknownName && d.labels.len() > 1);
            d.labels.iter().skip(first).map(|(span, _)| *span).take(1).collect()
        };
        let told = self.help.is_some() && self.help == other.help && !self.labels.is_empty();
        // The same words at another place are the same mistake.
        let same_words = self.message == other.message
            && matches!(self.code, Code::Requirement | Code::ShapeMismatch | Code::GraphTooLarge);
        told && (same_words || culprits(self) == culprits(other))
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
    calls: Vec<Call>,
    muted: bool,
}

/// A call that is under way.
#[derive(Debug)]
struct Call {
    span: Span,
    /// Of what is called.
    head: Span,
    /// The name that is called; of the user's calls alone, as are the arguments.
    callee: String,
    /// Each with its place and what it is.
    arguments: Vec<(Span, String)>,
}

impl Diagnostics {
    pub fn push(&mut self, diagnostic: Diagnostic) -> Reported {
        // A block used twelve times would say the same thing twelve times.
        if self.muted || self.is_full() || self.pushed.contains(&diagnostic) {
            return Reported;
        }
        self.pushed.push(diagnostic.clone());
        let placed = self.placed(diagnostic);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.list).into_iter().partition(|d| d.severity() == Severity::Error);
        self.list = errors;
        match placed.severity() {
            // A length without its unit goes wrong wherever it is used, and is mended once.
            Severity::Error if self.list.iter().any(|told| told.mends_as(&placed)) => self.list.extend(warnings),
            Severity::Error if self.list.iter_mut().any(|told| told.takes_in(&placed)) => self.list.extend(warnings),
            Severity::Error => {
                self.list.push(placed);
                // What a misspelt name was to read is no fault of its own.
                self.list.extend(warnings.into_iter().filter(|warning| warning.code != Code::UnusedName));
            }
            Severity::Warning if placed.code == Code::UnusedName && !self.list.is_empty() => self.list.extend(warnings),
            Severity::Warning => {
                self.list.extend(warnings);
                self.list.push(placed);
            }
        }
        Reported
    }

    /// With a label in the user's text first: one that it has, or the innermost call that led into the library, with what that
    /// call was given.
    fn placed(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        if !diagnostic.labels.iter().any(|(span, _)| self.in_library(span)) {
            return diagnostic;
        }
        let Some(call) = self.calls.iter().rev().find(|call| !self.in_library(&call.span)) else { return diagnostic };
        let within =
            |span: &Span| span.source == call.span.source && call.span.start <= span.start && span.end <= call.span.end;
        let own = diagnostic.labels.iter().any(|(span, _)| !self.in_library(span));
        let (mut first, mut library): (Vec<_>, Vec<_>) =
            std::mem::take(&mut diagnostic.labels).into_iter().partition(|(span, _)| !self.in_library(span));
        if !first.iter().any(|(span, _)| within(span)) {
            first.insert(0, (call.head, "in this call".into()));
        }
        if !own {
            if !call.callee.is_empty() && !diagnostic.message.contains(&format!("`{}`", call.callee)) {
                diagnostic.message = format!("`{}` cannot work with this: {}", call.callee, diagnostic.message);
            }
            let given = call.arguments.iter().filter(|(span, _)| !self.in_library(span)).cloned();
            first.extend(given);
        }
        // The library's own values are in the message: of its places the one that asks is enough.
        match diagnostic.code {
            Code::Requirement => drop(library.drain(..library.len().saturating_sub(1))),
            Code::ShapeMismatch => library.truncate(1),
            _ => {}
        }
        diagnostic.labels = first.into_iter().chain(library).collect();
        diagnostic
    }

    fn in_library(&self, span: &Span) -> bool {
        self.library.contains(&span.source)
    }

    /// Whether what follows goes untold, as where the same was gone through before; gives what held until now.
    pub fn mute(&mut self, muted: bool) -> bool {
        std::mem::replace(&mut self.muted, muted)
    }

    /// The text `source` is the library's.
    pub fn add_library(&mut self, source: SourceId) {
        self.library.insert(source);
    }

    /// What follows is asked for by the call at `span`, of what stands at `head`, until [`Diagnostics::leave`].
    pub fn enter(&mut self, span: Span, head: Span) {
        self.calls.push(Call { span, head, callee: String::new(), arguments: Vec::new() });
    }

    /// The innermost call is the user's own, and one of `callee`: what it is given is worth noting.
    pub fn calls_out(&mut self, callee: &str) -> bool {
        let library = &self.library;
        match self.calls.last_mut() {
            Some(call) if !library.contains(&call.span.source) => {
                call.callee = callee.to_owned();
                true
            }
            _ => false,
        }
    }

    /// Notes an argument of the innermost call, and what it is.
    pub fn given(&mut self, span: Span, what: String) {
        if let Some(call) = self.calls.last_mut() {
            call.arguments.push((span, what));
        }
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
