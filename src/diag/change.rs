//! What a help line says to type, as changes of the text: for editors, and for programs that read what `check` tells.
//!
//! **Invariant:** a change is what the help line says, taken at its word; where the line is for people alone (it holds a gap, or
//! speaks of another place) there is none.

use super::{Code, Diagnostic};
use crate::source::{Sources, Span};

/// What stands at `span` becomes `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub span: Span,
    pub text: String,
}

/// One way to mend what a diagnostic is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In the words of the help line.
    pub title: String,
    /// All of them together; they do not overlap.
    pub edits: Vec<Edit>,
}

/// The ways to mend it that its help line gives: those of `write `A` or `B`` are two.
pub fn changes(diagnostic: &Diagnostic, sources: &Sources) -> Vec<Change> {
    let Some(help) = diagnostic.help.as_deref() else { return Vec::new() };
    if !diagnostic.edits.is_empty() {
        return vec![Change { title: help.to_owned(), edits: diagnostic.edits.clone() }];
    }
    // What the library's text says is not the user's to mend.
    let Some((span, _)) = diagnostic.labels.iter().find(|(span, _)| !sources.get(span.source).library) else {
        return Vec::new();
    };
    if let Some(rest) = help.strip_prefix("add `") {
        return added(diagnostic.code, rest, *span, sources).into_iter().collect();
    }
    let Some((word, rest)) =
        ["write `", "did you mean `"].iter().find_map(|word| Some((*word, help.strip_prefix(word)?)))
    else {
        return Vec::new();
    };
    alternatives(rest)
        .into_iter()
        .filter_map(|typed| {
            let edit = typed_at(typed, *span, sources)?;
            let end = if word.starts_with("did") { "?" } else { "" };
            Some(Change { title: format!("{word}{typed}`{end}"), edits: vec![edit] })
        })
        .collect()
}

/// What is quoted in a help line that begins with a quotation: one, or those that `or` joins. None where more is said than that.
fn alternatives(rest: &str) -> Vec<&str> {
    let Some((first, mut after)) = rest.split_once('`') else { return Vec::new() };
    let mut found = vec![first];
    while let Some((next, rest)) = after.strip_prefix(" or `").and_then(|rest| rest.split_once('`')) {
        found.push(next);
        after = rest;
    }
    // What is to stand beside something, in another section or file, is for people.
    let whole = ["?", ", ", " or ", "; ", ": "].iter().any(|end| after.starts_with(end)) || after.is_empty();
    match whole && !after.contains(" in `data`") && !after.contains("`use ") {
        true => found,
        false => Vec::new(),
    }
}

/// `typed` in the place of what stands at `span`, or of its value alone.
fn typed_at(typed: &str, span: Span, sources: &Sources) -> Option<Edit> {
    let text = &sources.get(span.source).text;
    let (start, mut end) = (span.start as usize, span.end as usize);
    let labelled = text.get(start..end)?;
    // A gap is for people to fill, and of a whole line a part is meant.
    if typed.contains('…') || labelled.starts_with("use ") {
        return None;
    }
    let named = [": ", " = "].iter().find_map(|sign| {
        let (name, value) = typed.split_once(sign)?;
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((name, value, sign.trim()))
    });
    let mut typed = typed;
    if let Some((name, value, sign)) = named
        && !labelled.contains(sign)
    {
        let before = text[..start].trim_end();
        let own = before.strip_suffix(sign).map(str::trim_end).is_some_and(|before| before.ends_with(name));
        if !own {
            return None;
        }
        typed = value;
    }
    // An operation that is written out takes the place of the call, not of its name alone.
    if typed.ends_with(')') && text[end..].starts_with('(') {
        end += closing(&text[end..])? + 1;
    }
    Some(Edit { span: Span::new(span.source, start, end), text: typed.to_owned() })
}

/// Where the bracket that `text` opens with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_i32;
    let close = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth == 0
    });
    close.map(|(at, _)| at)
}

/// Arguments that the call at `span` lacks, as its last ones.
fn added(code: Code, rest: &str, span: Span, sources: &Sources) -> Option<Change> {
    let (typed, after) = rest.split_once('`')?;
    let call = sources.slice(span);
    if code != Code::MissingArgument || !after.is_empty() || typed.contains('…') || !call.ends_with(')') {
        return None;
    }
    let inner = call[..call.len() - 1].trim_end();
    let before = match inner.chars().last() {
        Some('(') => "",
        Some(',') => " ",
        _ => ", ",
    };
    let at = span.start as usize + inner.len();
    let edit = Edit { span: Span::new(span.source, at, at), text: format!("{before}{typed}") };
    Some(Change { title: format!("add `{typed}`"), edits: vec![edit] })
}
