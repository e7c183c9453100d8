//! Expressions: pest pairs → [`Expr`].

use pest::iterators::Pair;

use super::ast::{Argument, Expr, ExprKind, Loop, Name};
use super::{Builder, Rule};
use crate::diag::{Code, Diagnostic};
use crate::source::Span;

impl Builder<'_> {
    pub(super) fn name(&self, pair: Pair<'_, Rule>) -> Name {
        Name { span: self.span(&pair), text: pair.as_str().trim_end().into() }
    }

    pub(super) fn string(&self, pair: Pair<'_, Rule>) -> std::sync::Arc<str> {
        let text = pair.as_str().trim_end();
        let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        inner.replace("\\\"", "\"").into()
    }

    pub(super) fn expr(&self, pair: Pair<'_, Rule>) -> Expr {
        let mut inner = pair.into_inner();
        let mut value = self.conditional(inner.next().expect("an expression has a first operand"));
        for next in inner {
            let callee = self.conditional(next);
            value = join(value, callee, ExprKind::Pipe);
        }
        value
    }

    fn conditional(&self, pair: Pair<'_, Rule>) -> Expr {
        let mut inner = pair.into_inner().filter(|p| !matches!(p.as_rule(), Rule::kw_if | Rule::kw_else));
        let then = self.infixed(inner.next().expect("a conditional has a value"));
        let (Some(condition), Some(otherwise)) = (inner.next(), inner.next()) else { return then };
        let condition = self.infixed(condition);
        let otherwise = self.conditional(otherwise);
        let span = cover(then.span, otherwise.span);
        let kind =
            ExprKind::If { condition: Box::new(condition), then: Box::new(then), otherwise: Box::new(otherwise) };
        Expr { kind, span }
    }

    pub(super) fn postfix(&self, pair: Pair<'_, Rule>) -> Expr {
        let mut inner = pair.into_inner();
        let mut value = self.primary(inner.next().expect("a postfix expression has an operand"));
        for part in inner {
            let span = cover(value.span, self.span(&part));
            let kind = match part.as_rule() {
                Rule::field => {
                    let name = self.name(part.into_inner().next().expect("a field has a name"));
                    ExprKind::Field(Box::new(value), name)
                }
                Rule::index => {
                    let index = self.expr(part.into_inner().next().expect("an index has a value"));
                    ExprKind::Index(Box::new(value), Box::new(index))
                }
                _ => ExprKind::Call(Box::new(value), self.arguments(part)),
            };
            value = Expr { kind, span };
        }
        value
    }

    fn arguments(&self, call: Pair<'_, Rule>) -> Vec<Argument> {
        call.into_inner()
            .map(|argument| {
                let mut inner = argument.into_inner();
                let first = inner.next().expect("an argument has a value");
                match inner.next() {
                    Some(value) => Argument { name: Some(self.name(first)), value: self.comprehended(value) },
                    None => Argument { name: None, value: self.comprehended(first) },
                }
            })
            .collect()
    }

    /// A value, or a list of what it gives over loops.
    fn comprehended(&self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let mut inner = pair.into_inner();
        let item = self.expr(inner.next().expect("a comprehension has an item"));
        match inner.next() {
            Some(clauses) => self.comprehension(item, clauses, span),
            None => item,
        }
    }

    fn comprehension(&self, item: Expr, clauses: Pair<'_, Rule>, span: Span) -> Expr {
        let (mut loops, mut condition) = (Vec::new(), None);
        for clause in clauses.into_inner() {
            match clause.as_rule() {
                Rule::loop_over => loops.push(self.a_loop(clause)),
                Rule::infixed => condition = Some(Box::new(self.infixed(clause))),
                _ => {}
            }
        }
        Expr { kind: ExprKind::Comprehension { item: Box::new(item), loops, condition }, span }
    }

    /// `name in values`, with or without the `for` before it.
    pub(super) fn a_loop(&self, pair: Pair<'_, Rule>) -> Loop {
        let mut inner = pair.into_inner().filter(|p| !matches!(p.as_rule(), Rule::kw_for | Rule::kw_in));
        let name = self.name(inner.next().expect("a loop has a name"));
        let values = inner.next().expect("a loop has values");
        let values = if values.as_rule() == Rule::expr { self.expr(values) } else { self.infixed(values) };
        Loop { name, values }
    }

    fn primary(&self, pair: Pair<'_, Rule>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::unread => ExprKind::Unread,
            Rule::path => ExprKind::Path(pair.into_inner().map(|p| self.name(p)).collect()),
            Rule::group => {
                let mut items = Vec::new();
                let mut is_tuple = false;
                for inner in pair.into_inner() {
                    match inner.as_rule() {
                        Rule::trailing_comma => is_tuple = true,
                        _ => items.push(self.expr(inner)),
                    }
                }
                if items.len() == 1 && !is_tuple {
                    // Parentheses alone change nothing, but a message should show them.
                    return Expr { span, ..items.remove(0) };
                }
                ExprKind::Tuple(items)
            }
            Rule::list => {
                let mut items = Vec::new();
                for inner in pair.into_inner() {
                    match inner.as_rule() {
                        Rule::comprehension => {
                            let item = items.pop().expect("the grammar puts one item before the loops");
                            return self.comprehension(item, inner, span);
                        }
                        _ => items.push(self.expr(inner)),
                    }
                }
                ExprKind::List(items)
            }
            Rule::record => ExprKind::Record(
                pair.into_inner()
                    .map(|entry| {
                        let mut inner = entry.into_inner();
                        let name = self.name(inner.next().expect("a record entry has a name"));
                        let value = match inner.next() {
                            Some(value) => self.expr(value),
                            None => Expr { kind: ExprKind::Path(vec![name.clone()]), span: name.span },
                        };
                        (name, value)
                    })
                    .collect::<Vec<_>>(),
            ),
            _ => self.literal(pair, span),
        };
        Expr { kind, span }
    }

    fn literal(&self, pair: Pair<'_, Rule>, span: Span) -> ExprKind {
        match pair.as_rule() {
            Rule::string => ExprKind::Str(self.string(pair)),
            Rule::boolean => ExprKind::Bool(pair.as_str().starts_with('t')),
            Rule::none => ExprKind::None,
            Rule::duration => {
                let mut inner = pair.into_inner();
                let value = self.number(&inner.next().expect("a duration has a number"), span);
                let unit = inner.next().expect("a duration has a unit");
                match value {
                    None => ExprKind::Unread,
                    Some(value) if unit.as_str().starts_with('e') => ExprKind::Epochs(value),
                    Some(value) => ExprKind::Steps(value),
                }
            }
            _ => {
                let mut inner = pair.into_inner();
                let number = inner.next().expect("a quantity has a number");
                let Some(value) = self.number(&number, span) else { return ExprKind::Unread };
                match inner.next().map(|unit| unit.as_str().to_owned()).as_deref() {
                    Some("%") => ExprKind::Ratio(value / 100.0),
                    Some(_) if value.fract() == 0.0 && value < 1e9 => ExprKind::Pixels(value as i64),
                    Some(_) => {
                        let message = format!("{}px is not a whole number of pixels", number.as_str());
                        self.tell(
                            Diagnostic::new(Code::WrongUnit, message)
                                .label(span, "pixels are whole")
                                .help(format!("write `{}px`", value.round())),
                        );
                        ExprKind::Unread
                    }
                    None => match number.as_str().replace('_', "").parse::<i64>() {
                        Ok(int) => ExprKind::Int(int),
                        Err(_) => ExprKind::Float(value),
                    },
                }
            }
        }
    }

    fn number(&self, pair: &Pair<'_, Rule>, span: Span) -> Option<f64> {
        let text = pair.as_str().replace('_', "");
        match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Some(value),
            _ => {
                let message = format!("{} is too large for a number", pair.as_str());
                self.tell(Diagnostic::new(Code::OutOfRange, message).label(span, "here"));
                None
            }
        }
    }
}

pub(super) fn join(left: Expr, right: Expr, kind: impl FnOnce(Box<Expr>, Box<Expr>) -> ExprKind) -> Expr {
    let span = cover(left.span, right.span);
    Expr { kind: kind(Box::new(left), Box::new(right)), span }
}

pub(super) fn cover(a: Span, b: Span) -> Span {
    Span { source: a.source, start: a.start.min(b.start), end: a.end.max(b.end) }
}
