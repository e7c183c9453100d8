//! Blocks and functions: their heads, tensors, requirements and bodies.

use super::{Fault, Place, UNREAD, shown};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

pub fn form(place: &Place) -> Option<Fault> {
    match place.within() {
        Within::File => head(place),
        Within::Block | Within::Body | Within::Branch => required(place)
            .or_else(|| head(place))
            .or_else(|| tensor(place))
            .or_else(|| clause(place))
            .or_else(|| bound(place)),
        Within::Section => clause(place),
        Within::Params => shape(place),
        _ => None,
    }
}

/// `block my_head {`, `fn half(x: [B]) => [B] {`, `def forward(…) {`
fn head(place: &Place) -> Option<Fault> {
    let line = place.line_start(place.at);
    let here = place.here();
    let fault =
        |message: String| Fault::new("head", Code::UnexpectedToken, message).label(place.token().range(), "here");
    if place.word(line + 1) == "forward" && place.within() == Within::Block && place.at <= line + 2 {
        let word = place.word(line);
        let fault = Fault::new("head", Code::OtherLanguage, format!("no `{word}` stands before `forward`"));
        let head = shown(place.slice(line + 1, place.line_end(line)));
        let fault = fault.label(place.tokens[line].range(), "leave it out").help(format!("write `{head}`"));
        return Some(fault.edit(place.tokens[line].range(), ""));
    }
    let word = place.word(line);
    if !matches!(word, "block" | "fn" | "forward") {
        return None;
    }
    let brace = (place.at..place.line_end(line)).find(|i| place.word(*i) == "{");
    let name = if word == "forward" { "" } else { place.word(line + 1) };
    let before = place.at.checked_sub(1)?;
    if word != "forward" && place.at == line + 2 && here != "(" {
        let help = match word {
            "block" => format!("write `block {name}(dim: int) {{`"),
            _ => format!("write `fn {name}(x: [B, D]) -> [B, D] {{`"),
        };
        let fault = fault(format!("the parameters of `{name}` stand in parentheses")).help(help);
        return Some(fault.leave_out(place.bytes(place.at, brace.unwrap_or(place.at)), "() "));
    }
    if place.word(before) == ")" && matches!(here, "=>" | ":" | "->" | "=") {
        let to = brace.unwrap_or(place.line_end(line));
        let given = place.slice(place.at + 1, to);
        if word == "block" {
            let fault = fault("a block names no type: `forward` says what it gives".into());
            return Some(
                fault
                    .help(format!("write `{} {{`", shown(place.slice(line, place.at))))
                    .leave_out(place.bytes(place.at, to), " "),
            );
        }
        if here != "->" {
            let fault = fault(format!("what is given stands behind `->`, not behind `{here}`"));
            return Some(fault.help(format!("write `-> {}`", shown(given))).edit(place.token().range(), "->"));
        }
    }
    None
}

/// `require x > 0` without a message, `require(x > 0, "…")`
fn required(place: &Place) -> Option<Fault> {
    let start = (0..=place.at).rev().take(60).find(|i| place.word(*i) == "require" && *i < place.at)?;
    let begins_next = place.token().first || place.kind(place.at) == Kind::Close;
    if !begins_next || (start + 1..place.at).any(|i| place.begins_entry(i)) {
        return None;
    }
    let is_group = place.word(start + 1) == "(" && place.other(start + 1) == Some(place.at - 1);
    if is_group {
        let inner = place.slice(start + 2, place.at - 1);
        let fault = Fault::new("require", Code::UnexpectedToken, "`require` has no parentheses")
            .label(place.tokens[start + 1].range(), "leave them out");
        let fault = fault.help(format!("write `require {}`", shown(inner)));
        return Some(fault.edit(place.tokens[start + 1].range(), " ").edit(place.tokens[place.at - 1].range(), ""));
    }
    let fault = Fault::new("require", Code::MissingValue, "`require` says what is wrong where it fails")
        .label(place.gap(place.at), "a message is missing")
        .help(format!("write `{}, \"what is wrong\"`", shown(place.slice(start, place.at))));
    Some(fault.edit(place.gap(place.at), ", \"\""))
}

