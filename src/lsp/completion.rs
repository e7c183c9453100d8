//! Completion: what may stand at a place.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::analysis::Analysis;
use super::context::Context;
use super::describe;
use super::protocol::kind;
use super::reach::{reached, scope};
use super::signature::{self, Callee};
use super::words;
use super::world::World;
use crate::elab::{self, Kind, OfView, Value, What};
use crate::source::Sources;
use crate::spec::Role;

/// What is offered, each name once.
#[derive(Default)]
struct Offers(Vec<Json>);

impl Offers {
    /// `rank` puts what is nearer first.
    fn add(&mut self, rank: u8, label: &str, kind: u8, detail: &str, doc: &str) {
        if label.is_empty() || self.0.iter().any(|known| known["label"] == label) {
            return;
        }
        let mut offer = json!({ "label": label, "kind": kind, "sortText": format!("{rank}{label}") });
        if !detail.is_empty() {
            offer["detail"] = detail.into();
        }
        if !doc.is_empty() {
            offer["documentation"] = json!({ "kind": "markdown", "value": doc });
        }
        self.0.push(offer);
    }

    /// What stands otherwise in the text than it is called here.
    fn add_as(&mut self, rank: u8, label: &str, inserted: &str, kind: u8, doc: &str) {
        self.add(rank, label, kind, "", doc);
        if let Some(offer) = self.0.iter_mut().find(|known| known["label"] == label) {
            offer["insertText"] = inserted.into();
        }
    }

    fn word(&mut self, rank: u8, word: &str, kind: u8) {
        let label = word.rsplit(['.', ':']).next().unwrap_or(word);
        let detail = words::parameters(word).map(|names| format!("({})", names.join(", "))).unwrap_or_default();
        self.add(rank, label, kind, &detail, words::about(word).unwrap_or_default());
    }
}

pub fn at(world: &World<'_>, byte: usize) -> Json {
    let context = Context::at(world.document.text.as_str(), byte);
    let mut offers = Offers::default();
    if context.silent {
        return offers.0.into();
    }
    if let Some(adjacent) = context.number() {
        units(&mut offers, adjacent);
    } else if (context.last(0), context.last(1)) == ("::", "op") {
        operations(&mut offers);
    } else if (context.last(0), context.last(1), context.last(2)) == ("::", "std", "pipeline") {
        shipped(&mut offers);
    } else if let Some(uses) = used(&context) {
        library(&mut offers, uses);
    } else if let Some(owner) = context.owner() {
        fields(&mut offers, world, &owner, byte);
    } else {
        anything(&mut offers, world, &context, byte);
    }
    offers.0.into()
}

fn units(offers: &mut Offers, adjacent: bool) {
    for unit in ["%", "px"].iter().filter(|_| adjacent) {
        offers.word(0, &format!("unit.{unit}"), kind::UNIT);
    }
    for unit in ["epochs", "steps"] {
        let inserted = if adjacent { format!(" {unit}") } else { unit.to_owned() };
        offers.add_as(0, unit, &inserted, kind::UNIT, words::about(&format!("unit.{unit}")).unwrap_or_default());
    }
}

fn operations(offers: &mut Offers) {
    for op in crate::shape::op_names().into_iter().chain(OfView::ALL.map(OfView::name)) {
        offers.word(0, &format!("op::{op}"), kind::FUNCTION);
    }
}

/// `use std::` and `use std::vit::`: the module that is named already.
fn used<'t>(context: &Context<'t>) -> Option<&'t str> {
    match (context.last(0), context.last(1), context.last(2), context.last(3)) {
        ("::", "std", "use", _) => Some(""),
        ("::", module, "::", "std") => Some(module),
        ("{", "::", module, "::") => Some(module),
        _ => None,
    }
}

fn library(offers: &mut Offers, module: &str) {
    if module.is_empty() {
        for module in Sources::stdlib_modules() {
            let about = Sources::stdlib_text(module).and_then(|text| text.lines().next()).unwrap_or_default();
            offers.add(0, module, kind::MODULE, about.trim_start_matches('/').trim(), "");
        }
        return;
    }
    for item in Sources::stdlib_items().filter(|item| Sources::stdlib_home(item) == Some(module)) {
        item_of_library(offers, 0, item);
    }
}

/// `use pipeline std::`: what comes with the program.
fn shipped(offers: &mut Offers) {
    for pipeline in Sources::shipped_names() {
        let about = Sources::shipped(pipeline).and_then(|text| text.lines().next()).unwrap_or_default();
        offers.add(0, pipeline, kind::MODULE, about.trim_start_matches('/').trim(), "");
    }
}

fn item_of_library(offers: &mut Offers, rank: u8, item: &str) {
    if let Some(Callee { head, doc, .. }) = Callee::of_library(item) {
        offers.add(rank, item, kind::FUNCTION, &head, &doc);
    }
}

fn fields(offers: &mut Offers, world: &World<'_>, owner: &[Arc<str>], byte: usize) {
    if let Some((value, analysis)) = reached(world, owner, byte) {
        fields_of(offers, &value, analysis);
    }
    // Where its value is not known, its fields may be.
    if let [name] = owner {
        let known = scope(&world.analysis, byte).and_then(|scope| scope.definition(name)).flatten();
        for (at, field) in world.analysis.index.fields.keys() {
            if Some(*at) == known {
                offers.add(0, field, kind::FIELD, "", "");
            }
        }
    }
}

