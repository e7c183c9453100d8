//! What is called: its head as its text has it, and the help that an editor shows while arguments are written.

use serde_json::{Value, json};

use super::context::Context;
use super::words;
use super::world::World;
use crate::elab::{EVALUATION_CALLS, Kind, What};
use crate::source::{Sources, Span};

/// What can be called, as its text says it.
pub struct Callee {
    /// `vit(image_size: size, …)`
    pub head: String,
    /// Each with its type and default, as written.
    pub params: Vec<String>,
    pub doc: String,
}

impl Callee {
    /// Of what is defined at `span`, by the text around it.
    pub fn of(sources: &Sources, span: Span) -> Callee {
        let text = &sources.get(span.source).text;
        let head = head(text, span.start as usize);
        Callee { params: params(&head), doc: doc(text, span.start as usize), head }
    }

    pub fn of_word(word: &str) -> Option<Callee> {
        let params: Vec<String> = words::parameters(word)?.iter().map(|name| (*name).to_owned()).collect();
        let name = word.strip_prefix("evaluate.").unwrap_or(word);
        let doc = words::about(word).unwrap_or_default().to_owned();
        Some(Callee { head: format!("{name}({})", params.join(", ")), params, doc })
    }

    /// Of the standard library's block or function of this name.
    pub fn of_library(name: &str) -> Option<Callee> {
        let module = Sources::stdlib_home(name)?;
        let text = Sources::stdlib_text(module)?;
        let at = ["block", "fn"].iter().find_map(|word| {
            let start = text.find(&format!("\n{word} {name}("))?;
            Some(start + word.len() + 2)
        })?;
        let head = head(text, at);
        Some(Callee { params: params(&head), doc: doc(text, at), head })
    }
}

/// Names of parameters, without types.
pub fn name_of(param: &str) -> &str {
    param.split(':').next().unwrap_or(param).trim().trim_end_matches('?')
}

/// From a name up to the brace that opens its body, on one line.
pub fn head(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    // Braces of record types stand within parentheses or behind the arrow.
    let mut depth = 0;
    let end = rest.char_indices().find_map(|(at, c)| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 && !rest[..at].trim_end().ends_with("->") => return Some(at),
            _ => {}
        }
        None
    });
    let lines = rest[..end.unwrap_or(rest.len()).min(rest.len())].lines();
    let words: Vec<&str> = lines.flat_map(|line| line.split("//").next().unwrap_or("").split_whitespace()).collect();
    words.join(" ").replace("( ", "(").replace(" )", ")")
}

/// What stands between the parentheses of a head, cut at its commas.
fn params(head: &str) -> Vec<String> {
    let Some(open) = head.find('(') else { return Vec::new() };
    let (mut depth, mut start, mut found) = (0, open + 1, Vec::new());
    for (at, c) in head.char_indices().skip_while(|(at, _)| *at <= open) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                found.push(head[start..at].trim().to_owned());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(head[start..at].trim().to_owned());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.retain(|param| !param.is_empty());
    found
}

/// The `///` lines above the line of `at`, or the comment behind it on the same line.
pub fn doc(text: &str, at: usize) -> String {
    let start = text.get(..at).map_or(0, |before| before.rfind('\n').map_or(0, |end| end + 1));
    let above = text.get(..start).unwrap_or_default().lines().rev().map(str::trim);
    let mut lines: Vec<&str> = above.take_while(|line| line.starts_with("///")).collect();
    lines.reverse();
    if !lines.is_empty() {
        return lines.iter().map(|line| line.trim_start_matches('/').trim()).collect::<Vec<_>>().join("\n");
    }
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    line.split_once("//").map(|(_, comment)| comment.trim().to_owned()).unwrap_or_default()
}

/// What a call at a place calls: `callee` is as written, such as `encoder`, `momentum.encoder`, `op::linear`.
pub fn callee(world: &World<'_>, callee: &str, byte: usize) -> Option<Callee> {
    let analysis = &world.analysis;
    if callee.contains("::") {
        return Callee::of_word(callee);
    }
    // Whatever else goes by these names is not called there.
    if EVALUATION_CALLS.contains(&callee)
        && Context::at(world.document.text.as_str(), byte).bodies().first() == Some(&"evaluate")
    {
        return Callee::of_word(&format!("evaluate.{callee}"));
    }
    let names: Vec<std::sync::Arc<str>> = callee.split('.').map(|name| name.trim().into()).collect();
    if let Some((value, analysis)) = super::reach::reached(world, &names, byte) {
        match &value.kind {
            Kind::Block(def) => return Some(Callee::of(&analysis.sources, def.item.name.span)),
            Kind::Function(def) => return Some(Callee::of(&analysis.sources, def.item.name.span)),
            Kind::Module(_) | Kind::Modules(_) => {
                let module = analysis.index.module(&value)?;
                let mut found = Callee::of(&analysis.sources, module.def.item.forward.name.span);
                found.doc = Callee::of(&analysis.sources, module.def.item.name.span).doc;
                return Some(found);
            }
            _ => {}
        }
    }
    let [name] = names.as_slice() else { return None };
    let own = analysis
        .index
        .definitions
        .iter()
        .find(|known| known.name.text == *name && matches!(known.what, What::Block | What::Function));
    match own {
        Some(known) => Some(Callee::of(&analysis.sources, known.name.span)),
        None => Callee::of_library(name)
            .or_else(|| Callee::of_word(name))
            .or_else(|| Callee::of_word(&format!("evaluate.{name}"))),
    }
}

/// The head of what is called, with the parameter that is being written.
pub fn at(world: &World<'_>, byte: usize) -> Value {
    let text = world.document.text.as_str();
    let context = Context::at(text, byte);
    let Some((range, names, commas)) = context.call() else { return Value::Null };
    let Some(callee) = callee(world, &text[range], byte) else { return Value::Null };
    // A name that is being given says which; else they go in order, but for those that are given by name.
    let named = match (context.last(0), context.last(1)) {
        (":", name) => callee.params.iter().position(|param| name_of(param) == name),
        _ => None,
    };
    let free = callee.params.iter().enumerate().filter(|(_, param)| !names.contains(&name_of(param)));
    let active = named.or_else(|| free.map(|(at, _)| at).nth(commas.saturating_sub(names.len())));
    let params: Vec<Value> = callee.params.iter().map(|param| json!({ "label": param })).collect();
    let mut help = json!({
        "signatures": [{
            "label": callee.head, "parameters": params, "documentation": { "kind": "markdown", "value": callee.doc },
        }],
        "activeSignature": 0,
    });
    if let Some(active) = active {
        help["activeParameter"] = active.into();
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_comments_are_read_from_the_text() {
        let text = "/// Takes means.\n/// Twice.\nfn f(x: { a: [B, D] },\n     y: [B] = none) -> { m: [D] } {\n  x\n}\nparam r = 65%  // kept\n";
        let at = text.find("f(").unwrap_or_default();
        assert_eq!(head(text, at), "f(x: { a: [B, D] }, y: [B] = none) -> { m: [D] }");
        assert_eq!(params(&head(text, at)), ["x: { a: [B, D] }", "y: [B] = none"]);
        assert_eq!(doc(text, at), "Takes means.\nTwice.");
        assert_eq!(doc(text, text.find("r =").unwrap_or_default()), "kept");
        assert!(Callee::of_library("vit").is_some_and(|vit| vit.params.len() > 3 && !vit.doc.is_empty()));
    }
}
