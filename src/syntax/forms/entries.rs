//! Entries of sections, branches, variants, blocks and bodies: `name = value`, one a line.

use std::collections::BTreeSet;

use super::{Fault, Place, UNREAD, other_name, shown};
use crate::diag::Code;
use crate::syntax::place::{SECTIONS, Within};
use crate::syntax::token::{KEYWORDS, Kind};

pub fn form(place: &Place) -> Option<Fault> {
    let within = place.within();
    if !within.has_entries() || matches!(within, Within::File) {
        return None;
    }
    let (start, end) = place.entry();
    if within == Within::Variant
        && let Some(fault) = change(place, start, end)
    {
        return Some(fault);
    }
    keyword(place, start)
        .or_else(|| sign(place, start, end))
        .or_else(|| comma(place, start, end))
        .or_else(|| unnamed(place, start, end))
        .or_else(|| misplaced(place, start, end))
        .or_else(|| spaced(place))
        .or_else(|| beside(place, start, end))
        .or_else(|| last(place))
}

/// What a variant changes goes by a dotted name: `model.encoder { … }`, `train::epochs = 3`, `model["encoder"] = …`, `add losses.x`
fn change(place: &Place, start: usize, end: usize) -> Option<Fault> {
    let here = place.here();
    let fault = |message: &str| {
        Fault::new("change", Code::UnexpectedToken, message.to_owned()).label(place.token().range(), "here")
    };
    let equals = (start..end).find(|i| place.word(*i) == "=");
    let is_name = start < place.at && equals.is_none_or(|equals| place.at < equals);
    if place.kind(place.at) == Kind::Text && place.after(1) == "=" && place.at == place.line_start(place.at) {
        let plain: String = here.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')).collect();
        let help = format!("write `{plain} = {}`", shown(place.slice(place.at + 2, place.line_end(place.at))));
        return Some(fault("a name stands without quotes").help(help).edit(place.token().range(), plain));
    }
    if is_name
        && matches!(here, "::" | "/" | "->" | "[" | "-")
        && let Some(equals) = equals
    {
        let dotted: String = (start..equals)
            .map(|i| match place.word(i) {
                "::" | "/" | "->" | "[" => ".",
                "]" => "",
                "-" => "_",
                word => word.trim_matches('"'),
            })
            .collect();
        let help = format!("write `{dotted} = {}`", shown(place.slice(equals + 1, end)));
        return Some(fault("what is changed goes by a dotted name").help(help).leave_out(place.bytes(start, end), ""));
    }
    if is_name && here == "{" {
        let (name, close) = (place.slice(start, place.at), place.other(place.at)?);
        let inner = if place.kind(place.at + 1) == Kind::Name { place.after(1) } else { "name" };
        let fault =
            fault("a variant sets by dotted names").help(format!("write `{name}.{inner} = …` for each setting"));
        return Some(fault.leave_out(place.bytes(start, close + 1), ""));
    }
    if place.word(start) == "add" && place.at > start + 1 && equals.is_none() {
        let name = place.slice(start + 1, place.at);
        return Some(match here {
            ":" | ":=" | "==" => {
                let fault = Fault::new("colon", Code::Separator, format!("a name takes `=`, not `{here}`"))
                    .label(place.token().range(), "write `=`");
                let help = format!("write `add {name} = {}`", shown(place.slice(place.at + 1, end)));
                fault.help(help).edit(place.token().range(), " =")
            }
            _ => {
                let fault = Fault::new("missing", Code::MissingValue, format!("`{name}` has no value"))
                    .label(place.gap(place.at), "a value is missing");
                fault.help(format!("write `add {name} = …`")).edit(place.gap(place.at), format!(" = {UNREAD}"))
            }
        });
    }
    None
}

/// `for = …`: a word of the language where a name stands.
fn keyword(place: &Place, start: usize) -> Option<Fault> {
    let (word, next) = (place.word(start), place.word(start + 1));
    let is_name = place.at <= start + 1 && KEYWORDS.contains(&word) && word != "in" && matches!(next, "=" | ":");
    is_name
        .then(|| {
            let other = other_name(word);
            Fault::new("keyword", Code::UnexpectedToken, format!("`{word}` is a word of the language, and so no name"))
                .label(place.tokens[start].range(), "not a name")
                .help(format!("write another name, such as `{other} =`"))
                .edit(place.tokens[start].range(), other)
        })
        .map(|fault| Fault { lost: undefined(place), ..fault })
}

