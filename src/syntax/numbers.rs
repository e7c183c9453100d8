//! Numbers as other languages write them: a blank before the unit, units by other names, a point at one end.
//!
//! **Invariant:** only what the grammar refuses is a fault: `a % b` stays the remainder wherever it can be one.

use super::mended::Fault;
use super::token::{Kind, Token};
use crate::diag::Code;

/// What follows a number and is meant for a unit, with the unit.
const UNITS: [(&str, &[&str]); 4] = [
    ("px", &["px", "pixel", "pixels", "pix", "PX", "Px"]),
    (" epochs", &["ep", "eps", "Epochs", "Epoch", "EPOCHS", "epoches"]),
    (" steps", &["it", "its", "iter", "iters", "iteration", "iterations", "Steps", "Step", "batches"]),
    ("%", &["percent", "pct", "per_cent"]),
];

/// All of them, in order.
pub fn faults(text: &str, tokens: &[Token]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        // The last token is the end.
        let Some(next) = tokens.get(i + 1) else { break };
        let before = i.checked_sub(1).map(|before| &tokens[before]);
        let touches = |token: &Token| {
            before.is_some_and(|b| b.end == token.start && b.kind != Kind::Sign && b.kind != Kind::Open)
        };
        if token.kind == Kind::Number && !touches(token) {
            faults.extend(of_unit(text, tokens, i));
            let sign = &text[next.range()];
            let after = tokens.get(i + 2).unwrap_or(next);
            let is_whole = text[token.range()].bytes().all(|b| b.is_ascii_digit());
            if is_whole
                && sign == "."
                && next.start == token.end
                && !(after.start == next.end && after.kind != Kind::Close && after.kind != Kind::Sign)
            {
                let number = &text[token.range()];
                let fault = Fault::new("point", Code::Number, format!("`{number}.` has no digit behind its point"))
                    .label(token.start..next.end, "here")
                    .help(format!("write `{number}.0`"));
                faults.push(fault.edit(next.end..next.end, "0"));
            }
        }
        let is_point = &text[token.range()] == "." && next.kind == Kind::Number && next.start == token.end;
        let stands_alone = before.is_none_or(|b| b.end < token.start || matches!(b.kind, Kind::Open | Kind::Sign));
        if is_point && stands_alone {
            let number = &text[token.start..next.end];
            let fault = Fault::new("point", Code::Number, format!("`{number}` has no digit before its point"))
                .label(token.start..next.end, "here")
                .help(format!("write `0{number}`"));
            faults.push(fault.edit(token.start..token.start, "0"));
        }
    }
    faults
}

/// `16 px`, `50 %`, `100 iters`, `10k`
fn of_unit(text: &str, tokens: &[Token], i: usize) -> Option<Fault> {
    let (token, next) = (&tokens[i], &tokens[i + 1]);
    let (number, word) = (&text[token.range()], &text[next.range()]);
    if next.first {
        return None;
    }
    if word == "%" {
        // With an operand behind it, it is the remainder.
        let after = tokens.get(i + 2)?;
        let is_operand = !after.first
            && (matches!(after.kind, Kind::Name | Kind::Number | Kind::Text) && !is_operator(&text[after.range()])
                || matches!(&text[after.range()], "(" | "["));
        if next.start == token.end || is_operand {
            return None;
        }
        let fault = Fault::new("unit", Code::Number, format!("a blank stands between `{number}` and `%`"))
            .label(token.start..next.end, "one word")
            .help(format!("write `{number}%`"));
        return Some(fault.edit(token.end..next.start, ""));
    }
    if next.kind != Kind::Name {
        return None;
    }
    let is_blank = next.start > token.end;
    if let Some((unit, _)) = UNITS.iter().find(|(_, words)| words.contains(&word)) {
        if word == unit.trim() && !is_blank {
            return None;
        }
        let message = match word == unit.trim() {
            true => format!("a blank stands between `{number}` and `{word}`"),
            false => format!("`{word}` is no unit"),
        };
        let fault = Fault::new("unit", Code::Number, message)
            .label(token.start..next.end, if word == unit.trim() { "one word" } else { "here" })
            .help(format!("write `{number}{unit}`"));
        return Some(fault.edit(token.end..next.end, *unit));
    }
    if is_blank || ["epoch", "epochs", "step", "steps"].contains(&word) {
        return None;
    }
    let (help, put) = match (word, number.parse::<f64>()) {
        ("k" | "K", Ok(count)) => (format!("write `{}`", count * 1000.0), format!("{}", count * 1000.0)),
        ("M" | "m", Ok(count)) => (format!("write `{}`", count * 1e6), format!("{}", count * 1e6)),
        ("e" | "E", _) => {
            (format!("write `{number} epochs`, or `{number}e0` for the number"), format!("{number} epochs"))
        }
        ("s" | "i", _) => (format!("write `{number} steps`"), format!("{number} steps")),
        ("f" | "d" | "L" | "l" | "f32" | "f64", _) => (format!("write `{number}`"), number.to_owned()),
        (word, _) if word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'O' | b'o' | b'l' | b'I')) => {
            let digits = format!("{number}{}", word.replace(['O', 'o'], "0").replace(['l', 'I'], "1"));
            (format!("write `{digits}`"), digits)
        }
        ("p", _) => (format!("write `{number}px`"), format!("{number}px")),

        (hex, _) if number == "0" && hex.starts_with('x') && i64::from_str_radix(&hex[1..], 16).is_ok() => {
            let value = i64::from_str_radix(&hex[1..], 16).unwrap_or_default();
            (format!("write `{value}`"), value.to_string())
        }
        _ => {
            let units = "units are `%`, `px`, `epochs` and `steps`";
            (format!("write `{number}` alone, or another name: {units}"), number.to_owned())
        }
    };
    let what =
        if number == "0" && word.starts_with(['x', 'b', 'o']) { "numbers are decimal" } else { "no unit, no name" };
    let fault = Fault::new("unit", Code::Number, format!("`{number}{word}` is no number"))
        .label(token.start..next.end, what)
        .help(help);
    Some(fault.edit(token.start..next.end, put))
}

fn is_operator(word: &str) -> bool {
    matches!(word, "if" | "else" | "and" | "or" | "for" | "in" | "when" | "repeat" | "param" | "branch" | "role")
}
