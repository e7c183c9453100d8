//! A text as tokens, whatever stands in it: what recovery looks at where the grammar has given up.
//!
//! **Invariant:** tokens stand in order and do not overlap, and the last is [`Kind::End`], empty, at the end of the text.

use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a word of the language.
    Name,
    /// Digits, with a fraction and an exponent, without a unit.
    Number,
    /// With its quotes.
    Text,
    Open,
    Close,
    /// An operator, or any other letter.
    Sign,
    End,
}

#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// White space before the first token of its line; a tab counts for one.
    pub indent: usize,
    /// Whether it is the first of its line.
    pub first: bool,
}

impl Token {
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Signs of several letters, the longer first: also those that the language does not have.
const SIGNS: [&str; 24] = [
    "...", "**=", "|>", "::", "..", "==", "!=", "<=", ">=", "->", ":=", "**", "=>", "&&", "||", "+=", "-=", "*=", "/=",
    "<-", ">>", "<<", "++", "^=",
];

/// Words that stand where no name can.
pub const KEYWORDS: [&str; 23] = [
    "use", "pipeline", "block", "fn", "forward", "param", "state", "update", "require", "branch", "when", "repeat",
    "for", "with", "if", "else", "and", "or", "not", "true", "false", "none", "in",
];

pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut at, mut line, mut indent, mut first) = (0, 0, 0, true);
    while let Some(letter) = text[at..].chars().next() {
        let rest = &text[at..];
        if matches!(letter, '\n' | '\r') {
            (at, first) = (at + 1, true);
            line = at;
            continue;
        }
        if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        }
        if rest.starts_with("//") {
            at += line_end(rest);
            continue;
        }
        let (kind, length) = token(rest, letter);
        if first {
            indent = at - line;
        }
        tokens.push(Token { kind, start: at, end: at + length, indent, first });
        (at, first) = (at + length, false);
    }
    tokens.push(Token { kind: Kind::End, start: at, end: at, indent: 0, first: true });
    tokens
}

/// Kind and length of the token that `rest` begins with.
fn token(rest: &str, letter: char) -> (Kind, usize) {
    let while_in = |within: fn(char) -> bool| rest.find(|c| !within(c)).unwrap_or(rest.len());
    match letter {
        '"' => (Kind::Text, string(rest).unwrap_or_else(|open| open)),
        '(' | '[' | '{' => (Kind::Open, 1),
        ')' | ']' | '}' => (Kind::Close, 1),
        '0'..='9' => (Kind::Number, number(rest)),
        c if c.is_alphabetic() || c == '_' => (Kind::Name, while_in(|c| c.is_alphanumeric() || c == '_')),
        _ => {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            (Kind::Sign, sign.map_or(letter.len_utf8(), |sign| sign.len()))
        }
    }
}

/// Bytes up to the line's end.
pub fn line_end(rest: &str) -> usize {
    rest.find(['\n', '\r']).unwrap_or(rest.len())
}

/// Bytes of the string that `rest` opens with; an error holds those up to its line's end, where it has no end.
pub fn string(rest: &str) -> Result<usize, usize> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\n' | b'\r' => return Err(at),
            b'\\' if bytes.get(at + 1) == Some(&b'"') => at += 2,
            _ => at += 1,
        }
    }
    Err(rest.len())
}

/// Bytes of a number as the grammar has it: `1..3` is a 1 and more.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(|b| b.is_ascii_digit() || *b == b'_' && bytes[at - 1].is_ascii_digit()) {
            at += 1;
        }
        at
    };
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if is_digit(end + 1 + sign) {
            end = digits(end + 1 + sign);
        }
    }
    end
}