/// Names that are read where the entry stands and defined nowhere in the file: what has no name of its own may be meant.
fn undefined(place: &Place) -> Vec<String> {
    let Some(open) = place.open.last().map(|open| open.token) else { return Vec::new() };
    let end = place.other(open).unwrap_or(place.tokens.len());
    let is_name = |i: usize| place.kind(i) == Kind::Name;
    let defines = |i: usize| {
        matches!(place.word(i + 1), "=" | ":")
            || i > 0 && matches!(place.word(i - 1), "::" | "{" | "," | "branch" | "param" | "fn" | "block")
    };
    let defined: BTreeSet<&str> =
        (0..place.tokens.len()).filter(|i| is_name(*i) && defines(*i)).map(|i| place.word(i)).collect();
    let read: BTreeSet<&str> = (open..end).filter(|i| is_name(*i)).map(|i| place.word(i)).collect();
    read.difference(&defined).map(|name| (*name).to_owned()).collect()
}

/// A sign other than `=` behind the name.
fn sign(place: &Place, start: usize, end: usize) -> Option<Fault> {
    let here = place.here();
    let is_named = start < place.at && (start..place.at).all(|i| place.kind(i) == Kind::Name || place.word(i) == ".");
    let name = place.slice(start, place.at);
    if !is_named || place.at > start + 1 && place.word(start + 1) != "." {
        return None;
    }
    let value = shown(place.slice(place.at + 1, end.max(place.at + 1)));
    let wrong = |what: &str| {
        Fault::new("colon", Code::Separator, format!("{what} takes `=`, not `{here}`"))
            .label(place.token().range(), "write `=`")
            .help(format!("write `{name} = {value}`"))
    };
    match here {
        ":" => {
            // `mask: tensor = …`
            let equals = (place.at..end).find(|i| matches!(place.kind(*i), Kind::Open) || place.word(*i) == "=");
            match equals.filter(|i| place.word(*i) == "=" && place.tokens[*i].start > place.token().end) {
                Some(equals) => {
                    let fault = Fault::new(
                        "annotated",
                        Code::OtherLanguage,
                        "a name has no type here: its value says what it is",
                    )
                    .label(place.bytes(place.at, equals), "leave it out")
                    .help(format!("write `{name} {}`", shown(place.slice(equals, end))));
                    Some(fault.edit(place.bytes(place.at, equals), " "))
                }
                None if place.after(1) == ":" => None,
                None if place.after(1) == "{" && !name.contains('.') => {
                    Some(wrong("a name").edit(place.token().range(), " ="))
                }
                None => Some(wrong("a setting").edit(place.token().range(), " =")),
            }
        }
        ":=" | "==" | "=>" | "->" | "<-" => Some(wrong("a name").edit(place.token().range(), " =")),
        "+=" | "-=" | "*=" | "/=" | "**=" | "^=" | "++" => {
            let sign = here.trim_end_matches('=');
            let fault =
                Fault::new("augmented", Code::OtherLanguage, format!("a name is bound once: there is no `{here}`"))
                    .label(place.token().range(), "no assignment")
                    .help(format!(
                        "write `{name}_more = {name} {sign} {value}`, or all of it in the first `{name} = …`"
                    ));
            Some(fault.leave_out(place.bytes(start, end), ""))
        }
        "." if place.within() != Within::Variant => None,
        "=" if name.contains('.') && place.within() != Within::Variant => Some(dotted(place, start, end)),
        _ => None,
    }
}

/// `train.epochs = 3` outside of a variant.
fn dotted(place: &Place, start: usize, end: usize) -> Fault {
    let last = place.word(place.at - 1);
    let value = shown(place.slice(place.at + 1, end.max(place.at + 1)));
    Fault::new("dotted", Code::UnexpectedToken, "only a variant sets what stands elsewhere")
        .label(place.bytes(start, place.at), "one name is bound here")
        .help(format!("write `{last} = {value}`"))
        .leave_out(place.bytes(start, end), "")
}

