//! Brackets that do not match: which one was not closed, and where its end belongs, by sections, lines and indentation.
//!
//! **Invariant:** after its edits each bracket has its other.

use super::mended::Fault;
use super::place::{Place, SECTIONS, Within};
use super::token::{Kind, Token};
use crate::diag::Code;

/// Brackets that are told of one text: nobody counts more.
const MAX_FAULTS: usize = 100;

/// All of them, in the order in which they are found.
pub fn faults(text: &str, tokens: &[Token]) -> Vec<Fault> {
    let place = Place::new(Within::File, text, tokens, text.len());
    let count = |letter: &str| tokens.iter().filter(|token| &text[token.range()] == letter).count() as i64;
    let mut matching = Matching {
        surplus: count("{") - count("}"),
        unbalanced: !is_balanced(&place),
        open: Vec::new(),
        faults: Vec::new(),
        place,
    };
    for i in 0..tokens.len() {
        if matching.faults.len() < MAX_FAULTS {
            matching.step(i);
        }
    }
    matching.faults
}

fn is_balanced(place: &Place) -> bool {
    let mut open = Vec::new();
    for i in 0..place.tokens.len() {
        match place.kind(i) {
            Kind::Open => open.push(i),
            Kind::Close => match open.pop() {
                Some(opened) if closer(place.word(opened)) == place.word(i) => {}
                _ => return false,
            },
            _ => {}
        }
    }
    open.is_empty()
}

fn closer(open: &str) -> &'static str {
    match open {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

struct Matching<'t> {
    place: Place<'t>,
    /// Braces that open less those that close.
    surplus: i64,
    unbalanced: bool,
    open: Vec<usize>,
    faults: Vec<Fault>,
}

