//! Elaboration: names looked up, imports loaded, parameters bound, units checked, overrides applied, blocks expanded to
//! module instances with parameter paths.
//!
//! Before: `syntax`. After: `shape` evaluates branches and losses with the same [`Machine`], which then makes tensors.
//!
//! **Invariant:** evaluation ends: blocks and functions cannot reach themselves, since a file sees only files loaded
//! before it and an item only itself through `use`, whose cycles are errors; and it ends soon: see [`budget`].

mod additions;
mod args;
mod budget;
mod builtin;
mod config;
mod copies;
mod definitions;
mod eval;
mod files;
mod foreign;
mod imports;
mod index;
mod lists;
mod lookup;
mod members;
mod misfit;
mod modules;
mod naming;
mod number;
mod of_view;
mod overrides;
mod paths;
mod pipeline;
mod ranges;
mod reads;
mod requirement;
mod rules;
mod scope;
mod section;
mod settings;
mod signature;
mod slots;
mod sources;
mod tensors;
mod train;
mod unknown;
mod unused;
pub mod value;
mod variants;
mod views;
mod weights;

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::decl::TensorDecl;
use crate::diag::{Diagnostic, Diagnostics, Reported};
use crate::source::{SourceId, Sources, Span};
use crate::spec::{Definition, EmaSpec, WeightsSpec};
use crate::syntax::ast::Name;

pub use args::Bag;
pub use builtin::{calls as builtin_calls, names as builtin_names, parameters as builtin_parameters};
pub use config::{Set, evaluate_number};
pub use foreign::{ARGUMENTS as FOREIGN_ARGUMENTS, NAMES as FOREIGN_NAMES};
pub use index::{Defined, Index, Library, Meaning, SharedIndex, What};
pub use misfit::wrong_type;
pub use modules::Module;
pub use of_view::OfView;
pub use pipeline::{Bound, SETTINGS as DATA_SETTINGS, elaborate, elaborate_into, name};
pub use scope::Scope;
pub use section::{EVALUATION_BATCH, EVALUATION_CALLS, model_definitions, whole};
pub use settings::as_duration;
pub use signature::TYPES;
pub use slots::parameters as parameters_text;
pub use tensors::{NoTensors, Tensors};
pub use train::KNOWN as TRAIN_SETTINGS;
pub use unused::names_of;
pub use value::{Dims, Kind, ModuleId, Tensor, Value, View};

/// A value that may be missing because an error was reported.
pub type Checked<T> = Result<T, Reported>;

/// The evaluator: all state of one compilation after syntax.
pub struct Machine<'a> {
    pub sources: &'a mut Sources,
    pub diagnostics: &'a mut Diagnostics,
    files: HashMap<SourceId, Rc<files::FileScope>>,
    loading: Vec<SourceId>,
    pub modules: Vec<modules::Module>,
    pub stored: Vec<Stored>,
    pub views: Vec<View>,
    pub emas: Vec<EmaSpec>,
    /// What the pipeline defines, for who looks for it in the wrong place.
    outline: Vec<unknown::Defined>,
    /// What variants took away, by its path.
    removed: Vec<Vec<Name>>,
    /// Names that are defined twice, both places: neither is known to be meant.
    twice: std::collections::BTreeSet<Span>,
    /// What `model` defines, in the order in which it was made.
    definitions: Vec<Definition>,
    /// What modules begin with, in the order in which they were made.
    pub weights: Vec<WeightsSpec>,
    /// Modules of other pipelines.
    pub imports: imports::Imports,
    /// Names that every file sees: `data` and `training`.
    ambient: HashMap<Arc<str>, Value>,
    /// What makes tensors; outside branches, losses and evaluation nothing does.
    pub tensors: Box<dyn Tensors>,
    /// Path that the next block call gives its module.
    naming: Option<String>,
    budget: budget::Budget,
    /// Names within what could not be read, of any file: what they mean is not known, and nothing is said of it.
    pub unread: BTreeSet<Arc<str>>,
    /// What is noted of the text, where somebody asks for it.
    pub index: Option<SharedIndex>,
}

/// A parameter or state and where it was declared.
pub struct Stored {
    pub decl: TensorDecl,
    pub span: Span,
}

impl<'a> Machine<'a> {
    pub fn new(sources: &'a mut Sources, diagnostics: &'a mut Diagnostics) -> Self {
        Machine {
            sources,
            diagnostics,
            files: HashMap::new(),
            loading: Vec::new(),
            modules: Vec::new(),
            stored: Vec::new(),
            views: Vec::new(),
            emas: Vec::new(),
            outline: Vec::new(),
            removed: Vec::new(),
            twice: std::collections::BTreeSet::new(),
            definitions: Vec::new(),
            weights: Vec::new(),
            imports: imports::Imports::default(),
            ambient: HashMap::new(),
            tensors: Box::new(NoTensors),
            naming: None,
            budget: budget::Budget::default(),
            unread: BTreeSet::new(),
            index: None,
        }
    }

    /// Reports an error; for use at the end of a function that gives up.
    pub fn fail<T>(&mut self, diagnostic: Diagnostic) -> Checked<T> {
        Err(self.diagnostics.push(diagnostic))
    }

    /// Unwraps, reporting the error.
    pub fn check<T>(&mut self, result: Result<T, Diagnostic>) -> Checked<T> {
        result.map_err(|d| self.diagnostics.push(d))
    }

    /// The value of a definition, unless its name is defined twice.
    pub fn sole(&self, name: &Name, value: Checked<Value>) -> Checked<Value> {
        if self.twice.contains(&name.span) { Err(Reported) } else { value }
    }

    /// Whether the graph under construction is that of training.
    pub fn is_training(&self) -> bool {
        matches!(self.ambient.get("training"), Some(Value { kind: Kind::Bool(true), .. }))
    }

    pub fn set_training(&mut self, training: bool, span: Span) {
        self.ambient.insert("training".into(), Value::new(Kind::Bool(training), span));
    }
}
