//! What stands in brackets: arguments, parameters, lists, records, indexes.

use super::entries::spaced;
use super::{Fault, Place, UNREAD, shown, value_end};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

pub fn form(place: &Place) -> Option<Fault> {
    let within = place.within();
    if within.has_entries() {
        return None;
    }
    key(place, within)
        .or_else(|| sign(place, within))
        .or_else(|| comma(place))
        .or_else(|| (within == Within::Index).then(|| index(place)).flatten())
        .or_else(|| (within == Within::Params).then(|| typed(place)).flatten())
        .or_else(|| starred(place))
        .or_else(|| empty(place))
        .or_else(|| spaced(place))
        .or_else(|| beside(place, within))
}

/// Whether the token before the one here stands first in its argument.
fn is_first(place: &Place) -> bool {
    place.at >= 2 && (place.before(2) == "," || place.kind(place.at - 2) == Kind::Open)
}

/// `{"a": 1}`: the text is refused at once where a name stands.
fn key(place: &Place, within: Within) -> Option<Fault> {
    let is_key = within == Within::Record && place.kind(place.at) == Kind::Text && matches!(place.after(1), ":" | "=");
    is_key.then(|| {
        let plain: String = place.here().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let plain = if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{plain}")
        } else {
            plain
        };
        let value = shown(place.slice(place.at + 2, value_end(place, place.at + 2)));
        Fault::new("key", Code::OtherLanguage, "a name stands without quotes")
            .label(place.token().range(), "a name, not a text")
            .help(format!("write `{plain}: {value}`"))
            .edit(place.token().range(), plain)
    })
}

/// `embed_dim=96`, `{a = 1}`, `f("a": 1)`
fn sign(place: &Place, within: Within) -> Option<Fault> {
    let (here, name) = (place.here(), place.before(1));
    // `normalize:: true`
    if name == "::" && within == Within::Call && place.at >= 3 && !place.is_adjacent(place.at) {
        let range = place.bytes(place.at - 1, place.at);
        let fault = Fault::new("argument_sign", Code::Separator, "an argument's name is followed by `:`, not by `::`")
            .label(range.clone(), "write `:`");
        return Some(fault.help(format!("write `{}: {here}`", place.before(2))).edit(range, ":"));
    }
    if !matches!(here, "=" | ":" | ":=" | "==" | "=>" | "->" | "<-") || !is_first(place) {
        return None;
    }
    let kind = place.kind(place.at - 1);
    let value = shown(place.slice(place.at + 1, value_end(place, place.at + 1)));
    if kind == Kind::Text {
        let plain = name.trim_matches('"');
        let fault = Fault::new("key", Code::OtherLanguage, "a name stands without quotes")
            .label(place.tokens[place.at - 1].range(), "a name, not a text")
            .help(format!("write `{plain}: {value}`"));
        let plain: String = plain.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let plain = if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{plain}")
        } else {
            plain
        };
        return Some(fault.edit(place.tokens[place.at - 1].range(), plain).edit(place.token().range(), ":"));
    }
    if kind != Kind::Name || here == ":" && !matches!(within, Within::Group | Within::List) {
        return None;
    }
    match within {
        Within::Call | Within::Record => {
            let what = if within == Within::Call { "an argument's name" } else { "a field's name" };
            let fault =
                Fault::new("argument_sign", Code::Separator, format!("{what} is followed by `:`, not by `{here}`"))
                    .label(place.token().range(), "write `:`")
                    .help(format!("write `{name}: {value}`"));
            let space = if place.tokens[place.at + 1].start > place.token().end { "" } else { " " };
            let gap = place.tokens[place.at - 1].end..place.token().end;
            Some(fault.edit(gap, format!(":{space}")))
        }
        Within::Group | Within::List => {
            let open = place.open.last()?.token;
            let close = place.other(open)?;
            let inner = place.slice(open + 1, close).replace(" = ", ": ").replace('=', ": ");
            let fault = Fault::new("named_group", Code::OtherLanguage, "values with names stand in braces")
                .label(place.token().range(), "here")
                .help(format!("write `{{{}}}`", shown(&inner)));
            Some(fault.leave_out(place.bytes(open, close + 1), UNREAD))
        }
        _ => None,
    }
}

/// One too many.
fn comma(place: &Place) -> Option<Fault> {
    let before = place.before(1);
    let is_extra = place.here() == "," && (before == "," || place.kind(place.at.max(1) - 1) == Kind::Open);
    let is_last = place.kind(place.at) == Kind::Close && before == "," && place.within() != Within::Params;
    let at = if is_last { place.at - 1 } else { place.at };
    (is_extra || is_last).then(|| {
        let fault = Fault::new("extra_comma", Code::Separator, "nothing stands before this comma");
        let fault = if is_last { Fault { message: "nothing stands behind this comma".into(), ..fault } } else { fault };
        fault
            .label(place.tokens[at].range(), "one too many")
            .help("leave it out, or write the value that is missing")
            .edit(place.tokens[at].range(), "")
    })
}

