//! What is being written at a place, told from the tokens before it: the text need not be whole.

use std::sync::Arc;

use crate::syntax::token::{Kind, Token, tokens};

/// The tokens before a byte, and what is open there.
pub struct Context<'t> {
    /// Up to the byte.
    text: &'t str,
    /// Those that end before what is being written.
    before: Vec<Token>,
    /// What is being written: a name that ends at the byte, or nothing.
    pub written: &'t str,
    /// Whether the byte lies in a comment or a string.
    pub silent: bool,
}

/// A bracket that is open.
#[derive(Debug)]
pub struct Open {
    /// Which of the tokens.
    at: usize,
    pub sign: char,
}

impl<'t> Context<'t> {
    pub fn at(text: &'t str, byte: usize) -> Self {
        let head = &text[..byte];
        let mut before: Vec<Token> = tokens(head);
        before.pop();
        let line = &head[head.rfind(['\n', '\r']).map_or(0, |end| end + 1)..];
        let in_text = before.last().is_some_and(|last| {
            last.kind == Kind::Text && last.end == byte && (last.end - last.start < 2 || !head.ends_with('"'))
        });
        let silent = in_text || comment(line);
        let written = match before.last() {
            Some(last) if last.kind == Kind::Name && last.end == byte => &text[last.range()],
            _ => "",
        };
        if !written.is_empty() {
            before.pop();
        }
        Context { text: head, before, written, silent }
    }

    fn word(&self, at: usize) -> &'t str {
        self.before.get(at).map_or("", |token| &self.text[token.range()])
    }

    /// The token that is the `n`th before what is being written, from 0.
    pub fn last(&self, n: usize) -> &'t str {
        self.before.len().checked_sub(n + 1).map_or("", |at| self.word(at))
    }

    /// Whether a number stands before what is being written, and whether it ends right there.
    pub fn number(&self) -> Option<bool> {
        let last = self.before.last().filter(|last| last.kind == Kind::Number)?;
        let between = &self.text[last.end..self.text.len() - self.written.len()];
        (!between.contains(['\n', '\r'])).then_some(between.is_empty())
    }

    /// `a.b[0].` before what is being written: the names, the outermost first.
    pub fn owner(&self) -> Option<Vec<Arc<str>>> {
        let mut at = self.before.len();
        let mut names = Vec::new();
        loop {
            at = at.checked_sub(1).filter(|at| self.word(*at) == ".")?;
            // An index within changes nothing of what the fields are.
            while at > 0 && self.word(at - 1) == "]" {
                at = self.opening(at - 1)?;
            }
            at = at.checked_sub(1)?;
            let token = self.before.get(at)?;
            if token.kind != Kind::Name {
                return None;
            }
            names.insert(0, self.word(at).into());
            if at == 0 || self.word(at - 1) != "." {
                return Some(names);
            }
        }
    }

    /// The bracket that the one at `close` closes.
    fn opening(&self, close: usize) -> Option<usize> {
        let mut depth = 0;
        (0..=close).rev().find(|at| {
            match self.before[*at].kind {
                Kind::Close => depth += 1,
                Kind::Open => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }

    /// Brackets that are open, the innermost first.
    pub fn open(&self) -> Vec<Open> {
        let (mut depth, mut found) = (0, Vec::new());
        for at in (0..self.before.len()).rev() {
            match self.before[at].kind {
                Kind::Close => depth += 1,
                Kind::Open if depth == 0 => {
                    found.push(Open { at, sign: self.word(at).chars().next().unwrap_or('(') });
                }
                Kind::Open => depth -= 1,
                _ => {}
            }
        }
        found
    }

    /// The callee of the innermost call that is open, its byte range, and the arguments before: names that say which
    /// they are for, and how many there are in all.
    pub fn call(&self) -> Option<(std::ops::Range<usize>, Vec<&'t str>, usize)> {
        let open = self.open().into_iter().next().filter(|open| open.sign == '(')?;
        let callee = open.at.checked_sub(1).filter(|at| self.before[*at].kind == Kind::Name)?;
        let mut first = callee;
        while first >= 2 && matches!(self.word(first - 1), "." | "::") && self.before[first - 2].kind == Kind::Name {
            first -= 2;
        }
        let (mut depth, mut commas, mut names) = (0, 0, Vec::new());
        for at in open.at + 1..self.before.len() {
            match self.before[at].kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                Kind::Sign if depth == 0 && self.word(at) == "," => commas += 1,
                Kind::Sign if depth == 0 && self.word(at) == ":" => names.push(self.word(at - 1)),
                // `vit(image_size, …)` gives the parameter of that name.
                Kind::Name if depth == 0 && self.is_alone(at) => names.push(self.word(at)),
                _ => {}
            }
        }
        Some((self.before[first].start..self.before[callee].end, names, commas))
    }

    /// Whether the name at `at` is an argument by itself.
    fn is_alone(&self, at: usize) -> bool {
        matches!(self.word(at - 1), "(" | ",") && self.word(at + 1) == ","
    }

    /// Words that open the bodies around the place, the innermost first: `parameters`, `train`, `pipeline`.
    pub fn bodies(&self) -> Vec<&'t str> {
        let braces = self.open().into_iter().filter(|open| open.sign == '{');
        braces.map(|open| self.head(open.at)).collect()
    }

    /// The word that opens the body of the brace at `at`.
    fn head(&self, at: usize) -> &'t str {
        let mut depth = 0;
        for at in (0..at).rev() {
            match self.before[at].kind {
                Kind::Close => depth += 1,
                Kind::Open if depth == 0 => return "",
                Kind::Open => depth -= 1,
                Kind::Name if depth == 0 && HEADS.contains(&self.word(at)) => return self.word(at),
                // A record, or a body of which nothing is known.
                Kind::Sign if depth == 0 && matches!(self.word(at), "=" | ",") => return "",
                _ => {}
            }
        }
        ""
    }

    /// Whether a new entry of a body begins here: behind its brace, or on a new line that goes on with nothing.
    pub fn begins(&self) -> bool {
        let Some(last) = self.before.last() else { return true };
        let between = &self.text[last.end..self.text.len() - self.written.len()];
        let goes_on = matches!(last.kind, Kind::Sign | Kind::Open);
        matches!(&self.text[last.range()], "{" | "}") || between.contains(['\n', '\r']) && !goes_on
    }
}

/// Words that open a body.
const HEADS: [&str; 14] = [
    "pipeline",
    "data",
    "views",
    "model",
    "branch",
    "losses",
    "monitor",
    "train",
    "evaluate",
    "parameters",
    "block",
    "fn",
    "forward",
    "use",
];

/// Whether a line ends within a comment.
fn comment(line: &str) -> bool {
    let mut rest = line;
    loop {
        let Some(at) = rest.find(['"', '/']) else { return false };
        rest = &rest[at..];
        if rest.starts_with("//") {
            return true;
        }
        match rest.starts_with('"') {
            true => match crate::syntax::token::string(rest) {
                Ok(length) => rest = &rest[length..],
                Err(_) => return false,
            },
            false => rest = &rest[1..],
        }
    }
}
