//! Heads: of pipelines, variants, branches and sections; what stands at the file's level and should not.

use super::{Fault, Place, UNREAD, other_name, params, plain_name, shown, value_end};
use crate::diag::Code;
use crate::syntax::place::{SECTIONS, Within};
use crate::syntax::sections::{SYNONYMS, nearest, section_of};
use crate::syntax::token::{KEYWORDS, Kind};

/// Settings that people write beside the sections, with the section that they stand in.
const SETTINGS: [(&str, &[&str]); 2] = [
    ("data", &["batch_size", "channels", "prefetch_batches", "max_broken", "max_pixels"]),
    (
        "train",
        &[
            "epochs",
            "optimizer",
            "learning_rate",
            "precision",
            "seed",
            "clip",
            "checkpoint_every",
            "lr",
            "weight_decay",
        ],
    ),
];

pub fn form(place: &Place) -> Option<Fault> {
    let within = place.within();
    if within == Within::File {
        return of_pipeline(place).or_else(|| of_file(place));
    }
    if within == Within::Variant && place.line_start(place.at) < place.at && place.word(place.entry().0) == "param" {
        return params::form(place, place.entry().0);
    }
    if within != Within::Pipeline {
        return None;
    }
    let (start, end) = place.entry();
    match place.word(start) {
        "param" => params::form(place, start),
        "branch" => branch(place, start),
        "export" if place.at == start + 1 => {
            let value = place.slice(place.at + usize::from(matches!(place.here(), ":" | "==" | ":=" | "->")), end);
            let value = value.trim_start_matches('(').trim_end_matches(')');
            let fault = Fault::new("export", Code::Separator, "`export` takes `=`")
                .label(place.token().range(), "write `=` before it")
                .help(format!("write `export = {}`", shown(value)));
            Some(match place.kind(place.at) {
                Kind::Sign => fault.edit(place.token().range(), " ="),
                _ => fault.edit(place.gap(place.at), " ="),
            })
        }
        "export" if place.here() == "," => {
            let fault = Fault::new("export", Code::UnexpectedToken, "one module is exported")
                .label(place.bytes(place.at, end), "too many")
                .help(format!("write `{}`", place.slice(start, place.at)));
            Some(fault.leave_out(place.bytes(place.at, end), ""))
        }
        word if SECTIONS.contains(&word) && word != "parameters" => section(place, start, word),
        _ => unknown(place, start),
    }
}

