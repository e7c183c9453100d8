//! Overrides: `with { … }` of a variant and `--set NAME=VALUE` change the tree before it is evaluated.
//!
//! Before: what a change asks for, as written. [`additions`] puts in what the base has not.
//!
//! A path names a parameter (`mask_ratio`), a definition of a section (`train.epochs`, `online.mask`), or an argument of
//! the call that a definition makes (`model.encoder.depth`). A call that stands by itself goes by its callee: `evaluate.knn.k`
//! is its argument, `evaluate.knn = none` turns it off.

use super::additions;
use super::section::{EVALUATION_BATCH, bindings, bindings_mut, call_of, missing, section_word, section_words};
use crate::diag::{Code, Diagnostic, nearest, suggest};
use crate::syntax::ast::{
    Argument, Binding, Change, Entry, Expr, ExprKind, Name, Override, Pipeline, Section, SectionKind,
};

/// What a module of `model` begins with goes by this word, as an argument goes by its name: `model.encoder.weights = "FILE"`.
const WEIGHTS: &str = "weights";

/// Applies one change to `pipeline`.
pub fn apply(pipeline: &mut Pipeline, change: &Override) -> Result<(), Diagnostic> {
    let text = change.path.iter().map(|n| &*n.text).collect::<Vec<_>>().join(".");
    match &change.change {
        Change::Set(binding) => set(pipeline, &change.path, binding, &text),
        Change::Add(binding) => additions::add(pipeline, &change.path, binding, &text),
        Change::Remove => remove(pipeline, &change.path, &text),
        Change::Section { section, adds } => additions::section(pipeline, &change.path, section, *adds),
    }
}

/// Sets a parameter, a definition, a setting or an argument.
fn set(pipeline: &mut Pipeline, path: &[Name], new: &Binding, text: &str) -> Result<(), Diagnostic> {
    match path {
        [name] if &*name.text == "export" => {
            let section = pipeline.sections.iter_mut().find(|s| s.kind == SectionKind::Export);
            match section {
                Some(section) => section.entries = vec![Entry::Expr(new.value.clone())],
                None => return Err(missing(name, "the pipeline", Vec::new())),
            }
            Ok(())
        }
        [name] => match pipeline.params.iter_mut().find(|(n, _)| n.text == name.text) {
            Some((_, value)) => {
                *value = new.value.clone();
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
                Err(missing(name, &format!("pipeline `{}`", pipeline.name.text), known).maybe_help(help))
            }
        },
        [section_name, name, rest @ ..] => {
            let known = section_words(pipeline);
            let owner = format!("pipeline `{}`", pipeline.name.text);
            let section = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text);
            let Some(section) = section else { return Err(missing(section_name, &owner, known)) };
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
            if let ([part], SectionKind::Model) = (rest, &section.kind)
                && &*part.text == WEIGHTS
            {
                let Some(binding) = bindings_mut(section).find(|b| b.name.text == name.text) else {
                    return Err(missing(name, &format!("`{word}`"), names));
                };
                return set_weights(binding, &new.value);
            }
            let known_binding = names.iter().any(|n| **n == *name.text);
            if !known_binding && extends && rest.is_empty() {
                // A setting that the file leaves at its default; whether there is one of this name shows later.
                section.entries.push(Entry::Binding(new.clone()));
                return Ok(());
            }
            if let (Some(call), [argument]) = (called_mut(section, &name.text), rest) {
                return set_argument(call, argument, &new.value, text);
            }
            if rest.is_empty()
                && let Some(entry) =
                    section.entries.iter_mut().find(|entry| call_of(entry).as_deref() == Some(&*name.text))
            {
                // From now on a definition of that name, which later changes find.
                *entry = Entry::Binding(new.clone());
                return Ok(());
            }
            let calls: Vec<String> = section.entries.iter().filter_map(call_of).collect();
            let settings = (section.kind == SectionKind::Evaluate).then(|| EVALUATION_BATCH.to_owned());
            let names: Vec<String> = names.into_iter().chain(calls).chain(settings).collect();
            match (bindings_mut(section).find(|b| b.name.text == name.text), rest) {
                (Some(binding), []) => {
                    binding.value = new.value.clone();
                    // What the change does not speak of stays.
                    binding.repeat = new.repeat.clone().or(binding.repeat.take());
                    binding.from = new.from.clone().or(binding.from.take());
                    binding.when = new.when.clone().or(binding.when.take());
                    Ok(())
                }
                (Some(binding), [argument]) => set_argument(&mut binding.value, argument, &new.value, text),
                (None, _) => {
                    let near = nearest(&name.text, names.iter().map(String::as_str)).is_some();
                    let help = (rest.is_empty() && extensible && !near)
                        .then(|| format!("add what the base does not have: `add {text} = …`"));
                    Err(missing(name, &format!("`{word}`"), names).maybe_help(help))
                }
                (Some(_), [_, deeper, ..]) => Err(too_deep(deeper, text)),
            }
        }
        [] => Ok(()),
    }
}