fn comma(place: &Place, start: usize, end: usize) -> Option<Fault> {
    if place.here() != "," {
        return None;
    }
    // `x, y = f()`
    if place.at == start + 1 {
        let name = place.word(start);
        let equals = (place.at..end).find(|i| place.word(*i) == "=");
        let value = equals.map_or("…".to_owned(), |equals| shown(place.slice(equals + 1, end)));
        let fault = Fault::new("unpack", Code::OtherLanguage, "one name stands before `=`")
            .label(place.bytes(start, equals.unwrap_or(place.at + 1)), "several names")
            .help(format!("write `both = {value}`, and `both.{name}` or `both[0]` where it is used"));
        return Some(fault.leave_out(place.bytes(start, end), ""));
    }
    // At the end of an entry.
    if place.at + 1 >= end || place.begins_entry(place.at + 1) {
        let entry = place.slice(start, place.at);
        let own_line = if place.at + 1 < place.tokens.len()
            && !place.tokens[place.at + 1].first
            && place.word(place.at + 1) != "}"
        {
            ", and what follows on a line of its own"
        } else {
            ""
        };
        let fault = Fault::new("entry_comma", Code::Separator, "no comma stands between entries")
            .label(place.token().range(), "not needed")
            .help(format!("write `{}`{own_line}", shown(entry)));
        return Some(fault.edit(place.token().range(), ""));
    }
    let equals = (start..place.at).find(|i| place.word(*i) == "=")?;
    // `batch_size = 4,096`
    let is_thousands = place.kind(place.at - 1) == Kind::Number
        && place.kind(place.at + 1) == Kind::Number
        && place.after(1).len() == 3
        && place.is_adjacent(place.at + 1);
    if is_thousands {
        let number = format!("{}{}", place.before(1), place.after(1));
        let fault = Fault::new("thousands", Code::Number, "no comma stands within a number")
            .label(place.token().range(), "leave it out");
        return Some(
            fault
                .help(format!("write `{number}` or `{}_{}`", place.before(1), place.after(1)))
                .edit(place.token().range(), ""),
        );
    }
    // `betas = 0.9, 0.95`
    let values = place.bytes(equals + 1, end);
    let fault = Fault::new("bare_tuple", Code::OtherLanguage, "several values stand in parentheses")
        .label(place.token().range(), "here")
        .help(format!("write `{} = ({})`", place.slice(start, equals), shown(&place.text[values.clone()])));
    Some(fault.edit(values.clone(), format!("({})", &place.text[values])))
}

/// A value without a name: `info_nce(…)` in `losses`, `print(x)`.
fn unnamed(place: &Place, start: usize, end: usize) -> Option<Fault> {
    let within = place.within();
    let is_value = matches!(within, Within::Section | Within::Branch | Within::Train | Within::Block)
        && (place.at == start + 1
            || place.at > start
                && (start..place.at).all(|i| place.kind(i) == Kind::Name || matches!(place.word(i), "." | "::")))
        && place.kind(start) == Kind::Name
        && (matches!(place.here(), "(" | "|>" | "[")
            || place.at == end && place.word(start + 1) != "="
            || place.here() == "." && !(start..end).any(|i| place.word(i) == "="));
    if !is_value {
        return None;
    }
    let (word, whole) = (place.word(start), shown(place.slice(start, end)));
    let section = place.head();
    let fault = |message: String| {
        Fault::new("unnamed", Code::UnexpectedToken, message).label(place.bytes(start, place.at), "has no name")
    };
    if matches!(word, "print" | "log" | "println" | "debug" | "wandb" | "logger") {
        let argument = place.slice(place.at + 1, end.max(place.at + 2) - 1);
        let fault = Fault::new(
            "print",
            Code::OtherLanguage,
            format!("nothing is printed by `{word}`: each line is `name = value`"),
        )
        .label(place.bytes(start, place.at), "no statement")
        .help(format!("to follow a value through the run, write `monitor {{ seen = op::mean({}) }}`", shown(argument)));
        return Some(fault.leave_out(place.bytes(start, end), ""));
    }
    let name = match (section, within) {
        ("losses", _) => "loss",
        ("data", _) => "train",
        ("model", _) if word == "ema" => "momentum",
        ("model", _) if word == "decoder" => "decoder",
        ("model", _) => "encoder",
        ("views", _) => "online",
        (_, Within::Train) if matches!(word, "cosine" | "linear" | "step" | "constant") => "learning_rate",
        (_, Within::Train) => "optimizer",
        _ => "value",
    };
    let what = match within {
        Within::Branch => "a branch".to_owned(),
        Within::Block => "a block".to_owned(),
        Within::Train => "`train`".to_owned(),
        _ => format!("`{section}`"),
    };
    if place.at == end || place.here() == "." {
        let fault = fault(format!("each line of {what} is `name = value`"))
            .help(format!("write `name = {whole}`, or leave it out"));
        return Some(fault.leave_out(place.bytes(start, end), ""));
    }
    let fault = fault(format!("each line of {what} is `name = value`")).help(format!("write `{name} = {whole}`"));
    // It goes by a name that nothing else has, so that the rest of it is checked.
    let at = place.tokens[start].start;
    Some(fault.edit(at..at, format!("unnamed_{at} = ")))
}

