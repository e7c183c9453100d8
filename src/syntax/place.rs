//! Where the grammar gave up, as people see a text: by its lines and brackets.
//!
//! **Invariant:** `at` is the index of a token; what stands before it is what the grammar took.

use std::ops::Range;
use std::rc::Rc;

use super::token::{KEYWORDS, Kind, Token};

/// What a bracket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    File,
    Pipeline,
    /// `with { … }`
    Variant,
    Section,
    Evaluate,
    Branch,
    Train,
    /// `parameters { … }`
    Rules,
    /// A block's entries.
    Block,
    /// Of a function or of `forward`.
    Body,
    /// `use a::{ … }`
    Names,
    Record,
    Call,
    Params,
    Group,
    Index,
    List,
}

impl Within {
    /// Whether entries stand in it, each from a line's beginning.
    pub fn has_entries(self) -> bool {
        use Within::*;
        matches!(self, File | Pipeline | Variant | Section | Evaluate | Branch | Train | Rules | Block | Body)
    }
}

pub const SECTIONS: [&str; 8] = ["data", "views", "model", "losses", "monitor", "train", "evaluate", "parameters"];

#[derive(Debug, Clone, Copy)]
pub struct Open {
    pub token: usize,
    pub within: Within,
}

pub struct Place<'t> {
    pub text: &'t str,
    pub tokens: &'t [Token],
    /// The token that cannot stand where it does.
    pub at: usize,
    /// Brackets that are open there, the innermost last.
    pub open: Vec<Open>,
    /// What the text itself holds.
    pub root: Within,
    /// Of each token, the first of its line.
    pub lines: Rc<[usize]>,
}

impl<'t> Place<'t> {
    pub fn new(root: Within, text: &'t str, tokens: &'t [Token], byte: usize) -> Self {
        let at = tokens.iter().position(|token| token.end > byte).unwrap_or(tokens.len() - 1);
        let mut line = 0;
        let of_line = |(i, token): (usize, &Token)| {
            line = if token.first { i } else { line };
            line
        };
        let lines = tokens.iter().enumerate().map(of_line).collect();
        let mut place = Place { text, tokens, at, open: open_at(root, text, tokens, at), root, lines };
        if place.is_behind() {
            place.at -= 1;
            place.open = open_at(root, text, tokens, place.at);
        }
        place
    }

    /// Whether it is the token before `at` that cannot stand: the grammar has read it as the name of a next entry, or as a word
    /// of the language.
    fn is_behind(&self) -> bool {
        if self.at < 2
            || self.kind(self.at - 1) != Kind::Name
            || self.here() == "=" && !KEYWORDS.contains(&self.before(1))
        {
            return false;
        }
        let before = self.at - 2;
        // `16px`, `40 epochs`
        let is_unit = self.is_adjacent(self.at - 1) || matches!(self.before(1), "epochs" | "epoch" | "steps" | "step");
        if self.kind(before) == Kind::Number && is_unit {
            return false;
        }
        if matches!(self.word(before), "role" | "as") || matches!(self.before(1), "role" | "when" | "repeat" | "frozen")
        {
            return false;
        }
        let next_entry = self.within().has_entries()
            && self.ends_value(before)
            && !self.tokens[self.at - 1].first
            && self.ends_value(self.at - 1);
        let wants_value = self.kind(before) == Kind::Sign
            && matches!(self.word(before), "=" | "+" | "-" | "*" | "/" | "|>" | "," | ":" | "..")
            || self.kind(before) == Kind::Open && self.word(before) != "{";
        next_entry && self.is_entry_value()
            || wants_value && is_operator(self.before(1)) && !matches!(self.before(1), "not")
    }

    /// Whether the entry here has its `=` already.
    fn is_entry_value(&self) -> bool {
        let (start, _) = self.entry();
        (start..self.at).any(|i| self.word(i) == "=")
    }

