//! The layout of `.cmae` files: `cmaec fmt`.
//!
//! Before: a text that parses. After: the same tokens and comments, with other white space between them.
//!
//! Lines stay as they were broken, since where a definition or a chain of views is broken is its author's choice; white space within
//! them, indentation and empty lines are the formatter's. Columns that somebody has aligned on purpose stay aligned: see [`columns`].
//!
//! **Invariant:** what is formatted has the tokens and comments that it had, in their order, and is formatted to itself.

mod columns;
mod gaps;
mod lines;
mod pieces;

use lines::lines;

/// `text` as it should stand. It must parse: what does not is given back with its tokens, in a layout that says nothing.
pub fn format(text: &str) -> String {
    let mut formatted = once(text);
    // Columns that have moved may have come to stand in line with others.
    for _ in 0..ROUNDS {
        let next = once(&formatted);
        if next == formatted {
            break;
        }
        formatted = next;
    }
    formatted
}

/// More than any text of the tests' has needed, by far: most need none.
const ROUNDS: usize = 64;

fn once(text: &str) -> String {
    let mut laid_out = columns::lay_out(&lines(text)).join("\n");
    if !laid_out.is_empty() {
        laid_out.push('\n');
    }
    laid_out
}
