//! What the compiler says of one document, with all that are open in the place of what lies on the disk.
//!
//! **Invariant:** it always comes to an end with an answer: a compiler that gives up is told like any other mistake.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::elab::{self, Index, Library, Value};
use crate::graph::build::build;
use crate::shape;
use crate::source::{SourceId, Sources, Span};

pub struct Analysis {
    pub sources: Sources,
    /// The document; none where it cannot be read.
    pub root: Option<SourceId>,
    pub found: Vec<Diagnostic>,
    pub index: Index,
    /// What it was when it last had no errors, for what still stands.
    pub before: Option<Rc<Analysis>>,
}

/// Texts that hide what lies on the disk.
pub type Overlay<'o> = &'o [(PathBuf, String)];

impl Analysis {
    pub fn of(path: &Path, overlay: Overlay<'_>, stdlib: Option<&Path>, library: Library) -> Analysis {
        let mut sources = stdlib.map_or_else(Sources::new, Sources::with_stdlib);
        // Files of a folder may change.
        let library = if stdlib.is_some() { Library::default() } else { library };
        sources.preload_stdlib();
        for (path, text) in overlay {
            // The mark before a text is no part of it; bytes that mean nothing keep the places of all others.
            let plain = text.strip_prefix('\u{feff}').map(|rest| format!("   {rest}"));
            sources.add_file(path, plain.as_ref().unwrap_or(text));
        }
        let index = Rc::new(RefCell::new(Index::new(shape::op_signature, library.clone())));
        let mut diagnostics = Diagnostics::default();
        let compiled = catch_unwind(AssertUnwindSafe(|| {
            let bound = elab::elaborate_into(&mut sources, &mut diagnostics, path, &[], Some(index.clone()))?;
            let typed = shape::check(bound)?;
            build(typed, &mut diagnostics)
        }));
        let root = sources.load(path).ok();
        let mut found = match compiled {
            // Pictures are not counted: that takes as long as a folder is large.
            Ok(Ok(compiled)) => compiled.warnings(None),
            Ok(Err(_)) => diagnostics.list().to_vec(),
            Err(_) => {
                let told = Diagnostic::new(Code::Internal, "the compiler gave up on this text: a fault of its own");
                vec![told.help("please report it, with the text")]
            }
        };
        // What others use holds blocks and functions alone.
        found.retain(|told| told.code != Code::NoPipeline || !told.message.ends_with("holds no pipeline"));
        Analysis { sources, root, found, index: index.replace(Index::new(shape::op_signature, library)), before: None }
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|told| told.severity() == crate::diag::Severity::Error)
    }

    /// Whether it hangs on the file at `path`.
    pub fn reads(&self, path: &Path) -> bool {
        self.sources.iter().any(|source| Path::new(&source.name) == path)
    }

    pub fn text(&self) -> Arc<str> {
        self.root.map_or_else(|| "".into(), |root| self.sources.get(root).text.clone())
    }

    /// What stands at a place of the document, now or where the same text stood when it last had no errors.
    pub fn value(&self, span: Span) -> Option<(Value, &Analysis)> {
        if let Some(value) = self.index.values.get(&span) {
            return Some((value.clone(), self));
        }
        let before = self.before.as_deref()?;
        let moved = before.moved(&self.text(), span)?;
        before.index.values.get(&moved).map(|value| (value.clone(), before))
    }

    /// Where what stands at `span` of `now` stood in this text, if a change lies before or behind it.
    fn moved(&self, now: &str, span: Span) -> Option<Span> {
        let then = self.text();
        let same = then.bytes().zip(now.bytes()).take_while(|(a, b)| a == b).count();
        let tail = then.bytes().rev().zip(now.bytes().rev()).take_while(|(a, b)| a == b).count();
        let (start, end) = (span.start as usize, span.end as usize);
        let source = self.root?;
        if end <= same {
            return Some(Span { source, ..span });
        }
        let shift = |at: usize| (at + then.len()).checked_sub(now.len());
        (start + tail >= now.len()).then(|| Some(Span::new(source, shift(start)?, shift(end)?)))?
    }
}
