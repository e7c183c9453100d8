//! `require condition, "message", "help"`: what a block or function asks of its parameters.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::syntax::ast::Require;

use super::scope::Scope;
use super::{Checked, Machine};

impl Machine<'_> {
    /// Reports the message, its `{names}` filled in, unless the condition holds.
    pub fn require(&mut self, require: &Require, scope: &Rc<Scope>, call: Span) -> Checked<()> {
        if self.condition(&require.condition, scope)? {
            return Ok(());
        }
        let (message, mut culprits) = fill(&require.message, scope);
        let help = require.help.as_ref().map(|help| fill(help, scope).0);
        let mut diagnostic = Diagnostic::new(Code::Requirement, message);
        // What the user wrote comes before what the library asks.
        culprits.retain(|(span, _)| *span != call);
        for (span, text) in culprits {
            diagnostic = diagnostic.label(span, text);
        }
        self.fail(diagnostic.label(call, "in this call").label(require.span, "asked here").maybe_help(help))
    }
}

/// Replaces `{name}` by the value in scope, and gives those values' places.
fn fill(text: &str, scope: &Rc<Scope>) -> (String, Vec<(Span, String)>) {
    let (mut filled, mut culprits) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        let Some(close) = rest[open..].find('}') else { break };
        let name = &rest[open + 1..open + close];
        match scope.get(name) {
            Some(value) => {
                filled.push_str(&value.to_string());
                culprits.push((value.span, format!("{value}")));
            }
            None => filled.push_str(&rest[open..=open + close]),
        }
        rest = &rest[open + close + 1..];
    }
    filled.push_str(rest);
    (filled, culprits)
}
