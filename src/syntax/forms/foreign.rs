//! Words of other languages: statements, prefixes of strings, keywords where a name or value stands.

use super::{Fault, Place, UNREAD, other_name, shown, value_end};
use crate::diag::Code;
use crate::syntax::heads;
use crate::syntax::place::{SECTIONS, Within, is_operator};
use crate::syntax::token::{KEYWORDS, Kind};

/// A line that begins with a word of another language.
pub fn statement(place: &Place) -> Option<Fault> {
    let within = place.within();
    if !within.has_entries() {
        return None;
    }
    let (start, end) = place.entry();
    let line = place.line_start(place.at);
    let begins = place.token().first && !place.begins_entry(place.at) && place.at > start;
    // `for`, `if` and `else` go on with a line where they do not begin a statement.
    let of_line =
        matches!(place.word(line), "for" | "if" | "else" | "while" | "with") && place.at <= line + 2 && line > start;
    let start = if begins {
        place.at
    } else if of_line {
        line
    } else {
        start
    };
    if let Some(fault) = dashes(place) {
        return Some(fault);
    }
    let word = place.word(start);
    let line = place.bytes(start, end.max(start + 1));
    let fault = |message: String| {
        Fault::new("statement", Code::OtherLanguage, message).label(place.tokens[start].range(), "here")
    };
    match word {
        "let" | "var" | "const" | "val" | "auto" | "local" | "final" | "static" | "mut" | "set" | "def" | "my"
            if place.at <= start + 1
                && place.kind(start + 1) == Kind::Name
                && matches!(place.word(start + 2), "=" | ":" | ":=") =>
        {
            let rest = shown(place.slice(start + 1, end.max(place.line_end(start))));
            let fault = fault(format!("a name is bound without `{word}`")).help(format!("write `{rest}`"));
            Some(fault.edit(place.bytes(start, start + 1), ""))
        }
        "def" | "class" | "section" | "struct" | "function" | "let" | "public" | "export"
            if place.at <= start + 2
                && (SECTIONS.contains(&place.word(start + 1)) && place.word(start + 2) == "{"
                    || matches!(place.word(start + 1), "pipeline" | "branch")
                        && place.kind(start + 2) == Kind::Name) =>
        {
            let rest = shown(place.slice(start + 1, place.line_end(start)));
            let fault =
                fault(format!("no `{word}` stands before `{}`", place.word(start + 1))).help(format!("write `{rest}`"));
            Some(fault.edit(place.bytes(start, start + 1), ""))
        }
        "def" | "func" | "function" | "fun" | "sub" | "class" | "struct" | "trait" | "interface" | "enum" | "type"
            if place.at <= start + 2 && place.kind(start + 1) == Kind::Name =>
        {
            let help = match word {
                "class" | "struct" | "trait" | "interface" | "enum" | "type" => {
                    let name = heads::snake(place.word(start + 1));
                    format!(
                        "a module is a block: `block {name}(dim: int) {{ … forward(x: [B, N, dim]) -> [B, N, dim] {{ … }} }}`"
                    )
                }
                _ => heads::of_function(place, start),
            };
            Some(through_body(place, start, end, fault(format!("there is no `{word}` here")).help(help)))
        }
        "return" | "yield" if place.at <= start + 1 => {
            let value = shown(place.slice(start + 1, end));
            let fault = fault(format!("nothing is given back by `{word}`"));
            Some(match within {
                Within::Body => fault
                    .help(format!("the last line of a body is its value: write `{value}`"))
                    .edit(place.bytes(start, start + 1), ""),
                Within::Branch => {
                    let fault =
                        fault.help("leave it out: others read a branch's values by their names, as `online.query`");
                    let name =
                        place.open.last().and_then(|open| open.token.checked_sub(1)).map_or("", |i| place.word(i));
                    let reads = (0..place.tokens.len()).filter(|i| place.word(*i) == name && place.word(i + 1) == ".");
                    let lost = reads.map(|i| place.word(i + 2).to_owned()).collect();
                    Fault { lost, ..fault.leave_out(line, "") }
                }
                _ => fault.help("leave it out").leave_out(line, ""),
            })
        }
        "for" | "while" | "if" | "elif" | "else" | "switch" | "match" | "loop" | "unless" | "do"
            if place.at <= start + 2 && place.word(start + 1) != "=" =>
        {
            let help = match word {
                "for" => "modules are repeated by `blocks = transformer(dim) repeat depth as i`, values listed by `[f(x) for x in xs]`".to_owned(),
                "while" | "loop" | "do" => "write a count: `blocks = transformer(dim) repeat depth`".to_owned(),
                _ => "a value is chosen by `name = a if condition else b`, a module left out by `… when condition`".to_owned(),
            };
            Some(through_body(place, start, end, fault(format!("there is no `{word}` statement here")).help(help)))
        }
        "try" | "except" | "with" | "async" | "switch" | "go" | "defer"
            if within != Within::Variant && place.at <= start + 1 && place.word(start + 1) != "=" =>
        {
            let help = if word == "with" {
                "leave it out: gradients are stopped by `stop_gradient(x)` or `ema(…)`"
            } else {
                "a pipeline says what is, not what is done: leave it out"
            };
            Some(through_body(place, start, end, fault(format!("there is no `{word}` statement here")).help(help)))
        }
        "assert" | "raise" | "throw" if place.at <= start + 2 => {
            let condition = place.slice(start + 1, value_end(place, start + 1));
            let help =
                format!("write `require {}, \"what is wrong\"` in a branch, a block or a function", shown(condition));
            Some(fault(format!("there is no `{word}` here")).help(help).leave_out(line, ""))
        }
        "pass" | "break" | "continue" | "del" | "global" | "nonlocal" | "delete" | "goto" | "..." | "end" | "begin"
        | "then" | "fi" | "done"
            if place.at <= start + 1 && !matches!(place.word(start + 1), "=" | ":") && within != Within::Variant =>
        {
            Some(fault(format!("there is no `{word}` here")).help("leave it out").leave_out(line, ""))
        }
        "import" | "from" | "include" | "#include" if place.at <= start + 1 && place.word(start + 1) != "=" => {
            let help = "write `use std::masks::random_mask` at the top of the file";
            Some(fault(format!("names are brought in by `use`, not by `{word}`")).help(help).leave_out(line, ""))
        }
        "self" | "this" | "cfg" | "config" | "args" if place.word(start + 1) == "." && place.at == start + 1 => {
            let rest = shown(place.slice(start + 2, end));
            let fault = fault(format!("a name stands without `{word}.`")).help(format!("write `{rest}`"));
            Some(fault.edit(place.bytes(start, start + 2), ""))
        }
        "@" if place.at == start => Some(
            fault("there are no decorators".into())
                .help("leave it out")
                .leave_out(place.bytes(start, place.line_end(start)), ""),
        ),
        "-" | "+" if place.at == start && within == Within::Variant && place.kind(start + 1) == Kind::Name => {
            let rest = shown(place.slice(start + 1, end));
            let help = match word {
                "+" => format!("write `add {rest}`"),
                _ => format!("write what it becomes: `{rest} = …`; what is optional is turned off by `= none`"),
            };
            Some(fault(format!("no change begins with `{word}`")).help(help).leave_out(line, ""))
        }
        "-" | "%" | "<" if place.at == start && place.token().first => {
            let length = crate::syntax::token::line_end(&place.text[place.token().start..]);
            let range = place.token().start..place.token().start + length;
            let text = place.text[range.clone()].trim_start_matches(['-', '%', ' ']);
            let fault =
                fault(format!("no line begins with `{word}`")).help(format!("a comment is `// {}`", shown(text)));
            Some(fault.leave_out(range, ""))
        }
        "[" if place.at == start
            && place.token().first
            && place.kind(start + 1) == Kind::Name
            && place.word(start + 2) == "]" =>
        {
            let name = place.word(start + 1);
            Some(
                fault("no section begins with `[`".into())
                    .help(format!("write `{name} {{ … }}`"))
                    .leave_out(place.bytes(start, start + 3), ""),
            )
        }
        _ => None,
    }
}

