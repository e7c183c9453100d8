//! The canonical text of an expression: one line, and no bracket that is not needed.
//!
//! **Invariant:** it parses to the same tree, but for spans.

use std::fmt::{self, Display, Formatter, Write};

use super::ast::{Argument, Binding, Expr, ExprKind, Loop, Name, UnaryOp};
use super::level::Level;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        expr(f, self, Level::Pipe)
    }
}

/// What stands behind `name =`.
impl Display for Binding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        if let Some(repeat) = &self.repeat {
            write!(f, " repeat {}", repeat.count)?;
            if let Some(index) = &repeat.index {
                write!(f, " as {}", index.text)?;
            }
        }
        if let Some(from) = &self.from {
            write!(f, " from {from}")?;
        }
        match &self.when {
            Some(when) => write!(f, " when {when}"),
            None => Ok(()),
        }
    }
}

/// How tightly it holds together: an operand that is looser than its place needs parentheses.
fn level(kind: &ExprKind) -> Level {
    match kind {
        ExprKind::Pipe(..) => Level::Pipe,
        ExprKind::If { .. } => Level::Conditional,
        ExprKind::Range(..) => Level::Range,
        ExprKind::Binary(op, ..) => Level::of(*op),
        ExprKind::Unary(..) => Level::Unary,
        // A dot or a bracket behind a number would be read as part of it, or not at all.
        ExprKind::Unread
        | ExprKind::None
        | ExprKind::Int(_)
        | ExprKind::Float(_)
        | ExprKind::Ratio(_)
        | ExprKind::Pixels(_)
        | ExprKind::Epochs(_)
        | ExprKind::Steps(_)
        | ExprKind::Bool(_) => Level::Unary,
        ExprKind::Str(_)
        | ExprKind::Path(_)
        | ExprKind::Field(..)
        | ExprKind::Index(..)
        | ExprKind::Call(..)
        | ExprKind::Tuple(_)
        | ExprKind::List(_)
        | ExprKind::Record(_)
        | ExprKind::Comprehension { .. } => Level::Postfix,
    }
}

/// Writes `value` where something at least as tight as `place` may stand.
fn expr(f: &mut Formatter<'_>, value: &Expr, place: Level) -> fmt::Result {
    if level(&value.kind) < place {
        f.write_char('(')?;
        bare(f, &value.kind)?;
        f.write_char(')')
    } else {
        bare(f, &value.kind)
    }
}

