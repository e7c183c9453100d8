//! What stands where in a text: what its names mean, what its expressions are, what can be seen from where. For editors.
//!
//! Before: the evaluator fills it as it goes, where one is asked for, and [`super::naming`] adds what evaluation did not come by.
//! After: the language server answers from it.
//!
//! **Invariant:** what it says of a name is what the evaluator's own lookup says; without one nothing is noted, at no cost.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::source::{SourceId, Span};
use crate::syntax::ast::{File, Name};

use super::Machine;
use super::modules::Module;
use super::scope::Scope;
use super::value::{Kind, Value, View};

/// One that the evaluator writes and its asker reads, also where evaluation fails.
pub type SharedIndex = Rc<RefCell<Index>>;

/// Parameters of `op::NAME`, which a phase above knows.
type Signature = fn(&str) -> Option<&'static [&'static str]>;

pub struct Index {
    /// Of expressions of the user's texts; of one that is evaluated several times the first.
    pub values: HashMap<Span, Value>,
    /// Of each name, those that define it included.
    pub names: BTreeMap<Span, Meaning>,
    /// Names where they are given.
    pub definitions: Vec<Defined>,
    /// Where the fields of what is defined at a place are defined: values of a branch, views, sources, copies.
    pub fields: HashMap<(Span, Arc<str>), Span>,
    /// Names that stand for `name: name`, with the definition of the parameter, where it is one of a text: `vit(image_size)`,
    /// `{ mean }`.
    pub shorthands: BTreeMap<Span, Option<Span>>,
    /// What can be seen from a place on, until the next.
    pub scopes: Vec<(Span, Rc<Scope>)>,
    pub modules: Vec<Module>,
    pub views: Vec<View>,
    /// The user's files as they were read.
    pub files: Vec<(SourceId, Rc<File>)>,
    /// The standard library's trees, from one compilation to the next: their texts never change, and reading them takes longer than
    /// all else. Ids are those of [`Sources::preload_stdlib`](crate::source::Sources::preload_stdlib).
    pub library: Library,
    pub(super) signature: Signature,
}

/// Trees of texts, with the name that each goes by.
pub type Library = Rc<RefCell<HashMap<SourceId, (String, Rc<File>)>>>;

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// What is defined there.
    Text(Span),
    /// A word of the language: `adamw`, `adamw.betas`, `op::linear`, `train.epochs`.
    Word(Arc<str>),
}

/// A name where it is given.
#[derive(Debug, Clone)]
pub struct Defined {
    pub name: Name,
    pub what: What,
    /// Of the value that it is given.
    pub value: Option<Span>,
}

/// What kind of thing a name is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Pipeline,
    Block,
    Function,
    /// Of a pipeline.
    Parameter,
    /// Of a block or function.
    Argument,
    Dim,
    Source,
    View,
    Module,
    Branch,
    /// Of a branch, a function or `evaluate`.
    Value,
    Loss,
    Monitor,
    /// A parameter or state of a block.
    Stored,
    /// What a loop or a repetition counts with.
    Loop,
    Import,
}

impl What {
    /// As one would say it of a name.
    pub fn words(self) -> &'static str {
        match self {
            What::Pipeline => "pipeline",
            What::Block => "block",
            What::Function => "function",
            What::Parameter => "parameter of the pipeline",
            What::Argument => "parameter",
            What::Dim => "dim",
            What::Source => "data source",
            What::View => "view",
            What::Module => "module",
            What::Branch => "branch",
            What::Value => "value",
            What::Loss => "loss",
            What::Monitor => "monitor",
            What::Stored => "tensor of a block",
            What::Loop => "counted by a loop",
            What::Import => "pipeline of another file",
        }
    }
}

impl Index {
    pub fn new(signature: Signature, library: Library) -> Self {
        Index {
            values: HashMap::new(),
            names: BTreeMap::new(),
            definitions: Vec::new(),
            fields: HashMap::new(),
            shorthands: BTreeMap::new(),
            scopes: Vec::new(),
            modules: Vec::new(),
            views: Vec::new(),
            files: Vec::new(),
            library,
            signature,
        }
    }

    /// The module that a value is, the first of repeated ones.
    pub fn module(&self, value: &Value) -> Option<&Module> {
        match &value.kind {
            Kind::Module(id) => self.modules.get(id.0),
            Kind::Modules(ids) => self.modules.get(ids.first()?.0),
            _ => None,
        }
    }
}

impl Machine<'_> {
    /// Notes what an expression is.
    pub(super) fn note_value(&self, span: Span, value: &Value) {
        let Some(index) = &self.index else { return };
        if !self.sources.get(span.source).library && !matches!(value.kind, Kind::Poison) {
            index.borrow_mut().values.entry(span).or_insert_with(|| value.clone());
        }
    }

    /// Notes what a name means that was looked up in `scope`, and `found`.
    pub(super) fn note_name(&self, name: &Name, scope: &Scope, found: Option<&Value>) {
        let Some(index) = &self.index else { return };
        if self.sources.get(name.span.source).library {
            return;
        }
        if let Some(meaning) = self.meaning(name, scope, found) {
            index.borrow_mut().names.entry(name.span).or_insert(meaning);
        }
    }

    fn meaning(&self, name: &Name, scope: &Scope, found: Option<&Value>) -> Option<Meaning> {
        if let Some(Some(at)) = scope.definition(&name.text) {
            return Some(Meaning::Text(at));
        }
        match found.map(|value| &value.kind) {
            Some(Kind::Block(def)) => return Some(Meaning::Text(def.item.name.span)),
            Some(Kind::Function(def)) => return Some(Meaning::Text(def.item.name.span)),
            Some(Kind::Builtin(word)) => return Some(Meaning::Word(word.clone())),
            _ => {}
        }
        let mut pipelines = self.import_files(scope.file).into_iter().flat_map(|file| {
            let scope = self.files_scope(file);
            let alias = scope.pipelines.iter().find(|(alias, _, _)| alias.text == name.text);
            alias.map(|(alias, _, _)| alias.span)
        });
        if self.may_import(scope.file, &name.text) {
            return pipelines.next().map(Meaning::Text);
        }
        let is_word = &*name.text == "training" || super::builtin::named(&name.text, name.span).is_some();
        is_word.then(|| Meaning::Word(name.text.clone()))
    }
}