/// Takes a definition, a branch, a setting or an argument away; a setting and an argument are at their defaults then.
fn remove(pipeline: &mut Pipeline, path: &[Name], text: &str) -> Result<(), Diagnostic> {
    let owner = format!("pipeline `{}`", pipeline.name.text);
    match path {
        [] => Ok(()),
        [name] => {
            let counted = (pipeline.params.len(), pipeline.sections.len());
            pipeline.params.retain(|(param, _)| param.text != name.text);
            pipeline.sections.retain(|section| section_word(section) != *name.text);
            if counted != (pipeline.params.len(), pipeline.sections.len()) {
                return Ok(());
            }
            let params = pipeline.params.iter().map(|(param, _)| param.text.to_string());
            let known: Vec<String> = params.chain(section_words(pipeline)).collect();
            let paths: Vec<String> = elsewhere(pipeline, &name.text);
            let help = paths.first().map(|path| format!("write `remove {path}`"));
            Err(missing(name, &owner, known).maybe_help(help))
        }
        [section_name, name, rest @ ..] => {
            let known = section_words(pipeline);
            let Some(section) = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text) else {
                return Err(missing(section_name, &owner, known));
            };
            let is_it = |entry: &Entry| match entry {
                Entry::Binding(binding) => binding.name.text == name.text,
                Entry::Rule(_) => &*name.text == "parameters",
                entry => call_of(entry).as_deref() == Some(&*name.text),
            };
            if !section.entries.iter().any(is_it) {
                let names = bindings(section).map(|binding| binding.name.text.to_string());
                let known = names.chain(section.entries.iter().filter_map(call_of)).collect();
                return Err(missing(name, &format!("`{}`", section_name.text), known));
            }
            match rest {
                [] => {
                    section.entries.retain(|entry| !is_it(entry));
                    Ok(())
                }
                [part] if section.kind == SectionKind::Model && &*part.text == WEIGHTS => {
                    let binding = bindings_mut(section).find(|b| b.name.text == name.text);
                    match binding.map(|binding| (binding.from.take(), binding.value.span)) {
                        Some((None, at)) => {
                            Err(Diagnostic::new(Code::UnknownSetting, format!("the base does not give `{text}`"))
                                .label(part.span, "nothing to take away")
                                .label(at, "defined here, without `from`")
                                .help("leave it out"))
                        }
                        _ => Ok(()),
                    }
                }
                [argument] => {
                    let value = section.entries.iter_mut().find(|entry| is_it(entry)).and_then(|entry| match entry {
                        Entry::Binding(binding) => Some(&mut binding.value),
                        Entry::Expr(expr) => Some(expr),
                        Entry::Require(_) | Entry::Rule(_) => None,
                    });
                    value.map_or(Ok(()), |value| remove_argument(value, argument, text))
                }
                [_, deeper, ..] => Err(too_deep(deeper, text)),
            }
        }
    }
}

