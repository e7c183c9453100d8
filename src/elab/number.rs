//! Arithmetic on static values, with units.
//!
//! int, float and ratio mix to a float; lengths add to lengths and divide to ints, which must come out even; whole numbers divide
//! to a whole number where they can, else to a float that remembers why it is none; tuples broadcast element by element; lists
//! add up to a longer one.

use std::rc::Rc;

use crate::diag::{Code, Diagnostic};
use crate::source::Span;
use crate::spec::Duration;
use crate::syntax::ast::BinaryOp;

use super::misfit::{not_divisible, sides, wrong_type};
use super::value::{Kind, Quotient, Value};

/// `left op right`; `names` are the operands' texts for messages.
pub fn binary(op: BinaryOp, left: &Value, right: &Value, span: Span, names: (&str, &str)) -> Result<Value, Diagnostic> {
    if let (BinaryOp::Add, Kind::List(a), Kind::List(b)) = (op, &left.kind, &right.kind) {
        return Ok(Value::new(Kind::List(Rc::new(a.iter().chain(b.iter()).cloned().collect())), span));
    }
    if let Some(value) = broadcast(op, left, right, span, names)? {
        return Ok(value);
    }
    let kind = match op {
        BinaryOp::And | BinaryOp::Or => match (&left.kind, &right.kind) {
            (Kind::Bool(a), Kind::Bool(b)) => Kind::Bool(if op == BinaryOp::And { *a && *b } else { *a || *b }),
            _ => return Err(bad_operands(op, left, right, span)),
        },
        BinaryOp::Equal => Kind::Bool(equal(left, right)),
        BinaryOp::NotEqual => Kind::Bool(!equal(left, right)),
        BinaryOp::Less | BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::GreaterEqual => {
            let ordering = compare(left, right).ok_or_else(|| bad_operands(op, left, right, span))?;
            Kind::Bool(match op {
                BinaryOp::Less => ordering.is_lt(),
                BinaryOp::LessEqual => ordering.is_le(),
                BinaryOp::Greater => ordering.is_gt(),
                _ => ordering.is_ge(),
            })
        }
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => {
            arithmetic(op, left, right, span, names)?
        }
    };
    let mut value = Value::new(kind, span);
    if let (BinaryOp::Div, Kind::Int(_), Kind::Int(_), Kind::Float(_)) = (op, &left.kind, &right.kind, &value.kind) {
        let names = (names.0.to_owned(), names.1.to_owned());
        value.quotient = Some(Rc::new(Quotient { left: left.clone(), right: right.clone(), names }));
    }
    Ok(value)
}

/// `base` to the power of `exponent`; of whole numbers, where it is whole, a whole number.
pub fn power(base: &Value, exponent: &Value, span: Span) -> Result<Value, Diagnostic> {
    let (Some(b), Some(e)) = (base.number(), exponent.number()) else {
        let wrong = if base.number().is_none() { base } else { exponent };
        let op = wrong.is_tensor().then(|| "of a tensor: `op::pow(x, 2)`".to_owned());
        return Err(wrong_type("`pow`", wrong, "two numbers such as pow(0.65, 12)").maybe_help(op));
    };
    let kind = match (&base.kind, &exponent.kind) {
        (Kind::Int(b), Kind::Int(e)) => u32::try_from(*e).ok().and_then(|e| b.checked_pow(e)).map(Kind::Int),
        _ => None,
    };
    let result = libm::pow(b, e);
    if kind.is_none() && !result.is_finite() {
        return Err(Diagnostic::new(Code::OutOfRange, format!("pow({base}, {exponent}) is no finite number"))
            .label(span, "here")
            .help("write a base above zero: `pow(0.65, 12)`"));
    }
    Ok(Value::new(kind.unwrap_or(Kind::Float(result)), span))
}

