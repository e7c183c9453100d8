//! Overrides: `with { … }` of a variant and `--set NAME=VALUE` change the tree before it is evaluated.
//!
//! A path names a parameter (`mask_ratio`), a definition of a section (`train.epochs`, `online.mask`), or an argument of
//! the call that a definition makes (`model.encoder.depth`). A call that stands by itself goes by its callee: `evaluate.knn.k`
//! is its argument, `evaluate.knn = none` turns it off.

use super::section::EVALUATION_BATCH;
use super::unused;
use crate::diag::{Code, Diagnostic, nearest, suggest};
use crate::syntax::ast::{Argument, Binding, Entry, Expr, ExprKind, Name, Override, Pipeline, Section, SectionKind};

/// Applies one override to `pipeline`.
pub fn apply(pipeline: &mut Pipeline, change: &Override) -> Result<(), Diagnostic> {
    let text = change.path.iter().map(|n| &*n.text).collect::<Vec<_>>().join(".");
    if change.adds {
        return add(pipeline, change, &text);
    }
    match change.path.as_slice() {
        [name] if &*name.text == "export" => {
            let section = pipeline.sections.iter_mut().find(|s| s.kind == SectionKind::Export);
            match section {
                Some(section) => section.entries = vec![Entry::Expr(change.value.clone())],
                None => return Err(unknown(name, "the pipeline", Vec::new())),
            }
            Ok(())
        }
        [name] => match pipeline.params.iter_mut().find(|(n, _)| n.text == name.text) {
            Some((_, value)) => {
                *value = change.value.clone();
                Ok(())
            }
            None => {
                let mut known: Vec<String> = pipeline.params.iter().map(|(n, _)| n.text.to_string()).collect();
                known.extend(section_words(pipeline));
                let near = nearest(&name.text, known.iter().map(String::as_str)).is_some();
                let mut paths = elsewhere(pipeline, &name.text);
                if paths.is_empty() && !near {
                    paths.extend(super::train::meant(&name.text).map(|setting| format!("train.{setting}")));
                    paths.extend(super::pipeline::meant(&name.text).map(|setting| format!("data.{setting}")));
                }
                let help = match paths.as_slice() {
                    [] if near => None,
                    [] => Some(format!("declare what the base does not have: `param {} = …`", name.text)),
                    paths => Some(format!("write {}", either(paths))),
                };
                Err(unknown(name, &format!("pipeline `{}`", pipeline.name.text), known).maybe_help(help))
            }
        },
        [section_name, name, rest @ ..] => {
            let known = section_words(pipeline);
            let owner = format!("pipeline `{}`", pipeline.name.text);
            let section = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text);
            let Some(section) = section else { return Err(unknown(section_name, &owner, known)) };
            let names: Vec<String> = bindings(section).map(|b| b.name.text.to_string()).collect();
            let extends = match section.kind {
                SectionKind::Train | SectionKind::Data => true,
                // What else stands there are definitions, which a change cannot add by a slip.
                SectionKind::Evaluate => &*name.text == EVALUATION_BATCH,
                _ => false,
            };
            let word = section_word(section);
            let extensible = matches!(
                section.kind,
                SectionKind::Losses
                    | SectionKind::Monitor
                    | SectionKind::Views
                    | SectionKind::Model
                    | SectionKind::Branch(..)
            );
            let known_binding = names.iter().any(|n| **n == *name.text);
            if !known_binding && extends && rest.is_empty() {
                // A setting that the file leaves at its default; whether there is one of this name shows later.
                let binding = Binding { name: name.clone(), value: change.value.clone(), repeat: None, when: None };
                section.entries.push(Entry::Binding(binding));
                return Ok(());
            }
            if let (Some(call), [argument]) = (called_mut(section, &name.text), rest) {
                return set_argument(call, argument, &change.value, &text);
            }
            if rest.is_empty()
                && let Some(entry) =
                    section.entries.iter_mut().find(|entry| call_of(entry).as_deref() == Some(&*name.text))
            {
                // From now on a definition of that name, which later changes find.
                let binding = Binding { name: name.clone(), value: change.value.clone(), repeat: None, when: None };
                *entry = Entry::Binding(binding);
                return Ok(());
            }
            let calls: Vec<String> = section.entries.iter().filter_map(call_of).collect();
            let settings = (section.kind == SectionKind::Evaluate).then(|| EVALUATION_BATCH.to_owned());
            let names: Vec<String> = names.into_iter().chain(calls).chain(settings).collect();
            match (bindings_mut(section).find(|b| b.name.text == name.text), rest) {
                (Some(binding), []) => {
                    binding.value = change.value.clone();
                    Ok(())
                }
                (Some(binding), [argument]) => set_argument(&mut binding.value, argument, &change.value, &text),
                (None, _) => {
                    let near = nearest(&name.text, names.iter().map(String::as_str)).is_some();
                    let help = (rest.is_empty() && extensible && !near)
                        .then(|| format!("add what the base does not have: `add {text} = …`"));
                    Err(unknown(name, &format!("`{word}`"), names).maybe_help(help))
                }
                (Some(_), [_, deeper, ..]) => {
                    Err(Diagnostic::new(Code::UnknownSetting, format!("`{text}` reaches deeper than an argument"))
                        .label(deeper.span, "too deep")
                        .help("replace the whole definition: write it out in a variant"))
                }
            }
        }
        [] => Ok(()),
    }
}