/// `x[1:3]`, `x[:, 0]`, `x[...]`, `x[]`
fn index(place: &Place) -> Option<Fault> {
    let open = place.open.last()?.token;
    let close = place.other(open)?;
    let of = place.slice(place.operand_before(open), open);
    let inner = place.slice(open + 1, close);
    let parts: Vec<&str> = inner.split(':').map(str::trim).collect();
    let fault = |message: &str| {
        Fault::new("index", Code::OtherLanguage, message.to_owned()).label(place.bytes(open, close + 1), "here")
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fault = if inner.contains(',') || inner.contains("...") {
        fault("an index is one number: other axes are cut by name")
            .help(format!("write `op::slice({of}, axis: 1, start: 0, end: 1)` for a tensor, `{of}[0]` for a list"))
    } else if inner.is_empty() {
        fault("an index is missing").help(format!("write `{of}[0]`"))
    } else if let [from, to] = parts.as_slice()
        && (from.is_empty() || is_number(from))
        && is_number(to)
    {
        let from = if from.is_empty() { "0" } else { from };
        fault("a part of a list is a range").help(format!(
            "write `{of}[{from}..{to}]`; for a tensor `op::slice({of}, axis: 0, start: {from}, end: {to})`"
        ))
    } else if parts.len() == 2 {
        let from = if parts[0].is_empty() { "0" } else { parts[0] };
        fault("a part of a list is a range with both ends")
            .help(format!("write `{of}[{from}..12]`, 12 being how many there are; for a tensor `op::slice({of}, axis: 0, start: {from}, end: 12)`"))
    } else if let [_, _, step] = parts.as_slice() {
        let step = if is_number(step) { step } else { "2" };
        fault("a part of a list has no step")
            .help(format!("write `[{of}[{step} * i] for i in 0..6]`, 6 being how many are taken"))
    } else {
        return None;
    };
    let start = place.operand_before(open);
    Some(fault.leave_out(place.bytes(start, close + 1), UNREAD))
}

/// Parameters of a block or function.
fn typed(place: &Place) -> Option<Fault> {
    let (here, name) = (place.here(), place.before(1));
    let fault =
        |message: String| Fault::new("typed", Code::UnexpectedToken, message).label(place.token().range(), "here");
    if place.kind(place.at - 1) == Kind::Name && is_first(place) && name == "self" {
        let gap =
            if here == "," { place.bytes(place.at - 1, place.at + 1) } else { place.bytes(place.at - 1, place.at) };
        let fault = Fault::new("self", Code::OtherLanguage, "a block has no `self`").label(gap.clone(), "leave it out");
        return Some(fault.help("leave out `self`: its modules and parameters go by their names").edit(gap, ""));
    }
    if matches!(here, "=" | "," | ")") && place.kind(place.at - 1) == Kind::Name && is_first(place) {
        let value = if here == "=" {
            format!(" = {}", shown(place.slice(place.at + 1, value_end(place, place.at + 1))))
        } else {
            String::new()
        };
        let default = place.word(place.at + 1);
        let ty = match place.kind(place.at + 1) {
            _ if here != "=" => "[B, N, D]",
            Kind::Number if default.contains('.') => "float",
            Kind::Number => "int",
            Kind::Text => "string",
            _ if matches!(default, "true" | "false" | "True" | "False") => "bool",
            _ => "any",
        };
        let help = match here {
            "=" => format!("write `{name}: {ty}{value}`"),
            _ => format!("write `{name}: {ty}` for a tensor, `{name}: int` for a number"),
        };
        let put = if here == "=" { format!(": {ty} ") } else { ": any".to_owned() };
        return Some(fault(format!("the parameter `{name}` has no type")).help(help).edit(place.gap(place.at), put));
    }
    if place.kind(place.at) == Kind::Name && place.kind(place.at - 1) == Kind::Name && is_first(place) {
        let help = format!("write `{here}: {name}`");
        return Some(
            fault("a parameter's name stands before its type".into())
                .help(help)
                .edit(place.bytes(place.at - 1, place.at + 1), format!("{here}: {name}")),
        );
    }
    if matches!(here, "." | "[" | "|" | "<") && place.before(2) == ":" {
        let end = value_end(place, place.at);
        let ty = place.slice(place.at - 1, end);
        let help = "types are `int`, `float`, `ratio`, `size`, `bool`, `string`, `any`, or a tensor's shape `[B, N, D]`; `int?` allows `none`";
        let equals = (place.at..end).find(|i| place.word(*i) == "=").unwrap_or(end);
        return Some(
            fault(format!("`{}` is no type here", shown(ty)))
                .help(help)
                .edit(place.bytes(place.at - 1, equals), "any "),
        );
    }
    if place.kind(place.at) == Kind::Name && place.kind(place.at - 1) != Kind::Open && place.ends_value(place.at - 1) {
        let fault = Fault::new("comma", Code::Separator, "a comma is missing between two parameters")
            .label(place.gap(place.at), "here");
        return Some(fault.help(format!("write `{name}, {here}`")).edit(place.gap(place.at), ","));
    }
    None
}

/// `f(*x)`, `f(**settings)`
fn starred(place: &Place) -> Option<Fault> {
    let begins = place.before(1) == "," || place.kind(place.at.max(1) - 1) == Kind::Open;
    let is_starred = begins && matches!(place.here(), "*" | "**");
    is_starred.then(|| {
        let end = place.operand_after(place.at + 1).max(place.at + 1);
        let inner = place.slice(place.at + 1, end);
        let fault = Fault::new("starred", Code::OtherLanguage, "nothing is unpacked here")
            .label(place.bytes(place.at, end), "write each by itself")
            .help(format!("write each argument: `name: {}.name`", if inner.is_empty() { "x" } else { inner }));
        fault.leave_out(place.bytes(place.at, end), UNREAD)
    })
}

/// `()`, `{}`
fn empty(place: &Place) -> Option<Fault> {
    let is_empty = place.kind(place.at) == Kind::Close && place.kind(place.at.max(1) - 1) == Kind::Open;
    let what = match place.within() {
        Within::Group => "a tuple holds a value at least",
        Within::Record => "a record holds a field at least",
        _ => return None,
    };
    is_empty.then(|| {
        let range = place.bytes(place.at - 1, place.at + 1);
        let fault = Fault::new("empty", Code::MissingValue, what).label(range.clone(), "empty");
        fault.help("write `none` for nothing, `[]` for an empty list").leave_out(range, UNREAD)
    })
}

fn is_literal(word: &str) -> bool {
    matches!(word, "true" | "false" | "none")
}

/// Two values with nothing between them.
fn beside(place: &Place, within: Within) -> Option<Fault> {
    if !place.ends_value(place.at - 1)
        || !place.begins_value(place.at)
        || place.kind(place.at) == Kind::Open && place.is_adjacent(place.at)
    {
        return None;
    }
    let (here, before) = (place.here(), place.before(1));
    let follows_colon = place.after(1) == ":";
    let value = place.slice(place.at, place.operand_after(place.at).max(place.at + 1));
    if within == Within::Call
        && is_first(place)
        && place.kind(place.at - 1) == Kind::Name
        && place.kind(place.at) == Kind::Name
        && !follows_colon
        && !is_literal(here)
    {
        let fault = Fault::new("comma", Code::Separator, format!("nothing stands between `{before}` and `{here}`"))
            .label(place.gap(place.at), "here")
            .help(format!(
                "write `{before}, {}` for two values, `{before}: {}` for an argument of that name",
                shown(value),
                shown(value)
            ));
        let end = place.operand_after(place.at).max(place.at + 1);
        return Some(fault.leave_out(place.bytes(place.at - 1, end), UNREAD));
    }
    if within == Within::Call
        && is_first(place)
        && place.kind(place.at - 1) == Kind::Name
        && !follows_colon
        && !place.token().first
    {
        // `every 5`: a name, and its value.
        let fault = Fault::new("argument_sign", Code::Separator, format!("`:` is missing behind `{before}`"))
            .label(place.gap(place.at), "here")
            .help(format!("write `{before}: {}`", shown(value)));
        return Some(fault.edit(place.gap(place.at), ":"));
    }
    let what = match within {
        Within::Call => "arguments",
        Within::Record => "fields",
        Within::Params => "parameters",
        Within::Names => "names",
        _ => "values",
    };
    let first = (0..place.at).rev().find(|i| {
        place.word(*i) == "," || place.kind(*i) == Kind::Open && place.other(*i).is_none_or(|other| other >= place.at)
    });
    let left = shown(place.slice(first.map_or(place.at - 1, |first| first + 1), place.at));
    let right = match follows_colon {
        true => {
            format!("{here}: {}", shown(place.slice(place.at + 2, place.operand_after(place.at + 2).max(place.at + 3))))
        }
        false => shown(value),
    };
    let fault = Fault::new("comma", Code::Separator, format!("a comma is missing between two {what}"))
        .label(place.gap(place.at), "here")
        .help(format!("write `{left}, {right}`"));
    Some(fault.edit(place.gap(place.at), ","))
}
