//! Values that are missing, and paths without quotes.

use super::{Fault, Place, UNREAD, shown};
use crate::diag::Code;
use crate::syntax::place::Within;
use crate::syntax::token::Kind;

/// Behind these stands a value.
const WANTING: [&str; 24] = [
    "=", "+", "-", "*", "/", "%", "|>", "..", "==", "!=", "<", ">", "<=", ">=", "and", "or", "not", "if", "else", "in",
    "when", "repeat", ":", ",",
];

/// `x =` with nothing behind it, `a +` at a line's end, `f(a: )`, an `if` without its `else`.
pub fn missing(place: &Place) -> Option<Fault> {
    let (here, before) = (place.here(), place.before(1));
    if place.at == 0 || matches!(place.within(), Within::File | Within::Names | Within::Params | Within::Rules) {
        return None;
    }
    if let Some(fault) = before_next_entry(place) {
        return Some(fault);
    }
    let before_is_percent = before == "%" && place.ends_value(place.at - 1);
    let ends = matches!(place.kind(place.at), Kind::Close | Kind::End)
        || matches!(here, "," | "|>" | "=" | ":" | ")")
        || place.token().first && place.kind(place.at) == Kind::Name && !place.begins_value(place.at);
    if !ends || before_is_percent {
        return without_else(place);
    }
    if !WANTING.contains(&before) || before == "," && !matches!(here, "|>") {
        return without_else(place);
    }
    if before == "=" && matches!(here, "=" | ":") {
        let fault = Fault::new("equals", Code::Separator, format!("`{before} {here}`: one `=` binds a name"))
            .label(place.token().range(), "too much")
            .help("write one `=`");
        return Some(fault.edit(place.token().range(), ""));
    }
    let name = place.before(2);
    let (message, help) = match before {
        "=" | ":" if here == "|>" => (
            "nothing stands before `|>`".to_owned(),
            "write the value before it: `value |> …`, or leave out the `|>`".to_owned(),
        ),
        "=" | ":" if place.at >= 2 && place.kind(place.at - 2) == Kind::Name => {
            let value = typical(name);
            let space = if before == "=" { " =" } else { ":" };
            (format!("`{name}` has no value"), format!("write `{name}{space} {value}`"))
        }
        "|>" => (
            "nothing follows `|>`".to_owned(),
            "write what the value goes through: `|> mean_tokens`, or leave out the `|>`".to_owned(),
        ),
        "%" if place.at >= 2 && place.before(2) == "%" => {
            ("one `%` stands behind a number".to_owned(), "leave out the second `%`".to_owned())
        }
        "%" if place.before(2) == "px" => ("a number has one unit".to_owned(), "leave out the `%`".to_owned()),
        _ => {
            let left = place.slice(place.operand_before(place.at - 1), place.at - 1);
            let help = match left {
                "" => format!("write the value behind `{before}`, or leave it out"),
                left => format!("write the second value, or leave out the `{before}`: `{}`", shown(left)),
            };
            (format!("nothing follows `{before}`"), help)
        }
    };
    let fault =
        Fault::new("missing", Code::MissingValue, message).label(place.gap(place.at), "a value is missing").help(help);
    let put = if before == "if" { format!(" {UNREAD} else {UNREAD}") } else { format!(" {UNREAD}") };
    Some(fault.edit(place.gap(place.at), put))
}

/// `mask_ratio =` and on the next line `train.epochs = 10`: the grammar reads on up to the second `=`.
fn before_next_entry(place: &Place) -> Option<Fault> {
    if !matches!(place.here(), "=" | ":" | "(" | "{") && place.kind(place.at) != Kind::Name
        || !place.within().has_entries()
    {
        return None;
    }
    let start = match place.kind(place.at) {
        Kind::Name if matches!(place.before(1), "param" | "branch" | "export") => return None,
        Kind::Name => return None,
        _ => place.operand_before(place.at),
    };
    if start == 0 || start == place.at || !place.tokens[start].first || place.here() != "=" {
        return None;
    }
    let before = place.word(start - 1);
    if !WANTING.contains(&before) || place.ends_value(start - 1) {
        return None;
    }
    let name = start
        .checked_sub(2)
        .filter(|i| place.kind(*i) == Kind::Name)
        .map(|i| place.slice(place.operand_before(i + 1), i + 1));
    let (message, help) = match (before, name) {
        ("=", Some(name)) => (format!("`{name}` has no value"), format!("write `{name} = {}`", typical(name))),
        _ => (format!("nothing follows `{before}`"), format!("write the value behind `{before}`, or leave it out")),
    };
    let fault =
        Fault::new("missing", Code::MissingValue, message).label(place.gap(start), "a value is missing").help(help);
    Some(fault.edit(place.gap(start), format!(" {UNREAD}")))
}

