//! Scopes: what a name means at a place.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::source::{SourceId, Span};
use crate::syntax::ast::Name;

use super::value::Value;

/// Names bound in one body, the scope around it, and the file whose items it sees.
#[derive(Debug)]
pub struct Scope {
    pub file: SourceId,
    parent: Option<Rc<Scope>>,
    /// In the order in which they were bound. They are few, and most are of another length than what is looked for: a tree would compare
    /// letters.
    names: RefCell<Vec<(Arc<str>, Bound)>>,
}

/// A value, and the name that it was given, where a text says so.
#[derive(Debug)]
struct Bound {
    value: Value,
    at: Option<Span>,
}

impl Scope {
    pub fn new(file: SourceId) -> Rc<Scope> {
        Rc::new(Scope { file, parent: None, names: RefCell::default() })
    }

    /// A scope inside `parent`.
    pub fn inside(parent: &Rc<Scope>) -> Rc<Scope> {
        Rc::new(Scope { file: parent.file, parent: Some(parent.clone()), names: RefCell::default() })
    }

    /// Binds a name, anew if it is bound here already.
    pub fn bind(&self, name: Arc<str>, value: Value) {
        self.insert(name, Bound { value, at: None });
    }

    /// Binds the name that stands in a text.
    pub fn define(&self, name: &Name, value: Value) {
        self.insert(name.text.clone(), Bound { value, at: Some(name.span) });
    }

    fn insert(&self, name: Arc<str>, bound: Bound) {
        let mut names = self.names.borrow_mut();
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = bound,
            None => names.push((name, bound)),
        }
    }

    /// What `of` says of a name that is bound in this very scope.
    fn bound<T>(&self, name: &str, of: impl FnOnce(&Bound) -> T) -> Option<T> {
        let names = self.names.borrow();
        names.iter().find(|(known, _)| **known == *name).map(|(_, bound)| of(bound))
    }

    /// Where the name that can be seen from here was given; `None` within where no text says so.
    pub fn definition(&self, name: &str) -> Option<Option<Span>> {
        let here = self.bound(name, |bound| bound.at);
        here.or_else(|| self.parent.as_ref()?.definition(name))
    }

    /// Looks through this scope and those around it, not through the file's items.
    pub fn get(&self, name: &str) -> Option<Value> {
        let here = self.own(name);
        here.or_else(|| self.parent.as_ref()?.get(name))
    }

    /// Value bound in this very scope.
    pub fn own(&self, name: &str) -> Option<Value> {
        self.bound(name, |bound| bound.value.clone())
    }

    /// This scope's own bindings, by name.
    pub fn bindings(&self) -> Vec<(Arc<str>, Value)> {
        let names = self.names.borrow();
        let mut bindings: Vec<_> = names.iter().map(|(n, bound)| (n.clone(), bound.value.clone())).collect();
        bindings.sort_by(|(a, _), (b, _)| a.cmp(b));
        bindings
    }

    /// All names that can be seen from here, for suggestions.
    pub fn visible(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.borrow().iter().map(|(n, _)| n.to_string()).collect();
        names.sort_unstable();
        if let Some(parent) = &self.parent {
            names.extend(parent.visible());
        }
        names
    }
}
