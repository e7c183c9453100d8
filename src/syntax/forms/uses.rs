//! `use`, and how other languages bring names in.

use super::{Fault, Place, shown};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

pub fn form(place: &Place) -> Option<Fault> {
    if !matches!(place.within(), Within::File | Within::Names | Within::Pipeline) {
        return None;
    }
    let start = place.line_start(place.at);
    // `use a::` or `use`, and the next line read as what it brings in.
    if start > 0 && matches!(place.word(start - 1), "::" | "use") && place.word(place.line_start(start - 1)) == "use" {
        let line = place.bytes(place.line_start(start - 1), start);
        let fault =
            Fault::new("use_nothing", Code::MissingValue, "`use` names nothing").label(line.clone(), "of what?");
        let path = place.slice(place.line_start(start - 1), start).trim_end_matches(':');
        let help = if path == "use" {
            "write `use std::masks::random_mask`".to_owned()
        } else {
            format!("write `{path}::name`")
        };
        return Some(fault.help(help).leave_out(line, ""));
    }
    match place.word(start) {
        "from" | "import" | "include" | "using" | "load" | "require" | "export" if place.within() == Within::File => {
            Some(import(place, start))
        }
        "use" => misplaced(place, start).or_else(|| path(place, start)),
        _ => None,
    }
}

/// `from std.masks import random_mask as mask`
fn import(place: &Place, start: usize) -> Fault {
    let end = place.line_end(start);
    let words: Vec<&str> = (start..end).map(|i| place.word(i)).collect();
    let imported = words.iter().position(|word| *word == "import");
    let dotted = |words: &[&str]| words.concat().replace('.', "::").replace('"', "").replace('/', "::");
    let path = match (words[0], imported) {
        ("from", Some(at)) => {
            let names: Vec<&str> =
                words[at + 1..].iter().copied().filter(|word| !matches!(*word, "(" | ")" | "," | "*")).collect();
            let names: Vec<&str> = match names.iter().position(|word| *word == "as") {
                Some(renamed) => names[..renamed].to_vec(),
                None => names,
            };
            match names.as_slice() {
                [] => format!("{}::name", dotted(&words[1..at])),
                [name] => format!("{}::{name}", dotted(&words[1..at])),
                names => format!("{}::{{{}}}", dotted(&words[1..at]), names.join(", ")),
            }
        }
        _ => {
            let renamed = words.iter().position(|word| *word == "as").unwrap_or(words.len());
            let path = dotted(&words[1..renamed]);
            if path.matches("::").count() < 2 { format!("{path}::name") } else { path }
        }
    };
    let known =
        path.starts_with("std::") || words[0] == "from" && !is_of_python(words.get(1).copied().unwrap_or_default());
    let help = match known {
        true => format!("write `use {path}`"),
        false => {
            "leave it out: tensors are computed by `op::…`, and modules come from `std`, as `use std::vit::vit`".into()
        }
    };
    Fault::new("import", Code::OtherLanguage, format!("names are brought in by `use`, not by `{}`", words[0]))
        .label(place.tokens[start].range(), "write `use`")
        .help(help)
        .leave_out(place.bytes(start, end), "")
}

fn is_of_python(module: &str) -> bool {
    matches!(module, "torch" | "numpy" | "timm" | "torchvision" | "math" | "os" | "typing" | "lightly" | "transformers")
}

