//! `require condition, "message", "help"`: what a block or function asks of its parameters.
//!
//! **Invariant:** what is asked of a number that changes over time is asked of all that it passes through.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic, Diagnostics};
use crate::op::DType;
use crate::source::Span;
use crate::syntax::ast::Require;
use crate::syntax::parse_expr;

use super::scope::Scope;
use super::value::{Kind, Value};
use super::{Checked, Machine, unused};

impl Machine<'_> {
    /// Reports the message, its `{names}` filled in, unless the condition holds.
    pub fn require(&mut self, require: &Require, scope: &Rc<Scope>, call: Span) -> Checked<()> {
        let mut scopes = vec![scope.clone()];
        for name in unused::names_of(&require.condition) {
            let Some(value) = scope.get(&name) else { continue };
            match &value.kind {
                Kind::Schedule(schedule) => {
                    let mut inner = Vec::new();
                    for (around, (_, number)) in
                        scopes.iter().flat_map(|around| schedule.points().into_iter().map(move |point| (around, point)))
                    {
                        let at = Scope::inside(around);
                        at.bind(name.clone(), Value::new(Kind::Float(number), value.span));
                        inner.push(at);
                    }
                    scopes = inner;
                }
                // A number that the step computes: nothing is known of it before.
                Kind::Tensor(tensor) if tensor.ty.shape.is_empty() && tensor.ty.dtype == DType::Float => return Ok(()),
                _ => {}
            }
        }
        scopes.iter().try_for_each(|scope| self.require_of(require, scope, call))
    }

    /// The same where every number is known.
    fn require_of(&mut self, require: &Require, scope: &Rc<Scope>, call: Span) -> Checked<()> {
        if self.condition(&require.condition, scope)? {
            return Ok(());
        }
        let (message, mut culprits) = self.fill(&require.message, scope);
        let help = require.help.as_ref().map(|help| self.fill(help, scope).0);
        let mut diagnostic = Diagnostic::new(Code::Requirement, message);
        // What the user wrote comes before what the library asks.
        culprits.retain(|(span, _)| *span != call);
        for (span, text) in culprits {
            diagnostic = diagnostic.label(span, text);
        }
        self.fail(diagnostic.label(call, "in this call").label(require.span, "asked here").maybe_help(help))
    }

    /// Replaces `{name}` by the value in scope, and gives those values' places; `{a - a % 4}` is computed.
    fn fill(&mut self, text: &str, scope: &Rc<Scope>) -> (String, Vec<(Span, String)>) {
        let (mut filled, mut culprits) = (String::new(), Vec::new());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            filled.push_str(&rest[..open]);
            let Some(close) = rest[open..].find('}') else { break };
            let inner = &rest[open + 1..open + close];
            match scope.get(inner) {
                Some(value) => {
                    filled.push_str(&value.to_string());
                    culprits.push((value.span, format!("`{inner}` is {value}")));
                }
                None => match self.computed(inner, scope) {
                    Some(value) => filled.push_str(&value.to_string()),
                    None => filled.push_str(&rest[open..=open + close]),
                },
            }
            rest = &rest[open + close + 1..];
        }
        filled.push_str(rest);
        (filled, culprits)
    }

    /// The value of an expression in a message; none where it has none.
    fn computed(&mut self, text: &str, scope: &Rc<Scope>) -> Option<Value> {
        let id = self.sources.add_text("message", text);
        let expr = parse_expr(self.sources, id, &mut Diagnostics::default()).ok()?;
        // What is wrong is being told already.
        let before = self.diagnostics.mute(true);
        let value = self.eval(&expr, scope);
        self.diagnostics.mute(before);
        value.ok()
    }
}
