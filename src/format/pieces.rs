//! A text as pieces, line by line: tokens and comments, with the columns that they stood in.

use std::ops::Range;

use crate::syntax::token::{Kind, Token, tokens};

/// A token, a number with its unit, or a comment.
#[derive(Debug, Clone)]
pub struct Piece<'t> {
    pub text: &'t str,
    pub kind: PieceKind,
    /// Letters before it in its line, as it was written.
    pub column: usize,
    /// White space before it, as it was written; of the first of a line nothing is asked.
    pub gap: usize,
    /// Letters that belong between it and the piece before it where nothing is aligned.
    pub apart: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    Name,
    Number,
    Text,
    Open,
    Close,
    Sign,
    Comment,
}

/// The pieces of each line of the text.
pub fn written(text: &str) -> Vec<Vec<Piece<'_>>> {
    let mut lines: Vec<Vec<Piece<'_>>> = vec![Vec::new()];
    // Where the line at hand begins, and where its last piece ended.
    let (mut line_start, mut end) = (0, 0);
    let letters = |from: usize, to: usize| text[from..to].chars().count();
    let piece = |line_start: usize, end: usize, range: Range<usize>, kind| Piece {
        text: text[range.clone()].trim_end(),
        kind,
        column: letters(line_start, range.start),
        gap: letters(end.max(line_start), range.start),
        apart: 0,
    };
    for token in joined(text, &tokens(text)) {
        // What stands between two tokens: white space, line ends and comments.
        let mut at = end;
        while at < token.start {
            let rest = &text[at..token.start];
            if rest.starts_with("//") {
                let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
                put(&mut lines, piece(line_start, end, at..at + length, PieceKind::Comment));
                at += length;
                end = at;
            } else if let Some(after) = rest.strip_prefix('\n') {
                at = token.start - after.len();
                lines.push(Vec::new());
                line_start = at;
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        if token.kind == Kind::End {
            break;
        }
        let kind = match token.kind {
            Kind::Name => PieceKind::Name,
            Kind::Number => PieceKind::Number,
            Kind::Text => PieceKind::Text,
            Kind::Open => PieceKind::Open,
            Kind::Close => PieceKind::Close,
            Kind::Sign | Kind::End => PieceKind::Sign,
        };
        put(&mut lines, piece(line_start, end, token.range(), kind));
        end = token.end;
    }
    lines
}

fn put<'t>(lines: &mut Vec<Vec<Piece<'t>>>, piece: Piece<'t>) {
    match lines.last_mut() {
        Some(line) => line.push(piece),
        None => lines.push(vec![piece]),
    }
}

/// Tokens, numbers with the units that stand right behind them.
fn joined(text: &str, tokens: &[Token]) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let is_name_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match found.last_mut() {
            Some(last) if last.kind == Kind::Number && last.end == token.start => {
                let is_unit = match &text[token.range()] {
                    "%" => !text[token.end..].starts_with(is_name_letter),
                    "px" => true,
                    _ => false,
                };
                match is_unit {
                    true => last.end = token.end,
                    false => found.push(*token),
                }
            }
            _ => found.push(*token),
        }
    }
    found
}
