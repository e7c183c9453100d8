//! Limits of a text, found before it is parsed: the parser, the tree and the evaluator all recurse where a text nests, and none
//! of them could say so once the stack is full.
//!
//! **Invariant:** no text within the limits makes a tree deeper than [`MAX_OPERATIONS`] and a few levels for each bracket.

use super::token::string;
use crate::diag::{Code, Diagnostic};
use crate::source::{SourceId, Span};

/// Brackets within brackets. The deepest of the standard library are seven.
const MAX_BRACKETS: usize = 64;
/// Operators, calls, fields and indexes that stand in each other, as those of one sum do.
const MAX_OPERATIONS: usize = 256;
/// Bytes of a name, of which module paths and graphs make longer ones.
const MAX_NAME: usize = 100;

/// A bracket that is open, or the text itself. Its expressions end at commas and at `=`.
#[derive(Default)]
struct Level {
    opened: usize,
    /// Of the expression that is being read.
    operations: usize,
    /// Of the deepest bracket within that expression.
    inner: usize,
    /// Of the deepest expression that has ended.
    deepest: usize,
}

impl Level {
    /// Operations that stand in each other, `inner` being those of a bracket that is still open.
    fn depth(&self, inner: usize) -> usize {
        self.operations + self.inner.max(inner)
    }

    fn end_expression(&mut self) {
        self.deepest = self.deepest.max(self.depth(0));
        (self.operations, self.inner) = (0, 0);
    }
}

/// Refuses a text that nests deeper than what follows can take.
pub fn check(id: SourceId, text: &str) -> Result<(), Diagnostic> {
    let bytes = text.as_bytes();
    let (mut outer, mut level): (Vec<Level>, Level) = (Vec::new(), Level::default());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let (mut length, mut operations) = (1, 0);
        match byte {
            b'"' => length = string(&text[at..]).unwrap_or_else(|open| open),
            b'/' if rest.starts_with(b"//") => {
                length = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len())
            }
            b'(' | b'[' | b'{' => {
                // A call or an index is an operation of the expression that it stands in.
                level.operations += usize::from(*byte != b'{');
                outer.push(std::mem::replace(&mut level, Level { opened: at, ..Level::default() }));
                if outer.len() > MAX_BRACKETS {
                    return Err(too_deep(format!("brackets are nested more than {MAX_BRACKETS} deep"))
                        .label(Span::new(id, at, at + 1), "too deep")
                        .help("give a part a name of its own, and write the name here: `part = …`"));
                }
            }
            b')' | b']' | b'}' => {
                if let Some(mut around) = outer.pop() {
                    level.end_expression();
                    around.inner = around.inner.max(level.deepest);
                    level = around;
                }
                // An item ends.
                if outer.is_empty() && *byte == b'}' {
                    level = Level::default();
                }
            }
            b',' => level.end_expression(),
            b'=' | b'!' | b'<' | b'>' if rest.get(1) == Some(&b'=') => (length, operations) = (2, 1),
            b'=' => level.end_expression(),
            b'|' | b'.' if rest.starts_with(b"|>") || rest.starts_with(b"..") => (length, operations) = (2, 1),
            b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'.' => operations = 1,
            b if b.is_ascii_alphanumeric() || *b == b'_' => {
                length = rest.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b'_').unwrap_or(rest.len());
                if length > MAX_NAME {
                    let message = format!("a name of {length} letters, {MAX_NAME} are the most");
                    return Err(Diagnostic::new(Code::TooLong, message)
                        .label(Span::new(id, at, at + length), "too long")
                        .help("write a shorter name"));
                }
                operations = usize::from(matches!(&rest[..length], b"and" | b"or" | b"not" | b"if" | b"else"));
            }
            _ => {}
        }
        level.operations += operations;
        let depth = outer.iter().rev().fold(level.depth(0), |inner, level| level.depth(inner));
        if depth > MAX_OPERATIONS {
            let diagnostic = too_deep(format!("an expression of more than {MAX_OPERATIONS} operations"))
                .label(Span::new(id, at, at + length), "too long");
            let diagnostic = match outer.is_empty() {
                true => diagnostic,
                false => diagnostic.label(Span::new(id, level.opened, level.opened + 1), "within this bracket"),
            };
            return Err(diagnostic.help("give parts names of their own, or add up a list: `sum(x for x in [a, b, c])`"));
        }
        at += length;
    }
    Ok(())
}

fn too_deep(message: String) -> Diagnostic {
    Diagnostic::new(Code::TooDeep, message)
}