/// What stands in another section, or directly in the pipeline.
fn misplaced(place: &Place, start: usize, end: usize) -> Option<Fault> {
    let (within, word) = (place.within(), place.word(start));
    let line = place.bytes(start, end);
    let fault = |message: String, help: String| {
        let label = place.tokens[start].range();
        let fault = Fault::new("misplaced", Code::UnexpectedToken, message).label(label, "not here").help(help);
        fault.leave_out(line.clone(), "")
    };
    if place.at > start + 1 {
        return None;
    }
    match (within, word) {
        (Within::Train, "role" | "path") => {
            let rule = shown(place.slice(start, end));
            Some(fault("a rule stands in `parameters`".into(), format!("write `parameters {{ {rule} }}`")))
        }
        (Within::Section | Within::Branch | Within::Train | Within::Evaluate, "param") => {
            let own = shown(place.slice(start, end));
            Some(fault(
                "a parameter stands directly in the pipeline".into(),
                format!("move `{own}` before the sections"),
            ))
        }
        (Within::Section | Within::Branch | Within::Train | Within::Evaluate, "branch" | "export") => Some(fault(
            format!("`{word}` stands directly in the pipeline"),
            format!("move it behind the `}}` of `{}`", place.head()),
        )),
        (Within::Variant, word) if place.here() == "{" && place.at == start + 1 && word != "parameters" => {
            let close = place.other(place.at).unwrap_or(end);
            let inner = place.word(place.at + 1);
            let inner = if place.kind(place.at + 1) == Kind::Name { inner } else { "name" };
            let message = "a variant sets by dotted names".to_owned();
            let fault = fault(message, format!("write `{word}.{inner} = …` for each setting"));
            let mut fault = Fault { edits: Vec::new(), ..fault };
            fault = fault.leave_out(place.bytes(start, close + 1), "");
            Some(fault)
        }
        (Within::Variant, "export") => None,
        (Within::Variant, "delete" | "del" | "drop" | "without" | "exclude") => {
            let what = shown(place.slice(start + 1, end));
            Some(fault(format!("a variant has no `{word}`"), format!("write `remove {what}`")))
        }
        (Within::Variant, "override" | "set" | "replace") => Some(fault(
            format!("a variant has no `{word}`"),
            "write what it becomes: `name = value`; what is optional is turned off by `= none`".into(),
        )),
        (Within::Section | Within::Train | Within::Evaluate | Within::Branch, word)
            if place.here() == "{" && place.at == start + 1 =>
        {
            let close = place.other(place.at).unwrap_or(end);
            let name = place.head();
            let (message, help) = match word {
                word if SECTIONS.contains(&word) && word != "parameters" => (
                    format!("the section `{word}` stands directly in the pipeline"),
                    format!("write the `}}` of `{name}` before `{word} {{`"),
                ),
                "parameters" => ("`parameters` stands in `train`".to_owned(), "move it into `train { … }`".to_owned()),
                word => (
                    format!("`{word}` has arguments in parentheses, not a body"),
                    format!("write `{word} = name(argument: value)`"),
                ),
            };
            let fault =
                Fault::new("misplaced", Code::UnexpectedToken, message).label(place.tokens[start].range(), "not here");
            Some(fault.help(help).leave_out(place.bytes(start, close + 1), ""))
        }
        _ => None,
    }
}

/// `info_nce (…)`: what follows a name at once stands behind a blank.
pub fn spaced(place: &Place) -> Option<Fault> {
    let here = place.here();
    let is_spaced = matches!(here, "(" | "[" | "." | "::") && place.at > 0 && !place.is_adjacent(place.at);
    let value = place.kind(place.at.max(1) - 1);
    if !is_spaced || !matches!(value, Kind::Name | Kind::Close) || !place.ends_value(place.at - 1) {
        return None;
    }
    let what = match here {
        "(" => "the `(` of a call",
        "[" => "the `[` of an index",
        _ => "the `.` of a field",
    };
    let gap = place.tokens[place.at - 1].end..place.token().start;
    let left = place.slice(place.operand_before(place.at), place.at);
    let ahead = match here {
        "." | "::" => place.after(1),
        _ => "…",
    };
    let close = match here {
        "(" => ")",
        "[" => "]",
        _ => "",
    };
    let fault =
        Fault::new("spaced", Code::UnexpectedToken, format!("{what} follows what it belongs to without a blank"))
            .label(gap.start..place.token().end, "no blank, no new line here")
            .help(format!("write `{}{here}{ahead}{close}`", shown(left)));
    Some(fault.edit(gap, ""))
}

