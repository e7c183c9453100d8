//! What a user is told where the text does not follow the grammar.

use pest::error::{Error, ErrorVariant, InputLocation};

use super::Rule;
use crate::diag::{Code, Diagnostic};
use crate::source::{SourceId, Span};

/// The error at the first token that cannot stand where it does.
pub fn diagnose(id: SourceId, text: &str, error: &Error<Rule>) -> Diagnostic {
    let at = match error.location {
        InputLocation::Pos(at) => at,
        InputLocation::Span((at, _)) => at,
    };
    // The label covers the token that should not be there.
    let rest = text.get(at..).unwrap_or_default();
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    let found = match rest.get(..length) {
        Some("") | None => "the end of the text".to_owned(),
        Some(token) => format!("`{}`", token.escape_debug()),
    };
    let mut expected: Vec<&str> = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.iter().map(|r| describe(*r)).collect(),
        ErrorVariant::CustomError { .. } => Vec::new(),
    };
    expected.sort_unstable();
    expected.dedup();
    let expected = if expected.is_empty() { "something else".to_owned() } else { expected.join(", ") };
    let help = of_letter(rest)
        .or_else(|| of_letter(&rest[length..]))
        .or_else(|| of_path(text, at))
        .unwrap_or_else(|| format!("expected {expected}"));
    Diagnostic::new(Code::UnexpectedToken, format!("unexpected {found}"))
        .label(Span::new(id, at, at + length), "here")
        .help(help)
}

/// What to write for a letter that a word processor or a web page puts in place of one of this language's.
fn of_letter(rest: &str) -> Option<String> {
    let letter = rest.chars().next()?;
    let plain = match letter {
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{2018}' | '\u{2019}' | '\u{ab}' | '\u{bb}' | '\'' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '\u{d7}' | '\u{22c5}' | '\u{b7}' => "*",
        '\u{f7}' | '\u{2215}' => "/",
        '\u{2026}' => "..",
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => {
            return Some(format!("it is another blank (U+{:04X}): write a plain one", u32::from(letter)));
        }
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => {
            return Some(format!("remove it: it is a sign that is not shown (U+{:04X})", u32::from(letter)));
        }
        _ => return None,
    };
    Some(format!("write `{plain}`"))
}

/// What to write for a path that stands without quotes around `at`.
fn of_path(text: &str, at: usize) -> Option<String> {
    let within = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '\\' | '~' | ':' | '-');
    let before = text.get(..at)?;
    let start = before.rfind(|c| !within(c)).map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
    let rest = text.get(at..)?;
    let end = at + rest.find(|c| !within(c)).unwrap_or(rest.len());
    let path = &text[start..end];
    // Division stands between blanks, and a path's sign is what the parser stops at.
    let stops = rest.starts_with(['/', '\\', '~', '.', ':']);
    let is_path = path.len() > 2 && path.contains(['/', '\\']) && !path.contains("//") && !path.contains("::");
    let path = path.replace('\\', "/");
    (stops && is_path).then(|| format!("a path stands in quotes: `image_folder(\"{path}\")`"))
}

/// What a rule is called in messages.
fn describe(rule: Rule) -> &'static str {
    match rule {
        Rule::expr | Rule::conditional | Rule::or | Rule::and | Rule::comparison | Rule::range | Rule::sum => "a value",
        Rule::product | Rule::unary | Rule::postfix | Rule::primary | Rule::literal | Rule::number => "a value",
        Rule::unary_op | Rule::minus | Rule::kw_not | Rule::group | Rule::list | Rule::record => "a value",
        Rule::sum_op | Rule::product_op | Rule::compare_op | Rule::kw_and | Rule::kw_or | Rule::kw_if => "an operator",
        Rule::field | Rule::call | Rule::index => "`.`, `(` or `[`",
        Rule::name | Rule::word | Rule::path | Rule::dotted | Rule::loop_over => "a name",
        Rule::binding | Rule::assignment | Rule::statement | Rule::override_entry | Rule::initial | Rule::kw_init => {
            "`name = value`"
        }
        Rule::call_entry => "`name = value`",
        Rule::section | Rule::section_name | Rule::branch | Rule::train | Rule::export => "a section",
        Rule::kw_branch | Rule::kw_train | Rule::kw_export => "a section",
        Rule::item | Rule::block | Rule::function | Rule::pipeline | Rule::variant => "`pipeline`, `block` or `fn`",
        Rule::kw_pipeline | Rule::kw_block | Rule::kw_fn => "`pipeline`, `block` or `fn`",
        Rule::use_item | Rule::kw_use => "`use`",
        Rule::pipeline_param | Rule::kw_param | Rule::tensor_decl | Rule::block_entry => "`param`",
        Rule::kw_forward | Rule::forward => "`forward`",
        Rule::string => "a string",
        Rule::argument | Rule::comprehended => "an argument",
        Rule::shape | Rule::dim | Rule::rest_dims => "a shape such as `[B, N, dim]`",
        Rule::type_name | Rule::record_type => "a type such as `int`",
        Rule::time_unit => "`epochs` or `steps`",
        Rule::unit => "`%` or `px`",
        Rule::kw_when => "`when`",
        Rule::kw_frozen => "`frozen`",
        Rule::kw_role => "`role`",
        Rule::kw_repeat => "`repeat`",
        Rule::kw_for | Rule::comprehension | Rule::for_loop => "`for`",
        Rule::kw_in => "`in`",
        Rule::kw_add | Rule::addition => "`add`",
        Rule::EOI => "the end of the file",
        _ => "the rest of the construct",
    }
}