/// Behind `pipeline`.
fn of_pipeline(place: &Place) -> Option<Fault> {
    let start = place.line_start(place.at);
    let start = if place.word(start) == "pipeline" { start } else { place.entry().0 };
    if place.word(start) != "pipeline" || place.at == start {
        return None;
    }
    let (here, before) = (place.here(), place.before(1));
    let fault =
        |message: String| Fault::new("head", Code::UnexpectedToken, message).label(place.token().range(), "here");
    let name = place.word(start + 1);
    if before == "pipeline" {
        return Some(match place.kind(place.at) {
            Kind::Text => {
                let plain = plain_name(here);
                let fault = fault("a pipeline's name stands without quotes".into())
                    .help(format!("write `pipeline {plain} {{`"));
                fault.edit(place.token().range(), plain)
            }
            Kind::Name if !KEYWORDS.contains(&here) => return None,
            Kind::Number | Kind::Name => {
                let end = (place.at..place.line_end(start))
                    .find(|i| matches!(place.word(*i), "{" | "=" | "with"))
                    .unwrap_or(place.at + 1);
                let plain = plain_name(&format!("my_{}", place.slice(place.at, end)));
                let fault = fault(format!("`{}` is no name", place.slice(place.at, end)))
                    .help(format!("write `pipeline {plain} {{`"));
                fault.edit(place.bytes(place.at, end), plain)
            }
            _ if here == ":" && place.kind(place.at + 1) == Kind::Name => {
                fault("no `:` stands behind `pipeline`".into())
                    .help(format!("write `pipeline {} {{`", place.after(1)))
                    .edit(place.token().range(), "")
            }
            _ => fault("a pipeline has a name".into())
                .help("write `pipeline my_pipeline {`: its file is then `my_pipeline.cmae`")
                .edit(place.gap(place.at), " my_pipeline"),
        });
    }
    match here {
        "-" | "." if place.at == start + 2 => {
            let end = (place.at..place.line_end(start))
                .find(|i| matches!(place.word(*i), "{" | "=" | "with" | ":"))
                .unwrap_or(place.line_end(start));
            let plain = plain_name(place.slice(start + 1, end));
            let fault =
                fault(format!("`{}` is no name: it may hold letters, digits and `_`", place.slice(start + 1, end)));
            Some(fault.help(format!("write `pipeline {plain}`")).edit(place.bytes(start + 1, end), plain))
        }
        "(" => {
            let end = place.other(place.at).map_or(place.at, |other| other) + 1;
            let base = place.slice(place.at + 1, end - 1);
            let is_base = place.kind(place.at + 1) == Kind::Name && end == place.at + 3;
            let help = match is_base {
                true => format!("a variant of another is `pipeline {name} = {base} with {{ … }}`"),
                false => "write each as a line of its body: `param mask_ratio = 75%`".to_owned(),
            };
            let put = if is_base { format!(" = {base} with") } else { String::new() };
            Some(fault("a pipeline takes no arguments".into()).help(help).leave_out(place.bytes(place.at, end), put))
        }
        "=" | ":" if place.after(1) == "{" => {
            let fault = fault(format!("no `{here}` stands before a body")).help(format!("write `pipeline {name} {{`"));
            Some(fault.edit(place.token().range(), ""))
        }
        "{" if place.before(2) == "=" => {
            let fault = fault("`with` stands before the changes of a variant".into());
            let help = format!("write `pipeline {name} = {before} with {{`");
            Some(fault.help(help).edit(place.gap(place.at), " with"))
        }
        "extends" | "from" | "of" | ":" | "as" | "inherits" | "<" | "->" | "with" | "using"
            if place.at == start + 2 =>
        {
            let base = if place.kind(place.at + 1) == Kind::Name { place.after(1) } else { "base" };
            let fault = fault(format!("a variant names its base behind `=`, not behind `{here}`"));
            let help = format!("write `pipeline {name} = {base} with {{ … }}`");
            let to = (place.at..place.line_end(start)).find(|i| place.word(*i) == "{").unwrap_or(place.line_end(start));
            // With sections of its own it is no variant.
            let has_sections = (to..place.other(to).unwrap_or(to))
                .any(|i| SECTIONS.contains(&place.word(i)) && place.word(i + 1) == "{");
            if has_sections {
                let help = format!(
                    "write `pipeline {name} {{`; a variant is `pipeline {name} = {base} with {{ … }}` and sets by dotted names"
                );
                return Some(fault.help(help).leave_out(place.bytes(place.at, to), ""));
            }
            let put = if to > place.at + 1 { format!("= {base} with ") } else { format!("= {base} ") };
            Some(fault.help(help).edit(place.bytes(place.at, to), put))
        }
        _ if before == "with" => {
            let fault = fault("the changes of a variant stand in braces".into())
                .help(format!("write `{} {{ … }}`", place.slice(start, place.at)));
            Some(fault.edit(place.gap(place.at), " { }"))
        }
        _ if place.before(2) == "=" && place.kind(place.at - 1) == Kind::Name => {
            let fault = fault(format!("the changes to `{before}` are missing"))
                .help(format!("write `pipeline {name} = {before} with {{ … }}`"));
            Some(fault.edit(place.gap(place.at), " with { }"))
        }
        _ if before == "=" => {
            let fault = fault("a variant names its base behind `=`".into())
                .help(format!("write `pipeline {name} = base with {{ … }}`"));
            let (_, end) = place.entry();
            Some(fault.leave_out(place.bytes(start, end.max(place.at)), ""))
        }
        _ if place.at == start + 2 => {
            let fault = fault(format!("the body of pipeline `{name}` stands in braces"))
                .help(format!("write `pipeline {name} {{ … }}`"));
            match (place.at..place.line_end(start)).find(|i| place.word(*i) == "{") {
                Some(brace) => Some(fault.leave_out(place.bytes(place.at, brace), "")),
                None => Some(fault.edit(place.gap(place.at), " { }")),
            }
        }
        _ => None,
    }
}

