//! What stands at a place, in words: shapes, comments, meanings.

use serde_json::{Value as Json, json};

use super::analysis::Analysis;
use super::describe;
use super::places::{defined, expression_at, name_at};
use super::signature::{Callee, doc, head};
use super::words;
use super::world::World;
use crate::elab::{Meaning, What};
use crate::source::Span;
use crate::syntax::token::{Kind, Token, tokens};

pub fn at(world: &World<'_>, byte: usize) -> Json {
    let found = name(world, byte).or_else(|| token(world, byte)).or_else(|| expression(world, byte));
    let Some((span, text)) = found.filter(|(_, text)| !text.is_empty()) else { return Json::Null };
    let range = world.document.text.range(span.0, span.1);
    json!({ "contents": { "kind": "markdown", "value": text }, "range": range.json() })
}

type Found = Option<((usize, usize), String)>;

fn name(world: &World<'_>, byte: usize) -> Found {
    let (span, meaning) = name_at(world, byte)?;
    let text = match meaning {
        Meaning::Word(word) => of_word(&word),
        Meaning::Text(at) => of_definition(world, span, at),
    };
    Some(((span.start as usize, span.end as usize), text))
}

fn of_word(word: &str) -> String {
    if let Some(about) = words::about(word) {
        let callee = Callee::of_word(word).map(|callee| format!("```cmae\n{}\n```\n", callee.head));
        return format!("{}{about}", callee.unwrap_or_default());
    }
    // An argument is told with what takes it.
    match word.rsplit_once('.') {
        Some((owner, argument)) => match Callee::of_word(owner) {
            Some(callee) => format!("`{argument}` of\n```cmae\n{}\n```\n{}", callee.head, callee.doc),
            None => String::new(),
        },
        None => String::new(),
    }
}

/// What is used at `span` and defined at `at`.
fn of_definition(world: &World<'_>, span: Span, at: Span) -> String {
    let analysis = &world.analysis;
    let source = analysis.sources.get(at.source);
    let known = defined(analysis, at);
    let name = analysis.sources.slice(at);
    if at.start == at.end {
        return format!("the file `{}`", source.name);
    }
    let line_start = source.text[..at.start as usize].rfind('\n').map_or(0, |end| end + 1);
    let before = source.text[line_start..at.start as usize].trim();
    if ["block", "fn"].contains(&before) {
        let Callee { head: called, doc, .. } = Callee::of(&analysis.sources, at);
        let forward = source.text[at.end as usize..].split("\n}").next().and_then(|body| {
            let start = body.find("\n  forward(").filter(|_| before == "block")?;
            Some(format!("\n  {}", head(body, start + 3)))
        });
        return format!("```cmae\n{before} {called}{}\n```\n{doc}", forward.unwrap_or_default());
    }
    // Of a name that is used its value there, else that of its definition.
    let value = analysis
        .value(span)
        .or_else(|| field_around(analysis, span).and_then(|field| analysis.value(field)))
        .or_else(|| analysis.value(known?.value?));
    let shown = match &value {
        Some((value, of)) => format!("{name}: {}", describe::value(value, &of.index)),
        None => parameter(&source.text, at),
    };
    let mut text = format!("```cmae\n{shown}\n```\n");
    if let Some(known) = known {
        text += &format!("{}{}", known.what.words(), if known.what == What::Argument { ": `" } else { "" });
        if known.what == What::Argument {
            text += &format!("{}`", parameter(&source.text, at));
        }
        text += "\n\n";
    } else if source.library {
        let declared = value.is_some().then(|| format!("`{}`, ", parameter(&source.text, at)));
        text += &format!("{}of `{}`\n\n", declared.unwrap_or_default(), source.name);
    }
    text + &doc(&source.text, at.start as usize)
}

/// `a.b` around the name `b`.
fn field_around(analysis: &Analysis, name: Span) -> Option<Span> {
    let ends = |span: &&Span| span.source == name.source && span.end == name.end && span.start < name.start;
    let around = analysis.index.values.keys().filter(ends).min_by_key(|span| span.end - span.start)?;
    analysis.sources.slice(*around).trim_end_matches(analysis.sources.slice(name)).ends_with('.').then_some(*around)
}

/// A parameter as it is declared: up to the comma or bracket behind it.
fn parameter(text: &str, at: Span) -> String {
    let rest = &text[at.start as usize..];
    let mut depth = 0;
    let end = rest.char_indices().find(|(_, c)| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        depth < 0 || depth == 0 && matches!(c, ',' | '\n' | '\r')
    });
    let declared = &rest[..end.map_or(rest.len(), |(at, _)| at)];
    declared.split("//").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Units of numbers, and words that open something.
fn token(world: &World<'_>, byte: usize) -> Found {
    let text = world.document.text.as_str();
    let tokens = tokens(text);
    let at = tokens.iter().position(|token| token.start <= byte && byte < token.end.max(token.start + 1))?;
    let word = |token: &Token| &text[token.range()];
    let here = &tokens[at];
    if here.kind == Kind::Name {
        let about = words::about(&format!("section.{}", word(here)));
        if let Some(about) = about.filter(|_| at == 0 || !matches!(word(&tokens[at - 1]), "." | "::")) {
            return Some(((here.start, here.end), about.to_owned()));
        }
    }
    // The number of a unit, or the unit of a number.
    let number =
        [at, at.wrapping_sub(1)].into_iter().find(|at| tokens.get(*at).is_some_and(|t| t.kind == Kind::Number))?;
    let unit = tokens.get(number + 1)?;
    let name = match word(unit) {
        "epoch" => "epochs",
        "step" => "steps",
        name => name,
    };
    if at > number + 1 || unit.kind == Kind::End {
        return None;
    }
    let about = words::about(&format!("unit.{name}"))?;
    let (start, end) = (tokens[number].start, unit.end);
    Some(((start, end), format!("```cmae\n{}\n```\n{about}", &text[start..end])))
}

fn expression(world: &World<'_>, byte: usize) -> Found {
    let span = expression_at(&world.analysis, byte)?;
    let (value, analysis) = world.analysis.value(span)?;
    Some((
        (span.start as usize, span.end as usize),
        format!("```cmae\n{}\n```", describe::value(&value, &analysis.index)),
    ))
}