/// `-- a comment`, which is read as a subtraction from the entry before it.
fn dashes(place: &Place) -> Option<Fault> {
    let (from, to) = (place.line_start(place.at.max(1) - 1), place.line_start(place.at));
    let line = [to, from].into_iter().find(|i| {
        place.word(*i) == "--" || place.word(*i) == "-" && place.word(i + 1) == "-" && place.is_adjacent(i + 1)
    })?;
    let start = place.tokens[line].start;
    let range = start..start + crate::syntax::token::line_end(&place.text[start..]);
    let comment = place.text[range.clone()].trim_start_matches(['-', ' ']);
    let fault = Fault::new("dashes", Code::OtherLanguage, "a comment begins with `//`, not with `--`")
        .label(start..start + 2, "write `//`")
        .help(format!("write `// {}`", shown(comment)));
    Some(fault.leave_out(range, ""))
}

/// Leaves out the line and the body in braces that it opens.
fn through_body(place: &Place, start: usize, end: usize, fault: Fault) -> Fault {
    let line_end = place.line_end(start);
    let brace = (start..line_end).find(|i| place.word(*i) == "{").and_then(|open| place.other(open));
    let end = match brace {
        Some(close) => {
            // `} else {` goes with it.
            let mut end = close + 1;
            while matches!(place.word(end), "else" | "elif" | "catch" | "except" | "finally") {
                let next =
                    (end..place.line_end(end)).find(|i| place.word(*i) == "{").and_then(|open| place.other(open));
                match next {
                    Some(close) => end = close + 1,
                    None => break,
                }
            }
            end
        }
        None => end.max(start + 1).min(line_end.max(start + 1)),
    };
    fault.leave_out(place.bytes(start, end), "")
}

