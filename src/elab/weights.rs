//! `encoder = vit(…) from weights("FILE")`: what the weights of a module begin as.
//!
//! Before: the module is made. After: [`crate::spec::Spec::weights`], which is read when a run starts.
//!
//! **Invariant:** no file is read: a pipeline checks where its weights are not.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::spec::{AUTO_NAMES, WeightsSpec};
use crate::syntax::ast::{Binding, Entry, Expr, Pipeline, SectionKind};

use super::args::{Bag, Builtin};
use super::misfit::wrong_type;
use super::paths;
use super::scope::Scope;
use super::value::{Kind, Value};
use super::{Checked, Machine};

/// What stands behind `from`.
pub const WEIGHTS: &[Builtin] =
    &[Builtin { name: "weights", params: &["path", "names?", "prefix?", "missing?", "unexpected?"], make: weights }];

fn weights(bag: &Bag) -> Result<Kind, Diagnostic> {
    let file = bag.string("path")?.map_or_else(String::new, |path| path.to_string());
    let at = bag.get("path").map_or(bag.call, |value| value.span);
    paths::openable(&file, at, |fitting| match fitting {
        "data/train" => "weights(\"mae_pretrain_vit_base.pth\")".to_owned(),
        _ => format!("weights(\"{fitting}\")"),
    })?;
    Ok(Kind::Weights(Rc::new(WeightsSpec {
        module: String::new(),
        file,
        names: bag.string("names")?.map_or_else(|| AUTO_NAMES.to_owned(), |name| name.to_string()),
        prefix: bag.string("prefix")?.map(|prefix| prefix.to_string()),
        missing: patterns(bag, "missing", "head.*")?,
        unexpected: patterns(bag, "unexpected", "decoder_*")?,
    })))
}

/// A list of patterns; one by itself will do.
fn patterns(bag: &Bag, name: &str, example: &str) -> Result<Vec<String>, Diagnostic> {
    let Some(value) = bag.get(name) else { return Ok(Vec::new()) };
    let items = value.items().unwrap_or(std::slice::from_ref(value));
    let text = |item: &Value| match &item.kind {
        Kind::Str(text) => Ok(text.to_string()),
        _ => {
            let wrong = wrong_type(&format!("`{name}` of `weights`"), item, "names of tensors, with `*` for any part");
            Err(wrong.help(format!("write `{name}: [\"{example}\"]`")))
        }
    };
    items.iter().map(text).collect()
}

impl Machine<'_> {
    /// Notes what the module that `binding` has made begins with.
    pub(super) fn begin_with(&mut self, binding: &Binding, prefix: &str, scope: &Rc<Scope>) -> Checked<()> {
        let Some(from) = &binding.from else { return Ok(()) };
        let value = self.eval(from, scope)?;
        let Kind::Weights(spec) = &value.kind else { return self.fail(no_weights(from, &value)) };
        let name = &binding.name.text;
        let module = format!("{prefix}{name}");
        let made = scope.own(name).map(|value| value.kind);
        let own = |path: &str| path == module || path.strip_prefix(&module).is_some_and(|rest| rest.starts_with('.'));
        let is_its_own = match &made {
            // Left out by its `when`.
            Some(Kind::Absent) => return Ok(()),
            Some(Kind::Module(id)) => own(&self.modules[id.0].path),
            Some(Kind::Modules(ids)) => ids.iter().all(|id| own(&self.modules[id.0].path)),
            _ => false,
        };
        if !is_its_own {
            let (message, help) = match made {
                Some(Kind::Record(_)) => (
                    format!("`{name}` is a copy: it begins as what it copies"),
                    "write `from weights(…)` behind the module that is copied",
                ),
                _ => (
                    format!("`{name}` is no module of its own"),
                    "write `from weights(…)` behind the call of the block that makes the module",
                ),
            };
            return self.fail(
                Diagnostic::new(Code::UnknownSetting, message)
                    .label(from.span, "its weights are another's")
                    .label(binding.value.span, "defined here")
                    .help(help),
            );
        }
        self.weights.push(WeightsSpec { module, ..(**spec).clone() });
        Ok(())
    }

    /// Modules of `model` alone begin with something.
    pub(super) fn check_from(&mut self, pipeline: &Pipeline) {
        let others = pipeline.sections.iter().filter(|section| section.kind != SectionKind::Model);
        let entries = others.flat_map(|section| &section.entries);
        let found = entries.filter_map(|entry| match entry {
            Entry::Binding(Binding { from: Some(from), .. }) => Some(from.span),
            _ => None,
        });
        let found: Vec<Span> = found.collect();
        for span in found {
            self.diagnostics.push(misplaced(span));
        }
    }

    /// Parts of a block begin as the block says; what they were trained to is a pipeline's.
    pub(super) fn refuse_from(&mut self, binding: &Binding) -> Checked<()> {
        match &binding.from {
            Some(from) => self.fail(misplaced(from.span)),
            None => Ok(()),
        }
    }
}

fn misplaced(span: Span) -> Diagnostic {
    Diagnostic::new(Code::UnknownSetting, "`from weights(…)` stands behind a module of a pipeline's `model`")
        .label(span, "not here")
        .help("write it there: `encoder = vit(…) from weights(\"FILE\")`")
}

fn no_weights(from: &Expr, value: &Value) -> Diagnostic {
    let wrong = wrong_type("`from`", value, "weights of a file");
    match &value.kind {
        Kind::Str(path) => wrong.help(format!("write `from weights(\"{path}\")`")),
        _ => wrong.help(format!("write `from weights(\"FILE.pth\")` in the place of `{from}`")),
    }
}