/// What stands outside every pipeline.
fn of_file(place: &Place) -> Option<Fault> {
    let start = place.entry().0;
    let word = place.word(start);
    let fault = |message: String| {
        Fault::new("outside", Code::UnexpectedToken, message).label(place.tokens[start].range(), "here")
    };
    if place.at > start + 2 {
        return None;
    }
    let of_pipeline =
        SECTIONS.contains(&word) || matches!(word, "branch" | "param" | "export") || place.is_binding(start);
    if of_pipeline || SYNONYMS.iter().any(|(_, words)| words.contains(&word)) {
        // Up to the next item: none of it stands in a pipeline.
        let end = (start..place.tokens.len() - 1)
            .find(|i| {
                place.tokens[*i].first
                    && matches!(place.word(*i), "pipeline" | "block" | "fn")
                    && place.tokens[*i].indent == 0
            })
            .unwrap_or(place.tokens.len() - 1);
        let is_pipeline = |i: usize| {
            place.word(i) == "pipeline" && place.word(i.max(1) - 1) != "use" && place.kind(i + 1) == Kind::Name
        };
        if place.is_binding(start) && !(0..start).any(is_pipeline) && (start..place.tokens.len()).any(is_pipeline) {
            let entry = shown(place.slice(start, place.entry().1));
            let fault = fault(format!("`{word}` stands outside of a pipeline"))
                .help(format!("write it within: `param {entry}`"));
            return Some(fault.leave_out(place.bytes(start, place.entry().1), ""));
        }
        let has_pipeline = (0..start).any(|i| place.word(i) == "pipeline" && place.word(i.max(1) - 1) != "use");
        let help = match has_pipeline {
            true => {
                format!("move it before the `}}` that ends the pipeline, or remove that `}}`: `{word}` comes after it")
            }
            false => "write `pipeline my_pipeline {` before it, and `}` at the end of the file".to_owned(),
        };
        let what = if SECTIONS.contains(&word) { format!("the section `{word}`") } else { format!("`{word}`") };
        return Some(match has_pipeline {
            true => {
                fault(format!("{what} stands outside the pipeline")).help(help).leave_out(place.bytes(start, end), "")
            }
            false => fault(format!("{what} stands outside of a pipeline"))
                .help(help)
                .edit(place.bytes(start, start), "pipeline my_pipeline {")
                .edit(place.gap(end), "\n}"),
        });
    }
    if place.kind(start) != Kind::Name || place.at > start + 1 {
        return None;
    }
    let near = nearest(word, &["pipeline", "block", "fn", "use"]).or(match word {
        _ if place.word(start + 1) == "{" => {
            let fault = fault(format!("`{word}` begins no item")).help(format!("write `pipeline {word} {{`"));
            return Some(fault.edit(place.bytes(start, start), "pipeline "));
        }
        "variant" | "experiment" | "config" | "method" | "recipe" | "job" => Some("pipeline"),
        "module" | "layer" | "struct" | "component" => Some("block"),
        "func" | "function" | "fun" | "fnc" => Some("fn"),
        _ => None,
    })?;
    let rest = if near == "use" { place.slice(start + 1, place.line_end(start)) } else { place.word(start + 1) };
    let help = format!("write `{near} {rest}`");
    Some(fault(format!("`{word}` begins no item")).help(help).edit(place.tokens[start].range(), near))
}

