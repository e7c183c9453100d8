//! Where the pieces of each line stand: indentation, spaces, and the columns that somebody has aligned.
//!
//! Pieces of neighbouring lines that stood in one column, with more than one space before at least one of them, were aligned on
//! purpose: they stay in one column, the first that all of them have room for. Lines are neighbours where no empty line and no line of another
//! block lies between.

use std::collections::BTreeMap;

use super::lines::Line;
use super::pieces::{Piece, PieceKind};

/// Letters that a block stands further in than what opens it.
const INDENT: usize = 2;

/// Words behind which a name stands a letter apart, whatever stands above and below.
const DECLARING: [&str; 9] = ["add", "block", "branch", "fn", "param", "pipeline", "remove", "state", "use"];

/// More rounds than columns can move one another: each settles those of one more piece.
const ROUNDS: usize = 64;

/// A piece by its line, and its place in it.
type Place = (usize, usize);

/// The text of each line.
pub fn lay_out(lines: &[Line<'_>]) -> Vec<String> {
    let (aligned, begun) = (aligned(lines), beginnings(lines));
    // The column of each class of aligned pieces, as far as it is known.
    let mut columns = vec![0; aligned.apart.len()];
    let mut placed = place(lines, &begun, &aligned, &columns);
    for _ in 0..ROUNDS {
        let mut needed = vec![0; columns.len()];
        for ((line, piece), class) in &aligned.classes {
            // The first of a line is never one of them.
            let natural = end(lines, &placed, (*line, piece - 1)) + aligned.apart[*class];
            needed[*class] = natural.max(needed[*class]);
        }
        if needed == columns {
            break;
        }
        columns = needed;
        placed = place(lines, &begun, &aligned, &columns);
    }
    lines.iter().zip(&placed).map(|(line, placed)| text(line, placed)).collect()
}

/// Pieces that were aligned, by class.
struct Aligned {
    classes: BTreeMap<Place, usize>,
    /// What those of a class keep from the pieces before them: comments as much as the nearest did, anything else a letter.
    apart: Vec<usize>,
}

/// Behind the last letter of a piece.
fn end(lines: &[Line<'_>], placed: &[Vec<usize>], (line, piece): Place) -> usize {
    placed[line][piece] + lines[line].pieces[piece].text.chars().count()
}

/// The column of each piece.
fn place(lines: &[Line<'_>], begun: &[usize], aligned: &Aligned, columns: &[usize]) -> Vec<Vec<usize>> {
    let mut placed: Vec<Vec<usize>> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let mut own: Vec<usize> = Vec::with_capacity(line.pieces.len());
        for (index, piece) in line.pieces.iter().enumerate() {
            let Some(before) = index.checked_sub(1) else {
                own.push(indent(lines, begun, &placed, at));
                continue;
            };
            let end = own[before] + line.pieces[before].text.chars().count();
            own.push(match aligned.classes.get(&(at, index)) {
                Some(class) => columns[*class].max(end + aligned.apart[*class]),
                None => end + piece.apart,
            });
        }
        placed.push(own);
    }
    placed
}

/// Where line `at` begins.
fn indent(lines: &[Line<'_>], begun: &[usize], placed: &[Vec<usize>], at: usize) -> usize {
    let line = &lines[at];
    let start = |line: usize| placed[line].first().copied().unwrap_or(0);
    let block = match line.inside {
        Some(opener) if line.closes => return start(begun[opener]),
        Some(opener) => start(begun[opener]) + INDENT,
        None => 0,
    };
    if !line.continues {
        return block;
    }
    let first = begun[at];
    if line.pieces[0].text == "|>" {
        // Below the chain's first, which its own line may have moved.
        for (before, columns) in placed.iter().enumerate().skip(first) {
            let found = lines[before].pieces.iter().position(|piece| piece.text == "|>");
            if let Some(column) = found.map(|found| columns[found]).filter(|_| lines[before].inside == line.inside) {
                return column;
            }
        }
    }
    block + INDENT
}

/// For each line the one that begins what it goes on with.
fn beginnings(lines: &[Line<'_>]) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let Some(mut before) = at.checked_sub(1).filter(|_| line.continues || line.pieces.is_empty()) else {
            found.push(at);
            continue;
        };
        // Over lines of brackets that this definition holds.
        while let Some(opener) = lines[before].inside.filter(|_| lines[before].closes) {
            before = opener;
        }
        found.push(found[before]);
    }
    found
}

fn aligned(lines: &[Line<'_>]) -> Aligned {
    let mut aligned = Aligned { classes: BTreeMap::new(), apart: Vec::new() };
    let mut is_seen = vec![false; lines.len()];
    for start in 0..lines.len() {
        if is_seen[start] {
            continue;
        }
        let mut by_column: BTreeMap<(usize, &str), Vec<Place>> = BTreeMap::new();
        for at in neighbours(lines, start) {
            is_seen[at] = true;
            let pieces = &lines[at].pieces;
            for (index, piece) in pieces.iter().enumerate().skip(1).filter(|(_, piece)| piece.gap > 0) {
                if DECLARING.contains(&pieces[index - 1].text) {
                    continue;
                }
                // What belongs at what stands before it is in no column.
                if piece.apart > 0 {
                    by_column.entry((piece.column, what(piece))).or_default().push((at, index));
                }
            }
        }
        for places in by_column.into_values().filter(|places| places.len() > 1) {
            let gaps = || places.iter().map(|(at, index)| lines[*at].pieces[*index].gap);
            if gaps().any(|gap| gap > 1) {
                let (at, index) = places[0];
                let is_comment = lines[at].pieces[index].kind == PieceKind::Comment;
                let class = aligned.apart.len();
                aligned.apart.push(if is_comment { gaps().min().unwrap_or(1) } else { 1 });
                aligned.classes.extend(places.into_iter().map(|place| (place, class)));
            }
        }
    }
    aligned
}

/// What a piece can be in one column with: a sign with the same sign, a comment with a comment.
fn what<'t>(piece: &Piece<'t>) -> &'t str {
    match piece.kind {
        PieceKind::Sign | PieceKind::Open | PieceKind::Close => piece.text,
        PieceKind::Comment => "//",
        PieceKind::Name | PieceKind::Number | PieceKind::Text => "operand",
    }
}

/// The lines from `start` on that are of its block, up to an empty one; what stands in brackets that they open is passed over.
fn neighbours(lines: &[Line<'_>], start: usize) -> Vec<usize> {
    let mut found = vec![start];
    for at in start + 1..lines.len() {
        match &lines[at] {
            line if line.pieces.is_empty() => break,
            line if line.inside == lines[start].inside && !line.closes => found.push(at),
            line if line.inside.is_some_and(|opener| opener >= start) => {}
            _ => break,
        }
    }
    found
}

fn text(line: &Line<'_>, placed: &[usize]) -> String {
    let (mut text, mut length) = (String::new(), 0);
    for (piece, column) in line.pieces.iter().zip(placed) {
        while length < *column {
            text.push(' ');
            length += 1;
        }
        text.push_str(piece.text);
        length += piece.text.chars().count();
    }
    text
}
