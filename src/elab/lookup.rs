//! What a name means: what is bound nearest, the file's own and what it uses, what every file sees, the standard library's.

use std::rc::Rc;
use std::sync::Arc;

use crate::diag::Reported;
use crate::source::{Sources, Span};
use crate::syntax::ast::{Expr, ExprKind, Name};

use super::scope::Scope;
use super::value::{Kind, Value};
use super::{Checked, Machine};

impl Machine<'_> {
    pub(super) fn lookup(&mut self, names: &[Name], span: Span, scope: &Rc<Scope>) -> Checked<Value> {
        let name = &names[0].text;
        if names.len() > 1 {
            let path: Vec<&str> = names.iter().map(|n| &*n.text).collect();
            if &**name == "op" && names.len() == 2 {
                return Ok(Value::new(Kind::Builtin(path.join("::").into()), span));
            }
            let unknown = self.unknown_path(&path, span);
            return self.fail(unknown);
        }
        let found = self.find(name, span, scope).transpose()?;
        self.note_name(&names[0], scope, found.as_ref());
        match found {
            Some(Value { kind: Kind::Poison, .. }) => Err(Reported),
            Some(value) => Ok(match value.kind {
                // Where a tensor or module is used tells more than where it was made.
                Kind::Tensor(_) | Kind::Stored(..) | Kind::View(_) | Kind::Record(_) | Kind::Module(_) => {
                    Value::new(value.kind, span)
                }
                _ => value,
            }),
            None if self.unread.contains(name) => Err(Reported),
            None => {
                let unknown = self.unknown_name(&names[0], scope);
                self.fail(unknown)
            }
        }
    }

    /// What goes by a name here: what is nearest.
    pub(super) fn find(&mut self, name: &Arc<str>, span: Span, scope: &Rc<Scope>) -> Option<Checked<Value>> {
        let found =
            scope.get(name).or_else(|| self.file_item(scope.file, name)).or_else(|| self.ambient.get(name).cloned());
        if let Some(found) = found {
            return Some(Ok(found));
        }
        let imported = self.import(scope.file, name, span);
        imported.or_else(|| super::builtin::named(name, span).map(Ok)).or_else(|| self.prelude(scope.file, name, span))
    }

    /// What the language calls by a name that only a used pipeline goes by beside it: a pipeline is never called, so that `shapes(…)` is
    /// the source in a file with `use pipeline std::shapes` too.
    pub(super) fn called_past_imports(&mut self, callee: &Expr, scope: &Rc<Scope>) -> Option<Value> {
        let ExprKind::Path(names) = &callee.kind else { return None };
        let [name] = &names[..] else { return None };
        let is_nearer = scope.get(&name.text).is_some()
            || self.file_item(scope.file, &name.text).is_some()
            || self.ambient.contains_key(&name.text);
        if is_nearer || !self.may_import(scope.file, &name.text) {
            return None;
        }
        let builtin = super::builtin::named(&name.text, callee.span)?;
        self.note_name(name, scope, Some(&builtin));
        Some(builtin)
    }

    /// Whether a name means something here.
    pub fn is_known(&self, name: &Name, scope: &Rc<Scope>) -> bool {
        scope.get(&name.text).is_some()
            || self.file_item(scope.file, &name.text).is_some()
            || self.ambient.contains_key(&name.text)
            || self.files_scope(scope.file).imports(&name.text)
            || self.may_import(scope.file, &name.text)
            || super::builtin::named(&name.text, name.span).is_some()
            || Sources::stdlib_home(&name.text).is_some()
    }
}
