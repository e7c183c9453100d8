//! What stands between two pieces of a line: nothing, or a space.

use super::pieces::{Piece, PieceKind};

/// Words that an operand follows or precedes, so that a bracket behind them is no call.
const WORDS: [&str; 18] = [
    "if", "else", "and", "or", "not", "for", "in", "when", "repeat", "as", "with", "update", "init", "require", "use",
    "role", "path", "from",
];

/// Those that may be names too: no sign, and nothing that touches them, stands behind the word.
const NAMES_TOO: [&str; 6] = ["as", "in", "init", "role", "path", "from"];

/// Those that stand behind an operand.
const INFIX: [&str; 6] = ["if", "else", "and", "or", "when", "repeat"];

/// Whether a line of `pieces` goes on with what ended in `before`, between the entries of a block.
pub fn continues(before: Option<&Piece<'_>>, pieces: &[Piece<'_>]) -> bool {
    let Some(first) = pieces.first() else { return false };
    // `from weights(…)`; with a sign behind it, it is a name.
    let is_from = first.text == "from" && pieces.get(1).is_some_and(|second| second.kind == PieceKind::Name);
    let is_infix = match first.kind {
        PieceKind::Sign => first.text != "-" || before.is_some_and(ends_operand),
        PieceKind::Name => INFIX.contains(&first.text) || is_from,
        _ => false,
    };
    let is_open = before.is_some_and(|piece| piece.kind == PieceKind::Sign && piece.text != "?");
    (is_infix && before.is_some_and(ends_operand)) || is_open
}

/// Whether an operand may end in `piece`, so that a sign behind it stands between two.
pub fn ends_operand(piece: &Piece<'_>) -> bool {
    match piece.kind {
        PieceKind::Number | PieceKind::Text | PieceKind::Close => true,
        PieceKind::Name => !WORDS.contains(&piece.text) || NAMES_TOO.contains(&piece.text) && piece.text != "in",
        PieceKind::Open | PieceKind::Comment => false,
        PieceKind::Sign => piece.text == "?",
    }
}

/// Whether another entry begins with `piece`: an operand ends before it, and it goes on with none.
fn begins_entry(before: &Piece<'_>, piece: &Piece<'_>) -> bool {
    let is_name = piece.kind == PieceKind::Name && !INFIX.contains(&piece.text) && !WORDS.contains(&piece.text);
    is_name && piece.gap > 1 && ends_operand(before) && !WORDS.contains(&before.text)
}

/// Sets how far apart the pieces of each line belong.
pub fn set(lines: &mut [Vec<Piece<'_>>]) {
    // Brackets that are open; those of a `use` are tight.
    let mut tight: Vec<bool> = Vec::new();
    let mut before: Option<Piece<'_>> = None;
    let mut is_unary = false;
    for line in lines {
        for (at, piece) in line.iter_mut().enumerate() {
            if piece.kind == PieceKind::Comment {
                // Behind code as far as it was, one letter at least.
                piece.apart = if at == 0 { 0 } else { piece.gap.max(1) };
                continue;
            }
            let in_tight = tight.last().copied().unwrap_or(false);
            if let (true, Some(before)) = (at > 0, &before) {
                piece.apart = match begins_entry(before, piece) {
                    // As far from the one before it in its line as it was.
                    true => piece.gap,
                    false => usize::from(is_apart(before, piece, is_unary, in_tight)),
                };
            }
            is_unary = piece.text == "-" && !before.as_ref().is_some_and(ends_operand);
            match piece.kind {
                PieceKind::Open => tight.push(piece.text == "{" && before.as_ref().is_some_and(|b| b.text == "::")),
                PieceKind::Close => drop(tight.pop()),
                _ => {}
            }
            before = Some(piece.clone());
        }
    }
}

/// Whether a space belongs between `before` and `piece`; `is_unary`: `before` is a minus of what follows; `in_tight`: both stand in the
/// brackets of a `use`.
fn is_apart(before: &Piece<'_>, piece: &Piece<'_>, is_unary: bool, in_tight: bool) -> bool {
    // A dot and what calls or indexes follow their operand; with white space between they would mean something else.
    let glued = piece.gap == 0;
    match (before.text, piece.text) {
        ("(" | "[", _) | (_, ")" | "]" | "," | "?") => false,
        ("{", "}") => false,
        ("{", _) | (_, "}") => !in_tight,
        ("::" | "..", _) | (_, "::" | ".." | ":") => false,
        (".", _) => false,
        (_, ".") => !glued,
        (_, "(" | "[") if ends_operand(before) || NAMES_TOO.contains(&before.text) => !glued,
        (_, "{") => true,
        _ => !is_unary,
    }
}