fn fields_of(offers: &mut Offers, value: &Value, analysis: &Analysis) {
    match &value.kind {
        Kind::Record(fields) => {
            for (name, field) in fields.iter() {
                offers.add(0, name, kind::FIELD, &describe::value(field, &analysis.index), "");
            }
        }
        Kind::List(items) => {
            items.first().iter().for_each(|first| fields_of(offers, first, analysis));
            offers.add(0, "last", kind::FIELD, "the last item", "");
        }
        Kind::Modules(_) => offers.add(0, "last", kind::FIELD, "the last module", ""),
        _ => {
            let Some(module) = analysis.index.module(value) else { return };
            for (name, field) in module.scope.bindings() {
                // Dims are for the block alone.
                if !name.starts_with(|c: char| c.is_ascii_uppercase()) {
                    offers.add(0, &name, kind::FIELD, &describe::value(&field, &analysis.index), "");
                }
            }
        }
    }
}

fn anything(offers: &mut Offers, world: &World<'_>, context: &Context<'_>, byte: usize) {
    let bodies = context.bodies();
    let call = context.call();
    if let Some((range, names, _)) = &call {
        arguments(offers, world, &world.document.text.as_str()[range.clone()], names, byte);
    }
    if call.is_none() && context.begins() {
        let more = entries(offers, bodies.first().copied(), bodies.is_empty());
        if !more {
            return;
        }
    }
    if context.last(0) == "role" || bodies.first() == Some(&"parameters") && context.last(0) == "," {
        Role::ALL.iter().for_each(|role| offers.word(0, &format!("role.{}", role.name()), kind::CONSTANT));
    }
    names(offers, world, byte);
}

/// Parameters of what is called that are not given yet.
fn arguments(offers: &mut Offers, world: &World<'_>, callee: &str, given: &[&str], byte: usize) {
    let Some(callee) = signature::callee(world, callee, byte) else { return };
    for param in &callee.params {
        let name = signature::name_of(param);
        if !given.contains(&name) {
            offers.add(0, &format!("{name}:"), kind::PROPERTY, param, "");
            if let Some(offer) = offers.0.last_mut() {
                offer["insertText"] = format!("{name}: ").into();
                offer["filterText"] = name.into();
            }
        }
    }
}

/// What a body's entries begin with; whether names may stand there too.
fn entries(offers: &mut Offers, body: Option<&str>, is_file: bool) -> bool {
    let mut sections =
        |words: &[&str]| words.iter().for_each(|word| offers.word(0, &format!("section.{word}"), kind::KEYWORD));
    match body {
        None if is_file => sections(&["use", "pipeline", "block", "fn"]),
        Some("pipeline") => {
            sections(&["param", "data", "views", "model", "branch", "losses", "monitor", "train", "evaluate", "export"])
        }
        Some("train") => {
            sections(&["parameters"]);
            elab::TRAIN_SETTINGS.iter().for_each(|name| offers.word(0, &format!("train.{name}"), kind::PROPERTY));
        }
        Some("data") => {
            elab::DATA_SETTINGS.iter().for_each(|name| offers.word(0, &format!("data.{name}"), kind::PROPERTY))
        }
        Some("evaluate") => {
            let own = elab::EVALUATION_CALLS.into_iter().chain([elab::EVALUATION_BATCH, "features"]);
            own.for_each(|name| offers.word(0, &format!("evaluate.{name}"), kind::PROPERTY));
        }
        Some("parameters") => ["role", "path"].iter().for_each(|word| offers.add(0, word, kind::KEYWORD, "", "")),
        Some("block") => sections(&["param", "state", "require", "forward"]),
        Some("fn" | "forward") => {
            sections(&["require", "update"]);
            return true;
        }
        _ => return true,
    }
    false
}

/// All that has a name here.
fn names(offers: &mut Offers, world: &World<'_>, byte: usize) {
    let analyses = [Some(&*world.analysis), world.analysis.before.as_deref()];
    for analysis in analyses.into_iter().flatten() {
        let Some(scope) = scope(analysis, byte) else { continue };
        for name in scope.visible() {
            let value = scope.get(&name).map(|value| describe::value(&value, &analysis.index));
            offers.add(1, &name, kind::VARIABLE, &value.unwrap_or_default(), "");
        }
    }
    for known in &world.analysis.index.definitions {
        if matches!(known.what, What::Block | What::Function) {
            let Callee { head, doc, .. } = Callee::of(&world.analysis.sources, known.name.span);
            offers.add(2, &known.name.text, kind::FUNCTION, &head, &doc);
        }
    }
    Sources::stdlib_items().for_each(|item| item_of_library(offers, 3, item));
    for word in elab::builtin_names() {
        offers.word(4, word, if words::parameters(word).is_some() { kind::FUNCTION } else { kind::CONSTANT });
    }
    offers.add(5, "op", kind::MODULE, "operations", "");
}