/// A value right behind a value: `epochs 300`, `x = a b`.
fn beside(place: &Place, start: usize, end: usize) -> Option<Fault> {
    if place.at <= start || !place.ends_value(place.at - 1) || !place.begins_value(place.at) {
        return None;
    }
    let (here, before) = (place.here(), place.before(1));
    if place.at == start + 1 && !place.token().first {
        let value = shown(place.slice(place.at, end.max(place.at + 1)));
        let fault = Fault::new("equals", Code::Separator, format!("`=` is missing behind `{before}`"))
            .label(place.gap(place.at), "here")
            .help(format!("write `{before} = {value}`"));
        return Some(fault.edit(place.gap(place.at), " ="));
    }
    let equals = (start..place.at).find(|i| place.word(*i) == "=")?;
    // `adamw { weight_decay = 0.05 }`
    if here == "{" && place.kind(place.at - 1) == Kind::Name {
        let close = place.other(place.at).unwrap_or(place.at);
        let inner = place.slice(place.at + 1, close.max(place.at + 1)).replace(" = ", ": ").replace('=', ": ");
        let fault =
            Fault::new("braced", Code::OtherLanguage, format!("the arguments of `{before}` stand in parentheses"))
                .label(place.token().range(), "write `(`")
                .help(format!("write `{before}({})`", shown(&inner)));
        let start = place.operand_before(place.at);
        return Some(fault.leave_out(place.bytes(start, close + 1), UNREAD.to_string()));
    }
    if place.token().first && !place.is_binding(place.at) && place.within() == Within::Body {
        return None;
    }
    let left = place.slice(place.operand_before(place.at), place.at);
    let right_end = place.operand_after(place.at).max(place.at + 1);
    let right = place.slice(place.at, right_end);
    let value = place.bytes(equals + 1, end.max(place.at + 1));
    let help = match (place.kind(place.at - 1), place.kind(place.at)) {
        _ if place.token().first => {
            format!("write an operator between `{}` and `{}`, or `name =` before the second", shown(left), shown(right))
        }
        (Kind::Name, Kind::Name) => format!(
            "write `{}({})` or `{} |> {}`, or an operator between the two",
            shown(left),
            shown(right),
            shown(right),
            shown(left)
        ),
        _ => format!(
            "write an operator between `{}` and `{}`, or the second on a line of its own",
            shown(left),
            shown(right)
        ),
    };
    let fault = Fault::new(
        "beside",
        Code::UnexpectedToken,
        format!("`{}` stands right behind `{}`", shown(here), shown(before)),
    )
    .label(place.gap(place.at).start..place.tokens[right_end - 1].end, "nothing joins the two")
    .help(help);
    Some(fault.leave_out(value, format!(" {UNREAD}")))
}

/// A body without its value, a block without `forward`.
fn last(place: &Place) -> Option<Fault> {
    let ends = place.here() == "}";
    match place.within() {
        Within::Body if ends => {
            let fault = Fault::new("no_value", Code::MissingValue, "a body ends with the value that it gives")
                .label(place.token().range(), "the value is missing before it")
                .help("write the value on the last line, without a name");
            Some(fault.edit(place.gap(place.at), format!(" {UNREAD}")))
        }
        Within::Block if ends => {
            let fault = Fault::new("no_forward", Code::MissingValue, "a block has a `forward`")
                .label(place.token().range(), "missing before it")
                .help("write `forward(x: [B, N, dim]) -> [B, N, dim] { … }`");
            Some(fault.edit(place.gap(place.at), format!(" forward() {{ {UNREAD} }}")))
        }
        Within::Body if place.token().first => {
            let (start, end) = (place.at, place.entry().1.max(place.at + 1));
            let fault = Fault::new("after_value", Code::UnexpectedToken, "a body's value is its last line")
                .label(place.bytes(start, end), "comes after it")
                .help("move it before the value, or give the value a name: `name = …`");
            Some(fault.leave_out(place.bytes(start, end), ""))
        }
        Within::Block if place.token().first => {
            let (start, end) = (place.at, place.entry().1.max(place.at + 1));
            let fault = Fault::new("after_forward", Code::UnexpectedToken, "`forward` is the last of a block")
                .label(place.bytes(start, end), "comes after it")
                .help("move it before `forward`");
            Some(fault.leave_out(place.bytes(start, end), ""))
        }
        _ => None,
    }
}