/// Negation of a number or a length.
pub fn negate(value: &Value, span: Span) -> Result<Value, Diagnostic> {
    let kind = match value.kind {
        Kind::Int(i) => i.checked_neg().map(Kind::Int),
        Kind::Float(f) => Some(Kind::Float(-f)),
        Kind::Ratio(r) => Some(Kind::Ratio(-r)),
        Kind::Pixels(p) => p.checked_neg().map(Kind::Pixels),
        _ => None,
    };
    kind.map(|kind| Value::new(kind, span)).ok_or_else(|| {
        Diagnostic::new(Code::BadOperands, format!("cannot negate {}", value.describe())).label(span, "here")
    })
}

fn broadcast(
    op: BinaryOp,
    left: &Value,
    right: &Value,
    span: Span,
    names: (&str, &str),
) -> Result<Option<Value>, Diagnostic> {
    if matches!(op, BinaryOp::Equal | BinaryOp::NotEqual | BinaryOp::And | BinaryOp::Or) {
        return Ok(None);
    }
    let tuple = |v: &Value| match &v.kind {
        Kind::Tuple(items) => Some(items.clone()),
        _ => None,
    };
    // A size without units is one mistake, not one for each side.
    let numbers = |value: &Value| {
        tuple(value).is_some_and(|items| items.len() > 2 || items.iter().all(|v| matches!(v.kind, Kind::Int(_))))
    };
    let length = |value: &Value| matches!(value.kind, Kind::Pixels(_));
    if matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Rem)
        && (numbers(left) && length(right) || length(left) && numbers(right))
    {
        return Err(bad_operands(op, left, right, span));
    }
    let items: Vec<Value> = match (tuple(left), tuple(right)) {
        (None, None) => return Ok(None),
        (Some(a), Some(b)) if a.len() == b.len() => {
            a.iter().zip(b.iter()).map(|(x, y)| binary(op, x, y, span, names)).collect::<Result<_, _>>()?
        }
        (Some(a), None) => a.iter().map(|x| binary(op, x, right, span, names)).collect::<Result<_, _>>()?,
        (None, Some(b)) => b.iter().map(|y| binary(op, left, y, span, names)).collect::<Result<_, _>>()?,
        _ => return Err(bad_operands(op, left, right, span)),
    };
    Ok(Some(Value::new(Kind::Tuple(Rc::new(items)), span)))
}

