//! Files: items by name, and what `use` brings in.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Code, Diagnostic, nearest, suggest};
use crate::source::{SourceId, Sources, Span};
use crate::syntax::ast::{Block, BlockEntry, File, Item, Name, Pipeline, Use, Variant};
use crate::syntax::parse_file;

use super::value::{Definition, Kind, Value};
use super::{Checked, Machine};

/// What a file defines and imports.
#[derive(Debug, Default)]
pub struct FileScope {
    /// Blocks and functions, own and imported.
    pub values: BTreeMap<Arc<str>, Value>,
    /// Own and imported pipelines, with the file that each was written in.
    pub pipelines: Vec<(Name, PipelineItem, SourceId)>,
    /// Names that this file defines itself, and so may be imported.
    own: Vec<Arc<str>>,
    /// Imported pipelines by the name that they go by here.
    aliases: Vec<Arc<str>>,
}

impl FileScope {
    /// Whether `use pipeline … as NAME` stands in the file.
    pub fn imports(&self, name: &str) -> bool {
        self.aliases.iter().any(|alias| &**alias == name)
    }
}

#[derive(Debug, Clone)]
pub enum PipelineItem {
    Plain(Arc<Pipeline>),
    Variant(Arc<Variant>),
}

/// Files that one uses through others: each is read while those before it wait.
const MAX_FILES: usize = 32;

