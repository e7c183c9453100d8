//! What a variant puts into its base: parameters, definitions, branches, rules for parameters.
//!
//! Before: the base's tree. After: what reads an addition stands below it.

use super::section::{bindings, missing, section_word, section_words};
use super::unused;
use crate::diag::{Code, Diagnostic, suggest};
use crate::source::Span;
use crate::syntax::ast::{Binding, Change, Entry, Name, Override, Pipeline, Section, SectionKind};

/// Declares a parameter, or a definition at the end of a section.
pub fn add(pipeline: &mut Pipeline, path: &[Name], new: &Binding, text: &str) -> Result<(), Diagnostic> {
    match path {
        [name] => match pipeline.params.iter().find(|(n, _)| n.text == name.text) {
            Some((first, _)) => Err(taken(name, first.span, text)),
            None => {
                pipeline.params.push((name.clone(), new.value.clone()));
                Ok(())
            }
        },
        [section_name, name] => {
            let (known, owner) = (section_words(pipeline), format!("pipeline `{}`", pipeline.name.text));
            let found = pipeline.sections.iter_mut().find(|s| section_word(s) == *section_name.text);
            let section = match (found, &*section_name.text) {
                (Some(section), _) => section,
                // What every pipeline may have, this one leaves out.
                (None, "monitor") => {
                    let (span, entries) = (section_name.span, Vec::new());
                    pipeline.sections.push(Section { kind: SectionKind::Monitor, span, entries });
                    let last = pipeline.sections.len() - 1;
                    &mut pipeline.sections[last]
                }
                (None, _) => return Err(missing(section_name, &owner, known)),
            };
            if let Some(first) = bindings(section).find(|b| b.name.text == name.text) {
                return Err(taken(name, first.name.span, text));
            }
            section.entries.push(Entry::Binding(new.clone()));
            Ok(())
        }
        path => {
            let span = path.last().map_or(new.value.span, |name| name.span);
            Err(Diagnostic::new(Code::UnknownSetting, format!("`add {text}` names no definition of a section"))
                .label(span, "here")
                .help("write `add losses.NAME = …`"))
        }
    }
}

fn taken(name: &Name, first: Span, text: &str) -> Diagnostic {
    Diagnostic::new(Code::DuplicateName, format!("the base has `{text}` already"))
        .label(name.span, "added here")
        .label(first, "defined here")
        .help(format!("replace it: `{text} = …`, without `param` or `add`"))
}

/// Puts a branch, or rules for parameters, in the place of the base's; with `adds` beside them.
pub fn section(pipeline: &mut Pipeline, path: &[Name], new: &Section, adds: bool) -> Result<(), Diagnostic> {
    match &new.kind {
        SectionKind::Branch(name, _) => branch(pipeline, name, new, adds),
        _ => {
            let Some(train) = pipeline.sections.iter_mut().find(|s| s.kind == SectionKind::Train) else {
                return Err(missing(&path[0], &format!("pipeline `{}`", pipeline.name.text), Vec::new()));
            };
            if !adds {
                train.entries.retain(|entry| !matches!(entry, Entry::Rule(_)));
            }
            // The first rule that matches holds: what is added has the word before the base's.
            let first = train.entries.iter().position(|entry| matches!(entry, Entry::Rule(_)));
            let at = first.unwrap_or(train.entries.len());
            train.entries.splice(at..at, new.entries.iter().cloned());
            Ok(())
        }
    }
}

fn branch(pipeline: &mut Pipeline, name: &Name, new: &Section, adds: bool) -> Result<(), Diagnostic> {
    let is_branch = |section: &Section| matches!(section.kind, SectionKind::Branch(..));
    let same = pipeline.sections.iter().position(|section| section_word(section) == *name.text);
    match (same, adds) {
        (Some(first), true) => {
            let first = pipeline.sections[first].span;
            let message = format!("the base has `{}` already", name.text);
            Err(Diagnostic::new(Code::DuplicateName, message)
                .label(name.span, "added here")
                .label(first, "defined here")
                .help(format!("replace it: `branch {} {{ … }}`, without `add`", name.text)))
        }
        (Some(at), false) if is_branch(&pipeline.sections[at]) => {
            pipeline.sections[at] = new.clone();
            Ok(())
        }
        (None, true) => {
            let last = pipeline.sections.iter().rposition(is_branch);
            let at = last.map_or(pipeline.sections.len(), |last| last + 1);
            pipeline.sections.insert(at, new.clone());
            Ok(())
        }
        (_, false) => {
            let branches: Vec<String> = pipeline.sections.iter().filter(|s| is_branch(s)).map(section_word).collect();
            let near = suggest(&name.text, branches.iter().map(String::as_str));
            let help =
                near.unwrap_or_else(|| format!("add what the base does not have: `add branch {} {{ … }}`", name.text));
            Err(Diagnostic::new(
                Code::UnknownSetting,
                format!("pipeline `{}` has no branch `{}`", pipeline.name.text, name.text),
            )
            .label(name.span, "not there")
            .help(help))
        }
    }
}

/// Puts what a variant added before the first that reads it: a definition sees those above it, a branch the branches above.
pub fn order(pipeline: &mut Pipeline, changes: &[Override]) {
    for change in changes {
        match (&change.change, change.path.as_slice()) {
            (Change::Add(_), [section_name, name]) => {
                let named = |section: &&mut Section| section_word(section) == *section_name.text;
                if let Some(section) = pipeline.sections.iter_mut().find(named) {
                    let reads = |entry: &Entry| match entry {
                        Entry::Binding(binding) => unused::reads(&binding.value, &name.text),
                        _ => false,
                    };
                    let is_it = |entry: &Entry| matches!(entry, Entry::Binding(b) if b.name.text == name.text);
                    put_before_reader(&mut section.entries, is_it, reads);
                }
            }
            (Change::Section { adds: true, section }, [name]) => {
                let reads = |other: &Section| unused::names_in(other).contains(&name.text);
                put_before_reader(&mut pipeline.sections, |other| other.kind == section.kind, reads);
            }
            _ => {}
        }
    }
}

fn put_before_reader<T>(items: &mut Vec<T>, is_it: impl Fn(&T) -> bool, reads: impl Fn(&T) -> bool) {
    let (reader, added) = (items.iter().position(reads), items.iter().position(is_it));
    if let (Some(reader), Some(added)) = (reader, added)
        && reader < added
    {
        let item = items.remove(added);
        items.insert(reader, item);
    }
}