fn arithmetic(op: BinaryOp, left: &Value, right: &Value, span: Span, names: (&str, &str)) -> Result<Kind, Diagnostic> {
    let overflow = || {
        Diagnostic::new(Code::OutOfRange, format!("{left} {} {right} is too large", op.symbol()))
            .label(span, "here")
            .help("write smaller numbers")
    };
    let finite = |result: f64| if result.is_finite() { Ok(result) } else { Err(overflow()) };
    let whole = |a: i64, b: i64| -> Result<i64, Diagnostic> {
        match op {
            BinaryOp::Add => a.checked_add(b).ok_or_else(overflow),
            BinaryOp::Sub => a.checked_sub(b).ok_or_else(overflow),
            BinaryOp::Mul => a.checked_mul(b).ok_or_else(overflow),
            _ if b == 0 => Err(by_zero(left, right, span)),
            BinaryOp::Rem => a.checked_rem_euclid(b).ok_or_else(overflow),
            _ if a.checked_rem(b).is_some_and(|rest| rest != 0) => {
                let names = (names.0.to_owned(), names.1.to_owned());
                Err(not_divisible(&Quotient { left: left.clone(), right: right.clone(), names }, span))
            }
            _ => a.checked_div(b).ok_or_else(overflow),
        }
    };
    Ok(match (&left.kind, &right.kind) {
        (Kind::Int(a), Kind::Int(b)) if op == BinaryOp::Div && *b != 0 && a.checked_rem(*b) != Some(0) => {
            Kind::Float(*a as f64 / *b as f64)
        }
        (Kind::Int(a), Kind::Int(b)) => Kind::Int(whole(*a, *b)?),
        (Kind::Pixels(a), Kind::Pixels(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Rem => Kind::Pixels(whole(*a, *b)?),
            BinaryOp::Div => Kind::Int(whole(*a, *b)?),
            _ => return Err(bad_operands(op, left, right, span)),
        },
        (Kind::Pixels(a), Kind::Int(b)) if matches!(op, BinaryOp::Mul | BinaryOp::Div) => Kind::Pixels(whole(*a, *b)?),
        (Kind::Int(a), Kind::Pixels(b)) if op == BinaryOp::Mul => Kind::Pixels(whole(*a, *b)?),
        (Kind::Int(_) | Kind::Float(_), Kind::Duration(time))
        | (Kind::Duration(time), Kind::Int(_) | Kind::Float(_))
            if op == BinaryOp::Mul =>
        {
            let factor = left.number().or(right.number()).unwrap_or(f64::NAN);
            Kind::Duration(match time {
                Duration::Steps(n) => Duration::Steps(finite(n * factor)?),
                Duration::Epochs(n) => Duration::Epochs(finite(n * factor)?),
                Duration::Share(n) => Duration::Share(finite(n * factor)?),
            })
        }
        // A ratio scaled stays a ratio: 0.75 * 100% is 75%.
        (Kind::Int(_) | Kind::Float(_), Kind::Ratio(r)) | (Kind::Ratio(r), Kind::Int(_) | Kind::Float(_))
            if op == BinaryOp::Mul =>
        {
            let other = if matches!(left.kind, Kind::Ratio(_)) { right } else { left };
            Kind::Ratio(finite(r * other.number().unwrap_or(f64::NAN))?)
        }
        _ => match (left.number(), right.number()) {
            (Some(_), Some(b)) if b == 0.0 && matches!(op, BinaryOp::Div | BinaryOp::Rem) => {
                return Err(by_zero(left, right, span));
            }
            (Some(a), Some(b)) => Kind::Float(finite(match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Rem => a.rem_euclid(b),
                _ => a / b,
            })?),
            _ => return Err(bad_operands(op, left, right, span)),
        },
    })
}

fn bad_operands(op: BinaryOp, left: &Value, right: &Value, span: Span) -> Diagnostic {
    let message = format!("cannot compute {} {} {}", left.describe(), op.symbol(), right.describe());
    let diagnostic = Diagnostic::new(Code::BadOperands, message);
    // A number that lacks its unit is the culprit, and is one wherever else it goes.
    let diagnostic = match (&left.kind, &right.kind) {
        (Kind::Int(_) | Kind::Tuple(_) | Kind::List(_), Kind::Pixels(_)) => {
            diagnostic.label(left.span, left.describe())
        }
        (Kind::Pixels(_), Kind::Int(_) | Kind::Tuple(_) | Kind::List(_)) => {
            diagnostic.label(right.span, right.describe())
        }
        _ => diagnostic,
    };
    // Of a function or block the place is its definition, which is right.
    let used = |value: &&Value| !matches!(value.kind, Kind::Function(_) | Kind::Block(_));
    let diagnostic = diagnostic.label(span, "here");
    let labelled = [left, right].into_iter().filter(used).fold(diagnostic, |d, v| d.label(v.span, v.describe()));
    labelled.maybe_help(operable(op, left, right))
}