/// Words within a value.
pub fn word(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    if place.at == 0 {
        return None;
    }
    if place.kind(place.at) == Kind::Name
        && KEYWORDS.contains(&here)
        && is_operator(here)
        && !place.ends_value(place.at - 1)
    {
        let other = other_name(here);
        let fault =
            Fault::new("keyword", Code::UnexpectedToken, format!("`{here}` is a word of the language, and so no name"))
                .label(place.token().range(), "not a name")
                .help(format!("give what is meant another name, such as `{other}`"));
        return Some(
            fault
                .leave_out(place.token().range(), if before == "." { "unread".to_owned() } else { UNREAD.to_string() }),
        );
    }
    if before == "." && place.kind(place.at) == Kind::Number {
        let start = place.operand_before(place.at - 1);
        let of = place.slice(start, place.at - 1);
        let fault = Fault::new("field", Code::OtherLanguage, "an item goes by its index, not by a field")
            .label(place.bytes(place.at - 1, place.at + 1), "here");
        if place.kind(start) == Kind::Number {
            let fault = Fault::new("field", Code::Number, "a number has one point")
                .label(place.bytes(start, place.at + 1), "two");
            return Some(fault.help(format!("write `{of}`")).leave_out(place.bytes(start, place.at + 1), UNREAD));
        }
        return Some(fault.help(format!("write `{of}[{here}]`")).leave_out(place.bytes(start, place.at + 1), UNREAD));
    }
    if here == ":" && place.kind(place.at - 1) == Kind::Name && place.kind(place.at + 1) == Kind::Name {
        let (left, right) = (place.slice(place.operand_before(place.at), place.at), place.after(1));
        if left.starts_with("std") {
            let (from, to) = (place.operand_before(place.at), place.at + 2);
            let fault = Fault::new("path", Code::Separator, "the parts of a path are joined by `::`")
                .label(place.token().range(), "write `::`");
            let help = format!("write `use {left}::{right}` at the top of the file, and `{right}` here");
            return Some(fault.help(help).leave_out(place.bytes(from, to), UNREAD));
        }
        if left == "op" {
            let fault = Fault::new("path", Code::Separator, "the parts of a path are joined by `::`")
                .label(place.token().range(), "write `::`");
            return Some(fault.help(format!("write `{left}::{right}`")).edit(place.token().range(), "::"));
        }
    }
    None
}

