//! Wrong forms: what people write for what the grammar has, at the place where it gave up, and what to write instead.
//!
//! **Invariant:** a form names what was written and holds an edit that takes reading on; [`unread`] fits anywhere.

mod arguments;
mod blocks;
mod entries;
mod foreign;
pub mod items;
mod operators;
mod params;
mod rules;
mod uses;
mod values;

use super::mended::{Fault, UNREAD};
use super::place::{Place, Within};
use super::token::Kind;
use crate::diag::Code;

type Form = fn(&Place) -> Option<Fault>;

/// In the order in which they are tried: what is certain before what is likely.
const FORMS: &[Form] = &[
    uses::form,
    blocks::form,
    foreign::statement,
    items::form,
    rules::form,
    foreign::prefix,
    values::path,
    foreign::within_value,
    foreign::method,
    operators::form,
    values::missing,
    entries::form,
    arguments::form,
    foreign::word,
];

/// What is wrong where the grammar gave up.
pub fn form(place: &Place) -> Option<Fault> {
    FORMS.iter().find_map(|form| form(place))
}

/// The entry is left out, and its name stays where it has one.
pub fn unread(place: &Place) -> Fault {
    let found = match place.here() {
        "" => "the end of the text".to_owned(),
        word => format!("`{}`", word.escape_debug()),
    };
    let fault = Fault::new("unread", Code::UnexpectedToken, format!("{found} cannot stand here"))
        .label(place.token().range(), "not understood")
        .help(what_stands(place));
    let (start, end) = place.entry();
    if start == end {
        // A bracket or the end: nothing but the token itself can go.
        return fault.leave_out(place.token().range(), "");
    }
    let name = (start..end).find(|i| place.word(*i) == "=").filter(|sign| *sign < place.at);
    match name {
        Some(sign) if place.word(sign + 1) != "\u{1a}" => {
            fault.leave_out(place.bytes(sign + 1, end.max(sign + 2)), format!(" {UNREAD}"))
        }
        _ if place.entries_of() == Within::Block && place.word(start) == "forward" => {
            fault.leave_out(place.bytes(start, end), format!("forward() {{ {UNREAD} }}"))
        }
        None if place.entries_of() == Within::Body && place.word(end) == "}" => {
            fault.leave_out(place.bytes(start, end), UNREAD)
        }
        _ => fault.leave_out(place.bytes(start, end), ""),
    }
}

/// The entry before the one here is left out: nothing can follow it.
pub fn before(place: &Place) -> Fault {
    let (start, _) = place.entry();
    let before =
        Place { at: place.at.min(start).max(1) - 1, open: place.open.clone(), lines: place.lines.clone(), ..*place };
    let (start, end) = before.entry();
    let fault = Fault::new("unread", Code::UnexpectedToken, "this cannot be read")
        .label(before.token().range(), "not understood");
    fault.help(what_stands(place)).leave_out(before.bytes(start, end.max(start + 1)), "")
}

/// What can stand here, in words.
fn what_stands(place: &Place) -> String {
    let entry = |section: &str| format!("each line of `{section}` is `name = value`");
    match place.within() {
        Within::File => {
            "a file holds `use …` lines, then `pipeline name { … }`, `block name(…) { … }` or `fn name(…) { … }`".into()
        }
        Within::Pipeline => {
            "a pipeline holds `param name = value`, sections such as `data { … }`, and `branch name { … }`".into()
        }
        Within::Variant => {
            "a variant holds `train.epochs = 10`, `param name = value`, `add losses.name = value`, `remove losses.name` and branches"
                .into()
        }
        Within::Section => entry(place.head()),
        Within::Train => entry("train"),
        Within::Evaluate => "each line of `evaluate` is `name = value` or a call such as `knn(…)`".into(),
        Within::Branch => "each line of a branch is `name = value`".into(),
        Within::Rules => "a rule is `role bias: weight_decay = 0` or `path \"encoder.*\": weight_decay = 0`".into(),
        Within::Block => {
            "a block holds `name = value`, `param name: [dim] = zeros` and at last `forward(…) { … }`".into()
        }
        Within::Body => "a body is lines `name = value`, and at last the value that it gives".into(),
        Within::Names => "names stand here, with `,` between them".into(),
        Within::Record => "a record is `{name: value, other: value}`".into(),
        Within::Call => "arguments are `value` or `name: value`, with `,` between them".into(),
        Within::Params => "parameters are `name: type` or `name: type = value`, with `,` between them".into(),
        Within::Group | Within::List => "values stand here, with `,` between them".into(),
        Within::Index => "an index is one number or range: `x[0]`, `x[1..3]`".into(),
    }
}

/// The text as a help line holds it.
fn shown(text: &str) -> String {
    const LONGEST: usize = 90;
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ").replace(UNREAD, "…");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} …", line[..at].trim_end()),
        None => line,
    }
}

/// The value that an argument or an entry has from token `i` on: up to a comma, a closing bracket, or the entry's end.
fn value_end(place: &Place, i: usize) -> usize {
    let (_, entry) = place.entry();
    let mut end = i;
    while end < place.tokens.len() - 1 {
        match place.kind(end) {
            Kind::Open => end = place.other(end).unwrap_or(end),
            Kind::Close => break,
            Kind::Sign if place.word(end) == "," => break,
            _ if end >= entry => break,
            _ => {}
        }
        end += 1;
    }
    end
}

/// A name near one that is a word of the language.
fn other_name(word: &str) -> String {
    let plain = plain_name(word);
    format!("{plain}_")
}

/// What of a text can be a name.
fn plain_name(text: &str) -> String {
    let plain: String =
        text.trim_matches('"').chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(60).collect();
    let plain = plain.trim_matches('_');
    match plain.chars().next() {
        None => "name".to_owned(),
        Some(c) if c.is_ascii_digit() => format!("_{plain}"),
        Some(_) => plain.to_owned(),
    }
}