/// What to write instead of an operation that there is not.
fn operable(op: BinaryOp, left: &Value, right: &Value) -> Option<String> {
    let called = |value: &Value| match &value.kind {
        Kind::Function(def) => Some(format!("{}(…)", def.item.name.text)),
        Kind::Builtin(name) => Some(format!("{name}(…)")),
        Kind::Module(_) | Kind::Modules(_) => Some("encoder(views.online)".to_owned()),
        _ => None,
    };
    match (&left.kind, &right.kind) {
        (Kind::Str(a), Kind::Str(b)) if op == BinaryOp::Add => Some(format!("write one string: `\"{a}{b}\"`")),
        (Kind::Str(a), _) | (_, Kind::Str(a)) if a.parse::<f64>().is_ok() => Some(format!("write `{a}` without quotes")),
        (Kind::Str(_), _) | (_, Kind::Str(_)) => Some("a string cannot be computed with: write out what it is to be".into()),
        (Kind::Pixels(_), Kind::Pixels(_)) if op == BinaryOp::Mul => Some(
            "divide a length by `1px` for its number, as in `(patch_size / 1px) * (patch_size / 1px)`; the values of a patch are `encoder.patch_values`"
                .into(),
        ),
        (Kind::Pixels(_), Kind::Float(n)) | (Kind::Float(n), Kind::Pixels(_))
            if matches!(op, BinaryOp::Mul | BinaryOp::Div) =>
        {
            Some(format!("pixels are whole: write the length out, or a whole number for `{n}`"))
        }
        (Kind::Pixels(_), Kind::Ratio(_)) | (Kind::Ratio(_), Kind::Pixels(_)) => {
            Some("write the length out, such as `16px`: a share of one is no whole number of pixels".into())
        }
        (Kind::Int(n), Kind::Pixels(_)) | (Kind::Pixels(_), Kind::Int(n)) => Some(format!("write `{n}px`")),
        // The sizes of one value stand in a tuple of numbers beside lengths: all of them want their unit.
        (Kind::Tuple(items) | Kind::List(items), Kind::Pixels(_)) | (Kind::Pixels(_), Kind::Tuple(items) | Kind::List(items)) => {
            sides(items)
        }
        (Kind::Tuple(a), Kind::Tuple(b)) if a.len() != b.len() => Some("write tuples of one length".into()),
        (Kind::None, _) | (_, Kind::None) => Some("ask first: `a if b == none else a + b`".into()),
        (Kind::Record(fields), _) | (_, Kind::Record(fields)) => {
            let names: Vec<String> = fields.iter().map(|(name, _)| format!(".{name}")).collect();
            Some(format!("take one of its fields: {}", crate::diag::listed(&names)))
        }
        _ if called(left).or(called(right)).is_some() => {
            Some(format!("call it, its `(` on the same line: `{}`", called(left).or(called(right))?))
        }
        (Kind::List(_), _) | (_, Kind::List(_)) => Some("compute with its items: `[x + 1 for x in items]`".into()),
        (Kind::Bool(_), _) | (_, Kind::Bool(_)) => Some("choose by it: `1 if flag else 0`".into()),
        _ => None,
    }
}

fn by_zero(left: &Value, right: &Value, span: Span) -> Diagnostic {
    Diagnostic::new(Code::BadOperands, format!("{left} is divided by zero"))
        .label(right.span, "this is zero")
        .label(span, "divided here")
        .help(match right.kind {
            Kind::Pixels(_) => "write a length from `1px`",
            _ => "write a number above zero",
        })
}

/// Equality of static values; values of different kinds differ, numbers compare as numbers.
pub fn equal(left: &Value, right: &Value) -> bool {
    if let (Some(a), Some(b)) = (left.number(), right.number()) {
        return a == b;
    }
    match (&left.kind, &right.kind) {
        (Kind::None, Kind::None) => true,
        (Kind::Pixels(a), Kind::Pixels(b)) => a == b,
        (Kind::Bool(a), Kind::Bool(b)) => a == b,
        (Kind::Str(a), Kind::Str(b)) => a == b,
        _ => match (left.items(), right.items()) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| equal(x, y)),
            _ => false,
        },
    }
}

fn compare(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (&left.kind, &right.kind) {
        (Kind::Pixels(a), Kind::Pixels(b)) => Some(a.cmp(b)),
        _ => left.number()?.partial_cmp(&right.number()?),
    }
}
