//! Bodies by indentation: `pipeline x:` with lines below it, a brace that is not written at all, and Python's statements.
//!
//! **Invariant:** a body that is given braces gets one of each.

use super::mended::Fault;
use super::place::{Place, SECTIONS, Within};
use super::sections::section_of;
use super::token::{Kind, Token};
use crate::diag::Code;

/// Words that head a body in braces.
fn is_head(word: &str) -> bool {
    SECTIONS.contains(&word) || matches!(word, "pipeline" | "block" | "fn" | "forward" | "branch")
}

/// Bodies that are given braces in one text.
const MAX_FAULTS: usize = 100;

/// All of them, the outer before the inner.
pub fn faults(text: &str, tokens: &[Token]) -> Vec<Fault> {
    let place = Place::new(Within::File, text, tokens, text.len());
    let count = |letter: &str| tokens.iter().filter(|token| &text[token.range()] == letter).count();
    let lacks_brace = count("}") > count("{");
    let mut faults = Vec::new();
    let mut skip = 0;
    for i in 0..tokens.len() - 1 {
        if faults.len() >= MAX_FAULTS {
            break;
        }
        if !tokens[i].first || tokens[i].kind != Kind::Name || i < skip {
            continue;
        }
        let end = place.line_end(i);
        let body_end = body_end(tokens, i, end);
        let has_body = body_end > end;
        let (word, last) = (place.word(i), place.word(end - 1));
        if last == ":"
            && let Some(help) = of_python(&place, i, end)
        {
            let fault = Fault::new("statement", Code::OtherLanguage, format!("there is no `{word}` statement here"))
                .label(place.bytes(i, end), "Python's")
                .help(help);
            faults.push(fault.leave_out(place.bytes(i, body_end), ""));
            skip = body_end;
        } else if has_body && matches!(last, "(" | "[") && is_head(word) && closes(&place, i, body_end) {
            let bracket = place.bytes(end - 1, end);
            let head = place.slice(i, end - 1).trim_end_matches([' ', '=', ':']).to_owned();
            let (from, close) = (place.tokens[i].start + head.len(), place.bytes(body_end, body_end + 1));
            let fault = Fault::new("round_body", Code::Bracket, format!("the body of `{head}` stands in braces"))
                .label(bracket.clone(), "write `{`")
                .help(format!("write `{head} {{`"));
            faults.push(fault.edit(from..bracket.end, " {").edit(close, "}"));
        } else if has_body
            && last == ":"
            && end == i + 2
            && !is_head(word)
            && let Some(section) = section_of(word)
        {
            let fault = of_colon(&place, i, end, body_end);
            let fault = Fault { message: format!("`{word}` is no section"), labels: Vec::new(), ..fault };
            let fault = fault.label(place.bytes(i, end), "here").help(format!("write `{section} {{`"));
            faults.push(fault.edit(place.bytes(i, i + 1), section));
        } else if has_body && last == ":" && (is_head(word) || end == i + 2) && place.word(end - 2) != ")" {
            faults.push(of_colon(&place, i, end, body_end));
        } else if has_body && (lacks_brace || place.is_binding(end)) && is_bare_head(&place, i, end) {
            let head = place.slice(i, end);
            let fault = Fault::new("no_brace", Code::Bracket, format!("the body of `{head}` has no `{{`"))
                .label(place.bytes(i, end), "opens nothing")
                .help(format!("write `{head} {{`"));
            faults.push(fault.edit(place.gap(end), " {"));
        }
    }
    faults
}

/// The token behind the lines that are further in than that of `i`, which ends before `end`.
fn body_end(tokens: &[Token], i: usize, end: usize) -> usize {
    let within = |j: &usize| tokens[*j].first && tokens[*j].indent <= tokens[i].indent;
    (end..tokens.len()).find(within).unwrap_or(tokens.len() - 1)
}

/// Whether a bracket of any kind stands behind the body, as far in as its head.
fn closes(place: &Place, i: usize, body_end: usize) -> bool {
    place.kind(body_end) == Kind::Close && place.tokens[body_end].indent == place.tokens[i].indent
}

fn is_bare_head(place: &Place, i: usize, end: usize) -> bool {
    match place.word(i) {
        "pipeline" | "branch" => end == i + 2 && place.kind(i + 1) == Kind::Name && place.word(end) != "{",
        word => SECTIONS.contains(&word) && end == i + 1 && place.word(end) != "{",
    }
}

fn of_colon(place: &Place, i: usize, end: usize, body_end: usize) -> Fault {
    let head = place.slice(i, end - 1);
    let colon = place.bytes(end - 1, end);
    let fault =
        Fault::new("colon_body", Code::OtherLanguage, format!("the body of `{head}` stands in braces, not behind `:`"))
            .label(colon.clone(), "write `{`");
    // Who wrote the closing brace has forgotten the first alone.
    let closes = place.word(body_end) == "}" && place.tokens[body_end].indent == place.tokens[i].indent;
    match closes {
        true => fault.help(format!("write `{head} {{`")).edit(colon, " {"),
        false => fault
            .help(format!("write `{head} {{`, and `}}` on a line of its own behind its last line"))
            .edit(colon, " {")
            .edit(place.gap(body_end), "\n}"),
    }
}

/// What to write for a statement of Python that ends in `:`.
fn of_python(place: &Place, i: usize, end: usize) -> Option<String> {
    let rest = place.slice(i + 1, end - 1);
    Some(match place.word(i) {
        "def" => of_function(place, i),
        "class" => {
            let name = place.word(i + 1);
            let name = if name.is_empty() { "name".to_owned() } else { snake(name) };
            format!("a module is a block: `block {name}(dim: int) {{ … forward(x: [B, N, dim]) -> [B, N, dim] {{ … }} }}`")
        }
        "for" => {
            "modules are repeated by `blocks = transformer(dim) repeat depth as i`, values listed by `[f(x) for x in xs]`".into()
        }
        "while" => "write a count: `blocks = transformer(dim) repeat depth`".into(),
        "if" | "elif" | "else" => {
            let condition = if rest.is_empty() { "condition" } else { rest };
            format!("a value is chosen by `a if {condition} else b`, a module left out by `… when {condition}`")
        }
        "try" | "except" | "finally" | "match" | "case" | "async" => {
            "a pipeline says what is, not what is done: leave it out".into()
        }
        "with" if place.word(i + 1) != "{" => "leave it out: gradients are stopped by `stop_gradient(x)` or `ema(…)`".into(),
        _ => return None,
    })
}

/// What to write for `def name(…)` at token `i`.
pub fn of_function(place: &Place, i: usize) -> String {
    match place.word(i + 1) {
        "forward" | "__call__" => "write `forward(x: [B, N, dim]) -> [B, N, dim] { … }` within a block".into(),
        "__init__" => "a block's arguments stand behind its name: `block name(dim: int) { … }`".into(),
        name => {
            let name = if name.is_empty() { "name" } else { name };
            format!("a function is `fn {name}(x: [B, D]) -> [B, D] {{ … }}`: its last line is its value")
        }
    }
}

/// `MyHead` as `my_head`.
pub fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase()
            && !snake.is_empty()
            && !snake.ends_with(|c: char| c == '_' || c.is_ascii_uppercase())
        {
            snake.push('_');
        }
        snake.push(letter);
    }
    let mut snake = snake.to_ascii_lowercase();
    snake.truncate(60);
    snake
}
