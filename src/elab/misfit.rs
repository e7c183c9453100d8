//! A value that does not fit: what is wanted, what is found, and the same value as it is to be written.
//!
//! Before: a reader of arguments, settings or operands that found something else. After: the diagnostic that it reports.
//!
//! **Invariant:** what a help line says to type is another text than the one that is wrong, and gives what is wanted.

use crate::diag::{Code, Diagnostic, nearest};
use crate::source::Span;
use crate::spec::Duration;

use super::value::{Kind, Quotient, Value};

/// "`size` of `crop` wants a length such as 224px, found the number 224".
pub fn wrong_type(what: &str, value: &Value, wanted: &str) -> Diagnostic {
    if let Some(quotient) = value.quotient.as_ref().filter(|_| wanted.contains("whole number")) {
        return not_divisible(quotient, value.span);
    }
    Diagnostic::new(Code::WrongType, format!("{what} wants {wanted}, found {}", value.describe()))
        .label(value.span, format!("this is {}", value.describe()))
        .maybe_help(converted(value, wanted))
}

/// The same value as what is wanted, where it is clear how.
fn converted(value: &Value, wanted: &str) -> Option<String> {
    let number = wanted.contains("number");
    Some(match &value.kind {
        Kind::Int(n) if *n < 1 && wanted.contains("from 1") => "write `1` or more".into(),
        Kind::Pixels(_) if wanted.contains("range such as 20%") => {
            format!("a size is `random_resized_crop`'s: `random_resized_crop({value}, scale: 20%..100%)`")
        }
        Kind::Tuple(items) if items.len() == 2 && wanted.contains("a range") => {
            format!("write `{}..{}`", items[0], items[1])
        }
        Kind::SchedulePer(..) if wanted.contains("schedule") => {
            "write `ramp(0.996, 1)`, from one number to another, or leave `per` out".into()
        }
        Kind::Builtin(name) if ["adamw", "sgd", "lars"].contains(&&**name) => {
            format!("write `{name}(weight_decay: 0.05)`")
        }
        Kind::Str(name) if ["adamw", "sgd", "lars"].contains(&&**name) => format!("write `{name}(weight_decay: 0.05)`"),
        Kind::Float(x) if wanted.contains("whole number") && x.is_finite() && x.fract() != 0.0 && x.abs() < 1e15 => {
            format!("write `{}` or `{}`", x.floor(), x.ceil())
        }
        Kind::Ratio(_) if wanted.contains("whole number") => "write a count, which has no `%`, such as `12`".into(),
        Kind::Ratio(share) if number => format!("write `{share}`"),
        Kind::Pixels(n) if number => format!("write `{n}`, or divide by `1px` for its number"),
        Kind::Duration(Duration::Epochs(n) | Duration::Steps(n)) if number => format!("write `{n}`"),
        Kind::Str(text) if wanted.contains("true or false") && ["True", "true"].contains(&&**text) => {
            "write `true`".into()
        }
        Kind::Str(text) if wanted.contains("true or false") && ["False", "false"].contains(&&**text) => {
            "write `false`".into()
        }
        Kind::Str(text) if wanted.contains('"') => {
            let options: Vec<&str> = wanted.split('"').skip(1).step_by(2).collect();
            match nearest(text, options.iter().copied()) {
                Some(meant) => format!("write `\"{meant}\"`"),
                None => {
                    let all: Vec<String> = options.iter().map(|option| format!("`\"{option}\"`")).collect();
                    format!("write {}", all.join(" or "))
                }
            }
        }
        Kind::Str(text) if !wanted.contains("string") => {
            let figures = ["number", "ratio", "length", "duration", "size"].iter().any(|word| wanted.contains(word));
            let word = text.starts_with(|c: char| c.is_ascii_digit() || !figures && c.is_ascii_alphabetic())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._%".contains(c));
            return (word || text.parse::<f64>().is_ok()).then(|| format!("write `{text}` without quotes"));
        }
        Kind::Pixels(_) if wanted.contains("place") => format!("write `({value}, {value})`"),
        Kind::Pixels(_) if wanted.contains("range such as 0px") => format!("write `0px..{value}`"),
        _ if wanted.contains("such as (0.9, 0.95)") => "write `(0.9, 0.95)`".into(),
        Kind::Int(0) if wanted.contains("true or false") => "write `false`".into(),
        Kind::Int(1) if wanted.contains("true or false") => "write `true`".into(),
        Kind::Tuple(items) if wanted == "a list" => {
            format!("write `[{}]`", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
        }
        Kind::List(items) if wanted.contains("tuple") => {
            format!("write `({})`", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
        }
        Kind::Int(_) | Kind::Float(_) if wanted.contains("string") => format!("write `\"{value}\"`"),
        _ => return None,
    })
}

/// Height and width as one writes them, of a tuple or list that lacks units, or holds the channels too.
pub fn sides(items: &[Value]) -> Option<String> {
    let side = |value: &Value| match value.kind {
        Kind::Int(n) | Kind::Pixels(n) if n > 0 => Some(n),
        _ => None,
    };
    match items {
        [height, width] => Some(format!("write `({}px, {}px)`", side(height)?, side(width)?)),
        [_, height, width] => Some(format!(
            "write `({}px, {}px)`: how many channels there are, `channels` of `data` says",
            side(height)?,
            side(width)?
        )),
        _ => None,
    }
}

/// Numbers tried for the nearest divisor.
const MAX_TRIED: usize = 10_000;

/// Names both culprits and the nearest divisors.
pub fn not_divisible(quotient: &Quotient, span: Span) -> Diagnostic {
    let Quotient { left, right, names: (left_name, right_name) } = quotient;
    let (a, b, unit) = match (&left.kind, &right.kind) {
        (Kind::Pixels(a), Kind::Pixels(b)) => (*a, *b, "px"),
        (Kind::Pixels(a), Kind::Int(b)) | (Kind::Int(a), Kind::Int(b)) => (*a, *b, ""),
        _ => (0, 1, ""),
    };
    let (whole, part) = (a.unsigned_abs(), b.unsigned_abs());
    let divides = |d: &u64| whole.is_multiple_of(*d);
    // The nearest divisors; those of large numbers may lie far away, and are none that anybody would take.
    let below = (1..part.min(whole.saturating_add(1))).rev().take(MAX_TRIED).find(divides);
    let above = (part.saturating_add(1)..=whole).take(MAX_TRIED).find(divides);
    let choices: Vec<String> = below.iter().chain(&above).map(|d| format!("{d}{unit}")).collect();
    let named = |name: &str, value: &Value| {
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        if plain && name.parse::<f64>().is_err() { format!("{name} {value}") } else { format!("{value}") }
    };
    let message = format!("{} does not divide {}", named(right_name, right), named(left_name, left));
    let plain = right_name.chars().all(|c| c.is_alphanumeric() || c == '_');
    // Far from every divisor it is the other number that is odd: the nearest multiples.
    let far = below.is_none_or(|d| d * 2 <= part) && above.is_none_or(|d| d >= part * 2);
    let plain_left = left_name.chars().all(|c| c.is_alphanumeric() || c == '_') && left_name.parse::<f64>().is_err();
    let help = match choices.as_slice() {
        _ if far && plain_left && part > 1 && whole > part => {
            let low = whole - whole % part;
            Some(format!("write `{left_name} = {low}{unit}` or `{left_name} = {}{unit}`", low.saturating_add(part)))
        }
        [] => None,
        all if plain && right_name.parse::<f64>().is_err() => {
            let all: Vec<String> = all.iter().map(|c| format!("`{right_name} = {c}`")).collect();
            Some(format!("write {}", all.join(" or ")))
        }
        all => {
            let all: Vec<String> = all.iter().map(|c| format!("`{left} / {c}`")).collect();
            Some(format!("write {}", all.join(" or ")))
        }
    };
    Diagnostic::new(Code::NotDivisible, message)
        .label(right.span, format!("{right}"))
        .label(left.span, format!("{left}"))
        .label(span, "divided here")
        .maybe_help(help)
}