/// `lambda x: …`, `new vit(…)`
pub fn within_value(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    if before == "lambda" || here == "lambda" || place.before(2) == "lambda" {
        let at = (place.at.saturating_sub(2)..=place.at).find(|i| place.word(*i) == "lambda").unwrap_or(place.at);
        let end = value_end(place, at).max(at + 1);
        let fault = Fault::new("lambda", Code::OtherLanguage, "there are no functions without a name")
            .label(place.bytes(at, end), "Python's")
            .help("write it outside the pipeline, `fn name(x: [B, D]) -> [B, D] { … }`, and pass its name or call it");
        return Some(fault.leave_out(place.bytes(at, end), UNREAD));
    }
    if before == "new" || before == "await" || before == "async" {
        let fault = Fault::new("new", Code::OtherLanguage, format!("there is no `{before}`"))
            .label(place.tokens[place.at - 1].range(), "leave it out");
        return Some(
            fault
                .help(format!(
                    "write `{}`",
                    shown(place.slice(place.at, place.operand_after(place.at).max(place.at + 1)))
                ))
                .edit(place.bytes(place.at - 1, place.at), ""),
        );
    }
    None
}

/// A string with a letter before it: `f"data/{name}"`.
pub fn prefix(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    let is_prefix = matches!(before, "f" | "r" | "b" | "u" | "F" | "R" | "B" | "fr" | "rb" | "rf" | "br");
    if place.kind(place.at) != Kind::Text || !is_prefix || !place.is_adjacent(place.at) {
        return None;
    }
    let names: Vec<&str> =
        here.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect();
    let help = match names.as_slice() {
        [] => format!("write `{here}`"),
        names => format!(
            "write all of it, as `{}`: a text is what it says, and `{{{}}}` is not filled in",
            here.replace(['{', '}'], ""),
            names[0]
        ),
    };
    let fault = Fault::new("prefix", Code::OtherLanguage, format!("no `{before}` stands before a text"))
        .label(place.bytes(place.at - 1, place.at), "leave it out")
        .help(help);
    Some(fault.edit(place.bytes(place.at - 1, place.at), ""))
}

/// `x.view(-1, 96)` behind a blank, which no method comes to.
pub fn method(place: &Place) -> Option<Fault> {
    let (name, kind) = (place.after(1), place.kind(place.at + 1));
    if place.here() == "." && kind == Kind::Name && matches!(place.before(1), "|>" | "," | "(" | "=" | ":") {
        let fault = Fault::new("method", Code::OtherLanguage, "nothing stands before this `.`")
            .label(place.token().range(), "of what?");
        let help = match place.before(1) {
            "|>" => format!("write `|> {name}`, the name of a function or module"),
            _ => format!("write `online.{name}`, what it is of before the `.`"),
        };
        let end = place.operand_after(place.at + 1);
        return Some(fault.help(help).leave_out(place.bytes(place.at, end.max(place.at + 1)), UNREAD));
    }
    if place.before(1) == "."
        && kind != Kind::End
        && place.at > 1
        && place.kind(place.at) != Kind::Number
        && place.kind(place.at) != Kind::Name
    {
        let of = place.slice(place.operand_before(place.at - 1), place.at - 1);
        let fault = Fault::new("field", Code::MissingValue, format!("nothing follows `{of}.`"))
            .label(place.gap(place.at), "a name is missing");
        let range = place.bytes(place.operand_before(place.at - 1), place.at);
        return Some(fault.help(format!("write `{of}.name`, or `{of}`")).leave_out(range, UNREAD));
    }
    let is_method = place.here() == "." && place.at > 0 && !place.is_adjacent(place.at) && place.after(2) == "(";
    if !is_method || kind != Kind::Name || !place.ends_value(place.at - 1) {
        return None;
    }
    let of = shown(place.slice(place.operand_before(place.at), place.at));
    let help = match name {
        "view" | "reshape" | "flatten" => {
            format!("write `op::reshape({of}, (…))` with all sizes, or `{of} |> mean_tokens` to pool")
        }
        "detach" => format!("write `stop_gradient({of})`"),
        "mean" | "sum" => format!("write `op::{name}({of}, axis: 1)`"),
        "permute" | "transpose" => format!("write `op::permute({of}, axes: (0, 2, 1))`"),
        "forward" => format!("write `{of}(…)`"),
        _ => format!("write `{name}({of}, …)`, or `{of} |> {name}`"),
    };
    let start = place.operand_before(place.at);
    let end = place.operand_after(place.at + 1);
    let fault = Fault::new("method", Code::OtherLanguage, "a value has no methods: it is given to a function")
        .label(place.bytes(place.at, place.at + 2), "here")
        .help(help);
    Some(fault.leave_out(place.bytes(start, end), UNREAD))
}
