//! Lines: which bracket each stands in, whether it goes on with another, and which empty ones stay.

use super::gaps;
use super::pieces::{Piece, PieceKind, written};

#[derive(Debug, Clone, Default)]
pub struct Line<'t> {
    /// None of an empty line.
    pub pieces: Vec<Piece<'t>>,
    /// The line that opened the innermost bracket around this one's first piece.
    pub inside: Option<usize>,
    /// Whether its first piece closes that bracket.
    pub closes: bool,
    /// Whether it goes on with what a line before it has begun.
    pub continues: bool,
}

/// Lines with at most one empty line between two others, none at either end, behind what opens a block or before what closes one.
pub fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    // Of each open bracket the line that it stands in, and whether entries stand in it, which no comma parts.
    let mut open: Vec<(usize, bool)> = Vec::new();
    // The last piece that is no comment.
    let mut before: Option<Piece<'_>> = None;
    let mut written = written(text);
    gaps::set(&mut written);
    for pieces in written {
        let Some(first) = pieces.first() else {
            let is_wanted = lines.last().is_some_and(|line| !line.pieces.is_empty() && !opens(line));
            if is_wanted {
                lines.push(Line::default());
            }
            continue;
        };
        let closes = first.kind == PieceKind::Close;
        if closes && lines.last().is_some_and(|line| line.pieces.is_empty()) {
            lines.pop();
        }
        let in_block = open.last().is_none_or(|(_, is_block)| *is_block);
        let continues = in_block && !closes && gaps::continues(before.as_ref(), &pieces);
        let inside = open.last().map(|(line, _)| *line);
        let at = lines.len();
        for (index, piece) in pieces.iter().enumerate() {
            match piece.kind {
                PieceKind::Open => {
                    let is_block = piece.text == "{" && index > 0 && gaps::ends_operand(&pieces[index - 1]);
                    open.push((at, is_block));
                }
                PieceKind::Close => drop(open.pop()),
                _ => {}
            }
        }
        before = pieces.iter().rev().find(|piece| piece.kind != PieceKind::Comment).cloned().or(before);
        lines.push(Line { pieces, inside, closes, continues });
    }
    while lines.last().is_some_and(|line| line.pieces.is_empty()) {
        lines.pop();
    }
    lines
}

/// Whether the line's last piece, comments aside, opens a bracket.
fn opens(line: &Line<'_>) -> bool {
    let last = line.pieces.iter().rev().find(|piece| piece.kind != PieceKind::Comment);
    last.is_some_and(|piece| piece.kind == PieceKind::Open)
}