impl Machine<'_> {
    /// Loads the file at `path` and all that it uses.
    pub fn load_root(&mut self, path: &Path) -> Checked<(SourceId, Rc<FileScope>)> {
        match self.sources.load(path) {
            Ok(id) => Ok((id, self.load_file(id)?)),
            Err(error) => {
                let what = match error.kind() {
                    ErrorKind::NotFound => format!("there is no file {}", path.display()),
                    ErrorKind::IsADirectory => format!("{} is a folder, not a pipeline's file", path.display()),
                    _ => format!("cannot read {}: {error}", path.display()),
                };
                self.fail(Diagnostic::new(Code::FileNotFound, what).maybe_help(pipeline_suggestion(path)))
            }
        }
    }

    fn load_file(&mut self, id: SourceId) -> Checked<Rc<FileScope>> {
        if let Some(scope) = self.files.get(&id) {
            return Ok(scope.clone());
        }
        if self.sources.get(id).library {
            self.diagnostics.add_library(id);
        }
        let file = self.tree(id)?;
        if self.loading.len() >= MAX_FILES {
            let name = self.sources.get(id).name.clone();
            return self.fail(
                Diagnostic::new(
                    Code::TooLarge,
                    format!("more than {MAX_FILES} files use each other, the last is {name}"),
                )
                .help("put what several of them need into one file"),
            );
        }
        self.unread.extend(file.unread.iter().cloned());
        self.loading.push(id);
        let scope = self.build_scope(id, &file);
        if !self.sources.get(id).library {
            self.check_unused_imports(&file);
        }
        self.loading.pop();
        let scope = Rc::new(scope);
        if let (Some(index), false) = (&self.index, self.sources.get(id).library) {
            index.borrow_mut().files.push((id, file));
        }
        self.files.insert(id, scope.clone());
        Ok(scope)
    }

    /// The tree of a text; of the library's the one that was made before, where an index has it.
    fn tree(&mut self, id: SourceId) -> Checked<Rc<File>> {
        let (name, library) = (&self.sources.get(id).name, self.sources.get(id).library);
        let kept = self.index.as_ref().filter(|_| library).map(|index| index.borrow().library.clone());
        if let Some((known, file)) = kept.as_ref().and_then(|kept| kept.borrow().get(&id).cloned())
            && known == *name
        {
            return Ok(file);
        }
        let file = Rc::new(parse_file(self.sources, id, self.diagnostics)?);
        if let Some(kept) = kept {
            kept.borrow_mut().insert(id, (name.clone(), file.clone()));
        }
        Ok(file)
    }

    fn build_scope(&mut self, id: SourceId, file: &File) -> FileScope {
        let mut scope = FileScope::default();
        let mut seen: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        let mut declare = |machine: &mut Self, name: &Name| {
            if let Some(first) = seen.insert(name.text.clone(), name.span) {
                let message = format!("`{}` is defined twice", name.text);
                let diagnostic = Diagnostic::new(Code::DuplicateName, message)
                    .label(name.span, "again here")
                    .label(first, "first here")
                    .help("give one of them another name");
                machine.diagnostics.push(diagnostic);
            }
        };
        for item in &file.uses {
            match item {
                Use::Items { module, items, span } => {
                    for name in items {
                        declare(self, name);
                    }
                    if self.use_items(id, module, items, *span, &mut scope).is_err() {
                        let missing = items.iter().filter(|name| !scope.values.contains_key(&name.text));
                        // What it was meant to bring in is asked for under its right name, or under this one.
                        let names = missing.flat_map(|name| {
                            let meant = nearest(&name.text, Sources::stdlib_items());
                            std::iter::once(name.text.clone()).chain(meant.map(Arc::from)).map(|text| (text, name.span))
                        });
                        let poisoned = names.map(|(text, span)| (text, Value::new(Kind::Poison, span)));
                        let poisoned: Vec<_> = poisoned.filter(|(text, _)| !scope.values.contains_key(text)).collect();
                        scope.values.extend(poisoned);
                    }
                }
                Use::Pipeline { module, alias, span } => {
                    declare(self, alias);
                    let _ = self.use_pipeline(id, module, alias, *span, &mut scope);
                }
            }
        }
        for item in &file.items {
            let name = item.name();
            declare(self, name);
            scope.own.push(name.text.clone());
            let kind = match item {
                Item::Block(block) => {
                    self.check_duplicates(block);
                    self.check_unused_in_block(block);
                    Kind::Block(Rc::new(Definition { item: block.clone(), file: id }))
                }
                Item::Function(function) => {
                    self.check_unused_in_function(function);
                    Kind::Function(Rc::new(Definition { item: function.clone(), file: id }))
                }
                Item::Pipeline(pipeline) => {
                    let item = PipelineItem::Plain(pipeline.clone());
                    scope.pipelines.push((name.clone(), item, id));
                    continue;
                }
                Item::Variant(variant) => {
                    let item = PipelineItem::Variant(variant.clone());
                    scope.pipelines.push((name.clone(), item, id));
                    continue;
                }
            };
            scope.values.insert(name.text.clone(), Value::new(kind, name.span));
        }
        scope
    }

    /// No name twice among a block's tensors and modules. A tensor may go by the name of the parameter that it hangs on,
    /// as `linear`'s `bias`.
    fn check_duplicates(&mut self, block: &Block) {
        let mut seen: BTreeMap<Arc<str>, Span> = BTreeMap::new();
        let entries = block.entries.iter().filter_map(|entry| match entry {
            BlockEntry::Tensor(decl) => Some(&decl.name),
            BlockEntry::Binding(binding) => Some(&binding.name),
            BlockEntry::Require(_) => None,
        });
        for name in entries {
            if let Some(first) = seen.insert(name.text.clone(), name.span) {
                self.diagnostics.push(
                    Diagnostic::new(Code::DuplicateName, format!("`{}` is defined twice", name.text))
                        .label(name.span, "again here")
                        .label(first, "first here")
                        .help("give one of them another name, or remove it"),
                );
            }
        }
    }

    fn use_items(
        &mut self,
        from: SourceId,
        module: &[Name],
        items: &[Name],
        span: Span,
        scope: &mut FileScope,
    ) -> Checked<()> {
        let path: Vec<&str> = module.iter().map(|n| &*n.text).collect();
        let used = self.load_used(from, &path, span)?;
        let mut found = Ok(());
        for name in items {
            match used.values.get(&name.text).filter(|_| used.own.contains(&name.text)) {
                Some(value) => {
                    scope.values.insert(name.text.clone(), value.clone());
                }
                None => {
                    let message = format!("`{}` has no item `{}`", path.join("::"), name.text);
                    let elsewhere = Sources::stdlib_home(&name.text)
                        .map(|module| format!("it is another file's: `use std::{module}::{}`", name.text));
                    let help = elsewhere.or_else(|| suggest(&name.text, used.own.iter().map(|n| &**n)));
                    found = self.fail(
                        Diagnostic::new(Code::UnknownItem, message).label(name.span, "not there").maybe_help(help),
                    );
                }
            }
        }
        found
    }

    fn use_pipeline(
        &mut self,
        from: SourceId,
        module: &[Name],
        alias: &Name,
        span: Span,
        scope: &mut FileScope,
    ) -> Checked<()> {
        let path: Vec<&str> = module.iter().map(|name| &*name.text).collect();
        let loaded = self.sources.load_pipeline(from, &path);
        let used = self.used(loaded, &path, span)?;
        let name = &module[module.len() - 1];
        match used.pipelines.iter().find(|(n, _, _)| n.text == name.text) {
            Some((_, item, file)) => {
                scope.pipelines.push((alias.clone(), item.clone(), *file));
                scope.aliases.push(alias.text.clone());
                Ok(())
            }
            None => {
                let message = format!("the file `{}.cmae` has no pipeline `{}`", name.text, name.text);
                let help = suggest(&name.text, used.pipelines.iter().map(|(n, _, _)| &*n.text));
                self.fail(Diagnostic::new(Code::UnknownItem, message).label(name.span, "not there").maybe_help(help))
            }
        }
    }

    fn load_used(&mut self, from: SourceId, path: &[&str], span: Span) -> Checked<Rc<FileScope>> {
        let loaded = self.sources.load_module(from, path);
        self.used(loaded, path, span)
    }

    /// The scope of a file that a `use` has found, or why it has not.
    fn used(
        &mut self,
        loaded: Result<SourceId, (String, std::io::Error)>,
        path: &[&str],
        span: Span,
    ) -> Checked<Rc<FileScope>> {
        match loaded {
            Ok(id) if self.loading.contains(&id) => {
                let start = self.loading.iter().position(|l| *l == id).unwrap_or(0);
                let mut cycle: Vec<&str> =
                    self.loading[start..].iter().map(|l| self.sources.get(*l).name.as_str()).collect();
                cycle.push(&self.sources.get(id).name);
                let message = format!("files use each other in a circle: {}", cycle.join(" → "));
                self.fail(
                    Diagnostic::new(Code::CyclicUse, message)
                        .label(span, "this closes the circle")
                        .help("move what both need into a third file"),
                )
            }
            Ok(id) => self.load_file(id),
            Err((name, error)) => {
                let help = match path {
                    ["std", pipeline] => shipped_suggestion(pipeline),
                    ["std", module, ..] => suggest(module, Sources::stdlib_modules()),
                    // A `use` names files without their ending.
                    _ => pipeline_suggestion(Path::new(&name)).map(|help| help.replace(".cmae`?", "`?")),
                };
                let what = match error.kind() {
                    ErrorKind::NotFound if matches!(path, ["std", _]) => {
                        format!("no pipeline {name} comes with the program")
                    }
                    ErrorKind::NotFound => format!("there is no file {name}"),
                    ErrorKind::IsADirectory => format!("{name} is a folder"),
                    _ => format!("cannot read {name}: {error}"),
                };
                self.fail(Diagnostic::new(Code::FileNotFound, what).label(span, "used here").maybe_help(help))
            }
        }
    }

    /// The standard library's block or function of this name, which needs no `use`: whatever is nearer goes by the name first. Its
    /// file is loaded when it is first asked for.
    pub(super) fn prelude(&mut self, from: SourceId, name: &str, span: Span) -> Option<Checked<Value>> {
        let module = Sources::stdlib_home(name)?;
        let used = self.load_used(from, &["std", module], span);
        used.map(|used| used.values.get(name).cloned()).transpose()
    }

    /// A loaded file's scope.
    pub fn files_scope(&self, file: SourceId) -> Rc<FileScope> {
        self.files.get(&file).cloned().unwrap_or_default()
    }

    /// A file's blocks and functions, own and imported.
    pub fn items_of(&self, file: SourceId) -> Vec<(Arc<str>, Value)> {
        self.files_scope(file).values.iter().map(|(n, v)| (n.clone(), v.clone())).collect()
    }

    /// The value that a file's items give a name.
    pub fn file_item(&self, file: SourceId, name: &str) -> Option<Value> {
        self.files.get(&file)?.values.get(name).cloned()
    }

    /// Names of a file's blocks and functions, for suggestions.
    pub fn file_names(&self, file: SourceId) -> Vec<String> {
        self.files.get(&file).map_or(Vec::new(), |f| f.values.keys().map(|n| n.to_string()).collect())
    }
}

/// A pipeline of the program with a name like this one.
fn shipped_suggestion(name: &str) -> Option<String> {
    let near = nearest(name, Sources::shipped_names()).map(|near| format!("did you mean `std::{near}`?"));
    near.or_else(|| Some("`cmaec new` lists the pipelines that come with the program".into()))
}

/// A file with a name like `path`'s in its folder, or one that `path` holds.
fn pipeline_suggestion(path: &Path) -> Option<String> {
    if let Some(name) = path.to_str().and_then(|path| path.strip_prefix("std::")) {
        return shipped_suggestion(name);
    }
    if path.is_dir() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(path).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
        files.sort_unstable();
        let file = files.iter().find(|file| file.extension().is_some_and(|e| e == "cmae"))?;
        return Some(format!("name a file in it, such as `{}`", file.display()));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.ends_with(".cmae"))
        .collect();
    suggest(&path.file_name()?.to_string_lossy(), names.iter().map(String::as_str))
}
