//! A text that recovery changes until the grammar takes it, each byte with the place that it comes from.
//!
//! **Invariant:** the text and the origins of its bytes are of one length.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::token::{Kind, tokens};
use crate::diag::{self, Code, Diagnostic};
use crate::source::{SourceId, Span};

/// Stands for a value that could not be read: a letter that no text holds, the grammar's `unread`.
pub const UNREAD: char = '\u{1a}';

/// Where a byte comes from: itself, or what was written in its place.
type Origin = (u32, u32);

pub struct Mended {
    pub text: String,
    origins: Vec<Origin>,
    /// Names within what was left out.
    pub unread: BTreeSet<Arc<str>>,
}

/// One change: what stands in `range` becomes `text`.
#[derive(Debug, Clone)]
pub struct Edit {
    pub range: Range<usize>,
    pub text: String,
}

impl Mended {
    pub fn new(text: &str) -> Self {
        let origins = (0..text.len() as u32).map(|at| (at, at + 1)).collect();
        Mended { text: text.to_owned(), origins, unread: BTreeSet::new() }
    }

    /// Applies edits; of two that overlap the first.
    pub fn apply(&mut self, mut edits: Vec<Edit>) {
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        let (mut text, mut origins) = (String::with_capacity(self.text.len()), Vec::with_capacity(self.text.len()));
        let mut read = 0;
        for edit in edits {
            if edit.range.start < read {
                continue;
            }
            text.push_str(&self.text[read..edit.range.start]);
            origins.extend_from_slice(&self.origins[read..edit.range.start]);
            text.push_str(&edit.text);
            origins.extend(std::iter::repeat_n(self.origin(&edit.range), edit.text.len()));
            read = edit.range.end;
        }
        text.push_str(&self.text[read..]);
        origins.extend_from_slice(&self.origins[read..]);
        (self.text, self.origins) = (text, origins);
    }

    /// Notes the names of what is about to be left out, and those that went with it.
    pub fn leave_out(&mut self, range: Option<Range<usize>>, lost: &[String]) {
        let left = &self.text[range.unwrap_or_default()];
        let names = tokens(left).into_iter().filter(|token| token.kind == Kind::Name);
        self.unread.extend(names.map(|token| Arc::from(&left[token.range()])));
        self.unread.extend(lost.iter().map(|name| Arc::from(name.as_str())));
    }

    /// Where the bytes of `range` come from; an empty one is a place between two.
    pub fn origin(&self, range: &Range<usize>) -> Origin {
        let after_all = self.origins.last().map_or(0, |last| last.1);
        let start = match self.origins.get(range.start) {
            // Behind the letter before it, where a place is meant, not behind the blanks that follow.
            _ if range.is_empty() && range.start > 0 => self.origins[range.start - 1].1,
            Some(origin) => origin.0,
            None => after_all,
        };
        let end = if range.is_empty() { start } else { self.origins.get(range.end - 1).map_or(after_all, |o| o.1) };
        (start, end.max(start))
    }

    pub fn span(&self, id: SourceId, range: &Range<usize>) -> Span {
        let (start, end) = self.origin(range);
        Span::new(id, start as usize, end as usize)
    }
}

/// Something that the grammar does not take: what is told of it, and what makes it pass.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Faults of one form on one line are told together.
    pub form: &'static str,
    pub code: Code,
    pub message: String,
    pub labels: Vec<(Range<usize>, String)>,
    pub help: String,
    pub edits: Vec<Edit>,
    /// What is not read at all.
    pub left_out: Option<Range<usize>>,
    /// Names that it may have brought.
    pub lost: Vec<String>,
}

impl Fault {
    pub fn new(form: &'static str, code: Code, message: impl Into<String>) -> Self {
        let (labels, edits) = (Vec::new(), Vec::new());
        Fault {
            form,
            code,
            message: message.into(),
            labels,
            help: String::new(),
            edits,
            left_out: None,
            lost: Vec::new(),
        }
    }

    pub fn label(mut self, range: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push((range, text.into()));
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    pub fn edit(mut self, range: Range<usize>, text: impl Into<String>) -> Self {
        self.edits.push(Edit { range, text: text.into() });
        self
    }

    /// Leaves `range` out: where it is a value, `put` is [`UNREAD`].
    pub fn leave_out(mut self, range: Range<usize>, put: impl Into<String>) -> Self {
        self.left_out = Some(range.clone());
        self.edit(range, put)
    }

    /// As it is told of the text that was written.
    pub fn diagnostic(&self, id: SourceId, mended: &Mended) -> Diagnostic {
        let mut diagnostic = Diagnostic::new(self.code, self.message.clone()).help(self.help.clone());
        // What is left out, or stands for a value that nobody knows, is for people to mend.
        if self.left_out.is_none() && !self.edits.iter().any(|edit| edit.text.contains(UNREAD)) {
            let edits = self.edits.iter();
            diagnostic.edits = edits
                .map(|Edit { range, text }| diag::Edit { span: mended.span(id, range), text: text.clone() })
                .collect();
        }
        self.labels.iter().fold(diagnostic, |told, (range, text)| told.label(mended.span(id, range), text.clone()))
    }
}