/// `a if condition` and no more.
fn without_else(place: &Place) -> Option<Fault> {
    let ends = matches!(place.kind(place.at), Kind::Close | Kind::End)
        || matches!(place.here(), "," | ":")
        || place.token().first;
    if !ends || !place.ends_value(place.at - 1) {
        return None;
    }
    let mut i = place.at;
    while i > 0 {
        i -= 1;
        match (place.kind(i), place.word(i)) {
            (Kind::Close, _) => i = place.other(i)?,
            (Kind::Open, _) | (_, "," | "=" | "else" | "for" | ":") => return None,
            (_, "if") => {
                let value = place.slice(place.operand_before(i), i);
                let condition = place.slice(i + 1, place.at);
                let fault = Fault::new("else", Code::MissingValue, "an `if` has no `else`")
                    .label(place.bytes(i, place.at), "and otherwise?")
                    .help(format!(
                        "write `{} if {} else none`, or the other value for `none`",
                        shown(value),
                        shown(condition)
                    ));
                return Some(fault.edit(place.gap(place.at), format!(" else {UNREAD}")));
            }
            _ => {}
        }
    }
    None
}

/// A value that a setting of this name often has.
pub fn typical(name: &str) -> &'static str {
    let last = name.rsplit('.').next().unwrap_or(name);
    match last {
        "epochs" => "300",
        "batch_size" => "256",
        "image_size" | "size" => "224px",
        "patch_size" => "16px",
        "temperature" | "tau" => "0.07",
        "momentum" => "0.996",
        "learning_rate" => "cosine(base: 1.5e-4, warmup: 10%)",
        "optimizer" => "adamw(weight_decay: 0.05)",
        "train" | "val" => "image_folder(\"data/train\")",
        "channels" => "3",
        "every" | "checkpoint_every" | "warmup" => "10 epochs",
        "depth" | "num_heads" | "k" => "12",
        "embed_dim" | "hidden" | "out" | "dim" => "768",
        "weight_decay" => "0.05",
        "precision" => "bf16",
        "normalize" | "bias" | "symmetric" | "keep" => "true",
        _ if last.contains("ratio") || last.contains("scale") => "75%",
        _ if last.contains("size") || last.contains("shift") => "16px",
        _ => "1.0",
    }
}

/// A path that stands without quotes.
pub fn path(place: &Place) -> Option<Fault> {
    let at = place.token().start;
    let within = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '\\' | '~' | ':' | '-');
    let before = place.text.get(..at)?;
    let start = before.rfind(|c| !within(c)).map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
    let rest = place.text.get(at..)?;
    let end = at + rest.find(|c| !within(c)).unwrap_or(rest.len());
    let path = &place.text[start..end];
    // Division stands between blanks, and a path's sign is what the parser stops at.
    let stops = rest.starts_with(['/', '\\', '~', '.', ':']);
    let is_path = path.len() > 2 && path.contains(['/', '\\']) && !path.contains("//") && !path.contains("::");
    if !stops || !is_path {
        return None;
    }
    let plain = path.replace('\\', "/");
    let called = place.within() == Within::Call && !matches!(place.head(), "");
    let help = match called {
        true => format!("write `{}(\"{plain}\")`", place.head()),
        false => format!("write `image_folder(\"{plain}\")`"),
    };
    let fault = Fault::new("path_quotes", Code::UnexpectedToken, "a path stands in quotes")
        .label(start..end, "no quotes around it")
        .help(help);
    Some(fault.edit(start..end, format!("\"{plain}\"")))
}