    /// The text of token `i`, empty beyond the ends.
    pub fn word(&self, i: usize) -> &'t str {
        self.tokens.get(i).map_or("", |token| &self.text[token.range()])
    }

    pub fn here(&self) -> &'t str {
        self.word(self.at)
    }

    /// The token `back` before the one that cannot stand here.
    pub fn before(&self, back: usize) -> &'t str {
        self.at.checked_sub(back).map_or("", |i| self.word(i))
    }

    pub fn after(&self, ahead: usize) -> &'t str {
        self.word(self.at + ahead)
    }

    pub fn token(&self) -> &'t Token {
        &self.tokens[self.at]
    }

    pub fn kind(&self, i: usize) -> Kind {
        self.tokens.get(i).map_or(Kind::End, |token| token.kind)
    }

    pub fn within(&self) -> Within {
        self.open.last().map_or(self.root, |open| open.within)
    }

    /// The word before the bracket that is open here: a section's, a function's.
    pub fn head(&self) -> &'t str {
        self.open.last().and_then(|open| open.token.checked_sub(1)).map_or("", |i| self.word(i))
    }

    /// Bytes from token `first` up to `end`, without it.
    pub fn bytes(&self, first: usize, end: usize) -> Range<usize> {
        let start = self.tokens[first.min(self.tokens.len() - 1)].start;
        let last = end.checked_sub(1).filter(|last| *last >= first);
        start..last.map_or(start, |last| self.tokens[last].end)
    }

    pub fn slice(&self, first: usize, end: usize) -> &'t str {
        &self.text[self.bytes(first, end)]
    }

    /// The gap before token `i`: where something is missing.
    pub fn gap(&self, i: usize) -> Range<usize> {
        i.checked_sub(1).map_or(0..0, |before| self.tokens[before].end..self.tokens[before].end)
    }

    pub fn is_adjacent(&self, i: usize) -> bool {
        i > 0 && self.tokens[i - 1].end == self.tokens[i].start
    }

    /// Whether a value can end with token `i`.
    pub fn ends_value(&self, i: usize) -> bool {
        match self.kind(i) {
            Kind::Name => !is_operator(self.word(i)),
            Kind::Number | Kind::Text => true,
            Kind::Close => true,
            Kind::Sign => {
                self.word(i) == "\u{1a}"
                    || self.word(i) == "%" && self.is_adjacent(i) && self.kind(i - 1) == Kind::Number
            }
            Kind::Open | Kind::End => false,
        }
    }

    /// Whether a value can begin with token `i`.
    pub fn begins_value(&self, i: usize) -> bool {
        match self.kind(i) {
            Kind::Name => !is_operator(self.word(i)) || self.word(i) == "not",
            Kind::Number | Kind::Text | Kind::Open => true,
            Kind::Sign => matches!(self.word(i), "-" | "\u{1a}"),
            Kind::Close | Kind::End => false,
        }
    }

    /// The bracket that fits the one at `i`, in either direction; `None` where there is none.
    pub fn other(&self, i: usize) -> Option<usize> {
        let mut depth = 0;
        let step = |j: usize, depth: &mut i32| {
            match self.kind(j) {
                Kind::Open => *depth += 1,
                Kind::Close => *depth -= 1,
                _ => {}
            }
            *depth == 0
        };
        match self.kind(i) {
            Kind::Open => (i..self.tokens.len()).find(|j| step(*j, &mut depth)),
            Kind::Close => (0..=i).rev().find(|j| step(*j, &mut depth)),
            _ => None,
        }
    }

    /// The first token of the operand that ends before token `i`: `online.query`, `f(x)[0]`, `16px`.
    pub fn operand_before(&self, i: usize) -> usize {
        let mut first = i;
        while first > 0 {
            let last = first - 1;
            let begin = match self.kind(last) {
                Kind::Close => self.other(last).unwrap_or(last),
                Kind::Name | Kind::Number | Kind::Text => last,
                Kind::Sign if matches!(self.word(last), "." | "::") || self.ends_value(last) => last,
                _ => return first,
            };
            if first < i && self.tokens[last].end != self.tokens[first].start {
                return first;
            }
            if begin == last && self.kind(last) == Kind::Name && is_operator(self.word(last)) {
                return first;
            }
            first = begin;
        }
        first
    }

    /// The token behind the operand that begins with token `i`.
    pub fn operand_after(&self, i: usize) -> usize {
        let mut end = i;
        while self.kind(end) == Kind::Sign && self.word(end) == "-" {
            end += 1;
        }
        let begin = end;
        while end + 1 < self.tokens.len() {
            let is_part = match self.kind(end) {
                Kind::Name => !is_operator(self.word(end)),
                Kind::Number | Kind::Text | Kind::Open => true,
                Kind::Sign => matches!(self.word(end), "." | "::" | "\u{1a}") || self.ends_value(end),
                Kind::Close | Kind::End => false,
            };
            let is_unit = end == begin + 1
                && self.kind(begin) == Kind::Number
                && matches!(self.word(end), "epochs" | "epoch" | "steps" | "step");
            if !is_part || end > begin && !self.is_adjacent(end) && !is_unit {
                break;
            }
            end = match self.kind(end) {
                Kind::Open => self.other(end).unwrap_or(end) + 1,
                _ => end + 1,
            };
        }
        end
    }

    /// The innermost bracket that holds entries: the first token within it, and what it is.
    fn entries(&self) -> (usize, Within) {
        let open = self.open.iter().rev().find(|open| open.within.has_entries());
        open.map_or((0, self.root), |open| (open.token + 1, open.within))
    }

    /// What the entry stands in that is not read here.
    pub fn entries_of(&self) -> Within {
        self.entries().1
    }

    /// Tokens of the entry that is not read here: the first, and the one behind the last.
    pub fn entry(&self) -> (usize, usize) {
        let (from, _) = self.entries();
        let mut depth = 0;
        let (mut start, mut end) = (from, self.tokens.len() - 1);
        for i in from..self.tokens.len() {
            if depth == 0 && i > from && self.begins_entry(i) {
                if i > self.at || i == self.at && self.is_begun(start, i) {
                    end = i;
                    break;
                }
                start = i;
            }
            match self.kind(i) {
                Kind::Open => depth += 1,
                Kind::Close if depth == 0 => {
                    end = i;
                    break;
                }
                Kind::Close => depth -= 1,
                _ => {}
            }
        }
        (start, end.max(start))
    }

    /// Whether tokens from `start` up to `end` are an entry without its end: `param mask_ratio`, `branch online`, `pass`.
    fn is_begun(&self, start: usize, end: usize) -> bool {
        let has_no_value = start < end && (start..end).all(|i| self.kind(i) == Kind::Name || self.word(i) == ".");
        match self.entries_of() {
            Within::Body | Within::Rules => false,
            Within::File => has_no_value && self.word(start) == "pipeline",
            _ => has_no_value && start < end,
        }
    }

    /// Whether an entry can begin with token `i`.
    pub fn begins_entry(&self, i: usize) -> bool {
        let before = i.checked_sub(1).map_or("{", |before| self.word(before));
        let goes_on = i > 0 && self.kind(i - 1) != Kind::Close && !self.ends_value(i - 1) && before != "{";
        if self.kind(i) != Kind::Name || goes_on && !self.tokens[i].first {
            return false;
        }
        if self.tokens[i].first {
            return self.is_binding(i) || !is_joint(self.word(i)) && !goes_on;
        }
        // `let mask = …` is one entry.
        if self.kind(i - 1) == Kind::Name && (self.tokens[i - 1].first || i >= 2 && self.word(i - 2) == "{") {
            return false;
        }
        (self.is_binding(i) || matches!(self.word(i), "param" | "export" | "branch" | "update" | "require"))
            && !matches!(before, "." | "::" | "param" | "update" | "init" | "add" | "state")
    }

    /// `name =`, `a.b =`
    pub fn is_binding(&self, i: usize) -> bool {
        let mut j = i;
        while self.kind(j) == Kind::Name && self.word(j + 1) == "." && self.is_adjacent(j + 1) {
            j += 2;
        }
        self.kind(j) == Kind::Name && self.word(j + 1) == "="
    }

    /// The last token of the line that token `i` stands on, and one more.
    pub fn line_end(&self, i: usize) -> usize {
        (i + 1..self.tokens.len()).find(|j| self.tokens[*j].first).unwrap_or(self.tokens.len() - 1)
    }

    pub fn line_start(&self, i: usize) -> usize {
        self.lines.get(i).copied().unwrap_or(0)
    }
}

