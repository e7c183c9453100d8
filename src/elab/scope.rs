//! Scopes: what a name means at a place.

use std::cell::RefCell;
use std::collections::BTreeMap;
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
    names: RefCell<BTreeMap<Arc<str>, Bound>>,
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
        self.names.borrow_mut().insert(name, Bound { value, at: None });
    }

    /// Binds the name that stands in a text.
    pub fn define(&self, name: &Name, value: Value) {
        self.names.borrow_mut().insert(name.text.clone(), Bound { value, at: Some(name.span) });
    }

    /// Where the name that can be seen from here was given; `None` within where no text says so.
    pub fn definition(&self, name: &str) -> Option<Option<Span>> {
        let here = self.names.borrow().get(name).map(|bound| bound.at);
        here.or_else(|| self.parent.as_ref()?.definition(name))
    }

    /// Looks through this scope and those around it, not through the file's items.
    pub fn get(&self, name: &str) -> Option<Value> {
        let here = self.own(name);
        here.or_else(|| self.parent.as_ref()?.get(name))
    }

    /// Value bound in this very scope.
    pub fn own(&self, name: &str) -> Option<Value> {
        self.names.borrow().get(name).map(|bound| bound.value.clone())
    }

    /// This scope's own bindings, by name.
    pub fn bindings(&self) -> Vec<(Arc<str>, Value)> {
        self.names.borrow().iter().map(|(n, bound)| (n.clone(), bound.value.clone())).collect()
    }

    /// All names that can be seen from here, for suggestions.
    pub fn visible(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.borrow().keys().map(|n| n.to_string()).collect();
        if let Some(parent) = &self.parent {
            names.extend(parent.visible());
        }
        names
    }
}
