//! A pipeline's parameters: `param mask_ratio = 75%`.

use super::values::typical;
use super::{Fault, Place, other_name, plain_name, shown};
use crate::diag::Code;
use crate::syntax::token::Kind;

/// `param` and what follows.
pub fn form(place: &Place, start: usize) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    let (_, end) = place.entry();
    let name = place.word(start + 1);
    let fault =
        |message: String| Fault::new("param", Code::UnexpectedToken, message).label(place.token().range(), "here");
    if place.at == start + 1 {
        return Some(match place.kind(place.at) {
            Kind::Text => {
                let plain = plain_name(here);
                let fault =
                    fault("a parameter's name stands without quotes".into()).help(format!("write `param {plain} = …`"));
                fault.edit(place.token().range(), plain)
            }
            _ if here == ":" => {
                let rest = shown(place.slice(place.at + 1, place.line_end(start)));
                fault("no `:` stands behind `param`".into())
                    .help(format!("write `param {rest}`"))
                    .edit(place.token().range(), "")
            }
            _ if here == "{" => {
                let fault = fault("each parameter is a line of its own".into())
                    .help("write `param mask_ratio = 75%`, without braces");
                fault.leave_out(place.bytes(start, place.other(place.at).map_or(end, |other| other + 1)), "")
            }
            _ => fault(format!("`{here}` is no name for a parameter"))
                .help(format!("write `param {} = …`", other_name(here)))
                .leave_out(place.bytes(start, end.max(place.at)), ""),
        });
    }
    if place.at != start + 2 {
        return None;
    }
    match here {
        ":" => {
            let equals = (place.at..end).find(|i| place.word(*i) == "=");
            if let Some(equals) = equals {
                let help = format!("write `param {name} {}`", shown(place.slice(equals, end)));
                let fault = fault("a pipeline's parameter has no type: its value says what it is".into()).help(help);
                return Some(fault.edit(place.bytes(place.at, equals), " "));
            }
            if place.kind(place.at + 1) == Kind::Name && place.at + 2 == end && example(place.after(1)).is_some() {
                let value = example(place.after(1)).unwrap_or("1");
                let fault = Fault::new("param", Code::MissingValue, format!("the parameter `{name}` has no value"))
                    .label(place.bytes(place.at, end), "a value, not a type")
                    .help(format!("write `param {name} = {value}`"));
                return Some(fault.leave_out(place.bytes(place.at, end), " = \u{1a}"));
            }
            let fault = Fault::new("colon", Code::Separator, "a parameter takes `=`, not `:`")
                .label(place.token().range(), "write `=`")
                .help(format!("write `param {name} = {}`", shown(place.slice(place.at + 1, end))));
            Some(fault.edit(place.token().range(), " ="))
        }
        ":=" | "==" | "=>" | "->" | "<-" => {
            let fault = Fault::new("colon", Code::Separator, format!("a parameter takes `=`, not `{here}`"))
                .label(place.token().range(), "write `=`")
                .help(format!("write `param {name} = {}`", shown(place.slice(place.at + 1, end))));
            Some(fault.edit(place.token().range(), " ="))
        }
        "-" => {
            let stop = (place.at..end).find(|i| place.word(*i) == "=").unwrap_or(end);
            let plain = plain_name(place.slice(start + 1, stop));
            let fault =
                fault(format!("`{}` is no name: it may hold letters, digits and `_`", place.slice(start + 1, stop)));
            Some(fault.help(format!("write `param {plain}`")).edit(place.bytes(start + 1, stop), plain))
        }
        "," => {
            let fault = fault("one parameter a line".into()).help(format!("write `param {name} = value` for each"));
            Some(fault.leave_out(place.bytes(start, end), ""))
        }
        _ if place.kind(place.at) == Kind::Name && place.after(1) == "=" && !place.token().first => {
            let value = shown(place.slice(place.at + 2, place.line_end(start)));
            if example(before).is_none() {
                let fault = fault("a name is one word".into()).help(format!("write `param {before}_{here} = {value}`"));
                return Some(fault.edit(place.bytes(start + 1, place.at + 1), format!("{before}_{here}")));
            }
            let help = format!("write `param {here} = {value}`");
            Some(
                fault(format!("no type stands before a name: `{before}`"))
                    .help(help)
                    .edit(place.bytes(start + 1, place.at), ""),
            )
        }
        _ if place.at < end && !place.token().first && place.begins_value(place.at) => {
            let fault = Fault::new("equals", Code::Separator, format!("`=` is missing behind `{name}`"))
                .label(place.gap(place.at), "here")
                .help(format!("write `param {name} = {}`", shown(place.slice(place.at, end))));
            Some(fault.edit(place.gap(place.at), " ="))
        }
        _ => {
            let value = typical(name);
            let fault = Fault::new("param", Code::MissingValue, format!("the parameter `{name}` has no value"))
                .label(place.gap(place.at), "a value is missing")
                .help(format!("write `param {name} = {value}`"));
            Some(fault.edit(place.gap(place.at), " = \u{1a}"))
        }
    }
}

/// A value of a type, by the type's name.
fn example(name: &str) -> Option<&'static str> {
    Some(match name {
        "int" | "integer" | "number" | "Int" => "12",
        "float" | "double" | "Float" => "0.1",
        "ratio" | "percent" => "75%",
        "size" | "px" | "pixels" => "224px",
        "bool" | "boolean" | "Bool" => "true",
        "string" | "str" | "text" => "\"data/train\"",
        "tuple" => "(0.9, 0.95)",
        "list" => "[1, 2]",
        "schedule" | "duration" => "10 epochs",
        "any" | "tensor" | "record" | "init" | "view" | "views" => "1",
        _ => return None,
    })
}