/// `branch` and what follows.
fn branch(place: &Place, start: usize) -> Option<Fault> {
    let here = place.here();
    let fault = |message: &str| Fault::new("head", Code::UnexpectedToken, message).label(place.token().range(), "here");
    if place.at == start + 1 {
        return Some(match place.kind(place.at) {
            Kind::Text => {
                let plain = plain_name(here);
                let fault = fault("a branch's name stands without quotes").help(format!("write `branch {plain} {{`"));
                fault.edit(place.token().range(), plain)
            }
            _ if here == "(" => {
                let end = place.other(place.at).map_or(place.at + 1, |other| other + 1);
                let plain = plain_name(place.slice(place.at + 1, end.max(place.at + 2) - 1));
                let fault =
                    fault("a branch's name stands without parentheses").help(format!("write `branch {plain} {{`"));
                fault.edit(place.bytes(place.at, end), format!(" {plain}"))
            }
            _ if here == ":" && place.kind(place.at + 1) == Kind::Name => {
                let fault =
                    fault("no `:` stands behind `branch`").help(format!("write `branch {} {{`", place.after(1)));
                fault.edit(place.token().range(), " ")
            }
            _ if here == "{" => {
                let name = unnamed_branch(place).unwrap_or("online");
                let fault = fault("a branch has a name").help(format!("write `branch {name} {{`"));
                fault.edit(place.gap(place.at), format!(" {name}"))
            }
            _ => fault("this is no name for a branch")
                .help(format!("write `branch {} {{`", other_name(here)))
                .edit(place.token().range(), other_name(here)),
        });
    }
    let name = place.word(start + 1);
    if place.word(start + 2) == "for" && place.at > start + 2 {
        let over = if place.kind(start + 3) == Kind::Name { place.word(start + 3) } else { "view" };
        let fault = fault("a loop names what it goes over")
            .help(format!("write `branch {name} for {over} in [views.a, views.b] {{`"));
        let brace = (place.at..place.line_end(start)).find(|i| place.word(*i) == "{")?;
        return Some(fault.edit(place.bytes(start + 2, brace), format!("for {over} in {UNREAD}")));
    }
    let brace = (place.at..place.line_end(start)).find(|i| place.word(*i) == "{");
    let help = format!("write `branch {name} {{`, or `branch {name} for view in [views.a, views.b] {{`");
    let fault = fault("a branch is its name and a body in braces").help(help);
    (place.at == start + 2 && here != "{").then(|| match brace {
        Some(brace) => fault.leave_out(place.bytes(place.at, brace), " "),
        None => fault.edit(place.gap(place.at), " { }"),
    })
}

/// A name that others read values of, and that nothing defines: it is the branch's.
fn unnamed_branch<'t>(place: &Place<'t>) -> Option<&'t str> {
    let is_read =
        |i: usize| place.kind(i) == Kind::Name && place.word(i + 1) == "." && (i == 0 || place.word(i - 1) != ".");
    let is_defined = |name: &str| {
        let defines = |j: usize| {
            place.word(j) == name
                && (place.word(j + 1) == "=" || j > 0 && matches!(place.word(j - 1), "branch" | "param" | "for"))
        };
        SECTIONS.contains(&name) || (0..place.tokens.len()).any(defines)
    };
    (0..place.tokens.len()).filter(|i| is_read(*i)).map(|i| place.word(i)).find(|name| !is_defined(name))
}

/// A section's word and no brace.
fn section(place: &Place, start: usize, word: &str) -> Option<Fault> {
    if place.at != start + 1 {
        return None;
    }
    let (here, end) = (place.here(), place.entry().1);
    let fault = Fault::new("head", Code::UnexpectedToken, format!("the section `{word}` stands in braces"))
        .label(place.token().range(), "here");
    if matches!(here, "=" | ":" | "(" | "->" | ":=") && place.after(1) == "{" {
        return Some(fault.help(format!("write `{word} {{`")).edit(place.token().range(), ""));
    }
    if here == "." {
        let inner = place.slice(start + 2, end);
        return Some(
            fault.help(format!("write `{word} {{ {} }}`", shown(inner))).leave_out(place.bytes(start, end), ""),
        );
    }
    Some(fault.help(format!("write `{word} {{ name = value }}`")).leave_out(place.bytes(start, end.max(place.at)), ""))
}