/// Words between two operands.
pub fn is_operator(word: &str) -> bool {
    KEYWORDS.contains(&word) && !matches!(word, "true" | "false" | "none")
}

/// Words that a line can go on with.
fn is_joint(word: &str) -> bool {
    matches!(word, "and" | "or" | "if" | "else" | "when" | "repeat" | "with" | "in" | "as" | "frozen" | "for" | "is")
}

/// The brackets that are open at token `at`.
fn open_at(root: Within, text: &str, tokens: &[Token], at: usize) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    // What the next brace of an item holds: its head may have brackets of its own.
    let mut head: Option<(usize, Within)> = None;
    let word = |i: usize| &text[tokens[i].range()];
    for i in 0..at {
        let around = open.last().map_or(root, |open| open.within);
        match tokens[i].kind {
            Kind::Name if around.has_entries() => {
                let within = match word(i) {
                    "pipeline" => Some(Within::Pipeline),
                    "with" => Some(Within::Variant),
                    "block" => Some(Within::Block),
                    "fn" | "forward" => Some(Within::Body),
                    "branch" => Some(Within::Branch),
                    _ => None,
                };
                head = within.map(|within| (open.len(), within)).or(head);
            }
            Kind::Open => {
                let before = i.checked_sub(1).map_or("", word);
                let touches = i > 0 && tokens[i - 1].end == tokens[i].start;
                let of_head = head.filter(|(depth, _)| *depth == open.len()).map(|(_, within)| within);
                let within = match (word(i), before) {
                    ("(", _) if matches!(of_head, Some(Within::Block | Within::Body)) => Within::Params,
                    ("(", _) if touches && matches!(tokens[i - 1].kind, Kind::Name | Kind::Close) => Within::Call,
                    ("(", _) => Within::Group,
                    ("[", _) if touches && matches!(tokens[i - 1].kind, Kind::Name | Kind::Close) => Within::Index,
                    ("[", _) => Within::List,
                    (_, "::") => Within::Names,
                    (_, "->" | ":") => Within::Record,
                    _ if of_head.is_some() => {
                        head = None;
                        of_head.unwrap_or(Within::Record)
                    }
                    (_, "train") if around.has_entries() => Within::Train,
                    (_, "parameters") if around.has_entries() => Within::Rules,
                    (_, "evaluate") if around.has_entries() => Within::Evaluate,
                    (_, name) if around.has_entries() && SECTIONS.contains(&name) => Within::Section,
                    (_, _) if matches!(around, Within::Pipeline | Within::File) && before != "=" => Within::Section,
                    _ => Within::Record,
                };
                open.push(Open { token: i, within });
            }
            Kind::Close => {
                open.pop();
            }
            _ => {}
        }
    }
    open
}