/// `param scale = ones`, `param scale: [dim]`, `buffer scale: [dim] = ones`, `scale: [dim] = ones`
fn tensor(place: &Place) -> Option<Fault> {
    if place.within() != Within::Block {
        return None;
    }
    let here = place.here();
    // The entry before the one that cannot stand, where that begins one.
    let start = (0..place.at).rev().find(|i| place.tokens[*i].first)?;
    let line = place.line_start(place.at);
    for start in [line, start] {
        let (word, name) = (place.word(start), place.word(start + 1));
        if matches!(word, "param" | "state") && here == "=" && place.at == start + 2 {
            let value = shown(place.slice(place.at + 1, place.line_end(start)));
            let fault = Fault::new("tensor", Code::MissingValue, format!("the tensor `{name}` has no shape"))
                .label(place.gap(place.at), "a shape is missing");
            return Some(
                fault
                    .help(format!("write `{word} {name}: [dim] = {value}`"))
                    .leave_out(place.bytes(start, place.line_end(start)), ""),
            );
        }
        let has_value = (start..place.at).any(|i| place.word(i) == "=");
        if matches!(word, "param" | "state")
            && !has_value
            && place.at >= start + 4
            && start < place.at
            && place.token().first
        {
            let entry = shown(place.slice(start, place.at));
            let fault = Fault::new("tensor", Code::MissingValue, format!("the tensor `{name}` has no first value"))
                .label(place.gap(place.at), "a value is missing");
            return Some(
                fault.help(format!("write `{entry} = zeros`")).edit(place.gap(place.at), format!(" = {UNREAD}")),
            );
        }
    }
    let (word, next) = (place.word(line), place.word(line + 1));
    let near = match word {
        "buffer" | "register_buffer" | "static" => "state",
        "parameter" | "weight" | "tensor" | "var" | "params" => "param",
        _ => "",
    };
    if !near.is_empty() && place.kind(line + 1) == Kind::Name && place.word(line + 2) == ":" && place.at <= line + 2 {
        let fault =
            Fault::new("tensor", Code::OtherLanguage, format!("a tensor is declared by `{near}`, not by `{word}`"))
                .label(place.tokens[line].range(), format!("write `{near}`"));
        return Some(fault.help(format!("write `{near} {next}: …`")).edit(place.tokens[line].range(), near));
    }
    let is_bare = place.at == line + 1 && here == ":" && place.after(1) == "[";
    is_bare.then(|| {
        let entry = shown(place.slice(line, place.line_end(line)));
        let fault = Fault::new("tensor", Code::UnexpectedToken, "a tensor is declared by `param` or `state`")
            .label(place.tokens[line].range(), "here");
        fault.help(format!("write `param {entry}`")).edit(place.tokens[line].start..place.tokens[line].start, "param ")
    })
}

/// `role: norm`, `ones, role norm`, `repeat 2 for i`
fn clause(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    if matches!(here, ":" | "=" | "(") && matches!(before, "role" | "when" | "repeat") {
        let fault = Fault::new("clause", Code::Separator, format!("no `{here}` stands behind `{before}`"))
            .label(place.token().range(), "leave it out");
        return Some(fault.help(format!("write `{before} {}`", place.after(1))).edit(place.token().range(), " "));
    }
    if here == "," && matches!(place.after(1), "role" | "when" | "repeat" | "frozen") {
        let fault = Fault::new("clause", Code::Separator, format!("no comma stands before `{}`", place.after(1)))
            .label(place.token().range(), "leave it out");
        return Some(
            fault
                .help(format!("write `{before} {} {}`", place.after(1), place.after(2)))
                .edit(place.token().range(), " "),
        );
    }
    let (start, _) = place.entry();
    let line = place.line_start(place.at);
    let is_repeated = (start.min(line)..place.at).any(|i| place.word(i) == "repeat");
    if is_repeated && (before == "for" || matches!(here, "for" | "in" | "with" | "times" | "x")) {
        let at = if before == "for" { place.at - 1 } else { place.at };
        let index = if place.kind(at + 1) == Kind::Name { place.word(at + 1) } else { "i" };
        let end = (at + 2).min(place.line_end(at)).max(at + 1);
        let fault = Fault::new("clause", Code::UnexpectedToken, "the index of `repeat` is named by `as`")
            .label(place.tokens[at].range(), "write `as`");
        return Some(
            fault.help(format!("write `repeat … as {index}`")).edit(place.bytes(at, end), format!("as {index}")),
        );
    }
    None
}

/// `y = z = x`, `y[0] = x`
fn bound(place: &Place) -> Option<Fault> {
    if place.here() != "=" || place.token().first {
        return None;
    }
    let line = place.line_start(place.at);
    let value = shown(place.slice(place.at + 1, place.line_end(line)));
    let fault = Fault::new("bound", Code::OtherLanguage, "one name is bound at a time")
        .label(place.token().range(), "a second time");
    if place.word(line + 1) == "=" && place.at == line + 3 {
        let (first, second) = (place.word(line), place.word(line + 2));
        let fault = fault.help(format!("write `{second} = {value}`, and `{first} = {second}` on the next line"));
        return Some(fault.edit(place.bytes(line + 2, place.at + 1), ""));
    }
    if place.word(line + 1) == "[" && place.before(1) == "]" {
        let name = place.word(line);
        let fault = Fault::new("bound", Code::OtherLanguage, "nothing is written into a value")
            .label(place.bytes(line, place.at), "read alone");
        let fault = fault.help(format!("make a new one: `new_{name} = op::concat([…], axis: 0)`"));
        return Some(fault.leave_out(place.bytes(line, place.line_end(line)), ""));
    }
    None
}

/// `x: (B, dim)`, `x: [..., D]` is told by its sign.
fn shape(place: &Place) -> Option<Fault> {
    let is_tuple = place.here() == "(" && place.before(1) == ":";
    let close = place.other(place.at).filter(|_| is_tuple)?;
    let inner = place.slice(place.at + 1, close);
    let fault = Fault::new("shape", Code::UnexpectedToken, "a shape stands in `[…]`")
        .label(place.bytes(place.at, close + 1), "here");
    let fault = fault.help(format!("write `[{}]`", shown(inner)));
    Some(fault.edit(place.token().range(), "[").edit(place.tokens[close].range(), "]"))
}