impl Matching<'_> {
    fn step(&mut self, i: usize) {
        let token = self.place.tokens[i];
        match token.kind {
            Kind::Open => self.open.push(i),
            Kind::Close => self.close(i),
            Kind::End => self.unclosed_above(0, i),
            Kind::Name if token.first => {
                if self.begins_item(i) {
                    self.unclosed_above(0, i);
                } else if self.begins_section(i)
                    && let Some(pipeline) = self.open.iter().rposition(|open| self.is_pipeline(*open))
                    && self.open.get(pipeline + 1).is_some_and(|open| token.indent <= self.indent(*open))
                {
                    self.unclosed_above(pipeline + 1, i);
                }
                while let Some(open) = self.open.last().copied()
                    && self.unbalanced
                    && self.place.word(open) != "{"
                    && self.leaves_round(i, open)
                {
                    self.unclosed_above(self.open.len() - 1, i);
                }
            }
            _ => {}
        }
    }

    /// `pipeline x`, `block x`, `fn x`: of the file alone.
    fn begins_item(&self, i: usize) -> bool {
        let is_item = matches!(self.place.word(i), "pipeline" | "block" | "fn");
        is_item && self.place.kind(i + 1) == Kind::Name && self.place.word(i + 1) != "forward"
    }

    /// What stands in a pipeline alone.
    fn begins_section(&self, i: usize) -> bool {
        let next = self.place.word(i + 1);
        match self.place.word(i) {
            "branch" => self.place.kind(i + 1) == Kind::Name,
            "export" => next == "=",
            "parameters" => false,
            word => SECTIONS.contains(&word) && next == "{",
        }
    }

    fn is_pipeline(&self, open: usize) -> bool {
        let start = self.place.line_start(open);
        self.place.word(open) == "{" && self.place.word(start) == "pipeline" && open == start + 2
    }

    /// Whether the line that begins with token `i` cannot belong to the round or square bracket at `open`.
    fn leaves_round(&self, i: usize, open: usize) -> bool {
        let place = &self.place;
        let goes_on = !place.ends_value(i - 1);
        let line = place.tokens[place.line_start(open)];
        !goes_on && (place.is_binding(i) || place.tokens[i].indent <= line.indent)
    }

    /// Of the line that opens it.
    fn indent(&self, open: usize) -> usize {
        self.place.tokens[self.place.line_start(open)].indent
    }

    /// Where within the group at `open`, up to `i`, the next argument of the call around it begins: `f(a: (1, 2, b: 3)`.
    fn next_argument(&self, open: usize, i: usize) -> Option<usize> {
        let place = &self.place;
        let around = self.open.len().checked_sub(2).map(|under| self.open[under])?;
        let is_group = |at: usize| !place.is_adjacent(at) || !matches!(place.kind(at - 1), Kind::Name | Kind::Close);
        if !self.unbalanced || !is_group(open) || is_group(around) || place.word(around) != "(" {
            return None;
        }
        let mut j = open + 1;
        while j < i {
            match place.kind(j) {
                Kind::Open => j = place.other(j)?,
                Kind::Sign if place.word(j) == "," && place.kind(j + 1) == Kind::Name && place.word(j + 2) == ":" => {
                    return Some(j);
                }
                _ => {}
            }
            j += 1;
        }
        None
    }

    fn close(&mut self, i: usize) {
        let (token, word) = (self.place.tokens[i], self.place.word(i));
        let opened = |open: &usize| closer(self.place.word(*open)) == word;
        let indent = |open: usize| self.indent(open);
        if word == "}" {
            let Some(mut brace) = self.open.iter().rposition(opened) else { return self.extra(i) };
            if token.first && token.indent != indent(self.open[brace]) {
                let fits = |open: &usize| self.place.word(*open) == "{" && indent(*open) == token.indent;
                match self.open[..brace].iter().rposition(fits) {
                    Some(outer) if self.surplus > 0 && token.indent < indent(self.open[brace]) => {
                        self.surplus -= (brace - outer) as i64;
                        brace = outer;
                    }
                    None if self.surplus < 0 && token.indent > indent(self.open[brace]) => {
                        self.surplus += 1;
                        return self.extra(i);
                    }
                    _ => {}
                }
            }
            self.unclosed_above(brace + 1, i);
            self.open.pop();
            return;
        }
        match self.open.last().copied() {
            Some(open) if closer(self.place.word(open)) == word => {
                if let Some(next) = self.next_argument(open, i) {
                    self.unclosed_above(self.open.len() - 1, next);
                }
                self.open.pop();
            }
            // A record that is not closed, on one line with its call.
            Some(open) if self.place.word(open) == "{" => {
                let around = self.open.len().checked_sub(2).map(|under| self.open[under]);
                match around
                    .filter(|around| opened(around) && self.place.line_start(*around) == self.place.line_start(open))
                {
                    Some(_) => {
                        self.unclosed_above(self.open.len() - 1, i);
                        self.open.pop();
                    }
                    None => self.extra(i),
                }
            }
            Some(open) => {
                let (was, wanted) = (self.place.word(open), closer(self.place.word(open)));
                let around = self.open.len().checked_sub(2).map(|under| self.open[under]);
                if around.is_some_and(|around| opened(&around)) && !self.has_other(i, wanted) {
                    self.unclosed_above(self.open.len() - 1, i);
                    self.open.pop();
                    return;
                }
                let fault = Fault::new("bracket", Code::Bracket, format!("`{was}` is closed by `{word}`"))
                    .label(token.range(), format!("write `{wanted}`"))
                    .label(self.place.tokens[open].range(), "opened here")
                    .help(format!("write `{wanted}` for `{word}`"));
                self.faults.push(fault.edit(token.range(), wanted));
                self.open.pop();
            }
            None => self.extra(i),
        }
    }

    /// Whether `wanted` still follows on the line of token `i`.
    fn has_other(&self, i: usize, wanted: &str) -> bool {
        (i + 1..self.place.line_end(i)).any(|j| self.place.word(j) == wanted)
    }

    fn extra(&mut self, i: usize) {
        let word = self.place.word(i);
        let place = &self.place;
        let is_body = |i: usize| place.tokens[i].first && (place.word(i) == "param" || self.begins_section(i));
        let has_pipeline = (0..i).any(|i| place.word(i) == "pipeline" && place.kind(i + 1) == Kind::Name);
        if word == "}"
            && !has_pipeline
            && self.open.is_empty()
            && let Some(first) = (0..i).find(|i| is_body(*i))
        {
            let at = place.tokens[first].start;
            let fault = Fault::new("no_pipeline", Code::Bracket, "no `pipeline` begins before its body")
                .label(place.tokens[first].range(), "the first line of it")
                .label(place.tokens[i].range(), "its end")
                .help("write `pipeline my_pipeline {` before it");
            self.faults.push(fault.edit(at..at, "pipeline my_pipeline {\n"));
            return;
        }
        let fault = Fault::new("bracket", Code::Bracket, format!("this `{word}` closes nothing"))
            .label(self.place.tokens[i].range(), "no bracket is open here that it closes")
            .help(format!("remove the `{word}`"));
        self.faults.push(fault.edit(self.place.tokens[i].range(), " "));
    }

    /// Tells those from the `kept`-th on as not closed before token `i`.
    fn unclosed_above(&mut self, kept: usize, i: usize) {
        while self.open.len() > kept {
            let open = self.open.pop().unwrap_or_default();
            let end = self.end_of(open, i);
            self.faults.push(self.unclosed(open, end));
        }
    }

    /// The token before which the bracket at `open` was to end, `i` at the latest.
    fn end_of(&self, open: usize, i: usize) -> usize {
        let tokens = self.place.tokens;
        if self.place.word(open) != "{" || !tokens[open + 1].first {
            return i;
        }
        let indent = tokens[self.place.line_start(open)].indent;
        (open + 1..i).find(|j| tokens[*j].first && tokens[*j].indent <= indent).unwrap_or(i)
    }

    fn unclosed(&self, open: usize, end: usize) -> Fault {
        let place = &self.place;
        let (word, other) = (place.word(open), closer(place.word(open)));
        let start = place.line_start(open);
        let before = place.word(end.max(1) - 1);
        let what = match word {
            "{" if open > start => format!("the `{{` of `{}` is not closed", place.slice(start, open)),
            "(" if place.is_adjacent(open) && place.kind(open - 1) == Kind::Name => {
                format!("the `(` of `{}` is not closed", place.word(open - 1))
            }
            _ => format!("`{word}` is not closed"),
        };
        let whole = place.slice(place.operand_before(open), end);
        let help = match word {
            "{" if place.tokens[open + 1].first => match place.word(end) {
                "" => "write `}` on a line of its own at the end".to_owned(),
                next if place.tokens[end].first => {
                    format!("write `}}` on a line of its own before `{}`", place.line_head(end, next))
                }
                next => format!("write `}}` before `{next}`"),
            },
            // A comment may have swallowed the end: `100 // 3)`.
            _ if self.is_in_comment(end, other) => {
                "`//` begins a comment, which takes the rest of the line: a whole number is divided by `/`".to_owned()
            }
            _ if whole.len() <= 90 && !whole.contains('\n') => format!("write `{whole}{other}`"),
            _ => format!("write `{before}{other}`"),
        };
        let fault = Fault::new("bracket", Code::Bracket, what)
            .label(place.tokens[open].range(), "opened here")
            .label(place.gap(end), format!("`{other}` is missing here"))
            .help(help);
        if word != "{" && self.is_in_comment(end, other) {
            return fault.leave_out(place.bytes(place.operand_before(open), end), super::mended::UNREAD);
        }
        let put = if word == "{" { format!(" {other}") } else { other.to_owned() };
        fault.edit(place.gap(end), put)
    }

    /// Whether a comment behind the token before `end` holds the bracket that is missing.
    fn is_in_comment(&self, end: usize, other: &str) -> bool {
        let rest = &self.place.text[self.place.gap(end).start..];
        let line = &rest[..super::token::line_end(rest)];
        let comment = line.trim_start().strip_prefix("//").unwrap_or_default().trim_start();
        comment.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_alphabetic()) && comment.contains(other)
    }
}

impl Place<'_> {
    /// `evaluate {` of the line that begins with `next`, as people would find it.
    fn line_head(&self, i: usize, next: &str) -> String {
        let line = self.slice(i, self.line_end(i));
        if line.len() <= 40 { line.to_owned() } else { next.to_owned() }
    }
}