/// A word that begins nothing in a pipeline.
fn unknown(place: &Place, start: usize) -> Option<Fault> {
    let (word, next) = (place.word(start), place.word(start + 1));
    if place.kind(start) != Kind::Name || place.at > start + 1 {
        return None;
    }
    let end = place.entry().1;
    let fault = |message: String| {
        Fault::new("unknown", Code::UnexpectedToken, message).label(place.tokens[start].range(), "here")
    };
    if next == "{" || next == "=" && place.word(start + 2) == "{" || next == "(" && place.word(start + 2) == "{" {
        let open = if next == "{" { start + 1 } else { start + 2 };
        let close = place.other(open).map_or(end, |other| other + 1);
        if word == "parameters" || word == "params" {
            let fault = fault(format!("`{word}` is no section of a pipeline"));
            let help = match word == "parameters" && (open..close).any(|i| matches!(place.word(i), "role" | "path")) {
                true => "move it into `train { … }`",
                false => "write each as a line of its own: `param mask_ratio = 75%`",
            };
            return Some(fault.help(help).leave_out(place.bytes(start, close), ""));
        }
        let Some(section) = section_of(word) else {
            let message = format!("`{word}` is no section");
            let fault = fault(message).help(format!("write `branch {word} {{`, or one of the sections `data`, `views`, `model`, `losses`, `monitor`, `train` and `evaluate`"));
            return Some(fault.edit(place.bytes(start, start), "branch "));
        };
        let is_there = (0..place.tokens.len())
            .any(|i| i != start && place.word(i) == section && place.word(i + 1) == "{" && place.tokens[i].first);
        let fault = fault(format!("`{word}` is no section"));
        return Some(match is_there {
            true => fault
                .help(format!("write its settings in `{section} {{ … }}`"))
                .leave_out(place.bytes(start, close), ""),
            false => fault.help(format!("write `{section} {{`")).edit(place.tokens[start].range(), section),
        });
    }
    if let Some(near) = nearest(word, &["param", "branch", "export"]).or(match word {
        "parameter" | "hyperparameter" | "arg" | "define" | "parameters" => Some("param"),
        "path" | "stream" | "view" => Some("branch"),
        _ => None,
    }) && place.kind(start + 1) == Kind::Name
    {
        let help = format!(
            "write `{near} {}`",
            shown(place.slice(start + 1, end.max(place.line_end(start)).min(place.line_end(start))))
        );
        return Some(
            fault(format!("`{word}` begins nothing in a pipeline")).help(help).edit(place.tokens[start].range(), near),
        );
    }
    let is_setting = matches!(next, "=" | ":" | ":=" | "==");
    let equals = (start + 2..place.line_end(start)).find(|i| place.word(*i) == "=");
    if next == ":"
        && let Some(equals) = equals
    {
        let help = format!("write `param {word} {}`", shown(place.slice(equals, place.line_end(start))));
        let fault = fault(format!("`{word}` stands in no section, and has no type")).help(help);
        return Some(fault.edit(place.bytes(start, start), "param ").edit(place.bytes(start + 1, equals), " "));
    }
    if is_setting {
        let value = shown(place.slice(start + 2, value_end(place, start + 2).max(start + 3).min(end.max(start + 3))));
        if let Some((section, _)) = SETTINGS.iter().find(|(_, words)| words.contains(&word)) {
            let word = if word == "lr" { "learning_rate" } else { word };
            let fault = fault(format!("`{word}` is a setting of `{section}`"));
            return Some(
                fault.help(format!("write `{section} {{ {word} = {value} }}`")).leave_out(place.bytes(start, end), ""),
            );
        }
        let fault = fault(format!("`{word}` stands in no section")).help(format!("write `param {word} = {value}`"));
        return Some(fault.edit(place.bytes(start, start), "param ").edit(place.tokens[start + 1].range(), "="));
    }
    let near = nearest(word, &SECTIONS);
    let help = match near {
        Some(section) => format!("write `{section} {{ … }}`"),
        None => "a pipeline holds `param name = value`, `branch name { … }`, and the sections `data`, `views`, `model`, `losses`, `monitor`, `train` and `evaluate`".into(),
    };
    Some(fault(format!("`{word}` begins nothing in a pipeline")).help(help).leave_out(place.bytes(start, end), ""))
}