/// `use std.masks::a`, `use std::masks::*`, `use std::masks::a as b`
fn path(place: &Place, start: usize) -> Option<Fault> {
    let end = place.line_end(start);
    if place.at >= end && place.here() != "" && !(place.at == end && place.at == start + 1) {
        return None;
    }
    let line = place.bytes(start, end);
    let whole = place.slice(start, end);
    if place.word(start + 1) == "pipeline" && place.at > start + 1 {
        let renamed = (start + 2..end).find(|i| place.word(*i) == "as").unwrap_or(end);
        let name: String = place.slice(start + 2, renamed).split(['"', ' ']).collect();
        let name = name.trim_start_matches("./").trim_end_matches(".cmae").replace(['/', '.'], "::");
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect();
        let file = plain.replace("::", "/");
        let fault = Fault::new("use_pipeline", Code::UnexpectedToken, "a pipeline is used by a path of names")
            .label(place.token().range(), "here");
        return Some(
            fault
                .help(format!("write `use pipeline {plain}`, of the file `{file}.cmae` beside this one"))
                .edit(line, format!("use pipeline {plain}{}", behind(place, renamed, end))),
        );
    }
    match place.here() {
        "from" => {
            let module = place.slice(place.at + 1, end).replace('.', "::");
            let mended = format!("use {module}::{}", place.slice(start + 1, place.at));
            let fault = Fault::new("use_from", Code::OtherLanguage, "a path begins with the file")
                .label(place.token().range(), "no `from` here");
            Some(fault.help(format!("write `{mended}`")).edit(line, mended))
        }
        "." | "/" | ":" | "->" | "-" => {
            let mended: String = (start + 1..end)
                .map(|i| if matches!(place.word(i), "." | "/" | ":" | "->" | "-") { "::" } else { place.word(i) })
                .collect();
            Some(
                Fault::new(
                    "path",
                    Code::Separator,
                    format!("the parts of a path are joined by `::`, not by `{}`", place.here()),
                )
                .label(place.token().range(), "write `::`")
                .help(format!("write `use {mended}`"))
                .edit(line, format!("use {mended}")),
            )
        }
        "*" => {
            let called =
                (0..place.tokens.len()).filter(|i| place.word(i + 1) == "(" || *i > 0 && place.word(i - 1) == "|>");
            let lost = called.map(|i| place.word(i).to_owned()).collect();
            let fault = Fault::new("use_all", Code::OtherLanguage, "`use` names what it brings in, there is no `*`")
                .label(place.token().range(), "all of a file")
                .help(format!("write the names: `{}{{name, other}}`", place.slice(start, place.at)));
            Some(Fault { lost, ..fault.leave_out(line, "") })
        }
        "as" => Some(
            Fault::new("use_as", Code::OtherLanguage, "`use` gives a new name to pipelines alone")
                .label(place.bytes(place.at, (place.at + 2).min(end)), "not here")
                .help(format!("write `{}`, and use the name as it is", place.slice(start, place.at)))
                .leave_out(place.bytes(place.at, end), ""),
        ),
        "," => {
            let first = place.slice(start + 1, place.at);
            let (module, item) = first.rsplit_once("::").unwrap_or((first, "name"));
            let rest: Vec<&str> =
                (place.at + 1..end).filter(|i| place.kind(*i) == Kind::Name).map(|i| place.word(i)).collect();
            let mended = format!("use {module}::{{{item}, {}}}", rest.join(", "));
            Some(
                Fault::new("use_list", Code::Separator, "several names of a file stand in braces")
                    .label(place.token().range(), "here")
                    .help(format!("write `{mended}`"))
                    .edit(line, mended),
            )
        }
        "{" | "(" if place.before(1) != "use" => {
            let names: Vec<&str> =
                (place.at + 1..end).filter(|i| place.kind(*i) == Kind::Name).map(|i| place.word(i)).collect();
            let path = place.slice(start, place.at).trim_end_matches(':');
            let mended = format!("{path}::{{{}}}", names.join(", "));
            Some(
                Fault::new("use_list", Code::Separator, "several names of a file stand in braces behind `::`")
                    .label(place.token().range(), "here")
                    .help(format!("write `{}`", shown(&mended)))
                    .edit(line, mended),
            )
        }
        word if place.kind(place.at) == Kind::Text => {
            let inner = word.trim_matches('"').trim_end_matches(".cmae");
            let path = inner.trim_start_matches("./").replace(['/', '.'], "::");
            if inner.contains("::") {
                let fault = Fault::new("use_text", Code::OtherLanguage, "`use` takes a path of names, not a text")
                    .label(place.token().range(), "no quotes here");
                return Some(fault.help(format!("write `use {inner}`")).edit(place.token().range(), inner));
            }
            Some(
                Fault::new("use_text", Code::OtherLanguage, "`use` takes a path of names, not a text")
                    .label(place.token().range(), "no quotes here")
                    .help(format!("write `use {path}::name`, or `use pipeline {inner}`"))
                    .leave_out(line, ""),
            )
        }
        _ if place.at == end && place.before(1) == "use" => Some(
            Fault::new("use_nothing", Code::MissingValue, "`use` names nothing")
                .label(line.clone(), "of what?")
                .help("write `use std::masks::random_mask`")
                .leave_out(line, ""),
        ),
        word if place.kind(place.at) == Kind::Name && place.within() == Within::Names => Some(
            Fault::new("comma", Code::Separator, "a comma is missing between two names")
                .label(place.gap(place.at), "here")
                .help(format!("write `{}, {word}`", place.before(1)))
                .edit(place.gap(place.at), ","),
        ),
        _ => Some(
            Fault::new("use", Code::UnexpectedToken, format!("`{}` is no path of names", shown(whole)))
                .label(place.token().range(), "not understood")
                .help("write `use std::masks::random_mask`, or `use std::masks::{random_mask, grid_mask}`")
                .leave_out(line, ""),
        ),
    }
}

/// ` as NAME`, where a name was given.
fn behind(place: &Place, renamed: usize, end: usize) -> String {
    if renamed < end { format!(" {}", place.slice(renamed, end)) } else { String::new() }
}

/// `use` behind an item, or within one.
fn misplaced(place: &Place, start: usize) -> Option<Fault> {
    (place.at == start).then(|| {
        let line = place.slice(start, place.line_end(start));
        let mut end = place.line_end(start);
        while place.word(end) == "use" {
            end = place.line_end(end);
        }
        Fault::new("use_late", Code::UnexpectedToken, "`use` stands at the top of the file")
            .label(place.bytes(start, place.line_end(start)), "too late")
            .help(format!("move `{}` before the first `pipeline`, `block` or `fn`", shown(line)))
            .leave_out(place.bytes(start, end), "")
    })
}
