//! Rules of `parameters`: `role bias, norm: weight_decay = 0`, `path "encoder.*": …`.

use super::{Fault, Place, shown};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

const ROLES: [&str; 5] = ["weight", "bias", "norm", "token", "position"];

pub fn form(place: &Place) -> Option<Fault> {
    if place.entries_of() != Within::Rules {
        return None;
    }
    let start = place.line_start(place.at);
    let end = place.line_end(start);
    let (head, here) = (place.word(start), place.here());
    let line = place.bytes(start, end);
    let fault = |message: &str| {
        Fault::new("rule", Code::UnexpectedToken, message.to_owned()).label(place.token().range(), "here")
    };
    let is_rule = matches!(head, "role" | "path");
    // `role bias norm: …`
    if head == "role"
        && place.kind(place.at) == Kind::Name
        && place.kind(place.at - 1) == Kind::Name
        && place.before(1) != "role"
    {
        let fault = Fault::new("comma", Code::Separator, "a comma is missing between two roles")
            .label(place.gap(place.at), "here");
        return Some(fault.help(format!("write `{}, {here}`", place.before(1))).edit(place.gap(place.at), ","));
    }
    if head == "role" && here == "and" {
        let fault =
            fault("roles stand with `,` between them").help(format!("write `{}, {}`", place.before(1), place.after(1)));
        return Some(fault.edit(place.token().range(), ","));
    }
    if head == "role"
        && matches!(here, "[" | "(" | "{")
        && place.before(1) == "role"
        && let Some(close) = place.other(place.at)
    {
        let inner = shown(place.slice(place.at + 1, close));
        let fault = fault("roles stand without brackets").help(format!("write `role {inner}`"));
        return Some(fault.edit(place.token().range(), " ").edit(place.tokens[close].range(), ""));
    }
    if is_rule && place.kind(place.at) == Kind::Number && place.kind(place.at - 1) == Kind::Name {
        let fault = Fault::new("equals", Code::Separator, format!("`=` is missing behind `{}`", place.before(1)))
            .label(place.gap(place.at), "here");
        return Some(fault.help(format!("write `{} = {here}`", place.before(1))).edit(place.gap(place.at), " ="));
    }
    if head == "role" && here == ":" && place.before(1) == "role" {
        let help = format!("write `role {}`", place.slice(place.at + 1, end));
        return Some(fault("a role follows `role` at once").help(help).edit(place.token().range(), ""));
    }
    if head == "role" && place.kind(place.at) == Kind::Text {
        let name = here.trim_matches('"');
        return Some(
            fault("a role stands without quotes")
                .help(format!("write `role {name}`"))
                .edit(place.token().range(), name),
        );
    }
    if head == "path" && (place.before(1) == "path" || matches!(here, "*" | "." | "/")) {
        let colon = (start..end).find(|i| place.word(*i) == ":").unwrap_or(end);
        let path = place.slice(start + 1, colon);
        let help = format!("write `path \"{}\"{}`", path.replace('"', ""), shown(place.slice(colon, end)));
        let text = format!("\"{}\"", path.replace('"', ""));
        return Some(fault("a path stands in quotes").help(help).edit(place.bytes(start + 1, colon), text));
    }
    // `role bias = 0`, `role bias weight_decay = 0`
    if is_rule && matches!(here, "=" | "{" | "->") && !(start..place.at).any(|i| place.word(i) == ":") {
        let selector = place.slice(start, place.at);
        let help = format!("write `{selector}: weight_decay = 0`");
        return Some(fault("a rule is its parameters, `:`, and settings").help(help).leave_out(line, ""));
    }
    // `role bias: weight_decay: 0`
    if is_rule && here == ":" {
        let help = format!("write `{} = {}`", place.slice(start, place.at), place.slice(place.at + 1, end));
        let fault = Fault::new("colon", Code::Separator, "a setting takes `=`, not `:`")
            .label(place.token().range(), "write `=`");
        return Some(fault.help(help).edit(place.token().range(), " ="));
    }
    if !is_rule && (place.at == start || place.at == start + 1) {
        let rest = place.slice(start, end);
        let help = match head {
            "roles" | "Role" | "rule" => format!("write `role {}`", shown(place.slice(start + 1, end))),
            word if ROLES.contains(&word) => format!("write `role {}`", shown(rest)),
            _ if place.kind(start) == Kind::Text => format!("write `path {}`", shown(rest)),
            _ => "write `role bias, norm: weight_decay = 0`, or `path \"encoder.*\": weight_decay = 0`".to_owned(),
        };
        let fault = Fault::new("rule", Code::UnexpectedToken, "a rule begins with `role` or `path`");
        let fault = fault.label(place.tokens[start].range(), "names no parameters").help(help);
        return Some(match ROLES.contains(&head) {
            true => fault.edit(place.bytes(start, start), "role "),
            false => fault.leave_out(line, ""),
        });
    }
    None
}