/// Declares a parameter, or a definition at the end of a section.
fn add(pipeline: &mut Pipeline, change: &Override, text: &str) -> Result<(), Diagnostic> {
    let taken = |span| {
        Diagnostic::new(Code::DuplicateName, format!("the base has `{text}` already"))
            .label(change.path[change.path.len() - 1].span, "added here")
            .label(span, "defined here")
            .help(format!("replace it: `{text} = …`, without `param` or `add`"))
    };
    match change.path.as_slice() {
        [name] => match pipeline.params.iter().find(|(n, _)| n.text == name.text) {
            Some((first, _)) => Err(taken(first.span)),
            None => {
                pipeline.params.push((name.clone(), change.value.clone()));
                Ok(())
            }
        },
        [section_name, name] => {
            let (known, owner) = (section_words(pipeline), format!("pipeline `{}`", pipeline.name.text));
            let section = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text);
            let Some(section) = section else { return Err(unknown(section_name, &owner, known)) };
            if let Some(first) = bindings(section).find(|b| b.name.text == name.text) {
                return Err(taken(first.name.span));
            }
            let binding = Binding { name: name.clone(), value: change.value.clone(), repeat: None, when: None };
            section.entries.push(Entry::Binding(binding));
            Ok(())
        }
        path => {
            let span = path.last().map_or(change.value.span, |name| name.span);
            Err(Diagnostic::new(Code::UnknownSetting, format!("`add {text}` names no definition of a section"))
                .label(span, "here")
                .help("write `add losses.NAME = …`"))
        }
    }
}

/// Sets or adds an argument of the call that `value` is; of a chain, that of the last call.
fn set_argument(value: &mut Expr, name: &Name, new: &Expr, text: &str) -> Result<(), Diagnostic> {
    let span = value.span;
    let arguments = match &mut value.kind {
        ExprKind::Call(_, arguments) => arguments,
        ExprKind::Pipe(_, last) => return set_argument(last, name, new, text),
        ExprKind::None => {
            return Err(Diagnostic::new(
                Code::UnknownSetting,
                format!("`{text}` is an argument of what is turned off"),
            )
            .label(name.span, "an argument")
            .label(span, "turned off here")
            .help("leave one of both out"));
        }
        _ => {
            let message = format!("`{text}` names an argument, but the definition is no call");
            return Err(Diagnostic::new(Code::UnknownSetting, message)
                .label(name.span, "an argument")
                .label(span, "no call")
                .help("leave the last part of the name out"));
        }
    };
    let is_it = |argument: &Argument| match (&argument.name, &argument.value.kind) {
        (Some(n), _) => n.text == name.text,
        (None, ExprKind::Path(path)) => path.len() == 1 && path[0].text == name.text,
        _ => false,
    };
    let argument = Argument { name: Some(name.clone()), value: new.clone() };
    match arguments.iter_mut().find(|a| is_it(a)) {
        Some(existing) => *existing = argument,
        None => arguments.push(argument),
    }
    Ok(())
}