/// Another file for a module of `model`, whose other arguments stay; another call of `weights`; or none.
fn set_weights(binding: &mut Binding, new: &Expr) -> Result<(), Diagnostic> {
    let is_path = matches!(new.kind, ExprKind::Str(_));
    match (&mut binding.from, &new.kind) {
        (from, ExprKind::None) => *from = None,
        (Some(Expr { kind: ExprKind::Call(_, arguments), .. }), _) if is_path => {
            let is_it = |argument: &Argument| argument.name.as_ref().is_none_or(|name| &*name.text == "path");
            let path = Argument { name: None, value: new.clone() };
            match arguments.iter_mut().find(|argument| is_it(argument)) {
                Some(argument) => *argument = path,
                None => arguments.insert(0, path),
            }
        }
        (from, _) if is_path => {
            let word = ExprKind::Path(vec![Name { text: WEIGHTS.into(), span: new.span }]);
            let callee = Box::new(Expr { kind: word, span: new.span });
            let call = ExprKind::Call(callee, vec![Argument { name: None, value: new.clone() }]);
            *from = Some(Expr { kind: call, span: new.span });
        }
        (from, _) => *from = Some(new.clone()),
    }
    Ok(())
}

fn too_deep(name: &Name, text: &str) -> Diagnostic {
    Diagnostic::new(Code::UnknownSetting, format!("`{text}` reaches deeper than an argument"))
        .label(name.span, "too deep")
        .help("replace the whole definition: write it out in a variant")
}

/// Whether `argument` is the one that goes by `name`: named so, or a name that stands for itself.
fn goes_by(argument: &Argument, name: &Name) -> bool {
    match (&argument.name, &argument.value.kind) {
        (Some(n), _) => n.text == name.text,
        (None, ExprKind::Path(path)) => path.len() == 1 && path[0].text == name.text,
        _ => false,
    }
}

/// Leaves an argument of the call that `value` is at its default; of a chain, that of the last call.
fn remove_argument(value: &mut Expr, name: &Name, text: &str) -> Result<(), Diagnostic> {
    let value = within_frozen(value);
    let span = value.span;
    match &mut value.kind {
        ExprKind::Pipe(_, last) => remove_argument(last, name, text),
        ExprKind::Call(_, arguments) if arguments.iter().any(|argument| goes_by(argument, name)) => {
            arguments.retain(|argument| !goes_by(argument, name));
            Ok(())
        }
        kind => {
            let given: Vec<String> = match kind {
                ExprKind::Call(_, arguments) => {
                    arguments.iter().filter_map(|a| Some(a.name.as_ref()?.text.to_string())).collect()
                }
                _ => Vec::new(),
            };
            let message = format!("the base does not give `{text}`");
            Err(Diagnostic::new(Code::UnknownSetting, message)
                .label(name.span, "nothing to take away")
                .label(span, "defined here")
                .maybe_help(
                    suggest(&name.text, given.iter().map(String::as_str)).or_else(|| Some("leave it out".into())),
                ))
        }
    }
}

/// Sets or adds an argument of the call that `value` is; of a chain, that of the last call.
fn set_argument(value: &mut Expr, name: &Name, new: &Expr, text: &str) -> Result<(), Diagnostic> {
    let value = within_frozen(value);
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
    let argument = Argument { name: Some(name.clone()), value: new.clone() };
    match arguments.iter_mut().find(|argument| goes_by(argument, name)) {
        Some(existing) => *existing = argument,
        None => arguments.push(argument),
    }
    Ok(())
}

/// The call of a block that `frozen(…)` holds still: its arguments are the module's.
fn within_frozen(value: &mut Expr) -> &mut Expr {
    let is_frozen = match &value.kind {
        ExprKind::Call(callee, arguments) => {
            let is_named =
                matches!(&callee.kind, ExprKind::Path(names) if names.len() == 1 && &*names[0].text == "frozen");
            is_named
                && matches!(&arguments[..], [Argument { name: None, value }] if matches!(value.kind, ExprKind::Call(..)))
        }
        _ => false,
    };
    if !is_frozen {
        return value;
    }
    match &mut value.kind {
        ExprKind::Call(_, arguments) => &mut arguments[0].value,
        _ => unreachable!("it was just found to be a call"),
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
