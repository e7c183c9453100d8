//! Operators of other languages within a value.

use super::{Fault, Place, UNREAD, shown, value_end};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

pub fn form(place: &Place) -> Option<Fault> {
    if place.at == 0 {
        return None;
    }
    power(place)
        .or_else(|| product(place))
        .or_else(|| logic(place))
        .or_else(|| choice(place))
        .or_else(|| range(place))
        .or_else(|| piped(place))
        .or_else(|| compared(place))
        .or_else(|| doubled(place))
        .or_else(|| shell(place))
}

/// The operands on both sides of the sign here, and all three as bytes.
fn operands<'t>(place: &Place<'t>, ahead: usize) -> (&'t str, &'t str, std::ops::Range<usize>) {
    let start = place.operand_before(place.at);
    let next = place.at + ahead;
    let end = place.operand_after(next).max(next);
    (place.slice(start, place.at), place.slice(next, end), place.bytes(start, end.max(place.at + 1)))
}

fn operator(place: &Place, message: impl Into<String>) -> Fault {
    Fault::new("operator", Code::OtherLanguage, message).label(place.token().range(), "no operator here")
}

/// `a ** b`, `a ^ b`
fn power(place: &Place) -> Option<Fault> {
    if !matches!(place.here(), "**" | "^") || !place.ends_value(place.at - 1) {
        return None;
    }
    let (left, right, all) = operands(place, 1);
    let message = format!("`{}` is no operator: a power is `pow`", place.here());
    let help = match right {
        "2" => format!("write `{left} * {left}`, or `pow({left}, 2)` of numbers and `op::pow({left}, 2)` of tensors"),
        _ => format!("write `pow({left}, {right})` of numbers, `op::pow({left}, {right})` of tensors"),
    };
    Some(operator(place, message).help(help).leave_out(all, UNREAD))
}

/// `a @ b`
fn product(place: &Place) -> Option<Fault> {
    if place.here() != "@" || !place.ends_value(place.at - 1) {
        return None;
    }
    let (left, right, all) = operands(place, 1);
    let help = format!("write `op::matmul({left}, {right})`; a module is applied by `{left} |> {right}`");
    Some(operator(place, "`@` is no operator").help(help).leave_out(all, UNREAD))
}

/// `a && b`, `a || b`, `!a`, `~a`
fn logic(place: &Place) -> Option<Fault> {
    let here = place.here();
    let word = match here {
        "&&" | "&" if place.ends_value(place.at - 1) => "and",
        "||" if place.ends_value(place.at - 1) => "or",
        "!" | "~" if place.begins_value(place.at + 1) && !place.ends_value(place.at - 1) => "not",
        "|" if place.after(1) == "|" => "or",
        _ => return None,
    };
    let message = format!("`{here}` is no operator: the word is `{word}`");
    let (left, right, _) = operands(place, 1);
    let help = match word {
        "not" => format!("write `not {right}`"),
        _ => format!("write `{} {word} {right}`", if left.is_empty() { "a" } else { left }),
    };
    Some(operator(place, message).help(help).edit(place.token().range(), format!(" {word} ")))
}

