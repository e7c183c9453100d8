//! Lists: comprehensions over what is known before the run, and what is made of lists.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, Expr, Loop};

use super::budget::MAX_ITEMS;
use super::misfit::wrong_type;
use super::scope::Scope;
use super::value::{Kind, Value};
use super::{Checked, Machine, number};

/// Functions of a list.
pub const FUNCTIONS: &[(&str, OfList)] = &[
    ("sum", |machine, items, at, span| machine.sum("sum", items, at, span)),
    ("mean", |machine, items, at, span| machine.mean(items, at, span)),
    ("len", |_, items, _, span| Ok(Value::new(Kind::Int(items.len() as i64), span))),
];

/// What a function makes of the items of the list written at the first place, called at the second.
pub type OfList = for<'m, 's, 'i> fn(&'m mut Machine<'s>, &'i [Value], Span, Span) -> Checked<Value>;

/// Repeated modules as a list of modules, read at `span`.
pub fn repeated(value: &Value, span: Span) -> Option<Vec<Value>> {
    match &value.kind {
        Kind::Modules(ids) => Some(ids.iter().map(|id| Value::new(Kind::Module(*id), span)).collect()),
        _ => None,
    }
}

/// A list of modules as repeated ones, which are called in turn.
pub fn as_modules(list: &Value) -> Value {
    let ids = list.items().unwrap_or_default().iter().filter_map(|item| match item.kind {
        Kind::Module(id) => Some(id),
        _ => None,
    });
    Value::new(Kind::Modules(Rc::new(ids.collect())), list.span)
}

impl Machine<'_> {
    /// The items that a loop runs over: those of a list, a tuple or repeated modules, or the whole numbers of a range, its
    /// end left out.
    pub fn iterated(&mut self, value: &Value) -> Checked<Vec<Value>> {
        if let Some(items) = value.items() {
            self.spend(items.len(), value.span)?;
            return Ok(items.to_vec());
        }
        if let Some(modules) = repeated(value, value.span) {
            return Ok(modules);
        }
        match &value.kind {
            Kind::Range(range) => match (range.0.whole(), range.1.whole()) {
                (Some(low), Some(high)) if high.saturating_sub(low) <= MAX_ITEMS as i64 => {
                    self.spend(MAX_ITEMS.min(high.saturating_sub(low).max(0) as usize), value.span)?;
                    Ok((low..high).map(|i| Value::new(Kind::Int(i), value.span)).collect())
                }
                (Some(_), Some(_)) => self.fail(
                    Diagnostic::new(Code::TooLarge, format!("{value} holds more than {MAX_ITEMS} numbers"))
                        .label(value.span, "too many")
                        .help("write a range such as `0..12`: 0 to 11"),
                ),
                _ => self.fail(wrong_type("`in`", value, "whole numbers such as 0..12")),
            },
            Kind::Poison => Err(crate::diag::Reported),
            _ => self.fail(wrong_type("`in`", value, "a range such as 0..12, or a list")),
        }
    }

    /// `item for a in …, b in … if condition`, the first loop slowest.
    pub fn comprehension(
        &mut self,
        item: &Expr,
        loops: &[Loop],
        condition: Option<&Expr>,
        span: Span,
        scope: &Rc<Scope>,
    ) -> Checked<Value> {
        let mut items = Vec::new();
        self.run_loops(item, loops, condition, scope, &mut items)?;
        self.composed(Kind::List(Rc::new(items)), span)
    }

    fn run_loops(
        &mut self,
        item: &Expr,
        loops: &[Loop],
        condition: Option<&Expr>,
        scope: &Rc<Scope>,
        items: &mut Vec<Value>,
    ) -> Checked<()> {
        let Some((first, rest)) = loops.split_first() else {
            let wanted = match condition {
                Some(condition) => self.condition(condition, scope)?,
                None => true,
            };
            if wanted {
                items.push(self.eval(item, scope)?);
            }
            // Before there are as many as the loops could give.
            return if items.len() > MAX_ITEMS { self.too_many_items(item.span) } else { Ok(()) };
        };
        let values = self.eval(&first.values, scope)?;
        let values = self.iterated(&values)?;
        self.enter(first.name.span)?;
        let mut done = Ok(());
        for value in values {
            let inner = Scope::inside(scope);
            inner.define(&first.name, value);
            done = self.run_loops(item, rest, condition, &inner, items);
            if done.is_err() {
                break;
            }
        }
        self.leave();
        done
    }

    /// Items `low..high` of a list.
    pub fn part(&mut self, items: &[Value], low: &Value, high: &Value, span: Span) -> Checked<Value> {
        let bound = |value: &Value| match value.kind {
            Kind::Int(i) if i < 0 => usize::try_from(items.len() as i64 + i).ok(),
            Kind::Int(i) => usize::try_from(i).ok(),
            _ => None,
        };
        match (bound(low), bound(high)) {
            (Some(low), Some(high)) if low <= high && high <= items.len() => {
                Ok(Value::new(Kind::List(Rc::new(items[low..high].to_vec())), span))
            }
            _ => self.fail(
                Diagnostic::new(Code::OutOfRange, format!("{low}..{high} of {} items", items.len()))
                    .label(span, "out of range")
                    .help(format!("write a range within 0..{}", items.len())),
            ),
        }
    }

    /// A function of [`FUNCTIONS`] of a list of numbers or tensors.
    pub fn call_on_list(&mut self, name: &str, list: &Value, function: OfList, span: Span) -> Checked<Value> {
        let repeated = repeated(list, list.span);
        match list.items().or(repeated.as_deref()) {
            Some(items) => function(self, items, list.span, span),
            None => {
                let wrong = wrong_type(&format!("`{name}`"), list, "a list, or a loop such as `x for x in items`");
                let op = list.is_tensor() && name != "len";
                self.fail(
                    wrong.maybe_help(op.then(|| format!("of a tensor: `op::{name}(x)`, or `op::{name}(x, axis: 1)`"))),
                )
            }
        }
    }

    fn sum(&mut self, name: &str, items: &[Value], list: Span, span: Span) -> Checked<Value> {
        let Some((first, rest)) = items.split_first() else {
            return self.fail(
                Diagnostic::new(Code::OutOfRange, format!("`{name}` of no items"))
                    .label(list, "an empty list")
                    .help("give the loop something to run over"),
            );
        };
        let mut total = first.clone();
        for item in rest {
            total = self.combine(BinaryOp::Add, total, item.clone(), span)?;
        }
        Ok(Value::new(total.kind, span))
    }

    fn mean(&mut self, items: &[Value], list: Span, span: Span) -> Checked<Value> {
        let total = self.sum("mean", items, list, span)?;
        let count = Value::new(Kind::Float(items.len() as f64), span);
        self.combine(BinaryOp::Div, total, count, span)
    }

    /// An operation on two values, tensors or static ones.
    fn combine(&mut self, op: BinaryOp, left: Value, right: Value, span: Span) -> Checked<Value> {
        if left.is_tensor() || right.is_tensor() {
            return self.tensor_binary(op, left, right, span);
        }
        let result = number::binary(op, &left, &right, span, ("the sum", "the item"));
        self.check(result)
    }
}
