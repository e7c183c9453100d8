//! Names of a JSON object inside expressions: the `config` of a reference file, as mappings of `cmaec verify` use it.

use crate::diag::{Diagnostics, Reported};
use crate::source::{Sources, Span};
use crate::syntax::ast::{Expr, ExprKind, Name};
use crate::syntax::parse_expr;

use super::value::Value;
use super::{Machine, Scope};

/// An override as given: `NAME=VALUE`, its value perhaps in terms of a JSON object's keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    pub text: String,
    pub config: Option<serde_json::Value>,
}

impl From<&str> for Set {
    fn from(text: &str) -> Self {
        Set { text: text.to_owned(), config: None }
    }
}

/// Evaluates an expression by itself, in terms of `config`'s keys, to a number.
pub fn evaluate_number(
    sources: &mut Sources,
    diagnostics: &mut Diagnostics,
    text: &str,
    config: &serde_json::Value,
) -> Result<Option<f64>, Reported> {
    let id = sources.add_text("expression", text);
    let mut expr = parse_expr(sources, id, diagnostics)?;
    substitute(&mut expr, config);
    let mut machine = Machine::new(sources, diagnostics);
    let value: Value = machine.eval(&expr, &Scope::new(id))?;
    Ok(value.number())
}

/// Replaces names that are keys of `config` by their values.
pub fn substitute(expr: &mut Expr, config: &serde_json::Value) {
    if let ExprKind::Path(names) = &expr.kind {
        if let [name] = names.as_slice()
            && let Some(value) = config.get(&*name.text)
        {
            expr.kind = literal(value, expr.span);
        }
        return;
    }
    match &mut expr.kind {
        ExprKind::Field(base, _) | ExprKind::Unary(_, base) => substitute(base, config),
        ExprKind::Index(a, b) | ExprKind::Binary(_, a, b) | ExprKind::Range(a, b) | ExprKind::Pipe(a, b) => {
            substitute(a, config);
            substitute(b, config);
        }
        ExprKind::Call(_, arguments) => arguments.iter_mut().for_each(|a| substitute(&mut a.value, config)),
        ExprKind::If { condition, then, otherwise } => {
            [condition, then, otherwise].into_iter().for_each(|e| substitute(e, config));
        }
        ExprKind::Tuple(items) | ExprKind::List(items) => items.iter_mut().for_each(|e| substitute(e, config)),
        ExprKind::Record(fields) => fields.iter_mut().for_each(|(_, e)| substitute(e, config)),
        ExprKind::Comprehension { item, loops, condition } => {
            substitute(item, config);
            loops.iter_mut().for_each(|l| substitute(&mut l.values, config));
            condition.iter_mut().for_each(|e| substitute(e, config));
        }
        ExprKind::Path(_)
        | ExprKind::Unread
        | ExprKind::None
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Ratio(_)
        | ExprKind::Pixels(_)
        | ExprKind::Epochs(_)
        | ExprKind::Steps(_)
        | ExprKind::Bool(_)
        | ExprKind::Str(_) => {}
    }
}

fn literal(value: &serde_json::Value, span: Span) -> ExprKind {
    match value {
        serde_json::Value::Null => ExprKind::None,
        serde_json::Value::Bool(b) => ExprKind::Bool(*b),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => ExprKind::Int(int),
            None => ExprKind::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => ExprKind::Str(text.as_str().into()),
        serde_json::Value::Array(items) => {
            ExprKind::Tuple(items.iter().map(|v| Expr { kind: literal(v, span), span }).collect())
        }
        serde_json::Value::Object(fields) => {
            let entry = |(name, value): (&String, &serde_json::Value)| {
                (Name { text: name.as_str().into(), span }, Expr { kind: literal(value, span), span })
            };
            ExprKind::Record(fields.iter().map(entry).collect())
        }
    }
}
