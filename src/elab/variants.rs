//! Which pipeline a file means: its variants followed to their base, their changes and those of `--set` applied.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, Reported, suggest};
use crate::source::SourceId;
use crate::syntax::ast::{Change, Name, Override, Pipeline};
use crate::syntax::parse_override;

use super::config::{Set, substitute};
use super::files::PipelineItem;
use super::reads::Reads;
use super::scope::Scope;
use super::{Checked, Machine, additions, overrides, unused};

/// A pipeline under its base's text.
pub(super) struct Resolved {
    pub pipeline: Pipeline,
    /// The file that the base is written in, whose names it sees.
    pub file: SourceId,
    /// Files of the variants, the outermost first.
    pub variants: Vec<SourceId>,
    /// In the order in which they are applied.
    pub changes: Vec<Override>,
}

impl Machine<'_> {
    /// The file's pipeline with overrides applied, and a scope with the names that it sees.
    pub(super) fn find_pipeline(&mut self, path: &Path, sets: &[Set]) -> Checked<(Pipeline, Rc<Scope>)> {
        let (root, scope) = self.load_root(path)?;
        let own: Vec<_> = scope.pipelines.iter().filter(|(_, _, file)| *file == root).collect();
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let chosen =
            own.iter().find(|(name, _, _)| *name.text == *stem).or(if own.len() == 1 { own.first() } else { None });
        let Some((name, _, _)) = chosen else {
            let names: Vec<&str> = own.iter().map(|(n, _, _)| &*n.text).collect();
            if names.is_empty() && !self.unread.is_empty() {
                return Err(Reported);
            }
            let diagnostic = if names.is_empty() {
                Diagnostic::new(Code::NoPipeline, format!("{} holds no pipeline", path.display()))
                    .help("write `pipeline NAME { … }`")
            } else {
                let message = format!("{} holds {} pipelines and none is named `{stem}`", path.display(), names.len());
                Diagnostic::new(Code::NoPipeline, message).help(format!("rename one of `{}`", names.join("`, `")))
            };
            return self.fail(diagnostic);
        };
        let mut resolved = self.resolve_variant(root, name.clone())?;
        for set in sets {
            let id = self.sources.add_text("--set", set.text.as_str());
            let mut change = parse_override(self.sources, id, self.diagnostics)?;
            if let (Some(config), Change::Set(binding)) = (&set.config, &mut change.change) {
                substitute(&mut binding.value, config);
            }
            resolved.changes.push(change);
        }
        Ok(self.apply_changes(resolved))
    }

    /// Applies a pipeline's changes; those of an imported pipeline (`tok.codes = 64`) are kept for when it is made.
    pub(super) fn apply_changes(&mut self, resolved: Resolved) -> (Pipeline, Rc<Scope>) {
        let Resolved { mut pipeline, file, variants, changes } = resolved;
        let scope = Scope::new(file);
        for variant in variants.iter().rev() {
            for (name, value) in self.items_of(*variant) {
                scope.bind(name, value);
            }
        }
        let files: Vec<SourceId> = variants.into_iter().chain([file]).collect();
        let (of_imports, changes): (Vec<Override>, Vec<Override>) = changes.into_iter().partition(|change| {
            let [first, _, ..] = change.path.as_slice() else { return false };
            files.iter().any(|f| self.files_scope(*f).imports(&first.text))
        });
        self.begin_imports(file, files, of_imports);
        // Of all forms that the pipeline takes: a change brings in the names of its own value.
        let mut read = unused::names_read(&pipeline);
        let mut reads = Reads::of(&pipeline);
        for change in &changes {
            // What is left is checked as if it had not been asked for.
            let applied = overrides::apply(&mut pipeline, change);
            let _ = self.check(applied);
            if change.change == Change::Remove {
                self.removed.push(change.path.clone());
            }
            unused::in_change(&change.change, &mut read);
            reads.change(&change.change);
        }
        additions::order(&mut pipeline, &changes);
        self.check_unused_in_pipeline(&pipeline, &read, &changes);
        self.check_unread(&pipeline, &reads);
        (pipeline, scope)
    }

    /// The pipeline that goes by `name` in `file`, with the changes of the variants between it and its base.
    pub(super) fn resolve_variant(&mut self, file: SourceId, name: Name) -> Checked<Resolved> {
        let mut changes: Vec<Override> = Vec::new();
        let mut files = Vec::new();
        let (mut file, mut name) = (file, name);
        let mut visited: Vec<(SourceId, Arc<str>)> = Vec::new();
        let mut pipeline = loop {
            let scope = self.files_scope(file);
            let found = scope.pipelines.iter().find(|(n, _, _)| n.text == name.text).cloned();
            let Some((_, item, owner)) = found else {
                if self.diagnostics.has_errors() {
                    // The `use` that should have brought it has failed already.
                    return Err(Reported);
                }
                let known: Vec<String> = scope.pipelines.iter().map(|(n, _, _)| n.text.to_string()).collect();
                let help = suggest(&name.text, known.iter().map(String::as_str))
                    .unwrap_or_else(|| format!("import it: `use pipeline {}`", name.text));
                return self.fail(
                    Diagnostic::new(Code::UnknownItem, format!("there is no pipeline `{}`", name.text))
                        .label(name.span, "not known")
                        .help(help),
                );
            };
            match item {
                PipelineItem::Plain(pipeline) => {
                    file = owner;
                    break (*pipeline).clone();
                }
                PipelineItem::Variant(variant) => {
                    if visited.contains(&(owner, variant.name.text.clone())) {
                        let message = format!("the variant `{}` is a variant of itself", variant.name.text);
                        return self.fail(
                            Diagnostic::new(Code::CyclicUse, message)
                                .label(variant.base.span, "leads back here")
                                .help("name another base"),
                        );
                    }
                    visited.push((owner, variant.name.text.clone()));
                    // The base's own changes come first, then those of the variant.
                    changes.splice(0..0, variant.overrides.iter().cloned());
                    files.push(owner);
                    file = owner;
                    name = variant.base.clone();
                }
            }
        };
        if let Some((_, outermost)) = visited.first() {
            pipeline.name = Name { text: outermost.clone(), span: pipeline.name.span };
        }
        Ok(Resolved { pipeline, file, variants: files, changes })
    }
}