fn bare(f: &mut Formatter<'_>, kind: &ExprKind) -> fmt::Result {
    match kind {
        ExprKind::Unread => write!(f, "…"),
        ExprKind::None => f.write_str("none"),
        ExprKind::Int(value) => write!(f, "{value}"),
        // With its point, or an exponent: without one it is an int.
        ExprKind::Float(value) => write!(f, "{value:?}"),
        ExprKind::Ratio(value) => write!(f, "{}%", number(percent(*value))),
        ExprKind::Pixels(value) => write!(f, "{value}px"),
        ExprKind::Epochs(value) => write!(f, "{} epochs", number(*value)),
        ExprKind::Steps(value) => write!(f, "{} steps", number(*value)),
        ExprKind::Bool(value) => write!(f, "{value}"),
        ExprKind::Str(text) => write!(f, "\"{}\"", text.replace('"', "\\\"")),
        ExprKind::Path(names) => list(f, names, "::", |f, name| f.write_str(&name.text)),
        ExprKind::Field(base, name) => {
            expr(f, base, Level::Postfix)?;
            write!(f, ".{}", name.text)
        }
        ExprKind::Index(base, index) => {
            expr(f, base, Level::Postfix)?;
            write!(f, "[{index}]")
        }
        ExprKind::Call(callee, arguments) => {
            expr(f, callee, Level::Postfix)?;
            f.write_char('(')?;
            list(f, arguments, ", ", argument)?;
            f.write_char(')')
        }
        ExprKind::Unary(op, operand) => {
            f.write_str(match op {
                UnaryOp::Neg => "-",
                UnaryOp::Not => "not ",
            })?;
            expr(f, operand, Level::Unary)
        }
        ExprKind::Binary(op, left, right) => {
            let level = Level::of(*op);
            // Comparisons do not follow each other; all others join to the left.
            expr(f, left, if level.stands_once() { level.tighter() } else { level })?;
            write!(f, " {} ", op.symbol())?;
            expr(f, right, level.tighter())
        }
        ExprKind::Range(from, to) => {
            expr(f, from, Level::Sum)?;
            f.write_str("..")?;
            expr(f, to, Level::Sum)
        }
        ExprKind::Pipe(value, callee) => {
            expr(f, value, Level::Pipe)?;
            f.write_str(" |> ")?;
            expr(f, callee, Level::Conditional)
        }
        ExprKind::If { condition, then, otherwise } => {
            expr(f, then, Level::Or)?;
            f.write_str(" if ")?;
            expr(f, condition, Level::Or)?;
            f.write_str(" else ")?;
            expr(f, otherwise, Level::Conditional)
        }
        ExprKind::Tuple(items) => {
            f.write_char('(')?;
            list(f, items, ", ", |f, item| item.fmt(f))?;
            f.write_str(if items.len() == 1 { ",)" } else { ")" })
        }
        ExprKind::List(items) => {
            f.write_char('[')?;
            list(f, items, ", ", |f, item| item.fmt(f))?;
            f.write_char(']')
        }
        ExprKind::Record(entries) => {
            f.write_char('{')?;
            list(f, entries, ", ", |f, (name, value)| write!(f, "{}: {value}", name.text))?;
            f.write_char('}')
        }
        ExprKind::Comprehension { .. } => {
            f.write_char('[')?;
            comprehension(f, kind)?;
            f.write_char(']')
        }
    }
}

fn argument(f: &mut Formatter<'_>, argument: &Argument) -> fmt::Result {
    if let Some(Name { text, .. }) = &argument.name {
        write!(f, "{text}: ")?;
    }
    match &argument.value.kind {
        kind @ ExprKind::Comprehension { .. } => comprehension(f, kind),
        _ => argument.value.fmt(f),
    }
}

/// `item for a in …, b in … if condition`, without brackets.
fn comprehension(f: &mut Formatter<'_>, kind: &ExprKind) -> fmt::Result {
    let ExprKind::Comprehension { item, loops, condition } = kind else { return bare(f, kind) };
    write!(f, "{item} for ")?;
    list(f, loops, ", ", |f, Loop { name, values }| {
        write!(f, "{} in ", name.text)?;
        expr(f, values, Level::Or)
    })?;
    match condition {
        Some(condition) => {
            f.write_str(" if ")?;
            expr(f, condition, Level::Or)
        }
        None => Ok(()),
    }
}

fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    between: &str,
    mut item: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, one) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        item(f, one)?;
    }
    Ok(())
}

/// As digits, or with an exponent where that is shorter: names and numbers have a limit of letters.
fn number(value: f64) -> String {
    let (digits, exponent) = (value.to_string(), format!("{value:e}"));
    if digits.len() <= 2 * exponent.len() { digits } else { exponent }
}

/// The shortest number whose hundredth is `ratio`: 7 for 0.07, although a hundred times that is 7.000000000000001.
fn percent(ratio: f64) -> f64 {
    let near = ratio * 100.0;
    let (mut below, mut above) = (near, near);
    let mut candidates = vec![near];
    for _ in 0..4 {
        (below, above) = (below.next_down(), above.next_up());
        candidates.extend([below, above]);
    }
    // A ratio that was read is the hundredth of one of them: dividing rounds by half a unit at most.
    let exact = candidates.into_iter().filter(|candidate| candidate / 100.0 == ratio);
    exact.min_by_key(|candidate| candidate.to_string().len()).unwrap_or(near)
}
