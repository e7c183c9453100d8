//! Modules of another pipeline: `use pipeline vq_tokenizer as tok`, then `tok.encoder`.
//!
//! Its architecture comes from its file, its weights from a run of it that is named when the run starts.
//!
//! **Invariant:** what is imported is frozen: it has no gradient of its own, lets gradient through, and works in mode
//! `eval`; its states stay as they are.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::decl::{Init, TensorKind};
use crate::diag::Reported;
use crate::source::{SourceId, Span};
use crate::spec::ImportSpec;
use crate::syntax::ast::{Name, Override};

use super::section::model_definitions;
use super::value::{Kind, Value};
use super::{Checked, Machine};

/// Imports of all pipelines that are being elaborated.
#[derive(Debug, Default)]
pub struct Imports {
    /// Of a pipeline's own file: the files that its `use pipeline` may stand in, those of variants first.
    files: HashMap<SourceId, Vec<SourceId>>,
    /// Changes to imported pipelines, by the file of the pipeline that imports them.
    changes: HashMap<SourceId, Vec<Override>>,
    made: HashMap<(SourceId, Arc<str>), Value>,
    /// What each was made of, in order.
    pub specs: Vec<ImportSpec>,
    /// Path of the import that is being made, with a dot behind it; empty for the pipeline itself.
    prefix: String,
}

impl Machine<'_> {
    pub(super) fn begin_imports(&mut self, file: SourceId, files: Vec<SourceId>, changes: Vec<Override>) {
        self.imports.files.insert(file, files);
        self.imports.changes.insert(file, changes);
    }

    /// Whether `name` is an imported pipeline's in `file`.
    pub(super) fn may_import(&self, file: SourceId, name: &str) -> bool {
        self.import_files(file).iter().any(|f| self.files_scope(*f).imports(name))
    }

    /// The files that the `use pipeline` of a pipeline in `file` may stand in.
    pub(super) fn import_files(&self, file: SourceId) -> Vec<SourceId> {
        self.imports.files.get(&file).cloned().unwrap_or_default()
    }

    /// The imported pipeline that goes by `name` in `file`: a record of its parameters and modules, made when first read.
    pub(super) fn import(&mut self, file: SourceId, name: &Arc<str>, span: Span) -> Option<Checked<Value>> {
        if let Some(made) = self.imports.made.get(&(file, name.clone())) {
            return Some(Ok(Value::new(made.kind.clone(), span)));
        }
        let files = self.imports.files.get(&file)?.clone();
        let holder = files.into_iter().find(|f| self.files_scope(*f).imports(name))?;
        Some(self.make_import(file, holder, name, span))
    }

    fn make_import(&mut self, file: SourceId, holder: SourceId, alias: &Arc<str>, span: Span) -> Checked<Value> {
        let mut resolved = self.resolve_variant(holder, Name { text: alias.clone(), span })?;
        let changes = self.imports.changes.get(&file).cloned().unwrap_or_default();
        let own = changes.into_iter().filter(|change| change.path[0].text == *alias);
        resolved.changes.extend(own.map(|change| Override { path: change.path[1..].to_vec(), ..change }));
        let (pipeline, scope) = self.apply_changes(resolved);
        let path = format!("{}{alias}", self.imports.prefix);
        // What the importing pipeline is in the middle of goes on afterwards as if nothing had been.
        let outer_data = self.ambient.remove("data");
        let outer_prefix = std::mem::replace(&mut self.imports.prefix, format!("{path}."));
        let outer_naming = self.naming.take();
        let (first_module, first_stored, emas) = (self.modules.len(), self.stored.len(), self.emas.len());
        let weights = self.weights.len();
        self.params(&pipeline, &scope);
        let data = self.data(&pipeline, &scope);
        if data.2 {
            self.model(&pipeline, &format!("{path}."), &scope);
        }
        self.naming = outer_naming;
        self.imports.prefix = outer_prefix;
        match outer_data {
            Some(outer) => self.ambient.insert("data".into(), outer),
            None => self.ambient.remove("data"),
        };
        if !data.2 {
            return Err(Reported);
        }
        self.emas.truncate(emas);
        // Its run holds what became of them.
        self.weights.truncate(weights);
        self.freeze(first_module, first_stored);
        for stored in &mut self.stored[first_stored..] {
            // A fixed tensor that the text itself determines, such as positions, needs no run.
            let determined = matches!(stored.decl.init, Init::SinCos2d { .. } | Init::Imported { .. });
            if !determined {
                let inner = stored.decl.path[path.len() + 1..].to_owned();
                stored.decl.init = Init::Imported { import: path.clone(), path: inner };
            }
        }
        self.imports.specs.push(ImportSpec { alias: path, pipeline: pipeline.name.text.to_string() });
        let names = pipeline.params.iter().map(|(name, _)| name.text.to_string());
        let names = names.chain(model_definitions(&pipeline).into_iter().map(|(name, _)| name));
        let fields = names.filter_map(|name| Some((Arc::from(name.as_str()), scope.own(&name)?))).collect();
        let value = Value::new(Kind::Record(Rc::new(fields)), span);
        self.imports.made.insert((file, alias.clone()), value.clone());
        Ok(value)
    }

    /// Takes the gradient from all tensors from `first_stored` on, and lets the modules from `first_module` on work in
    /// mode `eval`.
    pub(super) fn freeze(&mut self, first_module: usize, first_stored: usize) {
        self.modules[first_module..].iter_mut().for_each(|module| module.evaluating = true);
        self.stored[first_stored..].iter_mut().for_each(|stored| stored.decl.kind = TensorKind::Fixed);
    }
}