/// `c ? a : b`, `if c then a`, `a if c : b`
fn choice(place: &Place) -> Option<Fault> {
    let here = place.here();
    if here == "?" {
        let start = value_start(place);
        let colon = (place.at..place.tokens.len()).find(|i| place.word(*i) == ":" && !place.tokens[*i].first);
        let end = colon.map_or(place.at + 1, |colon| value_end(place, colon + 1)).max(place.at + 1);
        let condition = place.slice(start, place.at);
        let then = colon.map_or("a", |colon| place.slice(place.at + 1, colon));
        let otherwise = colon.map_or("b", |colon| place.slice(colon + 1, end));
        let help = format!("write `{} if {} else {}`", shown(then), shown(condition), shown(otherwise));
        return Some(operator(place, "`?` is no operator").help(help).leave_out(place.bytes(start, end), UNREAD));
    }
    if here == "if" && !place.ends_value(place.at - 1) {
        // `x = if c { a } else { b }`, `x = if c then a else b`
        let end = entry_value_end(place);
        let words = |from: usize, to: usize| -> String {
            (from..to)
                .filter(|i| !matches!(place.word(*i), "{" | "}" | ":" | "then"))
                .map(|i| place.word(i))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let otherwise = (place.at..end).find(|i| place.word(*i) == "else").unwrap_or(end);
        let then = (place.at..otherwise).find(|i| matches!(place.word(*i), "{" | ":" | "then")).unwrap_or(otherwise);
        let value = |text: String, or: &str| if text.is_empty() { or.to_owned() } else { shown(&text) };
        let help = format!(
            "write `{} if {} else {}`",
            value(words(then, otherwise), "a"),
            value(words(place.at + 1, then), "condition"),
            value(words(otherwise + 1, end), "b"),
        );
        let fault = Fault::new("if_first", Code::OtherLanguage, "the value stands before its `if`")
            .label(place.token().range(), "too early");
        return Some(fault.help(help).leave_out(place.bytes(place.at, end.max(place.at + 1)), UNREAD));
    }
    if here == "then" && place.ends_value(place.at - 1) {
        let fault = operator(place, "`then` is no word of the language").help("write `a if condition else b`");
        return Some(
            fault.leave_out(place.bytes(value_start(place), entry_value_end(place).max(place.at + 1)), UNREAD),
        );
    }
    None
}

/// `20% to 100%`, `0px...3px`, `1:3`, `..3px`
fn range(place: &Place) -> Option<Fault> {
    let here = place.here();
    if here == ".." && place.at > 1 {
        let fault =
            Fault::new("range", Code::MissingValue, "a range has two ends").label(place.token().range(), "here");
        let right = place.slice(place.at + 1, place.operand_after(place.at + 1).max(place.at + 1));
        let unit = if right.ends_with('%') {
            "%"
        } else if right.ends_with("px") {
            "px"
        } else {
            ""
        };
        return Some(
            fault.help(format!("write the first: `0{unit}..{right}`")).edit(place.gap(place.at), format!(" {UNREAD}")),
        );
    }
    let is_number =
        |i: usize| place.kind(i) == Kind::Number || place.ends_value(i) && matches!(place.word(i), "%" | "px");
    let is_range = match here {
        "..." => true,
        ":" if place.within() == Within::Index => false,
        "to" | "until" | "through" | "~" | ":" | "-" => {
            is_number(place.at - 1) && place.kind(place.at + 1) == Kind::Number
        }
        "=" => place.before(1) == "..",
        "." => place.before(1) == "..",
        _ => false,
    };
    if here == "..." && matches!(place.within(), Within::List) && place.kind(place.at - 1) == Kind::Open {
        let fault = Fault::new("range", Code::Separator, "open dims are `..`, not `...`")
            .label(place.token().range(), "write `..`");
        return Some(fault.help("write `[.., D]`").edit(place.token().range(), ".."));
    }
    if !is_range || here == "..." && (!place.ends_value(place.at - 1) || place.within() == Within::Index) {
        return None;
    }
    let extra = matches!(here, "=" | ".");
    let start = value_start(place);
    let end = value_end(place, place.at + 1).max(place.at + 1);
    let (left, right) = (place.slice(start, place.at).trim_end_matches(['.', ' ']), place.slice(place.at + 1, end));
    let fault = Fault::new(
        "range",
        Code::Separator,
        format!("a range is `..`, not `{}`", if extra { format!("..{here}") } else { here.to_owned() }),
    )
    .label(place.token().range(), "write `..`")
    .help(format!("write `{}..{}`", shown(left), shown(right)));
    Some(fault.edit(place.token().range(), if extra { "" } else { ".." }))
}

/// `a >> b`, `a | b`, `a -> b`, `a | > b`
fn piped(place: &Place) -> Option<Fault> {
    let here = place.here();
    if place.within() == Within::File
        || !matches!(here, ">>" | "|" | "->" | "=>" | "<<")
        || !place.ends_value(place.at - 1)
    {
        return None;
    }
    if here == "->" && place.is_adjacent(place.at) && place.is_adjacent(place.at + 1) {
        let (left, right, _) = operands(place, 1);
        let fault = Fault::new("arrow", Code::OtherLanguage, "a field stands behind `.`")
            .label(place.token().range(), "write `.`");
        return Some(fault.help(format!("write `{left}.{right}`")).edit(place.token().range(), "."));
    }
    let ahead = if here == "|" && place.after(1) == ">" { 2 } else { 1 };
    let (left, right, _) = operands(place, ahead);
    let range = place.bytes(place.at, place.at + ahead);
    let fault = Fault::new(
        "pipe",
        Code::OtherLanguage,
        format!("a value goes on through `|>`, not through `{}`", &place.text[range.clone()]),
    )
    .label(range.clone(), "write `|>`")
    .help(format!("write `{} |> {}`", shown(left), shown(right)));
    Some(fault.edit(range, " |> "))
}

/// `x is none`, `x in list`, `a <> b`
fn compared(place: &Place) -> Option<Fault> {
    let here = place.here();
    if !place.ends_value(place.at - 1) {
        return None;
    }
    let (left, right, _) = operands(place, 1);
    match here {
        ">" if place.before(1) == "<" => None,
        "is" => {
            let (sign, ahead) = if place.after(1) == "not" { ("!=", 2) } else { ("==", 1) };
            let (left, right, _) = operands(place, ahead);
            let range = place.bytes(place.at, place.at + ahead);
            let fault = Fault::new("is", Code::OtherLanguage, "`is` is no operator")
                .label(range.clone(), format!("write `{sign}`"));
            Some(fault.help(format!("write `{left} {sign} {right}`")).edit(range, sign))
        }
        "not" | "in" => {
            let fault = Fault::new("in", Code::OtherLanguage, "`in` is no operator: it stands in loops")
                .label(place.token().range(), "here");
            let (start, end) = (value_start(place), value_end(place, place.at + 1).max(place.at + 1));
            let help = format!("compare with each: `{left} == a or {left} == b`");
            Some(fault.help(help).leave_out(place.bytes(start, end), UNREAD))
        }
        "=" if has(place, &["if", "when", "and", "or", "not", "require"]) => {
            let fault =
                Fault::new("equal", Code::Separator, "a comparison is `==`").label(place.token().range(), "write `==`");
            Some(fault.help(format!("write `{left} == {right}`")).edit(place.token().range(), "=="))
        }
        _ => None,
    }
}

/// Whether one of `words` stands before it in the same value.
fn has(place: &Place, words: &[&str]) -> bool {
    let start = value_start(place);
    (start.max(1) - 1..place.at).any(|i| words.contains(&place.word(i)))
}

/// `a * / b`, `+3`
fn doubled(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    if here == ">" && before == "<" {
        let range = place.bytes(place.at - 1, place.at + 1);
        let fault = operator(place, "`<>` is no operator").help("write `!=`");
        return Some(fault.edit(range, "!="));
    }
    if !matches!(here, "+" | "*" | "/" | "%" | "++" | "--") {
        return None;
    }
    if matches!(before, "=" | ":" | "(" | "," | "[") && here == "+" {
        let fault = operator(place, "a number has no `+` before it").help(format!("write `{}`", place.after(1)));
        return Some(fault.edit(place.token().range(), ""));
    }
    if !matches!(before, "+" | "-" | "*" | "/" | "%" | "=" | ":" | "..") || place.ends_value(place.at - 1) {
        return None;
    }
    let fault = operator(place, format!("`{here}` stands right behind `{before}`"))
        .help(format!("write one of them: `{before}`, or the value between them"));
    Some(fault.edit(place.token().range(), ""))
}

/// `$x`, `%x`, `&x`, `\`
fn shell(place: &Place) -> Option<Fault> {
    let here = place.here();
    if !matches!(here, "$" | "&" | "@" | "\\" | "?" | "!" | "~") {
        return None;
    }
    let next = place.after(1);
    let braced = next == "{" && place.kind(place.at + 2) == Kind::Name && place.after(3) == "}";
    if braced && here == "$" {
        let fault = operator(place, "a name stands without `$`").help(format!("write `{}`", place.after(2)));
        return Some(fault.edit(place.bytes(place.at, place.at + 2), "").edit(place.tokens[place.at + 3].range(), ""));
    }
    let help =
        if place.kind(place.at + 1) == Kind::Name { format!("write `{next}`") } else { "leave it out".to_owned() };
    Some(operator(place, format!("`{here}` is no sign of the language")).help(help).edit(place.token().range(), ""))
}

/// The first token of the value that is being read: behind `=`, `:`, `,` or an opening bracket.
fn value_start(place: &Place) -> usize {
    let mut i = place.at;
    while i > 0 {
        match (place.kind(i - 1), place.word(i - 1)) {
            (Kind::Open, _) | (_, "=" | ":" | "," | "|>" | "if" | "when" | "else") => break,
            (Kind::Close, _) => i = place.other(i - 1).unwrap_or(i - 1),
            _ => i -= 1,
        }
    }
    i
}

/// Where the value ends that holds braces of another language.
fn entry_value_end(place: &Place) -> usize {
    let end = value_end(place, place.at);
    if place.within().has_entries() { place.entry().1.max(end) } else { end }
}