/// Puts what a variant added before the first definition of its section that reads it: a definition sees those above it.
pub fn order_additions(pipeline: &mut Pipeline, changes: &[Override]) {
    for change in changes.iter().filter(|change| change.adds) {
        let [section_name, name] = change.path.as_slice() else { continue };
        let Some(section) = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text) else {
            continue;
        };
        let entries = &mut section.entries;
        let reads = |entry: &Entry| match entry {
            Entry::Binding(binding) => unused::reads(&binding.value, &name.text),
            _ => false,
        };
        let is_it = |entry: &Entry| matches!(entry, Entry::Binding(binding) if binding.name.text == name.text);
        let (reader, added) = (entries.iter().position(reads), entries.iter().position(is_it));
        if let (Some(reader), Some(added)) = (reader, added)
            && reader < added
        {
            let entry = entries.remove(added);
            entries.insert(reader, entry);
        }
    }
}

/// Name of a call that stands by itself: `knn(…)` in `evaluate`.
fn call_of(entry: &Entry) -> Option<String> {
    let Entry::Expr(Expr { kind: ExprKind::Call(callee, _), .. }) = entry else { return None };
    match &callee.kind {
        ExprKind::Path(names) if names.len() == 1 => Some(names[0].text.to_string()),
        _ => None,
    }
}

fn called_mut<'s>(section: &'s mut Section, name: &str) -> Option<&'s mut Expr> {
    let entry = section.entries.iter_mut().find(|entry| call_of(entry).as_deref() == Some(name))?;
    match entry {
        Entry::Expr(expr) => Some(expr),
        _ => None,
    }
}

/// Where else `name` is set: a definition, or an argument of one.
fn elsewhere(pipeline: &Pipeline, name: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for section in &pipeline.sections {
        let word = section_word(section);
        for binding in bindings(section) {
            let of = &binding.name.text;
            if &**of == name {
                paths.push(format!("{word}.{name}"));
            }
            if let ExprKind::Call(_, arguments) = &binding.value.kind
                && arguments.iter().any(|argument| argument.name.as_ref().is_some_and(|given| &*given.text == name))
            {
                paths.push(format!("{word}.{of}.{name}"));
            }
        }
    }
    paths
}

/// "`a = …`, `b = …` or `c = …`".
fn either(paths: &[String]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("`{path} = …`")).collect();
    match shown.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn unknown(name: &Name, owner: &str, known: Vec<String>) -> Diagnostic {
    Diagnostic::new(Code::UnknownSetting, format!("{owner} has no `{}`", name.text))
        .label(name.span, "not there")
        .maybe_help(suggest(&name.text, known.iter().map(String::as_str)))
}

fn bindings(section: &Section) -> impl Iterator<Item = &Binding> {
    section.entries.iter().filter_map(|e| match e {
        Entry::Binding(binding) => Some(binding),
        _ => None,
    })
}

fn bindings_mut(section: &mut Section) -> impl Iterator<Item = &mut Binding> {
    section.entries.iter_mut().filter_map(|e| match e {
        Entry::Binding(binding) => Some(binding),
        _ => None,
    })
}

/// The word by which a path names a section: a branch goes by its own name.
pub fn section_word(section: &Section) -> String {
    match &section.kind {
        SectionKind::Data => "data".into(),
        SectionKind::Views => "views".into(),
        SectionKind::Model => "model".into(),
        SectionKind::Branch(name, _) => name.text.to_string(),
        SectionKind::Losses => "losses".into(),
        SectionKind::Monitor => "monitor".into(),
        SectionKind::Train => "train".into(),
        SectionKind::Evaluate => "evaluate".into(),
        SectionKind::Export => "export".into(),
    }
}

pub fn section_words(pipeline: &Pipeline) -> Vec<String> {
    pipeline.sections.iter().map(section_word).collect()
}
